package fileop

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/sinter-build/sinter/parser"
)

// FuzzOwner: whatever an image has as passwd and group, --chown gives an owner
// that a file can have, or an error.
func FuzzOwner(f *testing.F) {
	f.Add([]byte("root:x:0:0::/:/bin/sh\napp:x:12:34::/:/bin/sh\n"), []byte("staff:x:56:app\n"), "app", "staff")
	f.Add([]byte("app:x:-12:99999999999\n"), []byte("staff:x:-1\n"), "app", "staff")
	f.Add([]byte("app:x:4294967296:4294967295\n"), []byte("+\n-\n:::\n"), "app", "")
	f.Add([]byte("app\napp:\n:::::::::\n\x00"), []byte{}, "", "app")
	dir := f.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "etc"), 0o755); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, passwd, group []byte, user, other string) {
		for name, data := range map[string][]byte{"passwd": passwd, "group": group} {
			if err := os.WriteFile(filepath.Join(dir, "etc", name), data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		var o parser.Owner
		if user != "" {
			o.User = &parser.ID{Name: user}
		}
		if other != "" {
			o.Group = &parser.ID{Name: other}
		}
		r := run{inputs: []Input{{FS: disk(dir), Kept: true}}}
		own, err := r.owner(context.Background(), &o)
		if err != nil {
			return
		}
		if !isID(own.uid) || !isID(own.gid) {
			t.Errorf("owner %d:%d", own.uid, own.gid)
		}
	})
}

func isID(n int) bool { return n >= 0 && n < math.MaxUint32 }
