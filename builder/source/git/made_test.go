package git

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/sinter-build/sinter/parser"
)

// A checkout that was copied, or changed, is made again.
func TestGitChangedCheckout(t *testing.T) {
	o := serveGit(t, smart)
	o.write(map[string]string{"f": "first", "d/g": "second"})
	o.push()
	op := parser.Git{FullURL: o.url(), Ref: "main"}
	checkout := func(t *testing.T, root string) string {
		t.Helper()
		if got, err := gitFile(t, fetcher(t, root, nil), op, "f"); err != nil || got != "first" {
			t.Fatalf("f holds %q, %v", got, err)
		}
		found, err := filepath.Glob(filepath.Join(root, "git/*/checkouts/*/f"))
		if err != nil || len(found) != 1 {
			t.Fatalf("the checkouts are %v, %v", found, err)
		}
		return filepath.Dir(found[0])
	}
	for name, change := range map[string]func(dir string) error{
		"content": func(dir string) error { return os.WriteFile(filepath.Join(dir, "f"), []byte("other text"), 0o644) },
		"mode":    func(dir string) error { return os.Chmod(filepath.Join(dir, "d/g"), 0o777) },
		"gone":    func(dir string) error { return os.Remove(filepath.Join(dir, "d/g")) },
		"copied": func(dir string) error {
			return errors.Join(exec.Command("cp", "-a", dir, dir+".copy").Run(), os.RemoveAll(dir), os.Rename(dir+".copy", dir))
		},
		"no mark": func(dir string) error { return os.Remove(markOf(dir)) },
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			dir := checkout(t, root)
			before, err := os.Stat(dir)
			if err != nil {
				t.Fatal(err)
			}
			if err := change(dir); err != nil {
				t.Fatal(err)
			}
			if made, err := fetcher(t, root, nil).isMade(t.Context(), dir); err != nil || made {
				t.Errorf("it is taken for what was made: %v, %v", made, err)
			}
			after, err := os.Stat(checkout(t, root))
			if err != nil || os.SameFile(before, after) {
				t.Errorf("it was not made again: %v", err)
			}
			if info, err := os.Stat(filepath.Join(dir, "d/g")); err != nil || info.Mode() != 0o644 {
				t.Errorf("d/g: %v, %v", info, err)
			}
			again, err := os.Stat(checkout(t, root))
			if err != nil || !os.SameFile(after, again) {
				t.Errorf("it was made once more: %v", err)
			}
		})
	}
}
