package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/layers"
)

// needRoot skips tests that make devices and other owners.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("not root")
	}
}

// opener opens the contents of a tar's files.
func opener(t testing.TB, data []byte) func(layers.Entry) (io.ReadCloser, error) {
	t.Helper()
	r, err := OpenChunked(bytes.NewReader(data), int64(len(data)), Uncompressed, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r.Content
}

func unpack(t *testing.T, list []sample, o UnpackOptions) (string, *layers.Tree) {
	t.Helper()
	data, tree := writeTar(t, list)
	dir := t.TempDir()
	if err := Unpack(context.Background(), tree, opener(t, data), dir, o); err != nil {
		t.Fatal(err)
	}
	return dir, tree
}

// lowerOf is a layer with something at every path that tree deletes, so
// that no whiteout and no opaque directory is void.
func lowerOf(tree *layers.Tree) *layers.View {
	lower := &layers.Tree{}
	for _, e := range tree.Entries {
		if e.Kind == layers.Whiteout {
			lower.Entries = append(lower.Entries, layers.Entry{Path: e.Path})
		}
		if e.Opaque {
			lower.Entries = append(lower.Entries, layers.Entry{Path: e.Path, Kind: layers.Dir})
		}
	}
	lower.Sort()
	return layers.NewView([]*layers.Tree{lower})
}

func walkUpper(t *testing.T, dir string, lower *layers.View, contents map[string]string) *layers.Tree {
	t.Helper()
	got, err := WalkUpper(context.Background(), dir, lower, func(_ int, e layers.Entry) (io.ReadCloser, error) {
		content, ok := contents[e.Path]
		if !ok {
			return nil, fmt.Errorf("%q: %w", e.Path, fs.ErrNotExist)
		}
		return io.NopCloser(strings.NewReader(content)), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := got.Validate(); err != nil {
		t.Error(err)
	}
	return got
}

// A directory made of a layer is read back as that layer.
func TestUnpackWalk(t *testing.T) {
	needRoot(t)
	list, _ := ordered(append(samples(), dirEntry("opaque-sibling"), dirEntry("many")))
	for _, userXattr := range []bool{false, true} {
		dir, want := unpack(t, list, UnpackOptions{UserXattr: userXattr})
		got := walkUpper(t, dir, lowerOf(want), nil)
		got.Entries = slicesWithout(got.Entries, implied(want))
		diffEntries(t, comparableTree(got), comparableTree(want))
	}
}

// TestUnpackLinks: every kind of file keeps its names, and a device that may not
// be made has none.
func TestUnpackLinks(t *testing.T) {
	needRoot(t)
	data := foreign(t,
		symlinkHeader("s", "x"), linkHeader("s2", "s"), tar.Header{Name: "p", Typeflag: tar.TypeFifo}, linkHeader("p2", "p"),
		tar.Header{Name: "c", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}, linkHeader("c2", "c"),
	)
	tree, _, _, err := Read(context.Background(), bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := Unpack(context.Background(), tree, opener(t, data), dir, UnpackOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"s", "p", "c"} {
		a, errA := os.Lstat(filepath.Join(dir, name))
		b, errB := os.Lstat(filepath.Join(dir, name+"2"))
		if errA != nil || errB != nil || !os.SameFile(a, b) {
			t.Errorf("%s: %v, %v", name, errA, errB)
		}
	}
	u := unpacker{missing: map[string]bool{"c": true}}
	for _, e := range tree.Entries {
		if e.Kind == layers.Hardlink && e.Link == "c" {
			if u.root, err = unix.Open(t.TempDir(), unix.O_DIRECTORY, 0); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(u.link(&e), unix.Close(u.root)); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestUnpackRoot: what a layer says of the root directory counts as little as in
// BuildKit. In a mount of an image it would shut users out.
func TestUnpackRoot(t *testing.T) {
	needRoot(t)
	data := foreign(t, tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o700, Uid: 5, Gid: 5}, tar.Header{Name: ".wh..wh..opq"})
	tree, _, _, err := Read(context.Background(), bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := Unpack(context.Background(), tree, opener(t, data), dir, UnpackOptions{}); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil || st.Mode&0o7777 != 0o755 || st.Uid != 0 || st.Gid != 0 {
		t.Errorf("%o %d:%d, %v", st.Mode, st.Uid, st.Gid, err)
	}
	if _, err := unix.Lgetxattr(dir, "trusted.overlay.opaque", nil); err != unix.ENODATA {
		t.Errorf("opaque: %v", err)
	}
}

// implied is the directories that tree does not list.
func implied(tree *layers.Tree) map[string]bool {
	dirs := make(map[string]bool)
	for _, e := range tree.Entries {
		for dir := filepath.Dir(e.Path); dir != "."; dir = filepath.Dir(dir) {
			if _, ok := tree.Find(dir); !ok {
				dirs[dir] = true
			}
		}
	}
	return dirs
}

func slicesWithout(list []layers.Entry, drop map[string]bool) []layers.Entry {
	var kept []layers.Entry
	for _, e := range list {
		if !drop[e.Path] {
			kept = append(kept, e)
		}
	}
	return kept
}

// GNU tar unpacks our tar to the same directory as we do.
func TestUnpackLikeGNUTar(t *testing.T) {
	needRoot(t)
	tool := need(t, "tar")
	var list []sample
	for _, s := range samples() {
		if s.Kind != layers.Whiteout && !s.Opaque && !strings.Contains(s.Path, "opaque") {
			list = append(list, s)
		}
	}
	odd := fileEntry("odd-attribute", 0o644, nil)
	odd.Xattrs = map[string]string{"user.x=%y": "z"}
	list, _ = ordered(append(list, odd))
	data, tree := writeTar(t, list)
	ours, theirs := t.TempDir(), t.TempDir()
	if err := Unpack(context.Background(), tree, opener(t, data), ours, UnpackOptions{}); err != nil {
		t.Fatal(err)
	}
	run(t, tool, "--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf", writeFile(t, "layer.tar", data), "-C", theirs)
	lower := layers.NewView(nil)
	drop := implied(tree) // these have the time of their making
	a, b := walkUpper(t, ours, lower, nil), walkUpper(t, theirs, lower, nil)
	diffEntries(t, slicesWithout(a.Entries, drop), slicesWithout(b.Entries, drop))
	run(t, need(t, "diff"), "-r", "--no-dereference", filepath.Join(ours, "many"), filepath.Join(theirs, "many"))
	run(t, need(t, "cmp"), filepath.Join(ours, "big"), filepath.Join(theirs, "big"))
	run(t, need(t, "cmp"), filepath.Join(ours, "zeros"), filepath.Join(theirs, "zeros"))
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(ours, "twice"), &st); err != nil || st.Size != 8<<20 || st.Blocks != 0 {
		t.Errorf("zeros take %d blocks of a file of %d bytes: %v", st.Blocks, st.Size, err)
	}
}

// umoci accepts two of our layers as an image and sees what we see.
func TestUnpackLikeUmoci(t *testing.T) {
	needRoot(t)
	tool := need(t, "umoci")
	layout := t.TempDir()
	lower, _ := ordered([]sample{dirEntry("gone"), fileEntry("gone/x", 0o644, []byte("x")), dirEntry("opaque"), fileEntry("opaque/hidden", 0o644, nil), fileEntry("kept", 0o600, []byte("k"))})
	upper, _ := ordered(samples())
	var trees []*layers.Tree
	var descs []ocispec.Descriptor
	var diffIDs []digest.Digest
	for i, list := range [][]sample{lower, upper} {
		c := []Compression{{Level: 1}, {}}[i] // umoci has no zstd
		blob, packed, tree := pack(t, list, c, nil)
		trees, diffIDs = append(trees, tree), append(diffIDs, packed.DiffID)
		descs = append(descs, putBlob(t, layout, c.MediaType(), blob))
	}
	config := putJSON(t, layout, ocispec.MediaTypeImageConfig, ocispec.Image{
		Platform: ocispec.Platform{Architecture: "amd64", OS: "linux"}, RootFS: ocispec.RootFS{Type: "layers", DiffIDs: diffIDs},
	})
	manifest := putJSON(t, layout, ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: descs,
	})
	manifest.Annotations = map[string]string{ocispec.AnnotationRefName: "tag"}
	for name, v := range map[string]any{
		"index.json": ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: []ocispec.Descriptor{manifest}},
		"oci-layout": ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion},
	} {
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(layout, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	bundle := filepath.Join(t.TempDir(), "bundle")
	run(t, tool, "unpack", "--image", layout+":tag", bundle)
	flat, names := &layers.Tree{}, layers.Names{}
	if err := layers.NewView(trees).Walk(func(e layers.Entry, _ int) error {
		if e.Path != "" {
			e.Opaque = false
			if e.Kind == layers.File {
				names.Join(&e)
				e.Inode = 0
			}
			flat.Entries = append(flat.Entries, e)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	got := walkUpper(t, filepath.Join(bundle, "rootfs"), layers.NewView(nil), nil)
	drop := implied(trees[1])
	diffEntries(t, slicesWithout(comparableTree(got), drop), slicesWithout(comparableTree(flat), drop))
}

func putBlob(t *testing.T, layout, mediaType string, data []byte) ocispec.Descriptor {
	t.Helper()
	d := digest.FromBytes(data)
	dir := filepath.Join(layout, "blobs", "sha256")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, d.Encoded()), data, 0o600); err != nil {
		t.Fatal(err)
	}
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(data))}
}

func putJSON(t *testing.T, layout, mediaType string, v any) ocispec.Descriptor {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return putBlob(t, layout, mediaType, data)
}

func TestUnpackRefuses(t *testing.T) {
	outside := t.TempDir()
	for name, entries := range map[string][]layers.Entry{
		"through a symlink": {{Path: "a", Kind: layers.Symlink, Target: outside}, {Path: "a/x"}},
		"climbing":          {{Path: "../x"}},
		"hardlink outside":  {{Path: "x", Kind: layers.Hardlink, Link: "../../etc/passwd"}},
		"damaged content":   {{Path: "x", Size: 1, Sum: layers.SumOf(digest.FromString("other"))}},
		"short content":     {{Path: "x", Size: 100}},
		"whiteout device":   {{Path: "x", Kind: layers.CharDevice}},
	} {
		dir := t.TempDir()
		err := Unpack(context.Background(), &layers.Tree{Entries: entries}, func(layers.Entry) (io.ReadCloser, error) {
			return io.NopCloser(strings.NewReader("x")), nil
		}, dir, UnpackOptions{})
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
		if left, err := os.ReadDir(outside); err != nil || len(left) > 0 {
			t.Errorf("%s: wrote %v outside: %v", name, left, err)
		}
	}
	list, _ := ordered(samples())
	data, tree := writeTar(t, list)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := Unpack(ctx, tree, opener(t, data), t.TempDir(), UnpackOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

// Tars that other tools fell for end with an error or inside the directory.
func TestUnpackHostile(t *testing.T) {
	outside := t.TempDir()
	for name, headers := range map[string][]tar.Header{
		"symlink, then file":      {symlinkHeader("a", outside), {Name: "a/x", Linkname: "evil"}},
		"symlink to parents":      {symlinkHeader("a", "../../../../../.."), {Name: "a" + outside + "/x", Linkname: "evil"}},
		"symlink by symlink":      {symlinkHeader("a", "/"), symlinkHeader("b", "a"+outside), {Name: "b/x", Linkname: "evil"}},
		"hardlink by symlink":     {symlinkHeader("a", outside), linkHeader("b", "a/x")},
		"whiteout by symlink":     {symlinkHeader("a", outside), {Name: "a/.wh.x"}},
		"opaque by symlink":       {symlinkHeader("a", outside), {Name: "a/.wh..wh..opq"}},
		"directory over symlink":  {symlinkHeader("a", outside), {Name: "a", Typeflag: tar.TypeDir, Mode: 0o777}, {Name: "a/x", Linkname: "evil"}},
		"file over symlink":       {symlinkHeader("a", filepath.Join(outside, "x")), {Name: "a", Linkname: "evil"}},
		"hardlink over a symlink": {{Name: "f", Linkname: "evil"}, symlinkHeader("a", filepath.Join(outside, "x")), linkHeader("a", "f")},
		"hardlinked symlink":      {symlinkHeader("a", outside), linkHeader("b", "a"), {Name: "b/x", Linkname: "evil"}},
	} {
		data := foreign(t, headers...)
		tree, _, _, err := Read(context.Background(), bytes.NewReader(data))
		if err == nil {
			err = Unpack(context.Background(), tree, opener(t, data), t.TempDir(), UnpackOptions{})
			if err != nil && os.Geteuid() == 0 {
				t.Errorf("%s: %v", name, err)
			}
		}
		if left, err := os.ReadDir(outside); err != nil || len(left) > 0 {
			t.Errorf("%s: wrote %v outside: %v", name, left, err)
		}
	}
}

// In a user namespace the owners and devices that cannot be had do not stop
// anything, and what is read back with the layer below it is unchanged.
func TestUnpackUserNamespace(t *testing.T) {
	const inside = "ARCHIVE_TEST_USER_NAMESPACE"
	if mode := os.Getenv(inside); mode != "" {
		unpackInside(t, mode == "single")
		return
	}
	for _, mode := range []string{"single", "range"} {
		t.Run(mode, func(t *testing.T) {
			cmd := exec.Command(os.Args[0], "-test.run=^TestUnpackUserNamespace$", "-test.v")
			cmd.Env = append(os.Environ(), inside+"="+mode, "TMPDIR="+t.TempDir())
			size := 1
			if mode == "range" {
				needRoot(t)
				size = 65536
			}
			cmd.SysProcAttr = &syscall.SysProcAttr{
				Cloneflags:  syscall.CLONE_NEWUSER,
				UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: size}},
				GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: size}},
			}
			out, err := cmd.CombinedOutput()
			if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSPC) {
				t.Skipf("no user namespace: %v", err)
			}
			if err != nil || !bytes.Contains(out, []byte("--- PASS")) {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

func unpackInside(t *testing.T, single bool) {
	list, _ := ordered(samples())
	dir, want := unpack(t, list, UnpackOptions{UserXattr: true, SingleUser: single})
	contents := map[string]string{}
	for _, s := range list {
		contents[s.Path] = string(s.content)
		if s.Kind == layers.Hardlink {
			contents[s.Path] = contents[s.Link]
		}
	}
	var st unix.Stat_t
	if err := unix.Lstat(filepath.Join(dir, "gone"), &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != 0 {
		t.Errorf("whiteout: mode %o, device %d: %v", st.Mode, st.Rdev, err)
	}
	got := walkUpper(t, dir, lowerOf(want), contents)
	by := map[string]layers.Entry{}
	for _, e := range got.Entries {
		by[e.Path] = e
	}
	for _, e := range want.Entries {
		_, ok := by[e.Path]
		if device := e.Kind == layers.CharDevice || e.Kind == layers.BlockDevice; device == ok {
			t.Errorf("%q, kind %d: there %v", e.Path, e.Kind, ok)
		}
	}
	// Copied up without a change: only what the namespace cannot hold.
	again := walkUpper(t, dir, layers.NewView([]*layers.Tree{want}), contents)
	for _, e := range again.Entries {
		if e.Kind == layers.Dir || e.Kind == layers.Whiteout || layers.Under(e.Path, "opaque") {
			continue // an opaque directory is always a change
		}
		t.Errorf("not recognised as unchanged: %+v", e)
	}
}
