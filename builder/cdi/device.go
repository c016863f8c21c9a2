// Package cdi finds the devices that RUN --device asks for in the CDI
// specifications of this machine, and says what a command that gets them sees
// besides. It gives nothing to a command itself.
//
// A device is KIND=NAME, KIND=* for all of a kind, KIND alone for its first, or a
// class that specifications name by an annotation, as in BuildKit.
package cdi

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"tags.cncf.io/container-device-interface/pkg/cdi"
	"tags.cncf.io/container-device-interface/pkg/parser"
	"tags.cncf.io/container-device-interface/specs-go"
)

// BuildKit's annotations of a specification or a device in it.
const (
	annotationClass = "org.mobyproject.buildkit.device.class"
	annotationAllow = "org.mobyproject.buildkit.device.autoallow"
)

// DefaultDirs are where specifications are, as BuildKit and podman have it; later
// ones count more.
func DefaultDirs() []string { return []string{"/etc/cdi", "/var/run/cdi"} }

// Specs are the specifications in some directories. They are read anew each time.
type Specs struct{ Dirs []string }

// Edits is what a command sees of devices.
type Edits struct {
	Env []string
	// Nodes are device nodes, Mounts other files and directories.
	Nodes, Mounts []Bind
}

// Bind shows a path of this machine at one of the command's.
type Bind struct {
	Host, Path string
	ReadOnly   bool
}

func (s Specs) open() (*cdi.Cache, error) {
	var dirs []string
	for _, d := range s.Dirs {
		abs, err := filepath.Abs(d)
		if err != nil {
			return nil, err
		}
		dirs = append(dirs, abs)
	}
	return cdi.NewCache(cdi.WithSpecDirs(dirs...), cdi.WithAutoRefresh(false))
}

// Allowed reports whether the specifications say that everybody may have a
// device, or whether there is none: then there is nothing to allow.
func (s Specs) Allowed(name string) (bool, error) {
	cache, err := s.open()
	if err != nil {
		return false, err
	}
	for _, d := range find(cache, name) {
		if ok, err := strconv.ParseBool(annotations(cache.GetDevice(d))[annotationAllow]); err != nil || !ok {
			return false, nil
		}
	}
	return true, nil
}

// Edits returns what a command sees of the devices of these names. missing are
// the names of which there is none.
func (s Specs) Edits(names []string) (e Edits, missing []string, err error) {
	cache, err := s.open()
	if err != nil {
		return e, nil, err
	}
	done := map[string]bool{}
	for _, name := range names {
		found := find(cache, name)
		if len(found) == 0 {
			missing = append(missing, name)
		}
		for _, d := range found {
			if done[d] {
				continue
			}
			done[d] = true
			dev := cache.GetDevice(d)
			spec := dev.GetSpec()
			if path := spec.GetPath(); !done[path] {
				done[path] = true
				if err := e.add(spec.ContainerEdits); err != nil {
					return e, nil, fmt.Errorf("device %s of %s: %w", d, path, err)
				}
			}
			if err := e.add(dev.ContainerEdits); err != nil {
				return e, nil, fmt.Errorf("device %s of %s: %w", d, spec.GetPath(), err)
			}
		}
	}
	return e, missing, nil
}

// add adds what a specification asks for, or refuses what cannot be done.
func (e *Edits) add(c specs.ContainerEdits) error {
	switch {
	case len(c.Hooks) > 0:
		return fmt.Errorf("it wants to run %s on this machine (hook %s), which sinter does not do", c.Hooks[0].Path, c.Hooks[0].HookName)
	case c.IntelRdt != nil:
		return errors.New("it wants Intel RDT, which sinter does not set")
	case len(c.AdditionalGIDs) > 0:
		return errors.New("it wants further groups, which sinter does not set")
	case len(c.NetDevices) > 0:
		return errors.New("it wants a network device, which sinter does not give")
	}
	e.Env = append(e.Env, c.Env...)
	for _, n := range c.DeviceNodes {
		if n.UID != nil || n.GID != nil || n.FileMode != nil {
			return fmt.Errorf("node %s: another owner or mode than this machine's cannot be set", n.Path)
		}
		host := n.HostPath
		if host == "" {
			host = n.Path
		}
		e.Nodes = append(e.Nodes, Bind{Host: host, Path: n.Path})
	}
	for _, m := range c.Mounts {
		if m.Type != "" && m.Type != "bind" {
			return fmt.Errorf("mount %s: type %s is not supported", m.ContainerPath, m.Type)
		}
		e.Mounts = append(e.Mounts, Bind{Host: m.HostPath, Path: m.ContainerPath, ReadOnly: slices.Contains(m.Options, "ro")})
	}
	return nil
}

// find returns the full names of the devices that a name means.
func find(cache *cdi.Cache, name string) []string {
	all := cache.ListDevices()
	kind, which, _ := strings.Cut(name, "=")
	var found []string
	if vendor, _ := parser.ParseQualifier(kind); vendor != "" {
		for _, d := range all {
			if d == name || (strings.HasPrefix(d, kind+"=") && (which == "*" || which == "" && len(found) == 0)) {
				found = append(found, d)
			}
		}
	}
	if len(found) > 0 {
		return found
	}
	for _, d := range all {
		if class, ok := annotations(cache.GetDevice(d))[annotationClass]; ok && class == name {
			found = append(found, d)
		}
	}
	return found
}

// annotations are those of a device and of its specification.
func annotations(d *cdi.Device) map[string]string {
	all := map[string]string{}
	if d == nil {
		return all
	}
	maps.Copy(all, d.GetSpec().Annotations)
	maps.Copy(all, d.Annotations)
	return all
}
