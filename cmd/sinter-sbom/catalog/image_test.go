package catalog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/opencontainers/go-digest"

	"github.com/sinter-build/sinter/layers"
)

// files are the files of a layer by their paths. A path that ends in a slash is a
// directory (an opaque one if its content says so), a content that begins with "-> " a
// symlink's target, and "gone" a whiteout.
// Names that end in * are of executable files.
type files map[string]string

// testImage returns an image of layers called a, b, c and so on.
func testImage(t testing.TB, list ...files) *Image {
	t.Helper()
	named := make([]Layer, len(list))
	trees := make([]*layers.Tree, len(list))
	for i, l := range list {
		id := string(rune('a' + i))
		named[i] = Layer{ID: "layer-" + id, Digest: digest.FromString(fmt.Sprint(l)).String()}
		trees[i] = treeOf(l)
	}
	im, err := NewImage(named, trees, func(_ context.Context, layer int, e layers.Entry) (io.ReadCloser, error) {
		content, ok := list[layer]["/"+e.Path]
		if !ok {
			content, ok = list[layer]["/"+e.Path+"*"]
		}
		if !ok {
			return nil, fmt.Errorf("no file /%s in layer %d", e.Path, layer)
		}
		return io.NopCloser(strings.NewReader(content)), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return im
}

func treeOf(l files) *layers.Tree {
	tree := &layers.Tree{}
	for path, content := range l {
		e := layers.Entry{Path: strings.Trim(path, "/*"), Mode: 0o644}
		target, link := strings.CutPrefix(content, "-> ")
		switch {
		case strings.HasSuffix(path, "/"):
			e.Kind, e.Opaque = layers.Dir, content == "opaque"
		case content == "gone":
			e.Kind = layers.Whiteout
		case link:
			e.Kind, e.Target = layers.Symlink, target
		default:
			e.Size, e.Sum = int64(len(content)), layers.SumOf(digest.FromString(content))
			if strings.HasSuffix(path, "*") {
				e.Mode = 0o755
			}
		}
		tree.Entries = append(tree.Entries, e)
	}
	tree.Sort()
	return tree
}

func TestReadIsWhole(t *testing.T) {
	im := testImage(t, files{"/f": "content"})
	e, layer, _ := im.view.Lookup("f")
	for range 2 { // the second one is from memory
		r, err := im.read(context.Background(), layers.Named{Entry: e, Layer: layer})
		if err != nil {
			t.Fatal(err)
		}
		if data, err := io.ReadAll(r); err != nil || string(data) != "content" {
			t.Errorf("%q, %v", data, err)
		}
	}
	for _, size := range []int64{3, 100} {
		im := testImage(t, files{"/f": "content"})
		e.Size = size
		if _, err := im.read(context.Background(), layers.Named{Entry: e, Layer: layer}); err == nil || im.failed() == nil {
			t.Errorf("a file of 7 bytes was read as one of %d: %v", size, im.failed())
		}
	}
}

// TestHeldIsBounded: files that are held for other catalogers do not add up.
func TestHeldIsBounded(t *testing.T) {
	for _, size := range []int64{maxInMemory, maxCopied / 4} {
		im := testImage(t)
		im.open = func(context.Context, int, layers.Entry) (io.ReadCloser, error) {
			return io.NopCloser(io.LimitReader(zeros{}, size)), nil
		}
		for i := range 2 * maxCopies / (maxCopied / 4) {
			e := layers.Entry{Path: fmt.Sprint(i), Size: size}
			r, err := im.read(t.Context(), layers.Named{Entry: e})
			if err != nil {
				t.Fatal(err)
			}
			if n, err := io.Copy(io.Discard, r); n != size || err != nil {
				t.Fatal(n, err)
			}
			for _, s := range []*shelf{&im.inMemory, &im.copies} {
				if s.held > s.max || s.held != int64(len(s.contents))*size {
					t.Fatalf("%d bytes of %d files are held, and %d are allowed", s.held, len(s.contents), s.max)
				}
			}
		}
		if isCopy := size > maxInMemory; isCopy != (im.copies.held > 0) || isCopy == (im.inMemory.held > 0) {
			t.Errorf("files of %d bytes: %d bytes are in memory, %d in copies", size, im.inMemory.held, im.copies.held)
		}
	}
}

// zeros is an endless reader.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// TestReadsAnywhere: files of all lengths are read at any offset, and a long one is read as
// far as somebody asks.
func TestReadsAnywhere(t *testing.T) {
	for _, size := range []int64{10, maxInMemory + 10, maxCopied + 3*maxInMemory} {
		var given int64
		im := testImage(t)
		im.open = func(context.Context, int, layers.Entry) (io.ReadCloser, error) {
			return io.NopCloser(io.TeeReader(io.LimitReader(zeros{}, size), counter{&given})), nil
		}
		opened, err := im.read(t.Context(), layers.Named{Entry: layers.Entry{Path: "f", Size: size}})
		if err != nil {
			t.Fatal(err)
		}
		r, ok := opened.(readsAnywhere)
		if !ok {
			t.Fatalf("syft would read %T into memory", opened)
		}
		if _, err := io.ReadFull(r, make([]byte, 8)); err != nil {
			t.Error(err)
		}
		if size > maxCopied && given > 2*maxInMemory {
			t.Errorf("%d bytes were read for the first 8", given)
		}
		p := make([]byte, 4)
		if n, err := r.ReadAt(p, size-3); n != 3 || err != io.EOF {
			t.Errorf("the end of %d bytes: %d, %v", size, n, err)
		}
		if n, err := r.ReadAt(p, size/2); n != 4 || err != nil {
			t.Errorf("the middle of %d bytes: %d, %v", size, n, err)
		}
		if err := errors.Join(r.Close(), im.failed()); err != nil {
			t.Error(err)
		}
	}
}

// counter adds up what is written to it.
type counter struct{ n *int64 }

func (c counter) Write(p []byte) (int, error) {
	*c.n += int64(len(p))
	return len(p), nil
}

// TestLongFileIsDamaged: what the reader of a long file says at its end fails the scan.
func TestLongFileIsDamaged(t *testing.T) {
	const size = maxCopied + 1
	damaged := errors.New("damaged")
	for name, content := range map[string]io.Reader{
		"digest": io.MultiReader(io.LimitReader(zeros{}, size), iotest.ErrReader(damaged)),
		"short":  io.LimitReader(zeros{}, size-1),
		"long":   io.LimitReader(zeros{}, size+1),
	} {
		im := testImage(t)
		im.open = func(context.Context, int, layers.Entry) (io.ReadCloser, error) { return io.NopCloser(content), nil }
		r, err := im.read(t.Context(), layers.Named{Entry: layers.Entry{Path: "f", Size: size}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, r); err == nil || im.failed() == nil {
			t.Errorf("%s: %v, %v", name, err, im.failed())
		}
	}
}

func TestCapped(t *testing.T) {
	r := io.NewSectionReader(capped{strings.NewReader("0123456789"), "f", 4}, 0, 10)
	data, err := io.ReadAll(r)
	if string(data) != "0123" || err == nil || !strings.Contains(err.Error(), "/f is longer") {
		t.Errorf("%q, %v", data, err)
	}
	if n, err := r.ReadAt(make([]byte, 2), 6); n != 0 || err == nil || err == io.EOF {
		t.Errorf("beyond the limit: %d, %v", n, err)
	}
}
