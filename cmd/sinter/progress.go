package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sinter-build/sinter/builder/progress"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/parser"
)

// displayMode is the value of --progress.
type displayMode string

const (
	// rawJSON is the mode in which standard error is for programs: one
	// client.SolveStatus in a line, and nothing else.
	rawJSON displayMode = "rawjson"
	quiet   displayMode = "quiet"
	// noDisplay shows nothing either, but a build still says what it built.
	noDisplay displayMode = "none"
)

const modeWanted = "want auto, tty, plain, quiet, none or rawjson"

func (m *displayMode) String() string { return string(*m) }

// Type is the flag's placeholder.
func (m *displayMode) Type() string { return "MODE" }

// Set implements pflag.Value.
func (m *displayMode) Set(text string) error {
	if !slices.Contains([]displayMode{"auto", "tty", "plain", quiet, noDisplay, rawJSON}, displayMode(text)) {
		return errors.New(modeWanted)
	}
	*m = displayMode(text)
	return nil
}

func (m *displayMode) register(s *pflag.FlagSet) {
	*m = "auto"
	s.Var(m, "progress", "auto, tty, plain, quiet, none or rawjson")
}

func completeProgress(c *cobra.Command) {
	complete(c, "progress", "auto", "plain", "quiet", "rawjson", "tty")
}

// showFlags are the flags of commands that show one transfer.
type showFlags struct {
	mode  displayMode
	quiet bool
}

func (f *showFlags) register(c *cobra.Command) {
	f.mode.register(c.Flags())
	completeProgress(c)
	c.Flags().BoolVarP(&f.quiet, "quiet", "q", false, "print only the digest")
}

// showing shows do as one step, with the transfers in it.
func (a *app) showing(ctx context.Context, f showFlags, title string, do func(report func(progress.Update)) error) error {
	if f.quiet {
		f.mode = quiet
	}
	s, err := newScreen(a.stderr, f.mode)
	if err != nil {
		return err
	}
	a.rawJSON, a.screen = f.mode == rawJSON, s
	defer s.close()
	s.show()
	return s.during(ctx, title, do)
}

// during shows do as a step. do reports how far it is.
func (s *screen) during(ctx context.Context, title string, do func(report func(progress.Update)) error) error {
	step := progress.StepOf(title)
	s.event(progress.Declared{Step: step, Name: title})
	s.event(progress.Started{Step: step, Name: title, Time: time.Now()})
	err := do(func(p progress.Update) {
		p.Step = step
		s.event(p)
	})
	s.event(progress.End(ctx, step, title, err))
	return err
}

// layerMeter reports how much of a layer's blob has been transferred.
func layerMeter(l layers.Layer, report func(progress.Update)) *progress.Meter {
	return progress.NewMeter(progress.Update{ID: l.Descriptor.Digest.String(), Total: l.Descriptor.Size}, report)
}

// download is a layer's blob on its way, shown as a step.
type download struct {
	metered io.Reader
	body    io.Closer
	err     error
	// end reports that the download has ended, with the error that ended it or nil.
	end func(error)
}

// watchDownload shows a download as a step of its own: which build step needs
// the layer first is chance.
func watchDownload(ctx context.Context, r io.ReadCloser, l layers.Layer, events progress.Func) io.ReadCloser {
	name := "[internal] download layer " + l.Descriptor.Digest.String()
	step := progress.StepOf(name)
	events(progress.Declared{Step: step, Name: name})
	events(progress.Started{Step: step, Name: name, Time: time.Now()})
	m := layerMeter(l, func(p progress.Update) {
		p.Step = step
		events(p)
	})
	return &download{metered: m.Reader(r), body: r, end: func(err error) {
		m.Done()
		events(progress.End(ctx, step, name, err))
	}}
}

// Read implements io.Reader.
func (d *download) Read(p []byte) (int, error) {
	n, err := d.metered.Read(p)
	if err != nil && err != io.EOF {
		d.err = err
	}
	return n, err
}

// Close implements io.Closer.
func (d *download) Close() error {
	d.end(d.err)
	return d.body.Close()
}

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
	return warning(progress.Warned{Warning: parser.Warning{Short: text, Level: 1}}, parser.Redact)
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
	// An error cannot be reported: standard error is where it would go.
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
