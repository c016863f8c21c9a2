package folder

import (
	"os"
	"path/filepath"
	"testing"
)

func TestWriteFile(t *testing.T) {
	temp, path := t.TempDir(), filepath.Join(t.TempDir(), "file")
	for _, text := range []string{"first", "second"} {
		if err := WriteFile(filepath.Join(temp, "new-"), path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != text {
			t.Errorf("got %q, %v", got, err)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("got %v, %v", info, err)
	}
	if err := WriteFile(filepath.Join(temp, "new-"), filepath.Join(path, "below"), nil, 0o600); err == nil {
		t.Error("a file was made below a file")
	}
	left, err := os.ReadDir(temp)
	if err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
