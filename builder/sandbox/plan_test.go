package sandbox

import (
	"strings"
	"testing"
)

func TestPlanMounts(t *testing.T) {
	for _, c := range []struct {
		asked, want string // type:place
	}{
		{"tmpfs:/a bind:/b tmpfs:/b bind:/a/", "bind:/a tmpfs:/b"},
		{"tmpfs:/dev cache:/dev/shm", "cache:/dev/shm"},
		{"bind:/dev", "bind:/dev"},
		{"bind:/proc/cpuinfo bind:/process", "bind:/proc/cpuinfo bind:/process"},
		{"bind:/proc/sys", "error"}, {"tmpfs:/proc", "error"}, {"tmpfs:/x/../proc/1", "error"},
	} {
		var asked []Mount
		for _, m := range strings.Fields(c.asked) {
			kind, place, _ := strings.Cut(m, ":")
			asked = append(asked, Mount{Type: MountType(kind), Dest: place})
		}
		got, err := mounts(asked)
		var names []string
		for _, m := range got {
			names = append(names, string(m.Type)+":"+m.Dest)
		}
		if text := strings.Join(names, " "); (err != nil) != (c.want == "error") || err == nil && text != c.want {
			t.Errorf("%s: %s, %v", c.asked, text, err)
		}
	}
}
