package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/buildkit/client"

	"github.com/sinter-build/sinter/builder/progress"
	"github.com/sinter-build/sinter/parser"
)

// displayed is what a display shows of events.
func displayed(t *testing.T, mode displayMode, events ...progress.Event) string {
	t.Helper()
	var out strings.Builder
	s, err := newScreen(&out, mode)
	if err != nil {
		t.Fatal(err)
	}
	s.show()
	for _, e := range events {
		s.event(e)
	}
	s.close()
	return out.String()
}

// A step that is stopped because the build ends has not failed, whatever the reason.
func TestScreenCanceled(t *testing.T) {
	failed, stopped := progress.StepOf("failed"), progress.StepOf("stopped")
	reason := errors.New("failed: exit code: 3")
	ending, cancel := context.WithCancelCause(t.Context())
	cancel(reason)
	out := displayed(t, "plain",
		progress.Started{Step: failed, Name: "failed", Time: time.Now()},
		progress.Started{Step: stopped, Name: "stopped", Time: time.Now()},
		progress.Output{Step: failed, Stream: 1, Data: []byte("failing\n"), Time: time.Now()},
		progress.Output{Step: stopped, Stream: 1, Data: []byte("working\n"), Time: time.Now()},
		progress.End(t.Context(), failed, "failed", reason),
		progress.End(ending, stopped, "stopped", reason),
	)
	for text, want := range map[string]int{"ERROR: failed: exit code: 3": 1, "CANCELED": 1, " > failed:": 1, " > stopped:": 0, "working": 1} {
		if n := strings.Count(out, text); n != want {
			t.Errorf("%q is shown %d times, not %d:\n%s", text, n, want, out)
		}
	}
}

// Two that work on one step begin it and end it once: the display counts a step
// whose beginnings have not all an end as one that goes on.
func TestScreenSharedStep(t *testing.T) {
	step := progress.StepOf("metadata")
	began := time.Now()
	started := func(after time.Duration) progress.Event {
		return progress.Started{Step: step, Name: "metadata", Time: began.Add(after)}
	}
	ended := func(after time.Duration, err error) progress.Event {
		return progress.Ended{Step: step, Name: "metadata", Time: began.Add(after), Err: err}
	}
	for name, c := range map[string]struct {
		events []progress.Event
		want   []string
	}{
		"at the same time":  {[]progress.Event{started(1), started(2), ended(3, nil), ended(4, nil)}, []string{"1-", "1-4"}},
		"one fails":         {[]progress.Event{started(1), started(2), ended(3, errors.New("gone")), ended(4, nil)}, []string{"1-", "1-4 gone"}},
		"one after another": {[]progress.Event{started(1), ended(2, nil), started(3), ended(4, nil)}, []string{"1-", "1-2", "3-", "3-4"}},
		"no beginning":      {[]progress.Event{ended(1, nil)}, []string{"1-1"}},
	} {
		var got []string
		for line := range strings.Lines(displayed(t, rawJSON, c.events...)) {
			var s client.SolveStatus
			if err := json.Unmarshal([]byte(line), &s); err != nil {
				t.Fatal(err)
			}
			v := s.Vertexes[0]
			text := v.Started.Sub(began).String() + "-"
			if v.Completed != nil {
				text += v.Completed.Sub(began).String()
			}
			got = append(got, strings.ReplaceAll(strings.TrimSpace(text+" "+v.Error), "ns", ""))
		}
		if strings.Join(got, ", ") != strings.Join(c.want, ", ") {
			t.Errorf("%s: shown as %q, want %q", name, got, c.want)
		}
	}
}

// A step that fails in the middle of a part is shown as failed.
func TestScreenFailsInPart(t *testing.T) {
	step, now := progress.StepOf("export"), time.Now()
	part := func(id string, done time.Time) progress.Event {
		return progress.Update{Step: step, ID: id, Started: now, Done: done}
	}
	out := displayed(t, "plain",
		progress.Declared{Step: step, Name: "export"},
		progress.Started{Step: step, Name: "export", Time: now},
		part("writing", time.Time{}), part("writing", now), part("pushing", time.Time{}),
		progress.Ended{Step: step, Name: "export", Time: now, Err: errors.New("refused")},
	)
	for _, text := range []string{"writing done", "pushing done", "ERROR: refused"} {
		if strings.Count(out, text) != 1 {
			t.Errorf("%q is not shown once:\n%s", text, out)
		}
	}
}

// Why a step runs is still to be seen when it has ended, also where a display takes
// back its output.
func TestScreenExplains(t *testing.T) {
	for _, redraws := range []bool{false, true} {
		s := &screen{redraws: redraws, redact: parser.Redact, lines: logLines{}}
		status := s.explained(progress.Explained{Step: "sha256:1", Why: "f changed (content)"})
		var shown []string
		for _, l := range status.Logs {
			shown = append(shown, "log "+string(l.Data))
		}
		for _, p := range status.Statuses {
			if p.Started == nil || p.Completed == nil || p.Vertex != "sha256:1" {
				t.Errorf("the part is %+v", p)
			}
			shown = append(shown, "part "+p.ID)
		}
		want := map[bool]string{false: "log why: f changed (content)\n", true: "part why: f changed (content)"}[redraws]
		if strings.Join(shown, ", ") != want {
			t.Errorf("redraws %v: shown as %q, want %q", redraws, shown, want)
		}
	}
}

// A display that redraws its lines shows warnings itself: a line of somebody else's
// would be drawn over.
func TestScreenWarns(t *testing.T) {
	for _, redraws := range []bool{false, true} {
		file, err := os.Create(filepath.Join(t.TempDir(), "out"))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		s, err := newScreen(file, "plain")
		if err != nil {
			t.Fatal(err)
		}
		s.redraws = redraws
		a := &app{stderr: file, screen: s}
		a.warn("before")
		s.show()
		a.warn("meanwhile")
		s.close()
		a.warn("after")
		data, err := os.ReadFile(file.Name())
		if err != nil {
			t.Fatal(err)
		}
		out := string(data)
		var all []string
		for _, w := range a.allWarnings() {
			all = append(all, string(w.Short))
		}
		if slices.Sort(all); !slices.Equal(all, []string{"after", "before", "meanwhile"}) {
			t.Errorf("redraws %v: all warnings are %q", redraws, all)
		}
		if n := strings.Count(out, "#1 warning: meanwhile"); n > 0 != redraws {
			t.Errorf("redraws %v: shown %d times as a step:\n%s", redraws, n, out)
		}
		want := []string{"before", "meanwhile", "after"}
		var got []string
		for line := range strings.Lines(out) {
			if text, ok := strings.CutPrefix(strings.TrimSpace(line), "warning: "); ok {
				got = append(got, text)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("redraws %v: warned of %q, want %q", redraws, got, want)
		}
	}
}
