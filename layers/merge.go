package layers

// merging decides what is at a path by what the layers have there, the highest
// layer first.
type merging struct {
	path string
	// state is what is known.
	state state
	// found is the entry, once a layer has listed one; before that, its Layer is the
	// highest that implies the path.
	found Named
	// below is what the layers have below the path.
	below []span
	// end: the layers below do not show here.
	end bool
}

// state is what layers said of a path.
type state uint8

const (
	silent    state = iota // nothing
	implied                // a directory that none has described
	described              // what it is
)

// add merges what one layer has: s begins where the path would be in that layer.
func (m *merging) add(v *View, s span) {
	entries := v.layers[s.layer].Entries
	if m.end || s.lo >= s.hi || !Under(entries[s.lo].Path, m.path) {
		return
	}
	e := &entries[s.lo]
	listed := len(e.Path) == len(m.path)
	if listed && e.Kind != Dir {
		if e.Kind != Whiteout && m.state == silent {
			m.found, m.state = Named{v.layers[s.layer].file(s.layer, s.lo), s.layer}, described
		}
		m.end = true
		return
	}
	end := v.subtreeEnd(s, m.path)
	if !listed {
		m.imply(s.layer)
		m.below = append(m.below, span{s.layer, s.lo, end})
		return
	}
	switch {
	case e.Implied:
		m.imply(s.layer)
	case m.state != described:
		m.found, m.state = Named{*e, s.layer}, described
	}
	m.below = append(m.below, span{s.layer, s.lo + 1, end})
	m.end = e.Opaque
}

func (m *merging) imply(layer int) {
	if m.state == silent {
		m.found.Layer, m.state = layer, implied
	}
}

// stand adds what all layers below have at the path: the directory d of their view.
func (m *merging) stand(d *directory) {
	if m.state != described && d.described {
		m.found, m.state = d.Named, described
	}
}

// result returns what is at the path, if anything.
func (m *merging) result(v *View) (n Named, ok bool) {
	if m.state == implied {
		m.found.Entry = v.implied(m.found.Layer, m.path)
	}
	return m.found, m.state != silent
}
