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

// OneIDEnv is the environment variable with which a user asks for a single id
// although there are more.
const OneIDEnv = "SINTER_ONE_ID"

// choose maps as many ids as the user has: for a root without the privilege to
// mount all ids as they are, for others the own id as root and the user's
// subordinate ids above it. A user who has no more than the own id, or asks for
// no more, gets that; reason then says why, and how to get more. Not being able
// to map the ids that the user has is an error: files would get other owners.
func choose() (m mapping, reason string, err error) {
	if on, _ := strconv.ParseBool(os.Getenv(OneIDEnv)); on {
		return single(), OneIDEnv + " asks for it", nil
	}
	if os.Geteuid() == 0 {
		m, err = identity()
	} else {
		m, err = subordinates()
	}
	var none *noIDsError
	if errors.As(err, &none) {
		return single(), none.reason, nil
	}
	return m, "", err
}

// A noIDsError says why a user has only the own id.
type noIDsError struct{ reason string }

func (e *noIDsError) Error() string { return e.reason }

// subordinates maps the user's ranges with the programs that may do that.
func subordinates() (m mapping, err error) {
	if m.uids, err = subordinate("/etc/subuid", os.Geteuid()); err != nil {
		return m, err
	}
	if m.gids, err = subordinate("/etc/subgid", os.Getegid()); err != nil {
		return m, err
	}
	if m.newuidmap, err = exec.LookPath("newuidmap"); err == nil {
		m.newgidmap, err = exec.LookPath("newgidmap")
	}
	if err != nil {
		return m, unmapped("install the package uidmap or shadow-utils",
			fmt.Errorf("newuidmap and newgidmap, which map the IDs of /etc/subuid and /etc/subgid, are not installed: %w", err))
	}
	return m, nil
}

// unmapped is the error of ids that the user has and does not get.
func unmapped(remedy string, err error) error {
	return &RefusedError{Err: err, Hint: remedy + ", or set " + OneIDEnv + "=1 to build with one user ID: then all files belong to root"}
}

// identity maps all ids of this user namespace to themselves.
func identity() (mapping, error) {
	var m mapping
	if !capable(unix.CAP_SETUID) || !capable(unix.CAP_SETGID) || !capable(unix.CAP_SETFCAP) {
		return m, &noIDsError{"root lacks CAP_SETUID, CAP_SETGID or CAP_SETFCAP here (a container's option --cap-add gives them)"}
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
		return nil, unmapped("repair "+path, fmt.Errorf("subordinate ids: %w", err))
	}
	if name == "" {
		name = uid
	}
	if len(ranges) == 0 {
		first := freeRange("/etc/subuid", "/etc/subgid", path)
		return nil, &noIDsError{fmt.Sprintf("%s has no range for %s (as root: usermod --add-subuids %[3]d-%[4]d --add-subgids %[3]d-%[4]d %[2]s)",
			path, name, first, first+rangeSize-1)}
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
	err = fmt.Errorf("%s failed: %s", name, text)
	if setting("NoNewPrivs") == "1" {
		return unmapped("no_new_privs is set, under which "+name+" gains no privilege: start the container around us without that", err)
	}
	if info, statErr := os.Stat(program); statErr == nil && info.Mode()&os.ModeSetuid == 0 {
		return unmapped(name+" may lack its set-user-ID bit or file capability: reinstall the package uidmap or shadow-utils", err)
	}
	return unmapped("build again, or check the ranges in /etc/subuid and /etc/subgid", err)
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
