package web

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"

	"github.com/sinter-build/sinter/builder/source/remote"
	"github.com/sinter-build/sinter/layers/archive"
)

// Verify reads the files from the web that are kept below root, the
// store's folder, and says which are not what was downloaded. Repositories are
// git's to verify.
func Verify(ctx context.Context, root string) (problems []string, err error) {
	records, err := filepath.Glob(filepath.Join(root, "downloads", "*", "record"))
	if err != nil {
		return nil, err
	}
	for _, record := range records {
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		why, err := verifyDownload(ctx, filepath.Dir(record))
		if err != nil {
			return nil, err
		}
		if why != "" {
			problems = append(problems, why)
		}
	}
	return problems, nil
}

// verifyDownload returns what is wrong with a folder, or "".
func verifyDownload(ctx context.Context, dir string) (string, error) {
	what := fmt.Sprintf("download %s (%s)", filepath.Base(dir), remote.Origin(dir))
	d, err := openDownload(dir)
	if err != nil || d == nil {
		if _, gone := os.Lstat(filepath.Join(dir, "record")); errors.Is(gone, fs.ErrNotExist) {
			return "", nil // another process has removed it
		}
		if err == nil {
			return what + ": its record or its file is damaged", nil
		}
		return "", fmt.Errorf("%s: %w", what, err)
	}
	defer d.body.Close()
	sum, err := digest.SHA256.FromReader(archive.ContextReader(ctx, d.body))
	if err != nil {
		return "", fmt.Errorf("%s: %w", what, err)
	}
	if sum != d.Digest {
		return fmt.Sprintf("%s: it has the digest %s, not %s", what, sum, d.Digest), nil
	}
	return "", nil
}
