package catalog

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sinter-build/sinter/layers"
)

// files are the files of a layer by their paths. A path that ends in a slash is a
// directory, a content that begins with "-> " a symlink's target, and "gone" a whiteout.
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
			e.Kind = layers.Dir
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

// TestKeptIsBounded: files in memory do not add up.
func TestKeptIsBounded(t *testing.T) {
	const size = maxKept / 2
	zeros := make([]byte, size)
	im := testImage(t)
	im.open = func(context.Context, int, layers.Entry) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(zeros)), nil
	}
	for i := range 2 * maxHeld / size {
		e := layers.Entry{Path: fmt.Sprint(i), Size: size}
		if _, err := im.read(context.Background(), layers.Named{Entry: e}); err != nil {
			t.Fatal(err)
		}
		if im.held > maxHeld || im.held != int64(len(im.contents)*size) {
			t.Fatalf("%d bytes are held, and %d are allowed", im.held, maxHeld)
		}
	}
}

func TestCapped(t *testing.T) {
	r := &capped{io.NopCloser(strings.NewReader("0123456789")), "f", 4}
	data, err := io.ReadAll(r)
	if string(data) != "0123" || err == nil || !strings.Contains(err.Error(), "/f is longer") {
		t.Errorf("%q, %v", data, err)
	}
}
