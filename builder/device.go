package builder

import (
	"fmt"
	"slices"

	"github.com/sinter-build/sinter/builder/sandbox"
	"github.com/sinter-build/sinter/layers/hint"
	"github.com/sinter-build/sinter/parser"
)

// giveDevices gives a command the devices it asks for. Those that may be missing
// and are missing are left out.
func (e *engine) giveDevices(s *sandbox.Spec, asked []parser.Device) error {
	if len(asked) == 0 {
		return nil
	}
	var names []string
	for _, d := range asked {
		names = append(names, d.Name)
	}
	edits, missing, err := e.Devices.Edits(names)
	if err != nil {
		return err
	}
	for _, d := range asked {
		if !slices.Contains(missing, d.Name) {
			continue
		}
		if !d.Optional {
			return hint.Add(fmt.Errorf("required device %q is not registered", d.Name),
				"its CDI specification belongs into /etc/cdi, or a directory given by --cdi-spec-dir")
		}
		e.warn(fmt.Sprintf("device %q is not registered; it is optional, so the command runs without it", d.Name))
	}
	s.Env = append(s.Env[:len(s.Env):len(s.Env)], edits.Env...)
	for _, n := range edits.Nodes {
		s.Mounts = append(s.Mounts, sandbox.Mount{Type: sandbox.MountDevice, Source: n.Host, Dest: n.Path})
	}
	for _, m := range edits.Mounts {
		s.Mounts = append(s.Mounts, sandbox.Mount{Type: sandbox.MountBind, Source: m.Host, Dest: m.Path, ReadOnly: m.ReadOnly})
	}
	return nil
}
