package parser

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/moby/buildkit/frontend/subrequests/lint"
	"github.com/moby/buildkit/solver/pb"
)

// Method is a question about a Dockerfile that needs no build.
type Method string

// The methods, by the names that docker buildx build --call gives them.
const (
	// Check runs the build checks.
	Check Method = "check"
	// Outline describes what the target can be given: arguments, secrets,
	// ssh agents, cache mounts.
	Outline Method = "outline"
	// Targets lists the stages.
	Targets Method = "targets"
)

// Answer is what a Call yields.
type Answer struct {
	// JSON is for programs, in the frontend's format; Text is for people.
	JSON, Text []byte
	// Warnings are the findings of Check, by their place. Mistake is what
	// would stop the build, and has stopped the checks; nil if nothing did.
	Warnings []Warning
	Mistake  *Error
}

// Call asks the frontend about the Dockerfile. An error is as that of Parse.
func Call(ctx context.Context, req Request, r Resolver, m Method) (Answer, error) {
	id := map[Method]string{Check: "frontend.lint", Outline: "frontend.outline", Targets: "frontend.targets"}[m]
	if id == "" {
		return Answer{}, &Error{
			Msg:  fmt.Sprintf("unknown method %q", string(m)),
			Hint: "the methods are check, outline and targets",
		}
	}
	f, err := newFrontend(req, r, nil)
	if err != nil {
		return Answer{}, err
	}
	f.opts["requestid"] = id
	f.opts["frontend.caps"] = "moby.buildkit.frontend.subrequests"
	res, err := f.run(ctx)
	if err != nil {
		return Answer{}, err
	}
	a := Answer{JSON: res.Metadata["result.json"], Text: res.Metadata["result.txt"]}
	if m == Check {
		if err := a.findings(ctx, f); err != nil {
			return Answer{}, fmt.Errorf("reading the findings of the checks: %w", err)
		}
	}
	return a, nil
}

// findings reads the frontend's list of findings.
func (a *Answer) findings(ctx context.Context, f *frontend) error {
	var found lint.LintResults
	if err := json.Unmarshal(a.JSON, &found); err != nil {
		return err
	}
	source := func(l *pb.Location) (*SourceFile, []Range) {
		i := int(l.GetSourceIndex())
		if l == nil || i < 0 || i >= len(found.Sources) {
			return nil, nil
		}
		s := found.Sources[i]
		return &SourceFile{Name: s.Filename, Data: s.Data}, ranges(l.Ranges, 0)
	}
	for _, w := range found.Warnings {
		src, rs := source(w.Location)
		a.Warnings = append(a.Warnings, Warning{
			Short: w.RuleName + ": " + w.Detail, Detail: []string{w.Description}, URL: w.URL,
			Source: src, Ranges: rs, Level: 1,
		})
	}
	if found.Error != nil {
		e := &Error{Msg: found.Error.Message}
		e.Source, e.Ranges = source(&found.Error.Location)
		e.Hint = f.hint(ctx, e)
		a.Mistake = e
	}
	return nil
}
