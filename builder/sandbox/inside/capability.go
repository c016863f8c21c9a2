package sandbox

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// defaultCaps are the capabilities of root in a container, the same as those of
// docker and BuildKit.
var defaultCaps = []struct {
	number int
	name   string
}{
	{unix.CAP_CHOWN, "CAP_CHOWN"}, {unix.CAP_DAC_OVERRIDE, "CAP_DAC_OVERRIDE"}, {unix.CAP_FSETID, "CAP_FSETID"},
	{unix.CAP_FOWNER, "CAP_FOWNER"}, {unix.CAP_MKNOD, "CAP_MKNOD"}, {unix.CAP_NET_RAW, "CAP_NET_RAW"},
	{unix.CAP_SETGID, "CAP_SETGID"}, {unix.CAP_SETUID, "CAP_SETUID"}, {unix.CAP_SETFCAP, "CAP_SETFCAP"},
	{unix.CAP_SETPCAP, "CAP_SETPCAP"}, {unix.CAP_NET_BIND_SERVICE, "CAP_NET_BIND_SERVICE"},
	{unix.CAP_SYS_CHROOT, "CAP_SYS_CHROOT"}, {unix.CAP_KILL, "CAP_KILL"}, {unix.CAP_AUDIT_WRITE, "CAP_AUDIT_WRITE"},
}

// capNames are the names of the default capabilities.
func capNames() []string {
	names := make([]string, len(defaultCaps))
	for i, c := range defaultCaps {
		names[i] = c.name
	}
	return names
}

// capSet is a set of capabilities, one bit each.
type capSet uint64

func (s capSet) has(c int) bool { return s&(1<<c) != 0 }

// ownCaps returns the capabilities that this process may give.
func ownCaps() (capSet, error) {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return 0, fmt.Errorf("reading capabilities: %w", err)
	}
	return capSet(data[0].Permitted) | capSet(data[1].Permitted)<<32, nil
}

// commandCaps returns the capabilities of the command: docker's, or all, as far
// as we have them ourselves.
func commandCaps(insecure bool) (capSet, error) {
	own, err := ownCaps()
	if err != nil || insecure {
		return own, err
	}
	var want capSet
	for _, c := range defaultCaps {
		want |= 1 << c.number
	}
	return want & own, nil
}

// data is the set as capset(2) takes it. Insecure commands also inherit it, so
// that other users have it too, as with BuildKit.
func (s capSet) data(inherit bool) (d [2]unix.CapUserData) {
	for i := range d {
		part := uint32(s >> (32 * i))
		d[i].Effective, d[i].Permitted = part, part
		if inherit {
			d[i].Inheritable = part
		}
	}
	return d
}

// dropped are the capabilities to take out of the bounding set.
func (s capSet) dropped() (caps []int) {
	for c := 0; c < 64; c++ {
		if s.has(c) {
			continue
		}
		if v, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(c), 0, 0, 0); err != nil || v < 0 {
			break // past the last one that the kernel knows
		}
		caps = append(caps, c)
	}
	return caps
}
