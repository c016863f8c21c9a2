package pid1

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// CapSet is a set of capabilities, one bit each.
type CapSet uint64

func (s CapSet) has(c int) bool { return s&(1<<c) != 0 }

// OwnCaps returns the capabilities that this process may give.
func OwnCaps() (CapSet, error) {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return 0, fmt.Errorf("reading capabilities: %w", err)
	}
	return CapSet(data[0].Permitted) | CapSet(data[1].Permitted)<<32, nil
}

// data is the set as capset(2) takes it. Insecure commands also inherit it, so
// that other users have it too, as with BuildKit.
func (s CapSet) data(inherit bool) (d [2]unix.CapUserData) {
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
func (s CapSet) dropped() (caps []int) {
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
