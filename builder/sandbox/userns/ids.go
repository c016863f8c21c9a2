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
	usual := fmt.Sprintf("0-%d", rangeSize)
	u, g := uids.inside(), gids.inside()
	if uids.size() == 1 || (uids.all() || u == usual) && (gids.all() || g == usual) {
		return ""
	}
	return u + " " + g
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
