package manifest

import (
	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Best returns the position in list of the platform that serves wanted best, in
// containerd's order of preference: linux/arm64 may run linux/arm/v7, but its own is
// better. Of equals it is the first. ok is false when none fits.
func Best(wanted ocispec.Platform, list []ocispec.Platform) (at int, ok bool) {
	fits := platforms.Only(wanted)
	for i, p := range list {
		if fits.Match(p) && (!ok || fits.Less(p, list[at])) {
			at, ok = i, true
		}
	}
	return at, ok
}
