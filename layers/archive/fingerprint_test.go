package archive

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func fingerprintOf(t *testing.T, dir string) string {
	t.Helper()
	d, _, err := Fingerprint(t.Context(), dir, true)
	if err != nil {
		t.Fatal(err)
	}
	return d.String()
}

// Every change below a directory gives another fingerprint, and only that.
func TestFingerprint(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(at("a/b/c"), 0o755))
	must(os.Mkdir(at("empty"), 0o755))
	for _, name := range []string{"file", "a/file", "a/b/file", "a/b/c/file"} {
		must(os.WriteFile(at(name), []byte("x"), 0o644))
	}
	must(os.Symlink("file", at("link")))
	last := fingerprintOf(t, dir)
	if again := fingerprintOf(t, dir); again != last {
		t.Error("it is another one without a change")
	}
	must(os.Chmod(dir, 0o700))
	if again := fingerprintOf(t, dir); again != last {
		t.Error("the directory itself counts")
	}
	for _, c := range []struct {
		name   string
		change func() error
	}{
		{"content", func() error { return os.WriteFile(at("a/b/c/file"), []byte("xx"), 0o644) }},
		{"mode", func() error { return os.Chmod(at("a/b/file"), 0o600) }},
		{"time", func() error { return os.Chtimes(at("a/file"), time.Unix(1, 0), time.Unix(1, 0)) }},
		{"removed", func() error { return os.Remove(at("file")) }},
		{"added", func() error { return os.WriteFile(at("empty/new"), nil, 0o644) }},
		{"moved", func() error { return os.Rename(at("empty/new"), at("new")) }},
		{"another name", func() error { return os.Link(at("new"), at("a/new")) }},
		{"symlink", func() error { return errors.Join(os.Remove(at("link")), os.Symlink("elsf", at("link"))) }},
		{"directory's mode", func() error { return os.Chmod(at("a/b/c"), 0o700) }},
		{"directory moved", func() error { return os.Rename(at("a/b"), at("b")) }},
		{"bytes, with the old time and size", func() error {
			info, err := os.Stat(at("b/file"))
			if err != nil {
				return err
			}
			// The clock of file times may be coarse.
			for tick := info.ModTime(); !tick.After(info.ModTime()); {
				if err := os.WriteFile(at("tick"), nil, 0o644); err != nil {
					return err
				}
				now, err := os.Stat(at("tick"))
				if err != nil {
					return err
				}
				tick = now.ModTime()
			}
			return errors.Join(os.Remove(at("tick")), os.WriteFile(at("b/file"), []byte("y"), 0o600),
				os.Chtimes(at("b/file"), info.ModTime(), info.ModTime()))
		}},
	} {
		must(c.change())
		now := fingerprintOf(t, dir)
		if now == last {
			t.Errorf("%s: it is the same", c.name)
		}
		last = now
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := Fingerprint(ctx, dir, true); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	if _, _, err := Fingerprint(t.Context(), at("new"), true); err == nil {
		t.Error("a file has a fingerprint")
	}
}
