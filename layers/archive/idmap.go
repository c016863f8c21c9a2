package archive

import (
	"bufio"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"

	"github.com/sinter-build/sinter/layers"
)

// idMaps knows which owners this process's user namespace can give to files.
type idMaps struct {
	uids, gids []idRange
}

type idRange struct{ first, count int64 }

func readIDMaps() (idMaps, error) {
	uids, err := readIDMap("/proc/self/uid_map")
	if err != nil {
		return idMaps{}, err
	}
	gids, err := readIDMap("/proc/self/gid_map")
	if err != nil {
		return idMaps{}, err
	}
	return idMaps{uids, gids}, nil
}

func readIDMap(name string) ([]idRange, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("reading the user namespace's ids: %w", err)
	}
	var ranges []idRange
	for lines := bufio.NewScanner(strings.NewReader(string(data))); lines.Scan(); {
		var r idRange
		var outside int64
		if _, err := fmt.Sscan(lines.Text(), &r.first, &outside, &r.count); err != nil {
			return nil, fmt.Errorf("reading the user namespace's ids: %q: %w", lines.Text(), err)
		}
		ranges = append(ranges, r)
	}
	return ranges, nil
}

// Unmapped returns what reports whether the owner or the group of an entry does not
// exist in this process's user namespace, so that Unpack leaves its file to root. It
// is nil where all exist.
func Unmapped() (func(e layers.Entry) bool, error) {
	m, err := readIDMaps()
	if err != nil {
		return nil, err
	}
	all := idRange{0, math.MaxUint32}
	if slices.Contains(m.uids, all) && slices.Contains(m.gids, all) {
		return nil, nil
	}
	return func(e layers.Entry) bool {
		return e.Kind != layers.Whiteout && (!mapped(m.uids, e.UID) || !mapped(m.gids, e.GID))
	}, nil
}

func mapped(ranges []idRange, id int) bool {
	for _, r := range ranges {
		if n := int64(id); n >= r.first && n-r.first < r.count {
			return true
		}
	}
	return false
}

// restore gives e, which was copied up from below, the owner that it would
// have if the user namespace had it: Unpack leaves such files to itself.
func (m idMaps) restore(e *layers.Entry, below layers.Entry) {
	if e.UID == os.Geteuid() && !mapped(m.uids, below.UID) {
		e.UID = below.UID
	}
	if e.GID == os.Getegid() && !mapped(m.gids, below.GID) {
		e.GID = below.GID
	}
}
