package store

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/layers"
)

// killed is a store whose process was killed.
func killed(t *testing.T, root string, opt Options) *Store {
	t.Helper()
	s, err := Open(root, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.disk.fs.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *Store) kill(t *testing.T) {
	t.Helper()
	if err := s.own.Close(); err != nil {
		t.Fatal(err)
	}
}

// goDown makes the marks of s those of another boot.
func (s *Store) goDown(t *testing.T) {
	t.Helper()
	if err := os.Rename(s.ownMarks(), filepath.Join(s.root, unsyncedName, "another."+s.disk.own)); err != nil {
		t.Fatal(err)
	}
}

func marks(t *testing.T, root string) int {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(root, unsyncedName, "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return len(found)
}

// What was not on disk when the machine went down is made again.
func TestMachineWentDown(t *testing.T) {
	root := t.TempDir()
	s := killed(t, root, Options{})
	l := write(t, s, Forms{Tar: true})
	s.kill(t)
	if _, err := open(t, root, Options{}).Get(l.ID); err != nil {
		t.Errorf("on the same boot: %v", err)
	}
	s.goDown(t)
	other := open(t, root, Options{})
	if _, err := other.Get(l.ID); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("on another boot: %v", err)
	}
	if problems, err := other.Verify(ctx); err != nil || len(problems) != 1 || !problems[0].Lost {
		t.Errorf("Verify: %+v, %v", problems, err)
	}
	waiting := open(t, root, Options{})
	write(t, other, Forms{Tar: true})
	for name, s := range map[string]*Store{"that made it again": other, "that was open": waiting, "that opens now": open(t, root, Options{})} {
		if _, err := s.Get(l.ID); err != nil {
			t.Errorf("made again, for the process %s: %v", name, err)
		}
	}
}

// The same of a form that a layer got.
func TestFormsOnAnotherBoot(t *testing.T) {
	l, blob := pulled(t)
	root := t.TempDir()
	s := killed(t, root, Options{Fetch: func(context.Context, layers.Layer) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(blob)), nil
	}})
	if err := s.AddRemote(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Tree(ctx, l); err != nil {
		t.Fatal(err)
	}
	s.kill(t)
	s.goDown(t)
	if _, err := open(t, root, Options{}).Get(l.ID); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v before it was durable", err)
	}
}

// A process on another machine that shares the volume is alive.
func TestOtherMachineIsUp(t *testing.T) {
	root := t.TempDir()
	s := killed(t, root, Options{})
	l := write(t, s, Forms{Tar: true})
	s.goDown(t)
	if _, err := open(t, root, Options{}).Get(l.ID); err != nil {
		t.Errorf("got %v", err)
	}
	s.kill(t)
}

// A process that writes makes durable what dead ones left; one that reads does not,
// and nobody touches the marks of the living.
func TestWhoSyncs(t *testing.T) {
	root := t.TempDir()
	dead := killed(t, root, Options{})
	write(t, dead, Forms{Tar: true})
	dead.kill(t)
	alive := open(t, root, Options{})
	done, err := alive.writing("x")
	if err != nil {
		t.Fatal(err)
	}
	reader, err := Open(root, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reader.Usage(t.Context(), nil); err != nil {
		t.Error(err)
	}
	if err := reader.Close(); err != nil || marks(t, root) != 2 {
		t.Errorf("after a process that reads: %d marks, %v", marks(t, root), err)
	}
	writer, err := Open(root, Options{})
	if err != nil {
		t.Fatal(err)
	}
	write(t, writer, Forms{Blob: true})
	if err := writer.Sync(); err != nil || marks(t, root) != 4 { // one is of the blob
		t.Errorf("after a sync in between: %d marks, %v", marks(t, root), err)
	}
	if err := writer.Close(); err != nil || marks(t, root) != 1 {
		t.Errorf("after a process that writes: %d marks, %v", marks(t, root), err)
	}
	done()
}

// A process that is told to end does not wait for the disk; what it leaves is used, and
// made durable by the next one that writes.
func TestLeave(t *testing.T) {
	root := t.TempDir()
	s, err := Open(root, Options{})
	if err != nil {
		t.Fatal(err)
	}
	l := write(t, s, Forms{Tar: true})
	if err := s.Leave(); err != nil || marks(t, root) != 1 {
		t.Errorf("left: %d marks, %v", marks(t, root), err)
	}
	if left, err := os.ReadDir(filepath.Join(root, "tmp")); err != nil || len(left) != 0 {
		t.Errorf("temporary folders: %v, %v", left, err)
	}
	next, err := Open(root, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := next.Get(l.ID); err != nil {
		t.Error(err)
	}
	write(t, next, Forms{Blob: true})
	if err := next.Close(); err != nil || marks(t, root) != 0 {
		t.Errorf("closed: %d marks, %v", marks(t, root), err)
	}
}

// When the file system fails to write, that is an error, and the layers are lost
// for every process.
func TestSyncFails(t *testing.T) {
	for _, when := range []string{"sync", "close"} {
		t.Run(when, func(t *testing.T) {
			root := t.TempDir()
			s, err := Open(root, Options{})
			if err != nil {
				t.Fatal(err)
			}
			l := write(t, s, Forms{Tar: true})
			healthy := s.disk.fs
			broken, err := os.Open(root)
			if err != nil {
				t.Fatal(err)
			}
			if err := broken.Close(); err != nil {
				t.Fatal(err)
			}
			s.disk.fs = broken
			var failed *SyncError
			if when == "sync" {
				if err := s.Sync(); !errors.As(err, &failed) {
					t.Errorf("Sync: %v", err)
				}
				s.disk.fs = healthy
				if err := s.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			} else {
				if err := s.Close(); !errors.As(err, &failed) {
					t.Errorf("Close: %v", err)
				}
				if err := healthy.Close(); err != nil {
					t.Error(err)
				}
			}
			next := open(t, root, Options{})
			if _, err := next.Get(l.ID); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("afterwards: %v", err)
			}
			check(t, next, write(t, next, Forms{Tar: true}))
		})
	}
}

// A blob that was not on disk when the machine went down is read before it counts.
func TestBlobsOfAnotherBoot(t *testing.T) {
	for name, damage := range map[string]func(path string) error{
		"sound": func(string) error { return nil },
		"empty": func(path string) error { return os.Truncate(path, 0) },
		"zeros": func(path string) error {
			return errors.Join(os.Truncate(path, 0), os.Truncate(path, 1<<20))
		},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			s := killed(t, root, Options{})
			data := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
			desc := ocispec.Descriptor{Digest: digest.FromBytes(data), Size: int64(len(data))}
			if err := s.Blobs.Put(ctx, desc, bytes.NewReader(data)); err != nil {
				t.Fatal(err)
			}
			s.kill(t)
			s.goDown(t)
			if err := damage(s.blobPath(desc.Digest)); err != nil {
				t.Fatal(err)
			}
			next := open(t, root, Options{})
			if got := next.Blobs.Has(desc); got != (name == "sound") {
				t.Errorf("it counts: %v", got)
			}
			if err := next.Blobs.Put(ctx, desc, bytes.NewReader(data)); err != nil {
				t.Fatal(err)
			}
			if there, err := next.Blobs.Intact(ctx, desc); err != nil || !there {
				t.Errorf("put again: %v, %v", there, err)
			}
		})
	}
}

// A blob that a killed process left is synced by the one that finds it there.
func TestSyncOfFoundBlob(t *testing.T) {
	root := t.TempDir()
	data := []byte("x")
	desc := ocispec.Descriptor{Digest: digest.FromBytes(data), Size: 1}
	dead := killed(t, root, Options{})
	if err := dead.Blobs.Put(ctx, desc, bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	dead.kill(t)
	s := open(t, root, Options{})
	if err := s.Blobs.Put(ctx, desc, bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	healthy := s.disk.fs
	broken, err := os.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	s.disk.fs = broken
	if err := broken.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Sync(); err == nil {
		t.Error("nothing was synced")
	}
	s.disk.fs = healthy
}

// After a failed syncfs what dead processes left is lost too.
func TestSyncFailsForTheDead(t *testing.T) {
	root := t.TempDir()
	dead := killed(t, root, Options{})
	l := write(t, dead, Forms{Tar: true})
	dead.kill(t)
	s := open(t, root, Options{})
	if err := s.failed(); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, root, Options{}).Get(l.ID); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the dead process's layer: %v", err)
	}
}

// Marks of what is gone go.
func TestMarksOfNothing(t *testing.T) {
	root := t.TempDir()
	s := killed(t, root, Options{})
	l := write(t, s, Forms{Tar: true})
	s.kill(t)
	s.goDown(t)
	if err := os.RemoveAll(s.layerPath(l.ID, "")); err != nil {
		t.Fatal(err)
	}
	open(t, root, Options{})
	if n := marks(t, root); n != 0 {
		t.Errorf("%d marks are left", n)
	}
}

// One syncfs does for several names of one build; its own marks ask for no other.
func TestSyncOnce(t *testing.T) {
	root := t.TempDir()
	s := open(t, root, Options{})
	write(t, s, Forms{Tar: true})
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	broken, err := os.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	if err := broken.Close(); err != nil {
		t.Fatal(err)
	}
	healthy := s.disk.fs
	s.disk.fs = broken
	if err := s.Sync(); err != nil {
		t.Errorf("synced again: %v", err)
	}
	s.disk.fs = healthy
	if marks(t, root) == 0 {
		t.Error("there were no marks")
	}
}

// A machine that does not say which boot this is has another one in each process, so
// that what a dead one left is lost and not believed.
func TestBootID(t *testing.T) {
	if a, b := bootIDOf(os.DevNull+"/none"), bootIDOf(os.DevNull+"/none"); a == b || strings.Contains(a, ".") {
		t.Errorf("unknown boots are %s and %s", a, b)
	}
	if a, b := bootID(), bootID(); a != b || a == "" {
		t.Errorf("one boot is %s and %s", a, b)
	}
}
