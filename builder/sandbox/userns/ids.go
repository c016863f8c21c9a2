package userns

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/moby/sys/user"
)

// CommandIDs describes the ids that commands have, here or in the namespace that Reexec
// would make: one means a single user id, and unusual lists the ids. It is empty where
// there is one, where there are all, and where there are root and the usual number of
// subordinate ids.
func CommandIDs() (one bool, unusual string) {
	if Needed() {
		m, reason, err := choose()
		if err != nil || reason != "" {
			return err == nil, ""
		}
		return false, unusualIDs(m.uids, m.gids)
	}
	uids, err := readMap("/proc/self/uid_map")
	if err != nil {
		return false, ""
	}
	gids, err := readMap("/proc/self/gid_map")
	if err != nil {
		return false, ""
	}
	return uids.size() == 1, unusualIDs(uids, gids)
}

// unusualIDs is what CommandIDs says of these maps.
func unusualIDs(uids, gids idMap) string {
	if uids.size() == 1 || uids.isUsual() && gids.isUsual() {
		return ""
	}
	return uids.inside() + " " + gids.inside()
}

// isUsual reports whether the namespace has all ids, or those of a subordinate range
// of the usual size, with an own one below it (rootless) or without (a container with
// a user namespace, in docker and Kubernetes).
func (m idMap) isUsual() bool {
	in := m.inside()
	return m.all() || in == fmt.Sprintf("0-%d", rangeSize) || in == fmt.Sprintf("0-%d", rangeSize-1)
}

// inside lists the ids of the namespace, such as "0-65536" or "0-9,100-199".
func (m idMap) inside() string {
	sorted := slices.SortedFunc(slices.Values(m), func(a, b user.IDMap) int { return cmp.Compare(a.ID, b.ID) })
	var ranges []string
	var first, next int64
	for _, r := range append(sorted, user.IDMap{ID: math.MaxInt64}) {
		if r.ID != next {
			if next > first {
				ranges = append(ranges, fmt.Sprintf("%d-%d", first, next-1))
			}
			first, next = r.ID, r.ID
		}
		next += r.Count
	}
	return strings.Join(ranges, ",")
}
