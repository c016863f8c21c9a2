package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/archive/archivetest"
)

// foreign makes a tar of headers; a regular file's content is its Linkname,
// which is free there.
func foreign(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range headers {
		content := ""
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Typeflag == tar.TypeReg {
			content, h.Linkname, h.Size = h.Linkname, "", int64(len(h.Linkname))
		}
		if h.Mode == 0 && h.Typeflag != tar.TypeXGlobalHeader {
			h.Mode = 0o644
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// describeTree is a tree, one word an entry.
func describeTree(t *layers.Tree, data []byte) string {
	var words []string
	for _, e := range t.Entries {
		word := fmt.Sprintf("%s:%d", e.Path, e.Kind)
		if e.Kind == layers.File {
			word += "=" + string(data[max(0, e.Place.Offset()):max(0, e.Place.Offset())+e.Size])
		}
		if to := e.Target + e.Link; to != "" {
			word += ">" + to
		}
		if e.Opaque {
			word += "!"
		}
		if e.Implied {
			word += fmt.Sprintf("?%d", e.GID)
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

func dirHeader(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeDir} }

func linkHeader(name, target string) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: target}
}

func symlinkHeader(name, target string) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target}
}

func TestReadForeign(t *testing.T) {
	file := func(name, content string) tar.Header { return tar.Header{Name: name, Linkname: content} }
	tests := []struct {
		name    string
		headers []tar.Header
		want    string
	}{
		{"empty", nil, ""},
		{"root", []tar.Header{dirHeader("./"), file("./a", "1")}, ":1 a:0=1"},
		{"absolute", []tar.Header{file("/etc//passwd", "1"), file("a/../b", "2")}, "b:0=2 etc/passwd:0=1"},
		{"unordered", []tar.Header{file("b", "1"), file("a-b", "2"), file("a/b", "3")}, "a/b:0=3 a-b:0=2 b:0=1"},
		{"later wins", []tar.Header{file("a", "1"), file("a", "2")}, "a:0=2"},
		{"file replaces tree", []tar.Header{dirHeader("a"), file("a/b", "1"), file("a", "2")}, "a:0=2"},
		{"directory replaces file", []tar.Header{file("a", "1"), dirHeader("a"), file("a/b", "2")}, "a:1 a/b:0=2"},
		{"directory twice", []tar.Header{dirHeader("a"), file("a/b", "2"), dirHeader("a")}, "a:1 a/b:0=2"},
		{"hardlink", []tar.Header{file("a", "1"), linkHeader("b", "./a")}, "a:0=1 b:3>a"},
		{"hardlink backwards", []tar.Header{file("z", "1"), linkHeader("b", "/z"), linkHeader("c", "b")}, "b:0=1 c:3>b z:3>b"},
		{"hardlink of what is replaced", []tar.Header{file("a", "1"), linkHeader("b", "a"), file("a", "2")}, "a:0=2 b:0=1"},
		{"hardlink of a symlink", []tar.Header{symlinkHeader("a", "x"), linkHeader("b", "a")}, "a:2>x b:3>a"},
		{"whiteout", []tar.Header{file("d/.wh.x", "")}, "d/x:7"},
		{"whiteout and file", []tar.Header{file(".wh.x", ""), file("x", "1")}, "x:0=1"},
		{"whiteout and tree", []tar.Header{dirHeader("x"), file("x/y", "1"), file(".wh.x", "")}, "x:1! x/y:0=1"},
		{"whiteout and implied tree", []tar.Header{file("x/y", "1"), file(".wh.x", "")}, "x:1! x/y:0=1"},
		{"opaque", []tar.Header{dirHeader("d"), file("d/.wh..wh..opq", ""), file("d/x", "1")}, "d:1! d/x:0=1"},
		{"opaque, implied", []tar.Header{file("d/.wh..wh..opq", "")}, "d:1!?0"},
		{"opaque, described later", []tar.Header{file("d/.wh..wh..opq", ""), dirHeader("d")}, "d:1!"},
		{"group of an implied directory", []tar.Header{{Name: "s", Typeflag: tar.TypeDir, Mode: 0o2755, Gid: 7}, file("s/i/x", "1")}, "s:1 s/i/x:0=1"},
		{"setgid bit that comes later", []tar.Header{file("s/i/x", "1"), {Name: "s", Typeflag: tar.TypeDir, Mode: 0o2755, Gid: 7}}, "s:1 s/i:1?0 s/i/x:0=1"},
		{"setgid bit that goes later", []tar.Header{{Name: "s", Typeflag: tar.TypeDir, Mode: 0o2755, Gid: 7}, file("s/i/x", "1"), dirHeader("s")}, "s:1 s/i:1?7 s/i/x:0=1"},
		{"setgid bit of the root", []tar.Header{{Name: "./", Typeflag: tar.TypeDir, Mode: 0o2755, Gid: 7}, file("i/x", "1")}, ":1 i/x:0=1"},
		{"AUFS", []tar.Header{
			dirHeader(".wh..wh.plnk"), file(".wh..wh.plnk/12.34", "1"), file(".wh..wh.aufs", ""), dirHeader(".wh..wh.orph"),
			linkHeader("b", ".wh..wh.plnk/12.34"), linkHeader("a", "/.wh..wh.plnk/12.34"),
		}, "a:0=1 b:3>a"},
		{"through symlink", []tar.Header{symlinkHeader("lib", "usr/lib"), file("lib/x", "1"), file("lib/../y", "2")}, "lib:2>usr/lib usr/lib/x:0=1 y:0=2"},
		{"through absolute symlink", []tar.Header{symlinkHeader("d/up", "/../../etc"), file("d/up/x", "1")}, "d/up:2>/../../etc etc/x:0=1"},
		{"symlink above the root", []tar.Header{symlinkHeader("d", "../../../etc"), file("d/x", "1")}, "d:2>../../../etc etc/x:0=1"},
		{"symlink replaced by directory", []tar.Header{symlinkHeader("d", "/etc"), dirHeader("d"), file("d/x", "1")}, "d:1 d/x:0=1"},
		{"whiteout through symlink", []tar.Header{symlinkHeader("d", "e"), file("d/.wh.x", "")}, "d:2>e e/x:7"},
		{"global header", []tar.Header{{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "x"}}, file("a", "1")}, "a:0=1"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			data := append(foreign(t, test.headers...), "what follows"...)
			got, diffID, size, err := Read(context.Background(), bytes.NewReader(data))
			if err != nil {
				t.Fatal(err)
			}
			if diffID != digest.FromBytes(data) || size != int64(len(data)) {
				t.Errorf("%s, %d is not all of the stream", diffID, size)
			}
			if s := describeTree(got, data); s != test.want {
				t.Errorf("got  %s\nwant %s", s, test.want)
			}
			if err := got.Validate(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestReadMetadata(t *testing.T) {
	data := foreign(t, tar.Header{
		Name: "a", Mode: 0o106755, Uid: 7, Gid: 1 << 22, Uname: "nobody", Linkname: "content",
		PAXRecords: map[string]string{
			"SCHILY.xattr.user.x%3Dy": "v", "SCHILY.xattr.security.selinux": "s",
			"SCHILY.xattr.trusted.overlay.opaque": "y", "SCHILY.xattr.user.overlay.opaque": "y", "SCHILY.xattr.security.capability": "c",
		},
	})
	got, _, _, err := Read(context.Background(), bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	e := got.Entries[0]
	if e.Mode != 0o6755 || e.UID != 7 || e.GID != 1<<22 || e.Sum != layers.SumOf(digest.FromString("content")) || len(e.Xattrs) != 2 ||
		e.Xattrs["user.x=y"] != "v" || e.Xattrs["security.capability"] != "c" {
		t.Errorf("got %+v", e)
	}
}

func TestReadRefuses(t *testing.T) {
	file := func(name string) tar.Header { return tar.Header{Name: name, Linkname: "x"} }
	deep := strings.Repeat("d/", 2047) + "f"
	tests := []struct {
		name    string
		headers []tar.Header
		want    string
	}{
		{"climbs out", []tar.Header{file("../etc/passwd")}, `entry "../etc/passwd": "../etc/passwd" leads out`},
		{"climbs out later", []tar.Header{file("a/../../x")}, "leads out"},
		{"climbs out absolutely", []tar.Header{file("/../x")}, "leads out"},
		{"hardlink climbs out", []tar.Header{linkHeader("a", "../../etc/shadow")}, "leads out"},
		{"hardlink to nothing", []tar.Header{linkHeader("a", "/etc/shadow")}, "not in the layer"},
		{"hardlink forwards", []tar.Header{linkHeader("a", "b"), file("b")}, "not in the layer"},
		{"hardlink to itself", []tar.Header{file("a"), linkHeader("a", "a")}, "not in the layer"},
		{"hardlink in place of the directory that its file is in", []tar.Header{dirHeader("d"), file("d/a"), linkHeader("d", "d/a")}, "not in the layer"},
		{"hardlink to a directory", []tar.Header{dirHeader("d"), linkHeader("a", "d")}, "is a directory"},
		{"hardlink to an implied directory", []tar.Header{file("d/x"), linkHeader("a", "d")}, "not in the layer"},
		{"hardlink as root", []tar.Header{file("a"), linkHeader("./", "a")}, "root"},
		{"below a file", []tar.Header{file("a"), file("a/b")}, "not a directory"},
		{"symlink loop", []tar.Header{symlinkHeader("a", "b"), symlinkHeader("b", "a"), file("a/x")}, "too many symlinks"},
		{"root file", []tar.Header{{Name: ".", Linkname: "x"}}, "root"},
		{"empty whiteout", []tar.Header{{Name: "d/.wh."}}, "whiteout of nothing"},
		{"whiteout of the parent", []tar.Header{{Name: "d/.wh..."}}, "whiteout of nothing"},
		{"whiteout of dots", []tar.Header{{Name: "d/.wh.."}}, "whiteout of nothing"},
		{"long", []tar.Header{file(strings.Repeat("d/", 2048) + "f")}, "the path is too long: 4097 bytes, the limit is 4095"},
		{"long through symlinks", []tar.Header{file(deep), symlinkHeader("s", strings.TrimSuffix(deep, "/f")), file("s/e/e/e/e")}, "the path is too long"},
		{"long target", []tar.Header{symlinkHeader("s", strings.Repeat("x", 4096))}, "target is too long: 4096 bytes, the limit is 4095"},
		{"unknown type", []tar.Header{{Name: "a", Typeflag: 'Z'}}, "unknown tar header type"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, _, _, err := Read(context.Background(), bytes.NewReader(foreign(t, test.headers...)))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestReadDamaged(t *testing.T) {
	list, _ := ordered(samples())
	data, _ := writeTar(t, list[:40])
	for _, n := range []int{1, 511, 513, 1000, len(data) / 2, len(data) - 1500} {
		if _, _, _, err := Read(context.Background(), bytes.NewReader(data[:n])); err == nil && n%512 != 0 {
			t.Errorf("a tar cut at %d is accepted", n)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, _, err := Read(ctx, bytes.NewReader(data)); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

// The budget stops a layer with too many names before memory is gone.
func TestReadTooMuch(t *testing.T) {
	tree := newForeignTree()
	tree.budget = 100_000
	for i := range 1000 {
		if err := tree.add("d", fmt.Sprint(i), layers.Entry{}); errors.Is(err, errTooMuch) {
			return
		}
	}
	t.Error("a thousand files fit into a budget for about two hundred")
}

// Sparse files of all of GNU tar's formats are read right, and so is what
// follows them.
func TestReadSparse(t *testing.T) {
	tool := need(t, "tar")
	dir := t.TempDir()
	content := make([]byte, 6<<20)
	for i := range 12 { // many pieces: old GNU maps go on in a second block
		copy(content[i*500_000:], noise(uint64(i), 4096))
	}
	f, err := os.Create(filepath.Join(dir, "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(content); i += 4096 {
		if block := content[i:min(i+4096, len(content))]; !allZero(block) {
			if _, err := f.WriteAt(block, int64(i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := errors.Join(f.Truncate(int64(len(content))), f.Close()); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"before": []byte("before"), "after": []byte("after")} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(filepath.Join(dir, "sparse"), filepath.Join(dir, "twin")); err != nil {
		t.Fatal(err)
	}
	for _, format := range [][]string{{"--format=gnu"}, {"--format=posix", "--sparse-version=0.0"}, {"--format=posix", "--sparse-version=0.1"}, {"--format=posix", "--sparse-version=1.0"}} {
		t.Run(strings.Join(format, " "), func(t *testing.T) {
			args := append(format, "-S", "-C", dir, "-cf", "-", "before", "sparse", "twin", "after")
			data := []byte(run(t, tool, args...))
			if len(data) > 1<<20 {
				t.Fatalf("the tar is not sparse: %d bytes", len(data))
			}
			tree, _, _, err := Read(context.Background(), bytes.NewReader(data))
			if err != nil {
				t.Fatal(err)
			}
			var blob bytes.Buffer
			packed, err := Recompress(context.Background(), bytes.NewReader(data), &blob, Compression{})
			if err != nil {
				t.Fatal(err)
			}
			plain, err := OpenChunked(bytes.NewReader(data), int64(len(data)), Uncompressed, nil)
			if err != nil {
				t.Fatal(err)
			}
			zipped, err := OpenChunked(bytes.NewReader(blob.Bytes()), int64(blob.Len()), Gzip, packed.Chunks)
			if err != nil {
				t.Fatal(err)
			}
			for p, want := range map[string][]byte{"sparse": content, "before": []byte("before"), "after": []byte("after")} {
				i, ok := tree.Find(p)
				if !ok {
					t.Fatalf("%s is not there", p)
				}
				if e := tree.Entries[i]; e.Size != int64(len(want)) || e.Sum != layers.SumOf(digest.FromBytes(want)) {
					t.Errorf("%s: %+v", p, e)
				}
				for _, from := range []*Tar{plain, zipped} {
					rc, err := from.Content(tree.Entries[i])
					if err != nil {
						t.Fatal(err)
					}
					got, err := io.ReadAll(rc)
					if err = errors.Join(err, rc.Close()); err != nil || !bytes.Equal(got, want) {
						t.Errorf("%s: %d bytes, want %d: %v", p, len(got), len(want), err)
					}
				}
			}
			if i, ok := tree.Find("twin"); !ok || tree.Entries[i].Link != "sparse" {
				t.Error("the hardlink is lost")
			}
		})
	}
}

// A few bytes that claim to be endless are refused at once.
func TestReadSparseBomb(t *testing.T) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	records := map[string]string{"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.name": "x", "GNU.sparse.size": "9223372036854775000", "GNU.sparse.numblocks": "0", "GNU.sparse.map": ""}
	var body strings.Builder
	for k, v := range records {
		line := " " + k + "=" + v + "\n"
		n := len(line) + 1
		for len(fmt.Sprint(n))+len(line) != n {
			n++
		}
		fmt.Fprintf(&body, "%d%s", n, line)
	}
	raw := rawHeader("PaxHeaders.0/x", 'x', body.Len())
	buf.Write(raw)
	buf.WriteString(body.String())
	buf.Write(make([]byte, int(roundUp(int64(body.Len())))-body.Len()))
	buf.Write(rawHeader("x", '0', 0))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	_, _, _, err := Read(context.Background(), bytes.NewReader(buf.Bytes()))
	if err == nil || !strings.Contains(err.Error(), "sparse files have more") {
		t.Errorf("got %v", err)
	}
}

func rawHeader(name string, kind byte, size int) []byte {
	b := make([]byte, blockSize)
	copy(b, name)
	copy(b[100:], "0000644\x000000000\x000000000\x00")
	copy(b[124:], fmt.Sprintf("%011o\x00%011o\x00", size, 0))
	b[156] = kind
	copy(b[257:], "ustar\x0000")
	archivetest.Repair(b)
	return b
}

// FuzzRead: a tar is refused, or its tree holds together and has its contents.
func FuzzRead(f *testing.F) {
	data, _ := writeTar(f, small()[:20])
	f.Add(data)
	f.Add(foreign(f, dirHeader("./"), symlinkHeader("a", "b"), tar.Header{Name: "a/x", Linkname: "y"}, linkHeader("z", "b/x"), tar.Header{Name: "b/.wh..wh..opq"}))
	f.Add(foreign(f, tar.Header{Name: ".wh..wh.plnk/1", Linkname: "y"}, linkHeader("z", ".wh..wh.plnk/1")))
	f.Fuzz(func(t *testing.T, data []byte) {
		data = archivetest.RepairAll(data)
		tree, diffID, size, err := Read(context.Background(), bytes.NewReader(data))
		if err != nil {
			return
		}
		if err := tree.Validate(); err != nil {
			t.Fatal(err)
		}
		if size != int64(len(data)) || diffID != digest.FromBytes(data) {
			t.Fatal("not all was read")
		}
		again, err := layers.DecodeTree(tree.Encode())
		if err != nil || len(again.Entries) != len(tree.Entries) {
			t.Fatal(err)
		}
		r, err := OpenChunked(bytes.NewReader(data), size, Uncompressed, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range tree.Entries {
			if e.Kind != layers.File || e.Size > 1<<20 {
				continue
			}
			rc, err := r.Content(e)
			if err != nil {
				t.Fatal(err)
			}
			if _, err = io.Copy(io.Discard, Verify(rc, ContentOf(e))); err != nil {
				t.Fatalf("%q: %v", e.Path, err)
			}
		}
	})
}

// TestReadHardlinkMetadata: a file is as the last of its hardlinks says, which is
// what link(2), chown(2), chmod(2) and setxattr(2) in BuildKit's order leave.
func TestReadHardlinkMetadata(t *testing.T) {
	const capRecord, userRecord = "SCHILY.xattr.security.capability", "SCHILY.xattr.user."
	file := tar.Header{
		Name: "a", Mode: 0o755, Uid: 1, ModTime: time.Unix(100, 0), Linkname: "content",
		PAXRecords: map[string]string{capRecord: "c", userRecord + "x": "1", userRecord + "y": "1"},
	}
	link := tar.Header{Typeflag: tar.TypeLink, Name: "b", Linkname: "a", Mode: 0o4700, Uid: 5, Gid: 6, ModTime: time.Unix(200, 0)}
	attributes := link
	attributes.PAXRecords = map[string]string{capRecord: "d", userRecord + "y": "2"}
	third := link
	third.Name, third.Linkname, third.Mode = "0", "b", 0o600
	symlink := tar.Header{Typeflag: tar.TypeSymlink, Name: "a", Linkname: "x", Mode: 0o644, ModTime: time.Unix(100, 0)}
	tests := []struct {
		name    string
		headers []tar.Header
		want    string
	}{
		{"one", []tar.Header{file, link}, "4700 5:6 200 map[user.x:1 user.y:1]"},
		{"attributes", []tar.Header{file, attributes}, "4700 5:6 200 map[security.capability:d user.x:1 user.y:2]"},
		{"two", []tar.Header{file, link, third}, "600 5:6 200 map[user.x:1 user.y:1]"},
		{"symlink", []tar.Header{symlink, link}, "777 5:6 200 map[]"},
		{"replaced before", []tar.Header{file, {Name: "b", Mode: 0o600}, link}, "4700 5:6 200 map[user.x:1 user.y:1]"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			tree, _, _, err := Read(context.Background(), bytes.NewReader(foreign(t, test.headers...)))
			if err != nil {
				t.Fatal(err)
			}
			if len(tree.Entries) < 2 {
				t.Fatalf("%d entries", len(tree.Entries))
			}
			for _, e := range tree.Entries {
				got := fmt.Sprintf("%o %d:%d %d %v", e.Mode, e.UID, e.GID, time.Unix(0, e.ModTime).Unix(), e.Xattrs)
				if got != test.want {
					t.Errorf("%s: got %s, want %s", e.Path, got, test.want)
				}
			}
		})
	}
}

// TestReadWhiteoutOfAnyType: what the name of a deletion stands for does not
// depend on the type of the entry: AUFS has hardlinks there.
func TestReadWhiteoutOfAnyType(t *testing.T) {
	tree, _, _, err := Read(context.Background(), bytes.NewReader(foreign(t,
		tar.Header{Name: ".wh.a"}, linkHeader(".wh.b", ".wh.a"), symlinkHeader(".wh.c", "x"), dirHeader(".wh.d"),
	)))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := describeTree(tree, nil), "a:7 b:7 c:7 d:7"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
