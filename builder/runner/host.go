package runner

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/sinter-build/sinter/builder/cdi"
	"github.com/sinter-build/sinter/builder/sandbox"
	"github.com/sinter-build/sinter/layers/hint"
	"github.com/sinter-build/sinter/parser"
)

// volumes are the mounts of all volumes.
func (r *Runner) volumes() ([]sandbox.Mount, error) {
	var list []sandbox.Mount
	for _, v := range r.Volumes {
		if _, err := os.Stat(v.Host); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("volume %s: %w", v.Path, err)
		}
		list = append(list, sandbox.Mount{Type: sandbox.MountBind, Source: v.Host, Dest: v.Path, ReadOnly: v.ReadOnly})
	}
	return list, nil
}

// devices returns what a command sees of the devices it asks for. Those that may be
// missing and are missing are left out.
func (r *Runner) devices(asked []parser.Device) (cdi.Edits, error) {
	if len(asked) == 0 {
		return cdi.Edits{}, nil
	}
	var names []string
	for _, d := range asked {
		names = append(names, d.Name)
	}
	edits, missing, err := r.Devices.Edits(names)
	if err != nil {
		return edits, err
	}
	for _, d := range asked {
		if !slices.Contains(missing, d.Name) {
			continue
		}
		if !d.Optional {
			return edits, hint.Add(fmt.Errorf("required device %q is not registered", d.Name),
				"its CDI specification belongs into /etc/cdi, or a directory given by --cdi-spec-dir")
		}
		r.Warn(fmt.Sprintf("device %q is not registered; it is optional, so the command runs without it", d.Name))
	}
	return edits, nil
}

// deviceMounts are the mounts of devices.
func deviceMounts(e cdi.Edits) []sandbox.Mount {
	var list []sandbox.Mount
	for _, n := range e.Nodes {
		list = append(list, sandbox.Mount{Type: sandbox.MountDevice, Source: n.Host, Dest: n.Path})
	}
	for _, m := range e.Mounts {
		list = append(list, sandbox.Mount{Type: sandbox.MountBind, Source: m.Host, Dest: m.Path, ReadOnly: m.ReadOnly})
	}
	return list
}
