package builder

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/sinter-build/sinter/builder/sandbox"
)

// Volume is a file or directory of this machine that every command sees. It is
// no part of any layer and, as in Buildah, of no key: whoever mounts it knows
// that what it holds decides nothing.
type Volume struct {
	// Host is where it is on this machine, Path where commands see it; both
	// are absolute.
	Host, Path string
	ReadOnly   bool
}

// volumes are the mounts of all volumes.
func (e *engine) volumes() ([]sandbox.Mount, error) {
	var list []sandbox.Mount
	for _, v := range e.Volumes {
		if _, err := os.Stat(v.Host); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("volume %s: %w", v.Path, err)
		}
		list = append(list, sandbox.Mount{Type: sandbox.MountBind, Source: v.Host, Dest: v.Path, ReadOnly: v.ReadOnly})
	}
	return list, nil
}
