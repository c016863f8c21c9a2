package local

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/parser"
)

func someRecords(n int) map[string]record {
	rng := rand.New(rand.NewSource(1))
	records := map[string]record{}
	for i := range n {
		p := fmt.Sprintf("dir%d/sub%d/file%d", rng.Intn(100), rng.Intn(100), i)
		records[p] = record{
			stamp:  stamp{size: rng.Int63(), mtime: rng.Int63(), ctime: rng.Int63(), ino: rng.Uint64(), dev: rng.Uint64()},
			digest: sha256.Sum256([]byte(p)),
		}
	}
	return records
}

func TestIndexCodec(t *testing.T) {
	records := someRecords(500)
	data := encodeIndex(records)
	x := parseIndex(data)
	if x.count != len(records) {
		t.Fatalf("%d records of %d", x.count, len(records))
	}
	for p, want := range records {
		if got, ok := x.get(p); !ok || got != want {
			t.Errorf("%s: %v %v", p, got, ok)
		}
	}
	if _, ok := x.get("nothing"); ok {
		t.Error("a path that is not recorded is found")
	}
	if !bytes.Equal(data, encodeIndex(records)) {
		t.Error("the same records make other bytes")
	}
}

// TestTornIndex changes every byte once: whatever is found after that is
// right.
func TestTornIndex(t *testing.T) {
	records := someRecords(7)
	whole := encodeIndex(records)
	for i := range whole {
		torn := bytes.Clone(whole)
		torn[i] ^= 0x41
		x := parseIndex(torn)
		for p, want := range records {
			if got, ok := x.get(p); ok && got != want {
				t.Fatalf("byte %d: %s is %v", i, p, got)
			}
		}
		if x := parseIndex(whole[:i]); x.count > 0 {
			for p, want := range records {
				if got, ok := x.get(p); ok && got != want {
					t.Fatalf("cut at %d: %s is %v", i, p, got)
				}
			}
		}
	}
}

func FuzzIndex(f *testing.F) {
	f.Add(encodeIndex(someRecords(3)), "dir1/sub2/file0")
	f.Add([]byte(indexMagic+"\xff\xff\xff\xff\xff\xff\xff\xff"), "a")
	f.Fuzz(func(t *testing.T, data []byte, name string) {
		x := parseIndex(data)
		if _, ok := x.get(name); ok && x.count == 0 {
			t.Error("an empty index knows a path")
		}
		for i := range x.count {
			x.record(i)
		}
	})
}

// openLater opens a directory as if all that is in it had not changed for long.
func openLater(t *testing.T, dir, indexDir string) *Directory {
	t.Helper()
	l, err := Open(dir, indexDir)
	if err != nil {
		t.Fatal(err)
	}
	l.start += time.Hour.Nanoseconds()
	return l
}

func stampAt(t *testing.T, path string) stamp {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	return stampOf(&st)
}

// TestClock: a directory is opened after everything that happened before, by the clock
// of the file system.
func TestClock(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "f")
	if l := open(t, dir, t.TempDir()); l.start < stampAt(t, filepath.Join(dir, "f")).ctime {
		t.Errorf("opened at %d, before the file was made", l.start)
	}
}

// TestIndexAcrossBuilds follows a file through builds: the index is believed
// as long as the file is as it was, and never for a file that changed as late
// as the build itself.
func TestIndexAcrossBuilds(t *testing.T) {
	dir, indexDir := t.TempDir(), t.TempDir()
	ctx := context.Background()
	path := filepath.Join(dir, "f")
	set := func(s string) {
		if err := os.WriteFile(path, []byte(s), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// build returns the digest and whether the index knew it before.
	build := func() (digest.Digest, bool) {
		t.Helper()
		l := openLater(t, dir, indexDir)
		f := l.Select(parser.Local{})
		if _, err := f.ReadDir(""); err != nil {
			t.Fatal(err)
		}
		e, ok, err := f.Lookup("f")
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		_, known := l.index.get("f")
		d, err := f.Digest(ctx, e)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		for range l.hashed() {
			known = false
		}
		return d, known
	}
	set("one")
	if d, known := build(); known || d != digest.FromString("one") {
		t.Errorf("first: %s %v", d, known)
	}
	if d, known := build(); !known || d != digest.FromString("one") {
		t.Errorf("second: %s, known %v", d, known)
	}
	before := stampAt(t, path)
	for after := before; after.ctime == before.ctime; after = stampAt(t, path) { // until the clock ticks
		set("two")
		if err := os.Chtimes(path, time.Time{}, time.Unix(0, before.mtime)); err != nil {
			t.Fatal(err)
		}
	}
	if d, known := build(); known || d != digest.FromString("two") {
		t.Errorf("same size and time, other content: %s, known %v", d, known)
	}
	l := open(t, dir, indexDir)
	l.start = 1 // as if the file had changed during the build
	f := l.Select(parser.Local{})
	set("new")
	e, _, _ := f.Lookup("f")
	if _, err := f.Digest(ctx, e); err != nil {
		t.Fatal(err)
	}
	if err := l.saveIndex(); err != nil {
		t.Fatal(err)
	}
	if r, ok := loadIndex(l.indexPath).get("f"); ok && r.digest == sha256.Sum256([]byte("new")) {
		t.Error("the digest of a file that changed during the build is remembered")
	}
}

// TestIndexOfOtherDevice: a file on another file system than the index, such as one
// mounted inside the context, must have been left alone for longer.
func TestIndexOfOtherDevice(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "f")
	for _, other := range []bool{false, true} {
		l := open(t, dir, t.TempDir())
		s, err := l.lookup("f")
		if err != nil {
			t.Fatal(err)
		}
		l.start, l.device = s.stamp.ctime+time.Second.Nanoseconds(), s.stamp.dev
		if other {
			l.device++
		}
		if _, err := l.digest(t.Context(), s.entry()); err != nil {
			t.Fatal(err)
		}
		r, err := l.openFile(s.entry())
		if err != nil {
			t.Fatal(err)
		}
		if hashes := r.(*steady).hash != nil; hashes != other {
			t.Errorf("other device: %t, hashed again while it is copied: %t", other, hashes)
		}
		if err := errors.Join(r.Close(), l.saveIndex()); err != nil {
			t.Fatal(err)
		}
		if _, kept := loadIndex(l.indexPath).get("f"); kept == other {
			t.Errorf("other device: %t, remembered: %t", other, kept)
		}
	}
}

func TestIndexForgets(t *testing.T) {
	dir, indexDir := t.TempDir(), t.TempDir()
	write(t, dir, "a/x", "b/c/x", "keep/x", "other/x")
	build := func(paths ...string) *index {
		l := openLater(t, dir, indexDir)
		f := l.Select(parser.Local{})
		if _, err := f.ReadDir(""); err != nil {
			t.Fatal(err)
		}
		for _, p := range paths {
			e, ok, err := f.Lookup(p)
			if err != nil || !ok {
				t.Fatal(p, ok, err)
			}
			if _, err := f.Digest(context.Background(), e); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		return loadIndex(l.indexPath)
	}
	if x := build("a/x", "b/c/x", "keep/x"); x.count != 3 {
		t.Fatalf("%d records", x.count)
	}
	if err := os.RemoveAll(filepath.Join(dir, "b")); err != nil {
		t.Fatal(err)
	}
	x := build("a/x", "other/x")
	for p, want := range map[string]bool{"a/x": true, "b/c/x": false, "keep/x": true, "other/x": true} {
		if _, ok := x.get(p); ok != want {
			t.Errorf("%s: known %v", p, ok)
		}
	}
}

func BenchmarkLoadIndex(b *testing.B) {
	file := filepath.Join(b.TempDir(), "index")
	if err := os.WriteFile(file, encodeIndex(someRecords(56_000)), 0o644); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		x := loadIndex(file)
		if x.count != 56_000 {
			b.Fatal(x.count)
		}
		x.close()
	}
}
