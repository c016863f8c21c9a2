package fileop

import (
	"context"
	"errors"
	"testing"

	"github.com/sinter-build/sinter/parser"
)

// TestCopyRequires: a copy itself fails when a required path is not picked. Its key
// may have been made before the file went.
func TestCopyRequires(t *testing.T) {
	dir := t.TempDir()
	build(t, dir, "a/b text\na/c text")
	for want, ok := range map[string]bool{"/a/b": true, "/a/c": false, "/a/gone": false} {
		c := dockerCopy("", "/")
		c.Include, c.RequiredPaths = []string{"a/b"}, []string{want}
		op := parser.FileOp{Actions: []parser.FileAction{{Input: -1, Secondary: 0, Action: c}}}
		_, err := Apply(context.Background(), op, []Input{{FS: disk(dir)}}, "", func(int) (Writer, error) { return discard{}, nil })
		var missing *MissingError
		if ok && err != nil || !ok && !errors.As(err, &missing) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
