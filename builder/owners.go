package builder

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/archive"
	"github.com/sinter-build/sinter/parser"
)

// tellOwners warns of files of a command's layer that belong to root because this
// process's user namespace lacks IDs. root is what the command ran on.
func (e *engine) tellOwners(ctx context.Context, n *parser.Node, root layers.Chain, l layers.Layer) error {
	unmapped, err := archive.Unmapped()
	if err != nil || unmapped == nil {
		return err
	}
	t, err := e.Layers.Tree(ctx, l)
	if err != nil {
		return err
	}
	if e.SingleUser {
		e.tellSetID(n, t)
		return nil
	}
	lost := map[likeness]layers.Entry{}
	for _, below := range root {
		entries, err := e.foreign(ctx, below, unmapped)
		if err != nil {
			return err
		}
		for _, entry := range entries {
			lost[likenessOf(entry)] = entry
		}
	}
	if len(lost) == 0 {
		return nil
	}
	var paths pathList
	for _, entry := range t.Entries {
		from, ok := lost[likenessOf(entry)]
		if ok && !unmapped(entry) && (entry.UID == 0 || entry.GID == 0) {
			paths.add(fmt.Sprintf("/%s (like /%s of %d:%d)", entry.Path, from.Path, from.UID, from.GID))
		}
	}
	if len(paths) > 0 {
		e.warn(fmt.Sprintf("%s: files that were moved or copied now belong to root: their owners are not in this user's ranges in /etc/subuid and /etc/subgid: %s; "+
			"give the user more IDs there, set the owner with COPY --chown, or build as root", n.Name, paths))
	}
	return nil
}

// foreign are the entries of a layer whose owners are unmapped. They are looked for
// once.
func (e *engine) foreign(ctx context.Context, l layers.Layer, unmapped func(layers.Entry) bool) ([]layers.Entry, error) {
	if known, ok := e.foreigners.Load(l.ID); ok {
		return known.([]layers.Entry), nil
	}
	t, err := e.Layers.Tree(ctx, l)
	if err != nil {
		return nil, err
	}
	var found []layers.Entry
	for _, entry := range t.Entries {
		if unmapped(entry) {
			found = append(found, entry)
		}
	}
	e.foreigners.Store(l.ID, found)
	return found, nil
}

// tellSetID warns of set-user-ID and set-group-ID files where there is one user: a
// chown would have given them to another one, or cleared the bits.
func (e *engine) tellSetID(n *parser.Node, t *layers.Tree) {
	const setID = 0o6000
	var paths pathList
	for _, entry := range t.Entries {
		if entry.Kind == layers.File && entry.Mode&setID != 0 {
			paths.add(fmt.Sprintf("/%s (mode %04o)", entry.Path, entry.Mode))
		}
	}
	if len(paths) > 0 {
		e.warn(fmt.Sprintf("%s: set-user-ID and set-group-ID files belong to root: with one user ID, chown changes no owner and clears no set-ID bits: %s; "+
			"build with ranges in /etc/subuid and /etc/subgid, or as root", n.Name, paths))
	}
}

// likeness is what a copy that keeps owner and times has in common with its original.
// Programs may keep times in microseconds only.
type likeness struct {
	kind    layers.Kind
	size    int64
	link    string
	modTime time.Duration
}

func likenessOf(e layers.Entry) likeness {
	return likeness{e.Kind, e.Size, e.Link, time.Duration(e.ModTime).Truncate(time.Microsecond)}
}

// pathList are paths for a warning, which shows the first of them.
type pathList []string

func (p *pathList) add(path string) { *p = append(*p, path) }

func (p pathList) String() string {
	const shown = 5
	if len(p) <= shown {
		return strings.Join(p, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(p[:shown], ", "), len(p)-shown)
}
