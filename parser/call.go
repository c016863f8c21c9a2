package parser

import (
	"context"
	"errors"
	"fmt"

	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	dockerfile "github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/frontend/subrequests/lint"
	"github.com/moby/buildkit/frontend/subrequests/targets"
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
	return untilEnd(ctx, r, func(r Resolver) (Answer, error) { return call(ctx, req, r, m) })
}

func call(ctx context.Context, req Request, r Resolver, m Method) (Answer, error) {
	f, err := prepare(ctx, req, r, nil)
	if err != nil {
		return Answer{}, err
	}
	e, err := f.open(ctx)
	if err != nil {
		return Answer{}, f.problem(ctx, e, err)
	}
	var a Answer
	switch m {
	case Check:
		a, err = f.check(ctx, e)
	case Outline:
		a, err = f.outline(ctx, e)
	case Targets:
		a, err = e.targets()
	default:
		err = &Error{
			Msg:  fmt.Sprintf("unknown method %q", string(m)),
			Hint: "the methods are check, outline and targets",
		}
	}
	if err != nil {
		return Answer{}, f.problem(ctx, e, err)
	}
	return a, nil
}

func answer(res *client.Result, err error) (Answer, error) {
	if err != nil {
		return Answer{}, err
	}
	return Answer{JSON: redact(res.Metadata["result.json"]), Text: redact(res.Metadata["result.txt"])}, nil
}

func (f *frontend) outline(ctx context.Context, e *entry) (Answer, error) {
	opt, err := f.convertOpt(e, nil, false, nil)
	if err != nil {
		return Answer{}, err
	}
	o, err := dockerfile2llb.Dockerfile2Outline(ctx, redact(e.text), opt)
	if err != nil {
		return Answer{}, err
	}
	return answer(o.ToResult())
}

// targets does what the frontend's ListTargets does, which does not survive a
// "# check=" comment above an instruction.
func (e *entry) targets() (Answer, error) {
	stages, err := e.stages()
	if err != nil {
		return Answer{}, err
	}
	list := targets.List{Sources: [][]byte{redact(e.source.Data)}}
	for i, s := range stages {
		list.Targets = append(list.Targets, targets.Target{
			Name: s.Name, Description: s.DocComment, Base: s.BaseName, Platform: s.Platform,
			Default:  i == len(stages)-1,
			Location: location(s.Location),
		})
	}
	return answer(list.ToResult())
}

func location(rs []dockerfile.Range) *pb.Location {
	l := &pb.Location{}
	for _, r := range rs {
		l.Ranges = append(l.Ranges, &pb.Range{
			Start: &pb.Position{Line: int32(r.Start.Line), Character: int32(r.Start.Character)},
			End:   &pb.Position{Line: int32(r.End.Line), Character: int32(r.End.Character)},
		})
	}
	return l
}

func (f *frontend) check(ctx context.Context, e *entry) (Answer, error) {
	opt, err := f.convertOpt(e, nil, true, nil)
	if err != nil {
		return Answer{}, err
	}
	found, err := dockerfile2llb.DockerfileLint(ctx, e.text, opt)
	if err != nil {
		return Answer{}, err
	}
	for _, s := range found.Sources {
		s.Data = redact(s.Data)
	}
	a, err := answer(found.ToResult(e.renamed))
	if err != nil {
		return Answer{}, err
	}
	for _, w := range found.Warnings {
		a.Warnings = append(a.Warnings, Warning{
			Short: Redact(w.RuleName + ": " + w.Detail), Detail: []string{w.Description}, URL: w.URL,
			Source: e.file(), Ranges: ranges(w.Location.GetRanges(), 0), Level: 1,
		})
	}
	a.Mistake = f.mistake(e, found.Error)
	return a, nil
}

// renamed is what the frontend says of the Dockerfile, under the name that people
// know.
func (e *entry) renamed(s *pb.SourceInfo) *pb.SourceInfo {
	if s == nil || s.Filename != e.source.Filename {
		return s
	}
	return &pb.SourceInfo{Filename: e.shown, Data: redact(s.Data), Language: s.Language}
}

func (f *frontend) mistake(e *entry, b *lint.BuildError) *Error {
	if b == nil {
		return nil
	}
	m := &Error{Msg: b.Message, Err: errors.New(b.Message), Source: e.file()}
	m.addRanges(ranges(b.Location.Ranges, 0))
	m.Hint = hint(m, e)
	return m
}
