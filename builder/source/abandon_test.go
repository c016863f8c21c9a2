package source

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
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
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "large"), large, 0o644); err != nil {
		t.Fatal(err)
	}
	body, err := os.Open(filepath.Join(dir, "large"))
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	local := open(t, dir, "")
	entry := layers.Entry{Path: "large", Mode: 0o644, Size: int64(len(large)), Sum: layers.SumOf(digest.FromBytes(large))}
	web := newWeb(t, string(large))
	root := t.TempDir()
	if _, err := testRemotes(t, root, nil).HTTP(t.Context(), parser.HTTP{URL: web.URL}); err != nil {
		t.Fatal(err)
	}
	for what, read := range map[string]func(context.Context) error{
		"file of a context": func(ctx context.Context) error {
			return readIn(ctx, local.Select(parser.Local{}), entry)
		},
		"digest of a file of a context": func(ctx context.Context) error {
			_, err := local.digest(ctx, entry)
			return err
		},
		"downloaded file": func(ctx context.Context) error {
			return readIn(ctx, &oneFile{entry: entry, body: body}, entry)
		},
		"another checksum of a download": func(ctx context.Context) error {
			d := download{downloadRecord: downloadRecord{Size: entry.Size}, body: body}
			_, err := d.has(ctx, digest.SHA512.FromString("x"))
			return err
		},
		"verified download": func(ctx context.Context) error {
			_, err := VerifyDownloads(ctx, root)
			return err
		},
		"standard input": func(ctx context.Context) error {
			_, err := testRemotes(t, t.TempDir(), nil).Offer(ctx, body)
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

func readIn(ctx context.Context, files FS, e layers.Entry) error {
	r, err := files.Open(ctx, e)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, r)
	return errors.Join(err, r.Close())
}
