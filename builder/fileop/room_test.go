package fileop

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sinter-build/sinter/builder/source"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/archive/archivetest"
)

// viewFS is a view as a file system; all files hold the same.
type viewFS struct {
	*layers.View
	hashed func()
}

func (v viewFS) Lookup(p string) (layers.Entry, bool, error) {
	e, _, ok := v.View.Lookup(p)
	return e, ok, nil
}

func (v viewFS) ReadDir(p string) ([]layers.Entry, error) {
	var entries []layers.Entry
	for _, n := range v.View.ReadDir(p) {
		entries = append(entries, n.Entry)
	}
	return entries, nil
}

func (v viewFS) Open(context.Context, layers.Entry) (io.ReadCloser, error) { return nil, io.EOF }

func (v viewFS) Digest(context.Context, layers.Entry) (digest.Digest, error) {
	if v.hashed != nil {
		v.hashed()
	}
	return digest.FromString(""), nil
}

var _ source.FS = viewFS{}

// wideView has files in directories of a thousand.
func wideView(files int) viewFS {
	t := &layers.Tree{}
	for i := range files {
		dir := fmt.Sprintf("d%04d", i/1000)
		if i%1000 == 0 {
			t.Entries = append(t.Entries, layers.Entry{Path: dir, Kind: layers.Dir, Mode: 0o755})
		}
		t.Entries = append(t.Entries, layers.Entry{Path: fmt.Sprintf("%s/a-file-with-a-rather-long-name-%06d", dir, i), Mode: 0o644})
	}
	return viewFS{View: layers.NewView([]*layers.Tree{t})}
}

// TestRoomPerCopy: a copy of many files takes little memory for each.
func TestRoomPerCopy(t *testing.T) {
	const files, most = 20_000, 180
	from := wideView(files)
	archivetest.CheckRoom(t, files, most, func() any {
		to := newTree(nil, nil)
		if err := (&run{}).copy(context.Background(), to, Input{FS: from, Kept: true}, dockerCopy("/", "/to/")); err != nil {
			t.Fatal(err)
		}
		return to
	})
}

// TestRoomPerMember: unpacking an archive of many files takes little memory for each.
func TestRoomPerMember(t *testing.T) {
	const files, most = 20_000, 295
	from := bytes.NewReader(wideTar(t, files))
	sp := &spool{dir: t.TempDir()}
	defer sp.Close()
	archivetest.CheckRoom(t, files, most, func() any {
		u := unpacker{tree: newTree(nil, nil), spool: sp}
		if err := u.all(t.Context(), tar.NewReader(from)); err != nil {
			t.Fatal(err)
		}
		return u.tree
	})
}

// wideTar is an archive of files in directories of a thousand.
func wideTar(t *testing.T, files int) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := range files {
		h := &tar.Header{Name: fmt.Sprintf("d%04d/a-file-with-a-rather-long-name-%06d", i/1000, i), Mode: 0o644, Size: 1}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte{1}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestRoomOfDigest: what a step reads is not held all at once.
func TestRoomOfDigest(t *testing.T) {
	const files, most = 20 * foundAtOnce, 5 << 20
	from := wideView(files)
	before := archivetest.Heap()
	var hashed atomic.Int64
	var took int64
	from.hashed = func() {
		if hashed.Add(1) == files-100 {
			took = archivetest.Heap() - before
		}
	}
	if _, err := Digest(context.Background(), from, Subtree("/")); err != nil {
		t.Fatal(err)
	}
	if took == 0 || took > most {
		t.Errorf("%d bytes for %d files, more than %d", took, files, most)
	}
}

// TestNamesOfOneFile: which names are of one file counts the same with patterns and
// without.
func TestNamesOfOneFile(t *testing.T) {
	file := func(p string) layers.Entry { return layers.Entry{Path: p, Mode: 0o644} }
	link := func(p, to string) layers.Entry { return layers.Entry{Path: p, Kind: layers.Hardlink, Link: to} }
	dir := func(p string) layers.Entry { return layers.Entry{Path: p, Kind: layers.Dir, Mode: 0o755} }
	from := viewFS{View: layers.NewView([]*layers.Tree{{Entries: []layers.Entry{
		dir("a"), file("a/1"), link("a/2", "a/1"), link("a/3", "z/1"), file("a/4"), dir("b"), link("b/1", "a/1"), link("b/2", "a/4"), link("b/3", "z/1"), dir("z"), file("z/1"),
	}}})}
	ctx := context.Background()
	for _, source := range []string{"/", "/a", "/b", "/z"} {
		sel := Subtree(source)
		plain, err := Digest(ctx, from, sel)
		if err != nil {
			t.Fatal(err)
		}
		sel.Exclude = []string{"nothing"}
		if kept, err := Digest(ctx, from, sel); err != nil || kept != plain {
			t.Errorf("%s: %s, with a pattern %s, %v", source, plain, kept, err)
		}
	}
	to := newTree(nil, nil)
	if err := (&run{}).copy(ctx, to, Input{FS: from, Kept: true}, dockerCopy("/", "/to")); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range []string{"a/1", "a/2", "b/1", "a/3", "b/3", "z/1", "a/4", "b/2"} {
		n, _ := to.find("to/" + p)
		got = append(got, fmt.Sprint(n.file.names))
	}
	if names := strings.Join(got, " "); names != "3 3 3 3 3 3 2 2" {
		t.Errorf("files have as many names as these: %s", names)
	}
}
