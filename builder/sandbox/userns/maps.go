package userns

import (
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"
)

// maxRanges is how many lines of a map the kernel takes (since Linux 4.15).
const maxRanges = 340

// A mapping is how the ids of a new user namespace are to be made.
type mapping struct {
	uids, gids idMap
	// Programs that may map more than the caller's own ids; without them the
	// maps are written by the caller itself.
	newuidmap, newgidmap string
	// denyGroups gives up setgroups(2), the kernel's price for a map of groups
	// that is written without privilege.
	denyGroups bool
}

// single maps root to the user's own ids and nothing else.
func single() mapping {
	return mapping{
		uids:       idMap{{ID: 0, ParentID: int64(os.Geteuid()), Count: 1}},
		gids:       idMap{{ID: 0, ParentID: int64(os.Getegid()), Count: 1}},
		denyGroups: true,
	}
}

// full maps as many ids as the user may have: for a root without the privilege
// to mount all ids as they are, for others the own id as root and the user's
// subordinate ids above it. The error says what is missing and how to get it.
func full() (mapping, error) {
	if os.Geteuid() == 0 {
		return identity()
	}
	var m mapping
	var err error
	if m.newuidmap, err = exec.LookPath("newuidmap"); err == nil {
		m.newgidmap, err = exec.LookPath("newgidmap")
	}
	if err != nil {
		return m, fmt.Errorf("newuidmap and newgidmap are not installed (the package is called uidmap or shadow-utils): %w", err)
	}
	if m.uids, err = subordinate("/etc/subuid", os.Geteuid()); err != nil {
		return m, err
	}
	m.gids, err = subordinate("/etc/subgid", os.Getegid())
	return m, err
}

// identity maps all ids of this user namespace to themselves.
func identity() (mapping, error) {
	var m mapping
	if !capable(unix.CAP_SETUID) || !capable(unix.CAP_SETGID) || !capable(unix.CAP_SETFCAP) {
		return m, errors.New("root lacks CAP_SETUID, CAP_SETGID or CAP_SETFCAP here (a container's option --cap-add gives them)")
	}
	var err error
	if m.uids, err = readMap("/proc/self/uid_map"); err != nil {
		return m, err
	}
	if m.gids, err = readMap("/proc/self/gid_map"); err != nil {
		return m, err
	}
	for _, ids := range []idMap{m.uids, m.gids} {
		for i := range ids {
			ids[i].ParentID = ids[i].ID
		}
	}
	return m, nil
}

// subordinate returns the map of root to an own id, and of the ids above to the
// user's ranges in a file like /etc/subuid, one after another.
func subordinate(path string, own int) (idMap, error) {
	uid := strconv.Itoa(os.Getuid())
	name := os.Getenv("USER")
	if u, err := user.LookupUid(os.Getuid()); err == nil {
		name = u.Name
	}
	ranges, err := user.ParseSubIDFileFilter(path, func(s user.SubID) bool {
		return (s.Name == uid || name != "" && s.Name == name) &&
			s.SubID >= 0 && s.Count > 0 && s.SubID <= math.MaxUint32 && s.Count <= math.MaxUint32-s.SubID
	})
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("subordinate ids: %w", err)
	}
	if name == "" {
		name = uid
	}
	if len(ranges) == 0 {
		first := freeRange("/etc/subuid", "/etc/subgid", path)
		return nil, fmt.Errorf("%s has no range for %s (as root: usermod --add-subuids %[3]d-%[4]d --add-subgids %[3]d-%[4]d %[2]s)",
			path, name, first, first+rangeSize-1)
	}
	m := idMap{{ID: 0, ParentID: int64(own), Count: 1}}
	next := int64(1)
	for _, r := range ranges[:min(len(ranges), maxRanges-1)] {
		count := min(r.Count, math.MaxUint32-next)
		if count == 0 {
			break
		}
		m = append(m, user.IDMap{ID: next, ParentID: r.SubID, Count: count})
		next += count
	}
	return m, nil
}

const (
	// firstRange is where ranges begin on most systems, and rangeSize how
	// many ids a user gets.
	firstRange = 100000
	rangeSize  = 65536
)

// freeRange is the first id above all ranges of the files.
func freeRange(paths ...string) int64 {
	first := int64(firstRange)
	for _, path := range paths {
		// What cannot be read has no say in a piece of advice.
		all, _ := user.ParseSubIDFileFilter(path, func(user.SubID) bool { return true })
		for _, r := range all {
			if end := r.SubID + r.Count; end > first && end <= math.MaxUint32-rangeSize {
				first = end
			}
		}
	}
	return first
}

// apply writes the maps of a process that is alone in its user namespace.
func (m mapping) apply(pid int) error {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	if m.newuidmap != "" {
		if err := helper(m.newuidmap, pid, m.uids); err != nil {
			return err
		}
		return helper(m.newgidmap, pid, m.gids)
	}
	if m.denyGroups {
		if err := write(filepath.Join(dir, "setgroups"), "deny"); err != nil {
			return err
		}
	}
	if err := write(filepath.Join(dir, "uid_map"), m.uids.String()); err != nil {
		return err
	}
	return write(filepath.Join(dir, "gid_map"), m.gids.String())
}

// helper runs newuidmap or newgidmap, which have the privilege to map
// subordinate ids.
func helper(program string, pid int, m idMap) error {
	out, err := exec.Command(program, append([]string{strconv.Itoa(pid)}, m.args()...)...).CombinedOutput()
	if err == nil {
		return nil
	}
	text := firstLine(out)
	if text == "" {
		text = err.Error()
	}
	name := filepath.Base(program)
	if setting("NoNewPrivs") == "1" {
		return fmt.Errorf("%s failed: %s (no_new_privs is set, under which it gains no privilege: start the container around us without that)", name, text)
	}
	if info, statErr := os.Stat(program); statErr == nil && info.Mode()&os.ModeSetuid == 0 {
		return fmt.Errorf("%s failed: %s (it may lack its set-user-ID bit or file capability: reinstall the package uidmap or shadow-utils)", name, text)
	}
	return fmt.Errorf("%s failed: %s", name, text)
}

// write writes a file of /proc in one call, as the kernel wants it.
func write(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("id map: %w", err)
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("id map: %w", err)
	}
	return nil
}
