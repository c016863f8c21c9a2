package fileop

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/sinter-build/sinter/layers"
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

// TestIncludeBelowWildcard: what a pattern that ends in two wildcards matches is found,
// although no directory on the way is named by it.
func TestIncludeBelowWildcard(t *testing.T) {
	dir := t.TempDir()
	build(t, dir, "a/b/c/f text\na/g text\nz/b/c/f text")
	p, err := Select(context.Background(), disk(dir), Selection{Source: "/", Include: []string{"a/*/**"}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	err = p.each(context.Background(), func(string, layers.Entry) (func(picked) error, error) {
		return func(f picked) error {
			got = append(got, f.below)
			return nil
		}, nil
	})
	if want := []string{"", "a", "a/b", "a/b/c", "a/b/c/f"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("picked %q, %v; want %q", got, err, want)
	}
}
