package archive

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sinter-build/sinter/layers"
)

// sample is an entry with its content.
type sample struct {
	layers.Entry
	content []byte
}

func fileEntry(p string, mode uint32, content []byte) sample {
	return sample{layers.Entry{Path: p, Mode: mode, Size: int64(len(content)), ModTime: 1700000000e9}, content}
}

func dirEntry(p string) sample {
	return sample{layers.Entry{Path: p, Kind: layers.Dir, Mode: 0o755, ModTime: 1600000000e9}, nil}
}

// noise is content that does not compress well, the same for the same seed.
func noise(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, n)
	for i := 0; i < n; i += 8 {
		word := r.Uint64()&0x1f1f1f1f1f1f1f1f + 0x4141414141414141 // letters
		copy(b[i:], binary.LittleEndian.AppendUint64(nil, word))
	}
	return b
}

// samples is a layer with everything that a layer can have.
func samples() []sample {
	long := strings.Repeat("very-long-directory-name/", 12)
	list := []sample{
		dirEntry("bin"), fileEntry("bin/sh", 0o4755, []byte("#!")), dirEntry("dev"),
		{layers.Entry{Path: "bin/sh.link", Kind: layers.Hardlink, Link: "bin/sh"}, nil},
		{layers.Entry{Path: "owned2", Kind: layers.Hardlink, Link: "owned"}, nil},
		{layers.Entry{Path: "dev/null", Kind: layers.CharDevice, Mode: 0o666, DevMajor: 1, DevMinor: 3, ModTime: 5e9}, nil},
		{layers.Entry{Path: "dev/sda", Kind: layers.BlockDevice, Mode: 0o660, GID: 6, DevMajor: 8, ModTime: 5e9}, nil},
		{layers.Entry{Path: "dev/pipe", Kind: layers.Fifo, Mode: 0o600, ModTime: 5e9}, nil},
		{layers.Entry{Path: "bin/link", Kind: layers.Symlink, Mode: 0o777, Target: "../\xff\xfe", ModTime: -7e9}, nil},
		{layers.Entry{Path: "opaque", Kind: layers.Dir, Mode: 0o1777, Opaque: true, ModTime: 5e9}, nil},
		fileEntry("opaque/child", 0o600, nil),
		{layers.Entry{Path: "gone", Kind: layers.Whiteout}, nil},
		{layers.Entry{Path: "opaque-sibling/gone", Kind: layers.Whiteout}, nil},
		fileEntry("not-utf8-\xff\xfe", 0o644, []byte("x")), fileEntry("ünïcödé", 0o644, []byte("y")),
		fileEntry(long+"file", 0o644, []byte("long")),
		fileEntry("big", 0o644, noise(1, 4<<20+17)), fileEntry("exactly", 0o644, make([]byte, 4<<20)),
		fileEntry("twice", 0o644, make([]byte, 8<<20)), fileEntry("zeros", 0o644, append(make([]byte, 1<<20), 1)),
	}
	owned := fileEntry("owned", 0o640, []byte("owned"))
	owned.UID, owned.GID = 1234, 3_000_000
	owned.Xattrs = map[string]string{"user.a b%": "v\x00\n=", "security.capability": "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"}
	list = append(list, owned)
	for i := range 400 {
		list = append(list, fileEntry("many/"+string(rune('a'+i%26))+"/"+digest.FromString(string(rune(i))).Encoded()[:12], 0o644, noise(uint64(i), i*37)))
	}
	return list
}

// small is some samples that do not take long.
func small() []sample {
	var list []sample
	for _, s := range samples() {
		if s.Size < 4096 && len(list) < 60 {
			list = append(list, s)
		}
	}
	list, _ = ordered(list)
	return list
}

// ordered sorts samples and makes a tree of them.
func ordered(list []sample) ([]sample, *layers.Tree) {
	contents := make(map[string][]byte)
	t := &layers.Tree{}
	for _, s := range list {
		contents[s.Path] = s.content
		t.Entries = append(t.Entries, s.Entry)
	}
	t.Sort()
	sorted := make([]sample, len(list))
	for i, e := range t.Entries {
		sorted[i] = sample{e, contents[e.Path]}
	}
	return sorted, t
}

type adder interface {
	Add(layers.Entry, io.Reader) error
	Tree() *layers.EncodedTree
}

// addAll adds samples and returns the tree.
func addAll(t testing.TB, w adder, list []sample) *layers.Tree {
	t.Helper()
	for _, s := range list {
		var content io.Reader
		if s.Kind == layers.File {
			content = bytes.NewReader(s.content)
		}
		if err := w.Add(s.Entry, content); err != nil {
			t.Fatal(err)
		}
	}
	return w.Tree().Decode()
}

// writeTar returns the samples as a tar and its tree.
func writeTar(t testing.TB, list []sample) ([]byte, *layers.Tree) {
	t.Helper()
	var buf bytes.Buffer
	w := NewWriter(&buf, nil)
	tree := addAll(t, w, list)
	diffID, size, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	if size != int64(buf.Len()) || diffID != digest.FromBytes(buf.Bytes()) {
		t.Fatalf("Close says %s, %d; the tar is %s, %d", diffID, size, digest.FromBytes(buf.Bytes()), buf.Len())
	}
	return buf.Bytes(), tree
}

// comparableTree is a tree without what only its tar knows.
func comparableTree(t *layers.Tree) []layers.Entry {
	var list []layers.Entry
	for _, e := range t.Entries {
		e.Place, e.Sum = 0, layers.Sum{}
		if e.Kind == layers.Symlink {
			e.Mode = 0o777
		}
		list = append(list, e)
	}
	return list
}

func diffEntries(t *testing.T, got, want []layers.Entry) {
	t.Helper()
	byPath := map[string]layers.Entry{}
	for _, e := range want {
		byPath[e.Path] = e
	}
	for _, e := range got {
		w, ok := byPath[e.Path]
		if !ok {
			t.Errorf("extra %+v", e)
		} else if !reflect.DeepEqual(e, w) {
			t.Errorf("got  %+v\nwant %+v", e, w)
		}
		delete(byPath, e.Path)
	}
	for _, e := range byPath {
		t.Errorf("missing %+v", e)
	}
}

// need returns the path of another tool that judges ours.
func need(t *testing.T, tool string) string {
	t.Helper()
	p, err := exec.LookPath(tool)
	if err != nil {
		t.Skipf("%s is not installed", tool)
	}
	return p
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, &stderr)
	}
	return string(out)
}

func writeFile(t *testing.T, name string, data []byte) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(p, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

// What is written is read back as it was, by our own reader.
func TestWriteRead(t *testing.T) {
	list, _ := ordered(samples())
	data, want := writeTar(t, list)
	got, diffID, size, err := Read(context.Background(), bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if diffID != digest.FromBytes(data) || size != int64(len(data)) {
		t.Errorf("Read says %s, %d", diffID, size)
	}
	diffEntries(t, comparableTree(got), comparableTree(want))
	offsets := map[string]layers.Entry{}
	for _, e := range want.Entries {
		offsets[e.Path] = e
	}
	for _, e := range got.Entries {
		if w := offsets[e.Path]; e.Kind == layers.File && (e.Place != w.Place || e.Sum != w.Sum) {
			t.Errorf("%q: read %d %s, written %d %s", e.Path, e.Place, e.Sum, w.Place, w.Sum)
		}
	}
	if err := got.Validate(); err != nil {
		t.Error(err)
	}
}

// TestWriteImplied: a tar does not describe what its layer did not, and marks it
// opaque all the same.
func TestWriteImplied(t *testing.T) {
	list := []sample{
		{layers.Entry{Path: "d", Kind: layers.Dir, Mode: 0o755, Opaque: true, Implied: true}, nil},
		{layers.Entry{Path: "i", Kind: layers.Dir, Mode: 0o755, GID: 7, Implied: true}, nil},
		fileEntry("i/x", 0o644, []byte("x")),
	}
	data, _ := writeTar(t, list)
	got, _, _, err := Read(context.Background(), bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if s := describeTree(got, data); s != "d:1!?0 i/x:0=x" {
		t.Errorf("got %s", s)
	}
}

// GNU tar lists what we write, names bytes for bytes.
func TestWriteGNUTar(t *testing.T) {
	tool := need(t, "tar")
	list, _ := ordered(samples())
	data, _ := writeTar(t, list)
	out := run(t, tool, "--quoting-style=literal", "--numeric-owner", "--full-time", "-tvf", writeFile(t, "layer.tar", data))
	for _, want := range []string{
		"-rwsr-xr-x 0/0               2 2023-11-14 22:13:20 bin/sh\n",
		"hrwsr-xr-x 0/0               0 2023-11-14 22:13:20 bin/sh.link link to bin/sh\n",
		"crw-rw-rw- 0/0             1,3 1970-01-01 00:00:05 dev/null\n",
		"brw-rw---- 0/6             8,0 1970-01-01 00:00:05 dev/sda\n",
		"prw------- 0/0               0 1970-01-01 00:00:05 dev/pipe\n",
		"bin/link -> ../\xff\xfe\n",
		"drwxrwxrwt 0/0               0 1970-01-01 00:00:05 opaque/\n",
		"opaque/.wh..wh..opq\n", " .wh.gone\n", "opaque-sibling/.wh.gone\n", "not-utf8-\xff\xfe\n", "ünïcödé\n",
		"-rw-r----- 1234/3000000      5", strings.Repeat("very-long-directory-name/", 12) + "file\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("GNU tar does not list %q", want)
		}
	}
	if t.Failed() {
		t.Log(out[:min(len(out), 4000)])
	}
}

func TestEpoch(t *testing.T) {
	var buf bytes.Buffer
	epoch := layers.Epoch{Seconds: 1000}
	w := NewWriter(&buf, &epoch)
	for i, test := range []struct{ in, want int64 }{{999_999_999_999, 999e9}, {1000e9, 1000e9}, {1001e9, 1000e9}, {-1, -1e9}} {
		if err := w.Add(layers.Entry{Path: string(rune('a' + i)), Kind: layers.Dir, ModTime: test.in}, nil); err != nil {
			t.Fatal(err)
		}
		if got := w.Tree().Decode().Entries[i].ModTime; got != test.want {
			t.Errorf("%d became %d, want %d", test.in, got, test.want)
		}
	}
}

func TestAddRefuses(t *testing.T) {
	file := func(p string) layers.Entry { return layers.Entry{Path: p, Size: 3} }
	for name, test := range map[string]struct {
		e       layers.Entry
		content string
		want    string
	}{
		"order":        {file("a"), "abc", "out of order"},
		"same":         {file("m"), "abc", "out of order"},
		"climbs":       {file("../x"), "abc", "not clean"},
		"absolute":     {file("/x"), "abc", "not clean"},
		"short":        {file("x"), "ab", "ends 1 bytes early"},
		"long":         {file("x"), "abcd", "grew"},
		"reserved":     {file("x/.wh.y"), "abc", "stand for deleted files"},
		"root file":    {file(""), "abc", "root"},
		"late target":  {layers.Entry{Path: "n", Kind: layers.Hardlink, Link: "o"}, "", "not a file before it"},
		"other digest": {layers.Entry{Path: "x", Size: 3, Sum: layers.SumOf(digest.FromString("abd"))}, "abc", "does not match its digest"},
		"kind":         {layers.Entry{Path: "x", Kind: 99}, "", "not known"},
	} {
		w := NewWriter(io.Discard, nil)
		if name != "root file" {
			if err := w.Add(layers.Entry{Path: "m", Kind: layers.Dir}, nil); err != nil {
				t.Fatal(err)
			}
		}
		err := w.Add(test.e, strings.NewReader(test.content))
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		}
		if _, _, closeErr := w.Close(); closeErr != err {
			t.Errorf("%s: Close after a failed Add: %v", name, closeErr)
		}
	}
}

var compressions = []Compression{{}, {Zstd, 1}, {Uncompressed, 0}}

func pack(t testing.TB, list []sample, c Compression, tar io.Writer) ([]byte, Packed, *layers.Tree) {
	t.Helper()
	var blob bytes.Buffer
	p := NewPacker(&blob, c, tar, nil)
	defer p.Abort()
	tree := addAll(t, p, list)
	packed, err := p.Close()
	if err != nil {
		t.Fatal(err)
	}
	if packed.Digest != digest.FromBytes(blob.Bytes()) || packed.Size != int64(blob.Len()) {
		t.Errorf("Close says %s, %d; the blob is %s, %d", packed.Digest, packed.Size, digest.FromBytes(blob.Bytes()), blob.Len())
	}
	return blob.Bytes(), packed, tree
}

// The same entries give the same blob with any number of cores, and when the
// tar that was written before is compressed later.
func TestPackSameBytes(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	list, _ := ordered(samples())
	plain, tree := writeTar(t, list)
	for _, c := range compressions {
		runtime.GOMAXPROCS(1)
		var tarCopy, again bytes.Buffer
		first, want, packedTree := pack(t, list, c, &tarCopy)
		if got := inflate(t, first, c); !bytes.Equal(got, plain) {
			t.Errorf("%+v: the blob does not hold the tar", c)
		}
		if !bytes.Equal(tarCopy.Bytes(), plain) || want.DiffID != digest.FromBytes(plain) || want.TarSize != int64(len(plain)) {
			t.Errorf("%+v: the tar is not the same as a Writer's", c)
		}
		if !reflect.DeepEqual(packedTree, tree) {
			t.Errorf("%+v: the tree is not the same as a Writer's", c)
		}
		for _, cores := range []int{2, 7} {
			runtime.GOMAXPROCS(cores)
			blob, packed, _ := pack(t, list, c, nil)
			if !bytes.Equal(blob, first) || !reflect.DeepEqual(packed, want) {
				t.Errorf("%+v: other bytes with %d cores", c, cores)
			}
		}
		packed, err := Repack(context.Background(), bytes.NewReader(plain), tree, &again, c)
		if err != nil || !bytes.Equal(again.Bytes(), first) || !reflect.DeepEqual(packed, want) {
			t.Errorf("%+v: Repack gives other bytes: %v", c, err)
		}
	}
}

func TestRecompress(t *testing.T) {
	list, _ := ordered(samples())
	plain, tree := writeTar(t, list)
	for _, c := range compressions {
		var blob bytes.Buffer
		packed, err := Recompress(context.Background(), bytes.NewReader(plain), &blob, c)
		if err != nil || packed.DiffID != digest.FromBytes(plain) || packed.Digest != digest.FromBytes(blob.Bytes()) {
			t.Errorf("%+v: %+v: %v", c, packed, err)
		}
		if got := inflate(t, blob.Bytes(), c); !bytes.Equal(got, plain) {
			t.Errorf("%+v: something is lost", c)
		}
	}
	// A stream that breaks off is no layer, wherever it breaks off.
	for _, broken := range []error{io.ErrUnexpectedEOF, io.ErrClosedPipe} {
		r := func() io.Reader { return io.MultiReader(bytes.NewReader(plain[:2<<20]), iotest.ErrReader(broken)) }
		if _, err := Recompress(context.Background(), r(), io.Discard, Compression{}); !errors.Is(err, broken) {
			t.Errorf("Recompress: %v", err)
		}
		if _, err := Repack(context.Background(), r(), tree, io.Discard, Compression{}); !errors.Is(err, broken) {
			t.Errorf("Repack: %v", err)
		}
		if _, _, _, err := Read(context.Background(), r()); !errors.Is(err, broken) {
			t.Errorf("Read: %v", err)
		}
	}
	if _, err := Repack(context.Background(), bytes.NewReader(plain[:2<<20]), tree, io.Discard, Compression{}); err == nil {
		t.Error("Repack accepts a tar that is too short")
	}
}

func inflate(t *testing.T, blob []byte, c Compression) []byte {
	t.Helper()
	rc, kind, err := Decompress(bytes.NewReader(blob))
	if err != nil {
		t.Fatal(err)
	}
	if want := c.Type; kind != want && !(want == "" && kind == Gzip) {
		t.Errorf("a %q blob is detected as %q", want, kind)
	}
	data, err := io.ReadAll(rc)
	if err = errors.Join(err, rc.Close()); err != nil {
		t.Fatal(err)
	}
	return data
}

// Other tools read the blobs.
func TestPackOtherTools(t *testing.T) {
	list, _ := ordered(samples())
	for tool, c := range map[string]Compression{"gzip": {}, "zstd": {Type: Zstd}} {
		t.Run(tool, func(t *testing.T) {
			bin := need(t, tool)
			plain, _ := writeTar(t, list)
			blob, _, _ := pack(t, list, c, nil)
			if out := run(t, bin, "-dc", writeFile(t, "blob", blob)); out != string(plain) {
				t.Errorf("%s gives %d bytes, want %d", tool, len(out), len(plain))
			}
		})
	}
}

// A change in one place leaves the chunks elsewhere as they were.
func TestChunksMeetAgain(t *testing.T) {
	var list []sample
	for i := range 3000 {
		list = append(list, fileEntry("f/"+digest.FromString(string(rune(i))).Encoded(), 0o644, noise(uint64(i), 4000)))
	}
	list, _ = ordered(list)
	chunksOf := func() map[digest.Digest]bool {
		blob, packed, _ := pack(t, list, Compression{Level: 1}, nil)
		sums := make(map[digest.Digest]bool)
		for i, c := range packed.Chunks {
			end := packed.Size
			if i+1 < len(packed.Chunks) {
				end = packed.Chunks[i+1].Blob
			}
			sums[digest.FromBytes(blob[c.Blob:end])] = true
		}
		return sums
	}
	before := chunksOf()
	list[100] = fileEntry(list[100].Path, 0o644, noise(77, 9000))
	after := chunksOf()
	fresh := 0
	for sum := range after {
		if !before[sum] {
			fresh++
		}
	}
	if len(after) < 12 || fresh > 4 {
		t.Errorf("%d of %d chunks are new after a small change", fresh, len(after))
	}
}

type failingWriter struct{ left int }

var errFull = errors.New("no space left")

func (f *failingWriter) Write(p []byte) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, errFull
	}
	return len(p), nil
}

// A full disk is reported, from the blob and from the tar, and nothing hangs.
func TestPackFails(t *testing.T) {
	list, _ := ordered(samples())
	for _, left := range []int{0, 100, 1 << 20} {
		for _, tar := range []bool{false, true} {
			p := NewPacker(&failingWriter{left}, Compression{}, nil, nil)
			if tar {
				p = NewPacker(io.Discard, Compression{}, &failingWriter{left}, nil)
			}
			for _, s := range list {
				if err := p.Add(s.Entry, bytes.NewReader(s.content)); err != nil {
					break
				}
			}
			if _, err := p.Close(); !errors.Is(err, errFull) {
				t.Errorf("after %d bytes: %v", left, err)
			}
			p.Abort()
		}
	}
}

func TestAbort(t *testing.T) {
	list, _ := ordered(samples())
	before := runtime.NumGoroutine()
	for range 20 {
		p := NewPacker(io.Discard, Compression{Type: Zstd}, nil, nil)
		addAll(t, p, list[:30])
		p.Abort()
		p.Abort()
		if _, err := p.Close(); err == nil {
			t.Error("Close after Abort succeeds")
		}
	}
	for range 6000 {
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%d goroutines are left, from %d", runtime.NumGoroutine(), before)
}

func TestParseCompression(t *testing.T) {
	for s, want := range map[string]Compression{
		"gzip": {Gzip, 0}, "zstd:19": {Zstd, 19}, "gzip:9": {Gzip, 9}, "uncompressed": {Uncompressed, 0},
	} {
		if got, err := ParseCompression(s); got != want || err != nil {
			t.Errorf("%s: %+v, %v", s, got, err)
		}
	}
	for _, s := range []string{"lz4", "gzip:10", "zstd:23", "zstd:-1", "zstd:x", "uncompressed:1", "estargz"} {
		_, err := ParseCompression(s)
		var hint interface{ HintText() string }
		if !errors.As(err, &hint) {
			t.Errorf("%s: %v", s, err)
		}
	}
	if _, err := NewPacker(io.Discard, Compression{Type: "lz4"}, nil, nil).Close(); err == nil {
		t.Error("an unknown compression is accepted")
	}
}

// Every file can be read on its own, in order and out of order.
func TestRandomAccess(t *testing.T) {
	list, _ := ordered(samples())
	for _, c := range compressions {
		blob, packed, tree := pack(t, list, c, nil)
		r, err := OpenChunked(bytes.NewReader(blob), int64(len(blob)), c.Type, packed.Chunks)
		if err != nil {
			t.Fatal(err)
		}
		indexes := rand.New(rand.NewPCG(3, 4)).Perm(len(list))[:60]
		for i := range 60 {
			indexes = append(indexes, i)
		}
		for _, i := range indexes {
			e := tree.Entries[i]
			if e.Kind != layers.File {
				continue
			}
			rc, err := r.Content(e)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(rc)
			if err = errors.Join(err, rc.Close()); err != nil || !bytes.Equal(got, list[i].content) {
				t.Errorf("%+v: %q: %d bytes of %d: %v", c, e.Path, len(got), e.Size, err)
			}
		}
		if err := readAt(r, packed.TarSize-10, 20); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%+v: reading past the end: %v", c, err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	for _, chunks := range [][]Chunk{{{1, 0}}, {{0, 0}, {0, 5}}, {{0, 0}, {5, 5000}}, {{0, 0}, {5, -1}}} {
		if _, err := OpenChunked(bytes.NewReader(nil), 100, Gzip, chunks); err == nil {
			t.Errorf("chunks %v are accepted", chunks)
		}
	}
}

func readAt(r *Tar, offset, n int64) error {
	rc, err := r.Section(offset, n)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, rc)
	return errors.Join(err, rc.Close())
}

func BenchmarkPack(b *testing.B) {
	list, _ := ordered(samples())
	var size int64
	for _, s := range list {
		size += s.Size
	}
	for _, c := range []Compression{{}, {Type: Zstd}, {Type: Uncompressed}} {
		b.Run(c.MediaType(), func(b *testing.B) {
			b.SetBytes(size)
			for b.Loop() {
				pack(b, list, c, nil)
			}
		})
	}
}
