package catalog

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/sinter-build/sinter/layers"
)

const (
	// maxFile is how much of one file is read, in bytes. Scanners that need all of a
	// file get an error for a longer one.
	maxFile = 1 << 30
	// maxKept is how long a file may be that is kept in memory for the next cataloger:
	// several look at each program.
	maxKept = 128 << 20
	// maxHeld is how much is kept in all, in bytes.
	maxHeld = 256 << 20
)

// content is a file in memory. syft reads programs at any offset, and would read
// another kind of reader into memory itself.
type content struct{ *bytes.Reader }

// Close does nothing.
func (content) Close() error { return nil }

// read opens a file of the image.
func (im *Image) read(ctx context.Context, n layers.Named) (io.ReadCloser, error) {
	if n.Size > maxKept {
		r, err := im.open(ctx, n.Layer, n.Entry)
		if err != nil {
			return nil, im.fail(err)
		}
		return &capped{r, n.Path, maxFile}, nil
	}
	key := fmt.Sprintf("%d/%s", n.Layer, n.Path)
	im.mu.Lock()
	data, ok := im.contents[key]
	im.mu.Unlock()
	if ok {
		return content{bytes.NewReader(data)}, nil
	}
	data, err := im.readAll(ctx, n)
	if err != nil {
		return nil, im.fail(err)
	}
	im.mu.Lock()
	defer im.mu.Unlock()
	if im.held+int64(len(data)) > maxHeld {
		clear(im.contents)
		im.held = 0
	}
	if _, ok := im.contents[key]; !ok {
		im.contents[key] = data
		im.held += int64(len(data))
	}
	return content{bytes.NewReader(data)}, nil
}

func (im *Image) readAll(ctx context.Context, n layers.Named) ([]byte, error) {
	r, err := im.open(ctx, n.Layer, n.Entry)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data := make([]byte, n.Size)
	if _, err := io.ReadFull(r, data); err != nil {
		return nil, fmt.Errorf("reading /%s: %w", n.Path, err)
	}
	// The reader compares the content with its digest at the end.
	if _, err := r.Read(make([]byte, 1)); err != io.EOF {
		return nil, fmt.Errorf("reading /%s: more than its %d bytes: %w", n.Path, n.Size, err)
	}
	return data, nil
}

// capped is a file that fails when more than left bytes of it are read.
type capped struct {
	io.ReadCloser
	path string
	left int64
}

func (c *capped) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, fmt.Errorf("/%s is longer than %d bytes: the rest is not looked at", c.path, int64(maxFile))
	}
	n, err := c.ReadCloser.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	return n, err
}
