package pid1

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestWithHome(t *testing.T) {
	for _, c := range []struct{ env, want string }{
		{"", "HOME=/h"},
		{"A=1", "A=1 HOME=/h"},
		{"HOME=/mine A=1", "HOME=/mine A=1"},
		{"A=1 HOME= B=2", "A=1 HOME=/h B=2"},
	} {
		if got := strings.Join(withHome(strings.Fields(c.env), "/h"), " "); got != c.want {
			t.Errorf("%s: got %s, want %s", c.env, got, c.want)
		}
	}
}

func TestInPath(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	root, err := openPath("/")
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(root)
	c := command{name: "x", root: root, cwd: dir}
	for name, mode := range map[string]os.FileMode{"rel/x": 0o755, "abs/x": 0o711, "text/x": 0o644} {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct{ search, want string }{
		{"@/abs:rel", "@/abs/x"},
		{"nowhere:@/none:@/abs:", "@/none/x @/abs/x"},
		{"text:@/text:@/abs", "@/text/x @/abs/x"},
		{"rel:@/abs", "refused"},
		{"@/text:rel:@/abs", "refused"},
	} {
		files, err := c.inPath(strings.ReplaceAll(tt.search, "@", dir))
		got := strings.ReplaceAll(strings.Join(files, " "), dir, "@")
		var refused *startError
		if errors.As(err, &refused) && refused.code == 126 && refused.hint != "" {
			got = "refused"
		}
		if got != tt.want {
			t.Errorf("%s: got %s, want %s (%v)", tt.search, got, tt.want, err)
		}
	}
}
