package fileop

import (
	"fmt"
	"io/fs"
	"strconv"

	mode "github.com/tonistiigi/dchapes-mode"

	"github.com/sinter-build/sinter/layers"
)

// chmod is what --chmod asks for; the zero value changes nothing.
type chmod struct {
	set   bool
	octal uint32
	// symbolic is used instead of octal when it is not nil.
	symbolic *mode.Set
}

// parseMode reads a mode as docker's --chmod takes it: octal, or as chmod(1)
// does.
func parseMode(s string) (chmod, error) {
	if s == "" {
		return chmod{}, nil
	}
	if v, err := strconv.ParseUint(s, 8, 32); err == nil {
		if v > 0o7777 {
			return chmod{}, fmt.Errorf("invalid chmod parameter: %q is not between 0 and 07777", s)
		}
		return chmod{set: true, octal: uint32(v)}, nil
	}
	set, err := mode.ParseWithUmask(s, 0)
	if err != nil {
		return chmod{}, fmt.Errorf("invalid chmod parameter %q: %w", s, err)
	}
	return chmod{set: true, symbolic: &set}, nil
}

// apply returns the mode that a copy of e gets.
func (c chmod) apply(e layers.Entry) uint32 {
	switch {
	case !c.set:
		return e.Mode
	case c.symbolic == nil:
		return c.octal
	}
	m := layers.FileMode(e.Mode)
	if e.Kind == layers.Dir {
		m |= fs.ModeDir
	}
	return layers.UnixMode(c.symbolic.Apply(m))
}

// parents returns the mode of directories made on the way to the destination.
// A symbolic mode does not apply to them, nor does more than the permissions.
func (c chmod) parents() uint32 {
	if c.set && c.symbolic == nil {
		return c.octal & 0o777
	}
	return 0o755
}
