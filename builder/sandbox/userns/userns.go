// Package userns gives an unprivileged builder a user namespace in which it is
// root. The program starts itself once more inside: with the user's own id as 0
// and the ranges of /etc/subuid and /etc/subgid above it, or, where there are
// no such ranges, with the own id alone. What runs inside needs no other
// provision for being unprivileged.
//
// A program calls Reexec when Needed, hands over all of its arguments and exits
// with the code it gets. A program whose os.Args[0] is Name calls Continue
// first of all and then does its work.
package userns

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"
)

// Name is os.Args[0] of the program inside.
const Name = "sinter-userns"

// What the program inside is told in its environment.
const (
	reasonEnv = "SINTER_USERNS_SINGLE" // why it has a single id
	beginEnv  = "SINTER_USERNS_BEGIN"  // the number of the file that lets it begin
	homeEnv   = "SINTER_USERNS_HOME"   // the home directory of the user outside
)

// Needed says whether this process lacks the privilege to mount, so that its
// work has to be done in a user namespace: it is not root, or it is root in a
// container that was not given CAP_SYS_ADMIN.
func Needed() bool {
	return os.Geteuid() != 0 || !capable(unix.CAP_SYS_ADMIN)
}

// Inside says whether this process is in another user namespace than the first
// one. There overlay file systems need the option userxattr and devices cannot
// be made.
func Inside() bool {
	// The map alone does not tell: root's own namespace may have all ids, too.
	if link, err := os.Readlink("/proc/self/ns/user"); err == nil {
		return link != firstNamespace
	}
	m, err := readMap("/proc/self/uid_map")
	return err == nil && !m.all()
}

// firstNamespace is how the kernel names the first user namespace
// (PROC_USER_INIT_INO in its include/linux/proc_ns.h).
const firstNamespace = "user:[4026531837]"

// Root says whether this process is root over all ids there are, and so the same
// root as outside of its user namespace, if it is in one. Where nothing tells, as
// without /proc in a chroot, root is taken for that.
func Root() bool {
	m, err := readMap("/proc/self/uid_map")
	return os.Geteuid() == 0 && (errors.Is(err, fs.ErrNotExist) || err == nil && m.all())
}

// Single says whether the user namespace has one user id only, so that nothing
// can be owned by anybody else.
func Single() bool {
	m, err := readMap("/proc/self/uid_map")
	return err == nil && m.size() == 1
}

// IDs returns the ID maps of this process if commands run in its user namespace, and
// an empty string elsewhere.
func IDs() string {
	if Needed() {
		return ""
	}
	uids, err := os.ReadFile("/proc/self/uid_map")
	gids, err2 := os.ReadFile("/proc/self/gid_map")
	if err != nil || err2 != nil {
		return ""
	}
	return strings.Join(strings.Fields(string(uids)), " ") + ", " + strings.Join(strings.Fields(string(gids)), " ")
}

// HasGroup says whether the user namespace has a group.
func HasGroup(gid int64) bool {
	m, err := readMap("/proc/self/gid_map")
	return err == nil && slices.ContainsFunc(m, func(r user.IDMap) bool { return r.ID <= gid && gid-r.ID < r.Count })
}

// Reason says, for a person, why there is a single id, here or where Reexec has
// started this program, and what to do about it; it is empty where there are more.
func Reason() string {
	if reason := os.Getenv(reasonEnv); reason != "" || !Single() {
		return reason
	}
	return "the enclosing user namespace maps only one ID (podman unshare, unshare --map-auto and containers give more)"
}

// Home is the home directory of the user who started the program inside, which that
// cannot look up by its id: there it is root. Elsewhere it is empty.
func Home() string { return os.Getenv(homeEnv) }

// AsUser says how the program inside starts others that shall see themselves as the
// user outside, and not as root: they talk to services of that user (D-Bus, agents),
// which compare who a program says it is with who the kernel says it is. Elsewhere it
// is nil.
func AsUser() *syscall.SysProcAttr {
	if os.Args[0] != Name {
		return nil
	}
	uids, err := asOutside("/proc/self/uid_map")
	gids, err2 := asOutside("/proc/self/gid_map")
	if err != nil || err2 != nil || uids[0].ContainerID == 0 {
		return nil
	}
	return &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: uids, GidMappings: gids}
}

// asOutside returns the map that shows our ID 0 as what it is outside.
func asOutside(path string) ([]syscall.SysProcIDMap, error) {
	m, err := readMap(path)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(m, func(r user.IDMap) bool { return r.ID == 0 })
	if i < 0 {
		return nil, fmt.Errorf("%s has no ID 0", path)
	}
	return []syscall.SysProcIDMap{{ContainerID: int(m[i].ParentID), HostID: 0, Size: 1}}, nil
}

// capable says whether a capability is effective in this process.
func capable(capability int) bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return false
	}
	return data[capability/32].Effective&(1<<(capability%32)) != 0
}

// An idMap is what /proc/PID/uid_map holds.
type idMap []user.IDMap

// readMap reads a uid_map or gid_map.
func readMap(path string) (idMap, error) {
	m, err := user.ParseIDMapFile(path)
	if err != nil {
		return nil, fmt.Errorf("id map: %w", err)
	}
	return m, nil
}

// all says whether the map has every id as itself, as that of the first user
// namespace has.
func (m idMap) all() bool {
	return len(m) == 1 && m[0] == user.IDMap{Count: math.MaxUint32}
}

// size is the number of ids in the map.
func (m idMap) size() int64 {
	var n int64
	for _, e := range m {
		n += e.Count
	}
	return n
}

// String returns the map as the kernel takes it.
func (m idMap) String() string {
	var b strings.Builder
	for _, e := range m {
		fmt.Fprintf(&b, "%d %d %d\n", e.ID, e.ParentID, e.Count)
	}
	return b.String()
}

// args returns the map as newuidmap takes it.
func (m idMap) args() []string { return strings.Fields(m.String()) }
