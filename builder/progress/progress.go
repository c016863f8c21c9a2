// Package progress defines what a build tells while it runs. Events are plain
// data in the order in which things happened; who shows them, and how, is not
// this package's matter.
package progress

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sinter-build/sinter/parser"
)

// Func takes events. It may be called from several goroutines at once.
type Func func(Event)

// Event is one of Declared, Started, Ended, Output, Update, Explained, Warned.
type Event interface{ event() }

// Step names a step in events: the ID of its node, or a digest of the name for
// work that is no node (exporting, resolving).
type Step = digest.Digest

// StepOf returns the Step for work that is no node of the graph.
func StepOf(name string) Step { return digest.FromString("sinter step " + name) }

// Declared says that a step exists and may run.
type Declared struct {
	Step   Step
	Name   string
	Inputs []Step
	// Group joins steps that are shown as one.
	Group, GroupName string
}

// Started says that a step began at Time.
type Started struct {
	Step Step
	Name string
	Time time.Time
}

// Ended says that a step ended: from the cache, by running, or with Err.
type Ended struct {
	Step   Step
	Name   string
	Time   time.Time
	Cached bool
	Err    error
	// Canceled says that the step did not fail itself: it was stopped since the
	// build ends.
	Canceled bool
}

// End is the end, now, of a step that ran under ctx and returned err.
func End(ctx context.Context, step Step, name string, err error) Ended {
	return Ended{Step: step, Name: name, Time: time.Now(), Err: err, Canceled: err != nil && ctx.Err() != nil}
}

// Output is what a command printed: Stream 1 is standard output, 2 standard
// error.
type Output struct {
	Step   Step
	Stream int
	Data   []byte
	Time   time.Time
}

// Update tells how far a part of a step is: bytes of a transfer, or steps of
// an export (then Total is 0).
type Update struct {
	Step           Step
	ID             string
	Current, Total int64
	Started        time.Time
	// Done is when the part ended; zero while it goes on.
	Done time.Time
}

// Explained says why a step runs.
type Explained struct {
	Step Step
	Why  string
}

// Warned is a finding about the Dockerfile.
type Warned struct {
	Step    Step
	Warning parser.Warning
}

// Few lists paths for a message: the first five, and how many more there are.
func Few(paths []string) string {
	const shown = 5
	if len(paths) <= shown {
		return strings.Join(paths, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(paths[:shown], ", "), len(paths)-shown)
}

func (Declared) event()  {}
func (Started) event()   {}
func (Ended) event()     {}
func (Output) event()    {}
func (Update) event()    {}
func (Explained) event() {}
func (Warned) event()    {}
