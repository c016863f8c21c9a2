package main

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/moby/buildkit/client"

	"github.com/sinter-build/sinter/builder/progress"
	"github.com/sinter-build/sinter/parser"
)

// rawJSON is the display's mode in which standard error is for programs: one
// client.SolveStatus in a line, and nothing else.
const rawJSON = "rawjson"

// sayWarning prints a warning that is about no step.
func (a *app) sayWarning(text string) {
	if !a.rawJSON {
		if a.screen == nil || !a.screen.warn(text) {
			fmt.Fprintln(a.stderr, "warning:", text)
		}
		return
	}
	a.say(&client.SolveStatus{Warnings: []*client.VertexWarning{ownWarning(text)}})
}

// ownWarning is a warning that is about no step.
func ownWarning(text string) *client.VertexWarning {
	return warning(progress.Warned{Warning: parser.Warning{Short: text, Level: 1}})
}

// failure is the text of the error that ends the program, as a step that failed.
func failure(text string) *client.SolveStatus {
	const name = "sinter"
	now := time.Now()
	return &client.SolveStatus{Vertexes: []*client.Vertex{{
		Digest: progress.StepOf(name), Name: name, Started: &now, Completed: &now, Error: text,
	}}}
}

// say prints a status in the mode rawjson.
func (a *app) say(status *client.SolveStatus) {
	if a.screen != nil {
		a.screen.say(status)
		return
	}
	writeStatus(a.stderr, status)
}

func writeStatus(w io.Writer, status *client.SolveStatus) {
	// As with all that is printed, nobody is left to be told of an error.
	_ = json.NewEncoder(w).Encode(status)
}

// say prints a status, also before and after the display is on.
func (s *screen) say(status *client.SolveStatus) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.on && !s.closed {
		s.feed <- status
		return
	}
	if s.on {
		<-s.done // what the display has to say comes first
	}
	writeStatus(s.out, status)
}
