package fileop

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/continuity/fs"
	"github.com/klauspost/compress/zstd"
	"github.com/moby/go-archive"
	"github.com/moby/go-archive/chrootarchive"
	"github.com/ulikunitz/xz"
	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/archive/archivetest"
	"github.com/sinter-build/sinter/parser"
)

// makeTar writes headers, each with its own name as content where it is a
// regular file.
func makeTar(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if h.ModTime.IsZero() {
			h.ModTime = time.Unix(1_000_000, 0)
		}
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(h.Name))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := io.WriteString(w, h.Name); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func addArchive(t testing.TB, base string, data []byte, c parser.Copy) (*recorder, error) {
	t.Helper()
	src := t.TempDir()
	if err := os.WriteFile(filepath.Join(src, "x.tar"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(filepath.Join(src, "x.tar"), time.Unix(77, 0), time.Unix(77, 0)); err != nil {
		t.Fatal(err)
	}
	c.Src, c.Unpack, c.CreateDestPath, c.AllowWildcard, c.FollowSymlinks, c.DirContents = "/x.tar", true, true, true, true, true
	w := newRecorder(t)
	op := parser.FileOp{Actions: []parser.FileAction{{Input: 0, Secondary: 1, Action: c}}}
	ins := []Input{{FS: disk(base), Kept: true}, {FS: disk(src), Kept: false}}
	_, err := Apply(context.Background(), op, ins, "", func(int) (Writer, error) { return w, nil })
	return w, err
}

// TestUnpackAsReference compares unpacking random archives over random trees
// with what docker's library makes on disk.
func TestUnpackAsReference(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("changing the root directory needs root")
	}
	defer unix.Umask(unix.Umask(0))
	rounds := 60
	if s := os.Getenv("SINTER_COPY_ROUNDS"); s != "" {
		rounds, _ = strconv.Atoi(s)
	}
	both := 0
	for seed := range rounds {
		t.Run(strconv.Itoa(seed), func(t *testing.T) {
			rng := rand.New(rand.NewSource(int64(seed)))
			base, dest := t.TempDir(), t.TempDir()
			spec := randomTree(rng)
			build(t, base, spec)
			build(t, dest, spec)
			headers := randomHeaders(rng)
			data := makeTar(t, headers...)
			c := parser.Copy{Dest: []string{"/", "/a", "/b/", "/new/x"}[rng.Intn(4)]}
			opts := &archive.TarOptions{BestEffortXattrs: true}
			if rng.Intn(3) == 0 {
				c.Owner = &parser.Owner{User: &parser.ID{Number: 7}, Group: &parser.ID{Number: 8}}
				opts.ChownOpts = &archive.ChownOpts{UID: 7, GID: 8}
			}
			w, err := addArchive(t, base, data, c)
			wantErr := referenceUnpack(dest, data, c, opts)
			if err == nil && wantErr != nil && stumbles(wantErr) {
				return
			}
			if (err != nil) != (wantErr != nil) {
				t.Fatalf("error %v, reference %v\n%s\n%+v\nto %s", err, wantErr, spec, headers, c.Dest)
			}
			if err != nil {
				return
			}
			both++
			// Times apart: BuildKit sets those of directories last,
			// whatever has taken their place meanwhile.
			got := describe(layers.NewView([]*layers.Tree{disk(base).tree(t), &w.tree}), false)
			want := describe(layers.NewView([]*layers.Tree{disk(dest).tree(t)}), false)
			if diff := difference(got, want, time.Time{}, &w.tree); diff != "" {
				t.Fatalf("%s\n%s\n%+v\nto %s", diff, spec, headers, c.Dest)
			}
		})
	}
	if both < rounds/3 {
		t.Errorf("only %d of %d archives could be unpacked: the cases are no good", both, rounds)
	}
}

// stumbles reports whether BuildKit failed where it need not have: in
// setting the time of a directory that a later member has replaced, or in
// writing through a symlink to what does not exist.
func stumbles(err error) bool {
	for _, text := range []string{"chtimes", "file exists", "no such file"} {
		if strings.Contains(err.Error(), text) {
			return true
		}
	}
	return false
}

func referenceUnpack(root string, data []byte, c parser.Copy, opts *archive.TarOptions) error {
	dest, err := fs.RootPath(root, cleanPath(c.Dest))
	if err != nil {
		return err
	}
	if c.Owner == nil {
		err = os.MkdirAll(dest, 0o755)
	} else {
		err = referenceMkdirAll(dest, 7, 8)
	}
	if err != nil {
		return err
	}
	return chrootarchive.Untar(bytes.NewReader(data), dest, opts)
}

func referenceMkdirAll(dir string, uid, gid int) error {
	if fi, err := os.Lstat(dir); err == nil && fi.IsDir() {
		return nil
	}
	if err := referenceMkdirAll(filepath.Dir(dir), uid, gid); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	return os.Lchown(dir, uid, gid)
}

func randomHeaders(rng *rand.Rand) []tar.Header {
	var hs []tar.Header
	name := func() string {
		p := string(rune('a' + rng.Intn(4)))
		for range rng.Intn(3) {
			p += "/" + string(rune('a'+rng.Intn(4)))
		}
		switch rng.Intn(12) {
		case 0:
			return "../" + p
		case 1:
			return "/" + p
		case 2:
			return "./" + p
		}
		return p
	}
	for range 1 + rng.Intn(7) {
		h := tar.Header{
			Name: name(), Uid: rng.Intn(3), Gid: rng.Intn(3), ModTime: time.Unix(int64(1000+rng.Intn(5)*1000), 0),
			Mode: []int64{0o644, 0o755, 0o4755, 0o2711, 0o1777}[rng.Intn(5)],
		}
		switch k := rng.Intn(10); {
		case k < 3:
			h.Typeflag = tar.TypeDir
		case k < 6:
			h.Typeflag = tar.TypeReg
		case k < 8:
			h.Typeflag = tar.TypeSymlink
			h.Linkname = []string{"a", "b", "../a", "/a", "/b/a", "../../c", ".", "/"}[rng.Intn(8)]
		case k < 9 && len(hs) > 0:
			// Another name of an earlier member, which may say other things of it.
			h.Typeflag, h.Linkname = tar.TypeLink, hs[rng.Intn(len(hs))].Name
		default:
			h.Typeflag = tar.TypeFifo
		}
		hs = append(hs, h)
	}
	return hs
}

func TestUnpackKinds(t *testing.T) {
	plain := makeTar(t, tar.Header{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o750, Uid: 3, Gid: 4}, tar.Header{Name: "d/f", Uid: 5, Gid: 6})
	pack := func(open func(io.Writer) (io.WriteCloser, error)) []byte {
		var b bytes.Buffer
		w, err := open(&b)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(plain); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	for name, data := range map[string][]byte{
		"plain": plain,
		"gzip":  pack(func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil }),
		"zstd":  pack(func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) }),
		"xz":    pack(func(w io.Writer) (io.WriteCloser, error) { return xz.NewWriter(w) }),
	} {
		t.Run(name, func(t *testing.T) {
			w, err := addArchive(t, t.TempDir(), data, parser.Copy{Dest: "/"})
			if err != nil {
				t.Fatal(err)
			}
			got := strings.Join(describe(layers.NewView([]*layers.Tree{&w.tree}), true), "\n")
			want := "d kind=1 mode=0750 owner=3:4 time=1970-01-12T13:46:40Z\nd/f kind=0 mode=0644 owner=5:6 "
			if !strings.HasPrefix(got, want) || !strings.HasSuffix(got, "first=d/f time=1970-01-12T13:46:40Z") || w.data["d/f"] != "d/f" {
				t.Errorf("got %s", got)
			}
		})
	}
}

// TestUnpackOnlyArchives: what is no archive is copied as any file is.
func TestUnpackOnlyArchives(t *testing.T) {
	whole := makeTar(t, tar.Header{Name: "f"})
	var gz bytes.Buffer
	z := gzip.NewWriter(&gz)
	_, _ = z.Write([]byte("no tar in here, but text"))
	_ = z.Close()
	for name, data := range map[string][]byte{
		"empty": nil, "text": []byte("hello"), "a compressed text": gz.Bytes(), "half a header": whole[:300],
		"gzip's first bytes": {0x1f, 0x8b, 8, 1, 2, 3},
	} {
		t.Run(name, func(t *testing.T) {
			w, err := addArchive(t, t.TempDir(), data, parser.Copy{Dest: "/to/"})
			if err != nil {
				t.Fatal(err)
			}
			if got, ok := w.data["to/x.tar"]; !ok || got != string(data) {
				t.Errorf("got %q", w.data)
			}
		})
	}
}

func TestUnpackErrors(t *testing.T) {
	long := strings.Repeat("x", 256)
	for name, data := range map[string][]byte{
		"cut off":                  makeTar(t, tar.Header{Name: "a"}, tar.Header{Name: strings.Repeat("b", 90)})[:1536],
		"link to what is not":      makeTar(t, tar.Header{Name: "a"}, tar.Header{Name: "b", Typeflag: tar.TypeLink, Linkname: "c"}),
		"link to the host":         makeTar(t, tar.Header{Name: "b", Typeflag: tar.TypeLink, Linkname: "/etc/passwd"}),
		"link to itself":           makeTar(t, tar.Header{Name: "b", Typeflag: tar.TypeLink, Linkname: "b"}),
		"name too long":            makeTar(t, tar.Header{Name: "d/" + long}),
		"path too long":            makeTar(t, tar.Header{Name: strings.Repeat("d/", 2100) + "f"}),
		"below a file":             makeTar(t, tar.Header{Name: "a"}, tar.Header{Name: "a/b"}),
		"a circle of symlinks":     makeTar(t, tar.Header{Name: "a", Typeflag: tar.TypeSymlink, Linkname: "a"}, tar.Header{Name: "a/b"}),
		"a kind that nobody knows": makeTar(t, tar.Header{Name: "a", Typeflag: 'Z'}),
		"a symlink to nothing":     makeTar(t, tar.Header{Name: "a", Typeflag: tar.TypeSymlink}),
		"a mark of a deletion":     makeTar(t, tar.Header{Name: "a", Typeflag: tar.TypeChar}),
		"a root that is a symlink": makeTar(t, tar.Header{Name: "/", Typeflag: tar.TypeSymlink, Linkname: "x"}),
		"a capability in bits":     makeTar(t, tar.Header{Name: "a", PAXRecords: map[string]string{capabilityRecord: "\x01\x00\x00\x02"}}),
	} {
		t.Run(name, func(t *testing.T) {
			w, err := addArchive(t, t.TempDir(), data, parser.Copy{Dest: "/"})
			if err == nil {
				t.Errorf("no error, but %q", describe(layers.NewView([]*layers.Tree{&w.tree}), false))
			}
		})
	}
}

func TestUnpackStaysInside(t *testing.T) {
	base := t.TempDir()
	build(t, base, "etc/passwd text\nd/etc dir\nd/out link:/etc\nd/up link:../../etc")
	data := makeTar(t,
		tar.Header{Name: "out/passwd"}, tar.Header{Name: "up/group"},
		tar.Header{Name: "../../etc/shadow"}, tar.Header{Name: "/abs"},
		tar.Header{Name: "new", Typeflag: tar.TypeSymlink, Linkname: "/etc"}, tar.Header{Name: "new/hosts"},
	)
	w, err := addArchive(t, base, data, parser.Copy{Dest: "/d"})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range w.tree.Entries {
		if !layers.Under(e.Path, "d") {
			t.Errorf("%s was written", e.Path)
		}
	}
	for _, p := range []string{"d/etc/passwd", "d/etc/group", "d/etc/shadow", "d/abs", "d/etc/hosts"} {
		if _, ok := w.data[p]; !ok {
			t.Errorf("%s is missing: %q", p, w.data)
		}
	}
}

// TestUnpackThroughDanglingLink: a directory that is missing is made, but not
// where a link to nothing leads.
func TestUnpackThroughDanglingLink(t *testing.T) {
	base := t.TempDir()
	build(t, base, "etc/passwd text\nd/l link:/etc")
	for _, name := range []string{"l/f", "l/sub/f"} {
		_, err := addArchive(t, base, makeTar(t, tar.Header{Name: name}), parser.Copy{Dest: "/d"})
		if !errors.Is(err, syscall.ENOENT) || !strings.Contains(err.Error(), `"l" is a symlink to nothing`) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestUnpackLinks: every kind of file keeps its names, and is as the last of them
// says.
func TestUnpackLinks(t *testing.T) {
	link := func(name, target string) tar.Header {
		return tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: target, Mode: 0o600, Uid: 5, Gid: 6, ModTime: time.Unix(2_000_000, 0)}
	}
	w, err := addArchive(t, t.TempDir(), makeTar(t,
		tar.Header{Name: "f", PAXRecords: map[string]string{capabilityRecord: "\x01\x00\x00\x02" + strings.Repeat("\x00", 16)}}, link("f2", "f"),
		tar.Header{Name: "p", Typeflag: tar.TypeFifo}, link("p2", "p"),
		tar.Header{Name: "s", Typeflag: tar.TypeSymlink, Linkname: "f"}, link("s2", "s"),
	), parser.Copy{Dest: "/"})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range w.tree.Entries {
		got = append(got, fmt.Sprintf("%s %d>%s %o %d:%d %d %d", e.Path, e.Kind, e.Target+e.Link, e.Mode, e.UID, e.GID, e.ModTime/1e15, len(e.Xattrs)))
	}
	want := []string{
		"f 0> 600 5:6 2 0", "f2 3>f 600 5:6 2 0", "p 6> 600 5:6 2 0", "p2 3>p 600 5:6 2 0",
		"s 2>f 777 5:6 1 0", "s2 3>s 777 5:6 1 0",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestUnpackLayer: names that a layer keeps for deletions are deletions.
func TestUnpackLayer(t *testing.T) {
	base := t.TempDir()
	build(t, base, "gone text\nd/old text\nd/sub/old text\nd/sub/new old\ne/keep text\nboth/x text")
	touch(t, base)
	data := makeTar(t, tar.Header{Name: ".wh.gone"}, tar.Header{Name: ".wh.nothing"}, tar.Header{Name: "d/.wh..wh..opq"},
		tar.Header{Name: "d/sub/new"}, tar.Header{Name: "e/.wh..wh.aufs"}, tar.Header{Name: "e/f"}, tar.Header{Name: ".wh.both"}, tar.Header{Name: "both/y"})
	w, err := addArchive(t, base, data, parser.Copy{Dest: "/"})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range w.tree.Entries {
		mark := ""
		if e.Kind == layers.Whiteout {
			mark = "-"
		}
		got = append(got, mark+e.Path)
	}
	if s := strings.Join(got, " "); s != "both -both/x both/y d -d/old d/sub d/sub/new -d/sub/old e e/f -gone" {
		t.Error(s)
	}
	w, err = addArchive(t, t.TempDir(), data, parser.Copy{Dest: "/"})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(describe(layers.NewView([]*layers.Tree{&w.tree}), false), " "); strings.Contains(got, ".wh.") || !strings.Contains(got, "e/f") {
		t.Error(got)
	}
}

// TestUnpackLimit: an archive of too many files stops the build, not the
// machine.
func TestUnpackLimit(t *testing.T) {
	u := unpacker{tree: newTree(nil, nil), spool: &spool{}, count: maxMembers - 2}
	for i := range 2 {
		if err := u.member(&tar.Header{Name: fmt.Sprint(i), Typeflag: tar.TypeFifo}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := u.member(&tar.Header{Name: "last", Typeflag: tar.TypeFifo}, nil); err == nil {
		t.Error("no limit")
	}
	u.count = maxMembers - 2
	if err := u.member(&tar.Header{Name: strings.Repeat("d/", 9) + "f", Typeflag: tar.TypeFifo}, nil); err == nil {
		t.Error("no limit for the directories on the way")
	}
	u.count, u.sparse = 0, 1
	if err := u.member(&tar.Header{Name: "sparse", Typeflag: tar.TypeGNUSparse, Size: math.MaxInt64}, nil); err == nil {
		t.Error("no limit for sparse files")
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(makeTar(f, tar.Header{Name: "d/", Typeflag: tar.TypeDir}, tar.Header{Name: "d/f"}, tar.Header{Name: "l", Typeflag: tar.TypeLink, Linkname: "d/f"}))
	f.Add(makeTar(f, tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "../.."}, tar.Header{Name: "l/f"}))
	f.Fuzz(func(t *testing.T, data []byte) {
		tr := newTree(nil, nil)
		tr.put("root", made{mode: 0o755}.inode(layers.Dir, layers.Entry{}))
		u := unpacker{tree: tr, root: "root", spool: &spool{}}
		defer u.spool.Close()
		_ = u.all(context.Background(), tar.NewReader(bytes.NewReader(archivetest.RepairAll(data))))
		w := newRecorder(t)
		if _, _, err := tr.write(context.Background(), func() (Writer, error) { return w, nil }); err != nil {
			t.Fatal(err)
		}
		for _, e := range w.tree.Entries {
			if !layers.Under(e.Path, "root") {
				t.Errorf("%q was written", e.Path)
			}
		}
	})
}
