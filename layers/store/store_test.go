package store

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"weak"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/archive"
	"github.com/sinter-build/sinter/layers/folder"
)

var ctx = context.Background()

// made is the time that the layers of these tests are made at.
var made = time.Unix(1700000000, 0).UTC()

func open(t *testing.T, root string, opt Options) *Store {
	t.Helper()
	opt.Warn = func(text string) { t.Log("warning:", text) }
	s, err := Open(root, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// content is what the files of the test layer hold.
var content = map[string]string{"dir/file": "hello", "dir/large": strings.Repeat("0123456789abcdef", 1<<17), "empty": ""}

func write(t *testing.T, s *Store, forms Forms) layers.Layer {
	t.Helper()
	w, err := s.NewWriter(ctx, forms, archive.Compression{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	add := func(e layers.Entry) {
		var r io.Reader
		if e.Kind == layers.File {
			e.Size = int64(len(content[e.Path]))
			r = strings.NewReader(content[e.Path])
		}
		e.UID, e.GID = os.Getuid(), os.Getgid()
		if err := w.Add(e, r); err != nil {
			t.Fatal(err)
		}
	}
	add(layers.Entry{Path: "dir", Kind: layers.Dir, Mode: 0o755, ModTime: 1e9})
	add(layers.Entry{Path: "dir/file", Kind: layers.File, Mode: 0o4755, ModTime: 2e9})
	add(layers.Entry{Path: "dir/large", Kind: layers.File, Mode: 0o600, ModTime: 3e9})
	add(layers.Entry{Path: "dir/link", Kind: layers.Symlink, Target: "file", Mode: 0o777, ModTime: 3e9})
	add(layers.Entry{Path: "empty", Kind: layers.File, Mode: 0o644, ModTime: 3e9})
	l, err := w.Commit(made)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// check reads every file of a layer.
func check(t *testing.T, s *Store, l layers.Layer) {
	t.Helper()
	tree, err := s.Tree(ctx, l)
	if err != nil {
		t.Fatal(err)
	}
	files := 0
	for _, e := range tree.Entries {
		if e.Kind != layers.File {
			continue
		}
		files++
		r, err := s.OpenFile(ctx, l, e)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err = errors.Join(err, r.Close()); err != nil || string(data) != content[e.Path] {
			t.Errorf("%s: %d bytes, %v", e.Path, len(data), err)
		}
		if d, err := s.Digest(ctx, l, e); err != nil || d != digest.FromString(content[e.Path]) {
			t.Errorf("%s: %s, %v", e.Path, d, err)
		}
	}
	if files != len(content) {
		t.Errorf("the layer has %d files", files)
	}
	if problems, err := s.Verify(ctx); err != nil || len(problems) > 0 {
		t.Errorf("Verify: %v %v", problems, err)
	}
}

func TestAnyFormHasTheFiles(t *testing.T) {
	var ids []layers.ID
	for name, forms := range map[string]Forms{
		"blob": {Blob: true}, "tar": {Tar: true}, "dir": {Dir: true},
		"blob and dir": {Blob: true, Dir: true}, "all": {Blob: true, Tar: true, Dir: true},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			s := open(t, root, Options{})
			l := write(t, s, forms)
			ids = append(ids, l.ID)
			if string(l.ID) != l.DiffID.Encoded() || l.ID != ids[0] {
				t.Errorf("ID %s, diff ID %s", l.ID, l.DiffID)
			}
			check(t, s, l)
			other := open(t, root, Options{})
			again, err := other.Get(l.ID)
			if err != nil || !again.Created.Equal(made) {
				t.Fatalf("another process sees %+v, %v", again, err)
			}
			check(t, other, again)
		})
	}
}

func TestFormsAreMadeOnDemand(t *testing.T) {
	for name, forms := range map[string]Forms{"of a blob": {Blob: true}, "of a tar": {Tar: true}, "of a directory": {Dir: true}} {
		t.Run(name, func(t *testing.T) {
			s := open(t, t.TempDir(), Options{})
			l := write(t, s, forms)
			dir, err := s.Dir(ctx, layers.Chain{l})
			if err != nil {
				t.Fatal(err)
			}
			info, err := os.Lstat(filepath.Join(dir, "dir/file"))
			if err != nil || info.Mode() != 0o755|fs.ModeSetuid || info.ModTime().Unix() != 2 {
				t.Errorf("dir/file: %v, %v", info, err)
			}
			p, err := s.Pack(ctx, l, archive.Compression{})
			if err != nil {
				t.Fatal(err)
			}
			reference := write(t, open(t, t.TempDir(), Options{}), Forms{Blob: true})
			if p.Descriptor.Digest != reference.Descriptor.Digest || p.DiffID != reference.DiffID {
				t.Errorf("packed %+v, not %+v", p, reference)
			}
			check(t, s, p)
		})
	}
}

// pulled returns a layer of which a store only knows the description, and the
// blob that it is about.
func pulled(t *testing.T) (layers.Layer, []byte) {
	t.Helper()
	s := open(t, t.TempDir(), Options{})
	l := write(t, s, Forms{Blob: true})
	blob, err := os.ReadFile(s.blobPath(l.Descriptor.Digest))
	if err != nil {
		t.Fatal(err)
	}
	l.ID, l.Origins = layers.BaseID(l.Descriptor, l.DiffID), []string{"example.com/base"}
	return l, blob
}

func TestKnownLayerIsFetchedOnce(t *testing.T) {
	l, blob := pulled(t)
	fetched := 0
	var mu sync.Mutex
	s := open(t, t.TempDir(), Options{Fetch: func(context.Context, layers.Layer) (io.ReadCloser, error) {
		mu.Lock()
		defer mu.Unlock()
		fetched++
		return io.NopCloser(bytes.NewReader(blob)), nil
	}})
	for range 2 {
		if err := s.AddRemote(t.Context(), l); err != nil {
			t.Fatal(err)
		}
	}
	if s.Blobs.Has(l.Descriptor) || fetched > 0 {
		t.Fatal("it was fetched before somebody wanted it")
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if _, err := s.Dir(ctx, layers.Chain{l}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if fetched != 1 {
		t.Errorf("fetched %d times", fetched)
	}
	check(t, s, l)
}

func TestWrongBlobIsRefused(t *testing.T) {
	l, blob := pulled(t)
	flipped := bytes.Clone(blob)
	flipped[len(flipped)/2] ^= 1
	for name, data := range map[string][]byte{"short": blob[:len(blob)/2], "long": append(bytes.Clone(blob), 0), "altered": flipped, "empty": {}} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			s := open(t, root, Options{Fetch: func(context.Context, layers.Layer) (io.ReadCloser, error) {
				return io.NopCloser(bytes.NewReader(data)), nil
			}})
			if err := s.AddRemote(t.Context(), l); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Tree(ctx, l); !errors.Is(err, folder.ErrCorrupt) {
				t.Errorf("got %v", err)
			}
			if s.Blobs.Has(l.Descriptor) {
				t.Error("it was kept")
			}
		})
	}
}

// TestBlobIsDamagedOnItsWay: once is not the image's fault.
func TestBlobIsDamagedOnItsWay(t *testing.T) {
	l, blob := pulled(t)
	flipped := bytes.Clone(blob)
	flipped[len(flipped)/2] ^= 1
	for name, data := range map[string][]byte{"short": blob[:len(blob)/2], "long": append(bytes.Clone(blob), 0), "altered": flipped, "empty": {}} {
		t.Run(name, func(t *testing.T) {
			arriving := [][]byte{data, blob}
			s := open(t, t.TempDir(), Options{Fetch: func(context.Context, layers.Layer) (io.ReadCloser, error) {
				next := arriving[0]
				arriving = arriving[1:]
				return io.NopCloser(bytes.NewReader(next)), nil
			}})
			if err := s.AddRemote(t.Context(), l); err != nil {
				t.Fatal(err)
			}
			check(t, s, l)
			if len(arriving) != 0 {
				t.Errorf("%d bodies were left", len(arriving))
			}
		})
	}
}

func TestDamagedBlobIsFetchedAgain(t *testing.T) {
	l, blob := pulled(t)
	s := open(t, t.TempDir(), Options{Fetch: func(context.Context, layers.Layer) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(blob)), nil
	}})
	if err := s.AddRemote(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(blob)
	flipped[len(flipped)/2] ^= 1
	if err := os.WriteFile(s.blobPath(l.Descriptor.Digest), flipped, 0o644); err != nil {
		t.Fatal(err)
	}
	if problems, err := s.Verify(ctx); err != nil || len(problems) != 1 {
		t.Errorf("Verify: %v, %v", problems, err)
	}
	check(t, s, l)
}

// TestDamagedBlobIsReplaced: who has the right bytes at hand puts them in the place
// of wrong ones of the same length.
func TestDamagedBlobIsReplaced(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	data := []byte("{}")
	desc := ocispec.Descriptor{Digest: digest.FromBytes(data), Size: int64(len(data))}
	l := write(t, s, Forms{Blob: true})
	for _, d := range []ocispec.Descriptor{desc, l.Descriptor} {
		if err := os.WriteFile(s.blobPath(d.Digest), make([]byte, d.Size), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Blobs.Put(ctx, desc, bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	write(t, s, Forms{Blob: true})
	if problems, err := s.Verify(ctx); err != nil || len(problems) > 0 {
		t.Errorf("Verify: %v, %v", problems, err)
	}
}

// TestOneUsersDirectoriesAreTheirOwn: a directory in which one user owns everything
// serves those who can do no better, and its files are read by all.
func TestOneUsersDirectoriesAreTheirOwn(t *testing.T) {
	root := t.TempDir()
	one, many := open(t, root, Options{SingleUser: true}), open(t, root, Options{})
	l := write(t, one, Forms{Dir: true})
	dirs := map[string]bool{}
	for _, s := range []*Store{one, many, one} {
		dir, err := s.Dir(ctx, layers.Chain{l})
		if err != nil {
			t.Fatal(err)
		}
		dirs[dir] = true
		check(t, s, l)
	}
	if len(dirs) != 2 {
		t.Errorf("the directories are %v", dirs)
	}
}

// TestDirectoriesOfOtherIDs: a directory that was made with other IDs is made again,
// since owners that were missing then may exist now, and the other way round. A layer
// that has no other form is a miss. A directory of one user's files can be read with
// any IDs.
func TestDirectoriesOfOtherIDs(t *testing.T) {
	const few, many = "0 1000 1 1 100000 10", "0 1000 1 1 100000 65536"
	for name, test := range map[string]struct {
		forms Forms
		miss  bool
	}{"with a tar": {Forms{Dir: true, Tar: true}, false}, "without": {Forms{Dir: true}, true}} {
		root := t.TempDir()
		l := write(t, open(t, root, Options{IDs: few}), test.forms)
		dir := filepath.Join(root, "layers", string(l.ID), dirName)
		before, err := readMark(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := open(t, root, Options{IDs: few}).Usable(l); err != nil {
			t.Errorf("%s: with the same IDs: %v", name, err)
		}
		s := open(t, root, Options{IDs: many})
		if err := s.Usable(l); errors.Is(err, ErrNoForm) != test.miss {
			t.Errorf("%s: Usable: %v", name, err)
		}
		if problems, err := s.Verify(ctx); err != nil || len(problems) > 0 {
			t.Errorf("%s: Verify: %v, %v", name, problems, err)
		}
		if _, err := s.Dir(ctx, layers.Chain{l}); (err != nil) != test.miss {
			t.Errorf("%s: Dir: %v", name, err)
		}
		after, err := readMark(dir)
		if err != nil {
			t.Fatal(err)
		}
		if again := after.Inode != before.Inode; again == test.miss {
			t.Errorf("%s: made again: %v", name, again)
		}
	}
	root := t.TempDir()
	l := write(t, open(t, root, Options{IDs: "0 1000 1", SingleUser: true}), Forms{Dir: true})
	if err := open(t, root, Options{IDs: many}).Usable(l); err != nil {
		t.Error(err)
	}
}

func TestDamagedLayerIsNone(t *testing.T) {
	root := t.TempDir()
	l := write(t, open(t, root, Options{}), Forms{Tar: true})
	path := filepath.Join(root, "layers", string(l.ID), metaName)
	for name, data := range map[string]string{"empty": "", "torn": "0123", "another's": string(folder.Seal([]byte(`{"layer":{"id":"x"}}`)))} {
		if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
		s := open(t, root, Options{})
		if _, err := s.Get(l.ID); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
		if problems, err := s.Verify(ctx); err != nil || len(problems) != 1 {
			t.Errorf("%s: Verify: %v, %v", name, problems, err)
		}
	}
	s := open(t, root, Options{})
	check(t, s, write(t, s, Forms{Blob: true}))
}

func TestLeftoversGo(t *testing.T) {
	root := t.TempDir()
	alive := open(t, root, Options{})
	kept, err := alive.TempDir("kept-")
	if err != nil {
		t.Fatal(err)
	}
	dead, err := Open(root, Options{})
	if err != nil {
		t.Fatal(err)
	}
	// A killed process leaves everything and holds no lock.
	if err := dead.own.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dead.tmp, "a/b"), 0o000); err == nil {
		_ = os.Chmod(filepath.Join(dead.tmp, "a"), 0o000)
	}
	open(t, root, Options{})
	if _, err := os.Stat(dead.tmp); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the dead process's folder: %v", err)
	}
	if _, err := os.Stat(kept); err != nil {
		t.Errorf("the living process's folder: %v", err)
	}
}

// Processes that open a store look at each other's temporary folders.
func TestManyOpenAtOnce(t *testing.T) {
	root := t.TempDir()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				s, err := Open(root, Options{})
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := os.Stat(s.Temp()); err != nil {
					t.Error(err)
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func TestAdopt(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	base := write(t, s, Forms{Tar: true})
	dir, err := s.TempDir("run-")
	if err != nil {
		t.Fatal(err)
	}
	upper := filepath.Join(dir, "upper")
	if err := os.Mkdir(upper, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, changed, err := s.CommitUpper(ctx, upper, layers.Chain{base}, nil, made); err != nil || changed {
		t.Fatalf("an empty upper: changed %v, %v", changed, err)
	}
	if err := os.MkdirAll(filepath.Join(upper, "new"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(upper, "new/file"), []byte("new"), 0o644); err != nil {
		t.Fatal(err)
	}
	l, changed, err := s.CommitUpper(ctx, upper, layers.Chain{base}, &layers.Owner{UID: 5, GID: 6}, made)
	if err != nil || !changed {
		t.Fatalf("changed %v, %v", changed, err)
	}
	if _, err := os.Stat(upper); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the upper directory was copied, not moved")
	}
	p, err := s.Pack(ctx, l, archive.Compression{})
	if err != nil || p.DiffID == "" || p.Descriptor.Size == 0 || p.ID != l.ID {
		t.Fatalf("packed: %+v, %v", p, err)
	}
	if got, ok := (layers.Chain{base, p}).RootOwner(); !ok || got != (layers.Owner{UID: 5, GID: 6}) {
		t.Errorf("the root is owned by %v, %v", got, ok)
	}
	view, err := s.View(ctx, layers.Chain{base, p})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"new/file": "new", "dir/file": "hello"} {
		e, at, ok := view.Lookup(path)
		if !ok {
			t.Fatalf("no %s", path)
		}
		r, err := s.OpenFile(ctx, layers.Chain{base, p}[at], e)
		if err != nil {
			t.Fatal(err)
		}
		if data, err := io.ReadAll(r); err != nil || string(data) != want {
			t.Errorf("%s: %q, %v", path, data, err)
		}
		r.Close()
	}
	if problems, err := s.Verify(ctx); err != nil || len(problems) > 0 {
		t.Errorf("Verify: %v %v", problems, err)
	}
}

// TestUnlistedParents: a layer of another tool's that does not describe the
// directory of its file must not change that directory, whichever layers were below
// it when its directory form was made.
func TestUnlistedParents(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	layer := func(entries ...layers.Entry) layers.Layer {
		w, err := s.NewWriter(ctx, Forms{Tar: true}, archive.Compression{})
		if err != nil {
			t.Fatal(err)
		}
		defer w.Abort()
		for _, e := range entries {
			e.UID, e.GID = os.Getuid(), os.Getgid()
			if err := w.Add(e, strings.NewReader("")); err != nil {
				t.Fatal(err)
			}
		}
		l, err := w.Commit(made)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	base := layer(layers.Entry{Path: "tmp", Kind: layers.Dir, Mode: 0o1777}, layers.Entry{Path: "tmp/sub", Kind: layers.Dir, Mode: 0o700})
	other := layer(layers.Entry{Path: "tmp", Kind: layers.Dir, Mode: 0o711})
	top := layer(layers.Entry{Path: "tmp/sub/file", Kind: layers.File, Mode: 0o644}, layers.Entry{Path: "tmp/z", Kind: layers.File, Mode: 0o644})
	opaque := layer(layers.Entry{Path: "tmp", Kind: layers.Dir, Mode: 0o755, Opaque: true, Implied: true}, layers.Entry{Path: "tmp/sub/file", Kind: layers.File, Mode: 0o644})
	for range 2 {
		for _, c := range []struct {
			chain    layers.Chain
			tmp, sub fs.FileMode
		}{
			{layers.Chain{top}, fs.ModeDir | 0o755, fs.ModeDir | 0o755},
			{layers.Chain{base, top}, fs.ModeDir | fs.ModeSticky | 0o777, fs.ModeDir | 0o700},
			{layers.Chain{other, top}, fs.ModeDir | 0o711, fs.ModeDir | 0o755},
			{layers.Chain{base, opaque}, fs.ModeDir | fs.ModeSticky | 0o777, fs.ModeDir | 0o700},
			{layers.Chain{base, opaque, top}, fs.ModeDir | fs.ModeSticky | 0o777, fs.ModeDir | 0o700},
			{layers.Chain{other, opaque}, fs.ModeDir | 0o711, fs.ModeDir | 0o755},
		} {
			dir, err := s.Dir(ctx, c.chain)
			if err != nil {
				t.Fatal(err)
			}
			for p, want := range map[string]fs.FileMode{"tmp": c.tmp, "tmp/sub": c.sub} {
				if info, err := os.Stat(filepath.Join(dir, p)); err != nil || info.Mode() != want {
					t.Errorf("%d layers: %s is %v, want %v; %v", len(c.chain), p, info.Mode(), want, err)
				}
			}
		}
	}
}

// TestLayersAreTheOwnersAlone: nobody else can start what images hold.
func TestLayersAreTheOwnersAlone(t *testing.T) {
	root := filepath.Join(t.TempDir(), "store")
	for _, dir := range []string{root, filepath.Join(root, "layers")} {
		open(t, root, Options{})
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v", dir, info.Mode(), err)
		}
		if err := os.Chmod(filepath.Join(root, "layers"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// The store keeps the table of contents of a new layer; what wrote it, with its
// buffers and compressors, is free when the layer is there.
func TestWriterIsFreed(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	written := func() (weak.Pointer[Writer], layers.Layer) {
		w, err := s.NewWriter(ctx, Forms{Blob: true}, archive.Compression{})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Add(layers.Entry{Path: "file", Size: 5}, strings.NewReader("hello")); err != nil {
			t.Fatal(err)
		}
		l, err := w.Commit(made)
		if err != nil {
			t.Fatal(err)
		}
		return weak.Make(w), l
	}
	w, l := written()
	runtime.GC()
	if w.Value() != nil {
		t.Error("the Writer is still held after Commit")
	}
	if _, err := s.Tree(ctx, l); err != nil {
		t.Error(err)
	}
}

// Whoever reads a file of a layer reads on when the layer is replaced or removed.
func TestReadWhileRemoved(t *testing.T) {
	for name, forms := range map[string]Forms{"tar": {Tar: true}, "blob": {Blob: true}, "directory": {Dir: true}} {
		s := open(t, t.TempDir(), Options{})
		l := write(t, s, forms)
		tree, err := s.Tree(ctx, l)
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(tree.Entries, func(e layers.Entry) bool { return e.Kind == layers.File && e.Size > 0 })
		r, err := s.OpenFile(ctx, l, tree.Entries[i])
		if err != nil {
			t.Fatal(err)
		}
		x, _ := exclude(t, s)
		if err := errors.Join(x.RemoveLayer(l.ID), x.Release()); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || string(got) != content[tree.Entries[i].Path] {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}
