package main

import (
	"context"
	"io"
	"time"

	"github.com/sinter-build/sinter/builder/progress"
	"github.com/sinter-build/sinter/layers"
)

// download is a layer's blob on its way, which tells how far it has come.
type download struct {
	io.ReadCloser
	events   progress.Func
	progress progress.Update
	told     time.Time
	err      error
	// end is the event for the end of a download that yielded an error, or nil.
	end func(error) progress.Ended
}

// tellEvery is how often a download says how far it is.
const tellEvery = 100 * time.Millisecond

// watchDownload shows a download as a step of its own: which build step needs
// the layer first is chance.
func watchDownload(ctx context.Context, r io.ReadCloser, l layers.Layer, events progress.Func) io.ReadCloser {
	now := time.Now()
	name := "[internal] download layer " + l.Descriptor.Digest.String()
	d := &download{ReadCloser: r, events: events, told: now, progress: progress.Update{
		Step: progress.StepOf(name), ID: l.Descriptor.Digest.String(), Total: l.Descriptor.Size, Started: now,
	}}
	d.end = func(err error) progress.Ended { return progress.End(ctx, d.progress.Step, name, err) }
	events(progress.Declared{Step: d.progress.Step, Name: name})
	events(progress.Started{Step: d.progress.Step, Name: name, Time: now})
	return d
}

// Read implements io.Reader.
func (d *download) Read(p []byte) (int, error) {
	n, err := d.ReadCloser.Read(p)
	d.progress.Current += int64(n)
	if err != nil && err != io.EOF {
		d.err = err
	}
	if time.Since(d.told) > tellEvery {
		d.told = time.Now()
		d.events(d.progress)
	}
	return n, err
}

// Close implements io.Closer.
func (d *download) Close() error {
	d.progress.Done = time.Now()
	d.events(d.progress)
	d.events(d.end(d.err))
	return d.ReadCloser.Close()
}
