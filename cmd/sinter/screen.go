package main

import (
	"context"
	"io"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/progress/progressui"
	"golang.org/x/term"

	"github.com/sinter-build/sinter/builder/progress"
	"github.com/sinter-build/sinter/parser"
)

// maxPart is how much output the display gets at once, in bytes. It spends microseconds
// on a line, and has to show what is in the feed before an interrupted build can end.
const maxPart = 4 << 10

// screen shows a build's events in BuildKit's display. Until
// show is called they are kept.
type screen struct {
	display progressui.Display
	out     io.Writer
	// flush writes the last of what the display has written.
	flush func()
	// words is where warnings are written in the end; nil when nothing but
	// the display's own lines is wanted.
	words io.Writer
	// redact hides secrets in what events say.
	redact func(string) string
	// redraws says that the display writes over the lines that it has shown, and so
	// over those of others between them.
	redraws bool

	mu     sync.Mutex
	kept   []progress.Event
	steps  map[progress.Step]*shownStep
	lines  logLines
	logs   longLogs
	on     bool
	closed bool
	feed   chan *client.SolveStatus
	done   chan struct{}
	// warnings are what there is to say when done is closed.
	warnings []client.VertexWarning
}

// newScreen fails when the mode is not known or the terminal cannot do it.
func newScreen(out io.Writer, mode displayMode) (*screen, error) {
	if mode == noDisplay {
		mode = quiet
	}
	redraws := (mode == "auto" || mode == "tty") && isTerminal(out)
	to, flushLines := out, func() {}
	if mode == "plain" || mode == "auto" && !redraws {
		b := &bursts{out: out}
		to, flushLines = b, b.flush
	}
	shown, flushBlocks := withoutEmptyBlocks(to)
	d, err := progressui.NewDisplay(shown, progressui.DisplayMode(mode))
	if err != nil {
		return nil, badFlag("progress", string(mode), err)
	}
	words := out
	if mode == quiet || mode == rawJSON {
		words = nil
	}
	var lines logLines
	if mode != rawJSON { // a program that reads it has its own idea of lines
		lines = logLines{}
	}
	var logs longLogs
	if redraws {
		logs = longLogs{}
	}
	return &screen{
		display: d, flush: func() { flushBlocks(); flushLines() }, out: out, words: words, lines: lines, logs: logs,
		redraws: redraws, redact: parser.Redact,
		steps: map[progress.Step]*shownStep{},
		feed:  make(chan *client.SolveStatus, 64), done: make(chan struct{}),
	}, nil
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// warn shows a warning that is about no step, at once as a line of the display and
// in full when that ends. It reports whether it did: elsewhere it can be printed.
func (s *screen) warn(text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.redraws || !s.on || s.closed {
		return false
	}
	name := "warning: " + text
	step, now := progress.StepOf(name), time.Now()
	s.send(progress.Started{Step: step, Name: name, Time: now})
	s.send(progress.Ended{Step: step, Name: name, Time: now})
	s.send(progress.Warned{Warning: parser.Warning{Short: text, Level: 1}})
	return true
}

// show begins to show what has happened so far and all that follows.
func (s *screen) show() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.on || s.closed {
		return
	}
	s.on = true
	go func() {
		defer close(s.done)
		// The display ends when the feed is closed, not with the build's
		// context: the last words of an interrupted build count as well.
		s.warnings, _ = s.display.UpdateFrom(context.Background(), s.feed)
	}()
	for _, e := range s.kept {
		s.send(e)
	}
	s.kept = nil
}

// discard forgets what has happened: another process will tell it again.
func (s *screen) discard() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept = nil
	s.closed = true
}

// event takes an event; it is an progress.Func.
func (s *screen) event(e progress.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
	case s.on:
		s.send(e)
	default:
		s.kept = append(s.kept, e)
	}
}

func (s *screen) send(e progress.Event) {
	if o, ok := e.(progress.Output); ok && s.lines != nil && len(o.Data) > maxPart {
		for part := range slices.Chunk(o.Data, maxPart) {
			o.Data = part
			s.send(o)
		}
		return
	}
	if status := s.status(e); status != nil {
		s.feed <- status
	}
}

// close shows what is left and waits until it is on the screen.
func (s *screen) close() {
	s.show()
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.closed = true
	close(s.feed)
	s.mu.Unlock()
	<-s.done
	s.flush()
	if s.words != nil {
		printWarnings(s.words, s.warnings)
	}
}

// shownStep is what is known of a step.
type shownStep struct {
	vertex client.Vertex
	// running is how many have begun it and not ended: the metadata of an image is
	// one step for all platforms. The display shows such a step as ended only when
	// it knows the end of each beginning, so it gets the first and the last.
	running int
	// open are the parts that have begun and not ended, by ID.
	open map[string]progress.Update
}

// status is an event in the display's own terms; nil when it has nothing to show.
func (s *screen) status(e progress.Event) *client.SolveStatus {
	switch e := e.(type) {
	case progress.Declared:
		st := s.step(e.Step, e.Name)
		st.vertex.Inputs = e.Inputs
		if e.Group != "" {
			st.vertex.ProgressGroup = &pb.ProgressGroup{Id: e.Group, Name: e.GroupName}
		}
		return st.status()
	case progress.Started:
		return s.step(e.Step, e.Name).started(e)
	case progress.Ended:
		return withLog(s.step(e.Step, e.Name).ended(e, s.redact), progress.Output{Step: e.Step, Stream: 1, Data: s.logs.end(e.Step), Time: e.Time})
	case progress.Output:
		e.Data = s.logs.shown(e.Step, s.lines.broken(e.Step, e.Data))
		return withLog(nil, e)
	case progress.Explained:
		return s.explained(e)
	case progress.Update:
		if st := s.steps[e.Step]; st != nil {
			st.progress(e)
		}
		return &client.SolveStatus{Statuses: []*client.VertexStatus{statusOf(e)}}
	case progress.Warned:
		return &client.SolveStatus{Warnings: []*client.VertexWarning{warning(e, s.redact)}}
	}
	return nil
}

// explained says why a step runs: as a line of its output, which begins a line of its
// own, or where the display takes back the output of steps that have ended as a part of
// the step, which stays.
func (s *screen) explained(e progress.Explained) *client.SolveStatus {
	now := time.Now()
	line := "why: " + s.redact(e.Why)
	if s.redraws {
		return &client.SolveStatus{Statuses: []*client.VertexStatus{{
			ID: line, Vertex: e.Step, Timestamp: now, Started: &now, Completed: &now,
		}}}
	}
	if s.lines[e.Step] > 0 {
		line = "\n" + line
	}
	return withLog(nil, progress.Output{Step: e.Step, Stream: 1, Data: s.lines.broken(e.Step, []byte(line+"\n")), Time: now})
}

// withLog adds output to a status, if there is any.
func withLog(status *client.SolveStatus, e progress.Output) *client.SolveStatus {
	if len(e.Data) == 0 {
		return status
	}
	if status == nil {
		status = &client.SolveStatus{}
	}
	status.Logs = append(status.Logs, &client.VertexLog{Vertex: e.Step, Stream: e.Stream, Data: e.Data, Timestamp: e.Time})
	return status
}

// step returns what is known of a step.
func (s *screen) step(id progress.Step, name string) *shownStep {
	st := s.steps[id]
	if st == nil {
		st = &shownStep{vertex: client.Vertex{Digest: id}, open: map[string]progress.Update{}}
		s.steps[id] = st
	}
	st.vertex.Name = s.redact(name)
	return st
}

func (st *shownStep) started(e progress.Started) *client.SolveStatus {
	st.running++
	if st.running > 1 {
		return nil
	}
	st.vertex.Started, st.vertex.Completed = &e.Time, nil
	return st.status()
}

func (st *shownStep) ended(e progress.Ended, redact func(string) string) *client.SolveStatus {
	st.running = max(0, st.running-1)
	v := &st.vertex
	switch {
	case e.Canceled && v.Error == "":
		v.Error = context.Canceled.Error() // the display knows it by this text
	case e.Err != nil && !e.Canceled:
		v.Error = redact(e.Err.Error())
	}
	if st.running > 0 {
		return nil
	}
	if v.Started == nil {
		v.Started = &e.Time
	}
	v.Completed, v.Cached = &e.Time, e.Cached
	status := st.status()
	// What a step was at when it failed has ended with it. The display does not show
	// a step as ended before all its parts are.
	for _, id := range slices.Sorted(maps.Keys(st.open)) {
		p := st.open[id]
		p.Done = e.Time
		status.Statuses = append(status.Statuses, statusOf(p))
	}
	clear(st.open)
	return status
}

// progress notes how far a part of the step is.
func (st *shownStep) progress(e progress.Update) {
	if e.Done.IsZero() {
		st.open[e.ID] = e
	} else {
		delete(st.open, e.ID)
	}
}

// status is all that is known of the step: the display wants that each time.
func (st *shownStep) status() *client.SolveStatus {
	now := st.vertex
	return &client.SolveStatus{Vertexes: []*client.Vertex{&now}}
}

func statusOf(e progress.Update) *client.VertexStatus {
	p := &client.VertexStatus{
		ID: e.ID, Vertex: e.Step, Current: e.Current, Total: e.Total, Timestamp: e.Started, Started: &e.Started,
	}
	if !e.Done.IsZero() {
		p.Completed, p.Timestamp = &e.Done, e.Done
	}
	return p
}

func warning(e progress.Warned, redact func(string) string) *client.VertexWarning {
	w := &client.VertexWarning{
		Vertex: e.Step, Level: e.Warning.Level, Short: []byte(redact(e.Warning.Short)), URL: e.Warning.URL,
	}
	for _, d := range e.Warning.Detail {
		w.Detail = append(w.Detail, []byte(d))
	}
	if src := e.Warning.Source; src != nil {
		w.SourceInfo = &pb.SourceInfo{Filename: src.Name, Data: src.Data}
	}
	for _, r := range e.Warning.Ranges {
		w.Range = append(w.Range, displayRange(r))
	}
	return w
}

func displayRange(r parser.Range) *pb.Range {
	at := func(p parser.Position) *pb.Position {
		return &pb.Position{Line: int32(p.Line), Character: int32(p.Character)}
	}
	return &pb.Range{Start: at(r.Start), End: at(r.End)}
}
