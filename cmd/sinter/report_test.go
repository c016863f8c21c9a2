package main

import (
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/builder/sandbox/userns"
)

// ENOSPC is a full disk, but not when it is namespaces that there may be no more
// of.
func TestFull(t *testing.T) {
	for err, want := range map[error]bool{
		fmt.Errorf("writing: %w", unix.ENOSPC):                             true,
		fmt.Errorf("writing: %w", unix.EDQUOT):                             true,
		fmt.Errorf("writing: %w", unix.EROFS):                              false,
		fmt.Errorf("starting: %w", &userns.RefusedError{Err: unix.ENOSPC}): false,
	} {
		if got := isFull(err); got != want {
			t.Errorf("%v: %t", err, got)
		}
	}
}

// Only of a disk that may be the store's it is said how to make room there.
func TestFullDiskElsewhere(t *testing.T) {
	a := &app{rootFlag: "/store"}
	for path, prune := range map[string]bool{"/store/tmp/x": true, "/store": true, "/stored": false, "out/image.tar": false, "": true} {
		err := error(unix.ENOSPC)
		if path != "" {
			err = &fs.PathError{Op: "write", Path: path, Err: unix.ENOSPC}
		}
		if advice := a.fullDisk(err); strings.Contains(advice, "sinter prune") != prune || !strings.Contains(advice, "make room") {
			t.Errorf("%q: %s", path, advice)
		}
	}
}

// The limit of open files is this process's own, whatever it was that met it.
func TestTooManyFiles(t *testing.T) {
	for err, want := range map[error]string{
		fmt.Errorf("locking: %w", &fs.PathError{Op: "open", Path: "x", Err: unix.EMFILE}): "error: locking: open x: too many open files\nhint: raise the limit of open files (ulimit -n): every step that runs at the same time needs some; or run fewer at a time with --max-parallelism\n",
		storeMistake(fmt.Errorf("opening the store: %w", unix.EMFILE)):                    "error: opening the store: too many open files\nhint: raise the limit of open files (ulimit -n): every step that runs at the same time needs some; or run fewer at a time with --max-parallelism\n",
		fmt.Errorf("locking: %w", unix.ENFILE):                                            "error: locking: too many open files in system\n",
	} {
		var out strings.Builder
		if (&app{stderr: &out}).report(t.Context(), "sinter", err); out.String() != want {
			t.Errorf("%s, not %s", out.String(), want)
		}
	}
}

func TestLegible(t *testing.T) {
	for text, want := range map[string]string{
		"plain\ttext\nöß":     "plain\ttext\nöß",
		"\x1b[31mred\x00\r":   "\ufffd[31mred\ufffd\ufffd",
		"\u202egpj.exe\u2066": "\ufffdgpj.exe\ufffd",
		"\u009b2Jbad\xff":     "\ufffd2Jbad\ufffd",
	} {
		if got := legible(text); got != want {
			t.Errorf("%q is shown as %q, want %q", text, got, want)
		}
	}
}
