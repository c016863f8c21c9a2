package parser

import (
	"context"
	"fmt"
	"strconv"
)

// Method is a question about a Dockerfile that needs no build.
type Method string

// The methods, by the names that buildx --call knows them by.
const (
	// Check runs the build checks.
	Check Method = "lint"
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
	// Failed: the checks have found something.
	Failed bool
}

// Call asks the frontend about the Dockerfile. An error is as that of Parse.
func Call(ctx context.Context, req Request, r Resolver, m Method) (Answer, error) {
	switch m {
	case Check, Outline, Targets:
	default:
		return Answer{}, &Error{
			Msg:  fmt.Sprintf("unknown method %q", string(m)),
			Hint: "the methods are check (lint), outline and targets",
		}
	}
	f, err := newFrontend(req, r, nil)
	if err != nil {
		return Answer{}, err
	}
	f.opts["requestid"] = "frontend." + string(m)
	f.opts["frontend.caps"] = "moby.buildkit.frontend.subrequests"
	res, err := f.run(ctx)
	if err != nil {
		return Answer{}, err
	}
	a := Answer{JSON: res.Metadata["result.json"], Text: res.Metadata["result.txt"]}
	if code := string(res.Metadata["result.statuscode"]); code != "" {
		n, err := strconv.Atoi(code)
		if err != nil {
			return Answer{}, fmt.Errorf("reading the status of %s: %w", m, err)
		}
		a.Failed = n != 0
	}
	return a, nil
}
