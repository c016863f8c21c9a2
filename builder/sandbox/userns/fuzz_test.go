package userns

import (
	"math"
	"os"
	"os/user"
	"path/filepath"
	"testing"
)

// FuzzSubordinate: whatever stands in /etc/subuid, the map begins with the own
// id, has no hole and no more lines than the kernel takes.
func FuzzSubordinate(f *testing.F) {
	me, err := user.Current()
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(me.Username + ":100000:65536\n" + me.Uid + ":200000:1\n"))
	f.Add([]byte(me.Username + ":-1:-5\n" + me.Username + ":0:99999999999999999999\n"))
	f.Add([]byte(me.Username + ":9223372036854775807:9223372036854775807\n" + me.Username + ":1:9223372036854775807\n"))
	f.Add([]byte("# comment\n\n:::\nx\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "subuid")
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		m, err := subordinate(path, 1000)
		if err != nil {
			return
		}
		if len(m) < 2 || len(m) > maxRanges || m[0].ID != 0 || m[0].ParentID != 1000 || m[0].Count != 1 {
			t.Fatalf("%v", m)
		}
		next := int64(0)
		for _, r := range m {
			if r.ID != next || r.Count <= 0 || r.ParentID < 0 || r.ParentID+r.Count > math.MaxUint32 {
				t.Fatalf("%v", m)
			}
			next += r.Count
		}
		if next > math.MaxUint32 {
			t.Fatalf("%d ids", next)
		}
	})
}
