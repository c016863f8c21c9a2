package main

import (
	"bytes"
	"io"
	"path/filepath"
	"sync"
	"testing"

	"github.com/moby/buildkit/client"
)

// Everything that is opened when it is first asked for may be asked for by several
// at once, and by whoever closes the store; the race detector looks on.
func TestAppInParallel(t *testing.T) {
	a := &app{stdout: io.Discard, stderr: io.Discard, rootFlag: filepath.Join(t.TempDir(), "store"), retries: -1}
	var wg sync.WaitGroup
	for range 4 {
		for _, use := range []func() error{
			func() error { _, err := a.store(); return err },
			func() error { _, err := a.cache(); return err },
			func() error { _, err := a.images(); return err },
			func() error { _, err := a.registry(); return err },
			func() error { _, err := a.imageSources(); return err },
			func() error { _, err := a.library(); return err },
			func() error {
				release, err := a.shared(t.Context())
				if err == nil {
					release()
				}
				return err
			},
			func() error { a.warn("once"); return nil },
			func() error { return a.close(t.Context()) },
		} {
			wg.Go(func() {
				if err := use(); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	if err := a.close(t.Context()); err != nil {
		t.Error(err)
	}
}

// Warnings quote files of images and answers of servers, which a terminal must not obey.
func TestWarningsAreLegible(t *testing.T) {
	var said bytes.Buffer
	(&app{stderr: &said}).warn("file \x1b]0;x\a")
	printWarnings(&said, []client.VertexWarning{{Short: []byte("registry \x1b[2J")}})
	if want := "warning: file \ufffd]0;x\ufffd\nwarning: registry \ufffd[2J\n"; said.String() != want {
		t.Errorf("said %q, want %q", said.String(), want)
	}
}
