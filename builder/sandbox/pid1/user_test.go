package pid1

import (
	"math"
	"os"
	"path/filepath"
	"testing"
)

// FuzzUser: whatever an image has as passwd and group, a command runs as a user
// that the kernel knows, or not at all.
func FuzzUser(f *testing.F) {
	f.Add([]byte("root:x:0:0:root:/root:/bin/sh\napp:x:12:34::/home:/bin/sh\n"), []byte("staff:x:56:app,app\n"), "app:staff")
	f.Add([]byte("app:x:-12:99999999999\n"), []byte("staff:x:-1:app\n"), "app")
	f.Add([]byte("app:x:4294967296:4294967295\n"), []byte("g:x:4294967295:app\n"), "app")
	f.Add([]byte("a:b:c:d:e:f:g:h\n::::\n"), []byte("\x00\n:::,,,\n"), "4294967295:0")
	f.Add([]byte{}, []byte{}, "1:2")
	dir := f.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "etc"), 0o755); err != nil {
		f.Fatal(err)
	}
	root, err := os.Open(dir)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { root.Close() })
	f.Fuzz(func(t *testing.T, passwd, group []byte, name string) {
		for file, data := range map[string][]byte{"passwd": passwd, "group": group} {
			if err := os.WriteFile(filepath.Join(dir, "etc", file), data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		in := sandboxInit{plan: Plan{User: name}, root: int(root.Fd())}
		u, err := in.lookupUser()
		if err != nil {
			return
		}
		for _, id := range append([]int{u.Uid, u.Gid}, u.Sgids...) {
			if id < 0 || id >= math.MaxUint32 {
				t.Errorf("%q is %+v", name, u)
			}
		}
	})
}

// What follows the group says nothing, as in BuildKit.
func TestUserWithMoreFields(t *testing.T) {
	dir := t.TempDir()
	for file, text := range map[string]string{"passwd": "web:x:5:6::/:\n", "group": "web:x:6:\nother:x:7:\n"} {
		if err := os.MkdirAll(filepath.Join(dir, "etc"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "etc", file), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for name, want := range map[string][2]int{"web:other:x": {5, 7}, "web::x": {5, 6}, "8:9:x": {8, 9}} {
		in := sandboxInit{plan: Plan{User: name}, root: int(root.Fd())}
		u, err := in.lookupUser()
		if err != nil || u.Uid != want[0] || u.Gid != want[1] {
			t.Errorf("%s is %+v, want %v; %v", name, u, want, err)
		}
	}
}
