package web

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/archive/archivetest"
	"github.com/sinter-build/sinter/parser"
)

// large is longer than what is read at once, however that is read.
var large = bytes.Repeat([]byte("0123456789abcdef"), 1<<20)

// asked is how often a context may be asked before the middle of large.
const asked = 16

// TestReadingEnds: whoever reads or hashes one large file stops when the context ends.
func TestReadingEnds(t *testing.T) {
	body, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if _, err := body.Write(large); err != nil {
		t.Fatal(err)
	}
	entry := layers.Entry{Path: "large", Mode: 0o644, Size: int64(len(large)), Sum: layers.SumOf(digest.FromBytes(large))}
	w, root := newWeb(t, string(large)), t.TempDir()
	if _, err := fetcher(t, root, nil).Files(t.Context(), parser.HTTP{URL: w.URL}); err != nil {
		t.Fatal(err)
	}
	for what, read := range map[string]func(context.Context) error{
		"downloaded file": func(ctx context.Context) error {
			r, err := (&oneFile{entry: entry, body: body}).Open(ctx, entry)
			if err != nil {
				return err
			}
			_, err = io.Copy(io.Discard, r)
			return errors.Join(err, r.Close())
		},
		"another checksum of a download": func(ctx context.Context) error {
			d := download{downloadRecord: downloadRecord{Size: entry.Size}, body: body}
			_, err := d.has(ctx, digest.SHA512.FromString("x"))
			return err
		},
		"verified download": func(ctx context.Context) error {
			_, err := Verify(ctx, root)
			return err
		},
		"standard input": func(ctx context.Context) error {
			_, err := fetcher(t, t.TempDir(), nil).Offer(ctx, body)
			return err
		},
	} {
		t.Run(what, func(t *testing.T) {
			if err := read(archivetest.EndsAfter(asked)); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
		})
	}
}
