package runner

import (
	"context"
	"fmt"
	"time"

	"github.com/sinter-build/sinter/builder/progress"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/archive"
)

// tellOwners warns of files of a command's layer that belong to root because this
// process's user namespace lacks IDs.
func (r *Runner) tellOwners(ctx context.Context, c Command, l layers.Layer) error {
	unmapped, err := archive.Unmapped()
	if err != nil || unmapped == nil {
		return err
	}
	t, err := r.Layers.Tree(ctx, l)
	if err != nil {
		return err
	}
	if r.SingleUser {
		r.tellSetID(c, t)
		return nil
	}
	lost := map[likeness]layers.Entry{}
	for _, below := range c.Root {
		entries, err := r.foreigners(ctx, below, unmapped)
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
	var paths []string
	for _, entry := range t.Entries {
		from, ok := lost[likenessOf(entry)]
		if ok && !unmapped(entry) && (entry.UID == 0 || entry.GID == 0) {
			paths = append(paths, fmt.Sprintf("/%s (like /%s of %d:%d)", entry.Path, from.Path, from.UID, from.GID))
		}
	}
	if len(paths) > 0 {
		r.Warn(fmt.Sprintf("%s: files that were moved or copied now belong to root: their owners are not in this user's ranges in /etc/subuid and /etc/subgid: %s; "+
			"give the user more IDs there, set the owner with COPY --chown, or build as root", c.Name, progress.Few(paths)))
	}
	return nil
}

// foreigners are the entries of a layer whose owners are unmapped. They are looked for
// once.
func (r *Runner) foreigners(ctx context.Context, l layers.Layer, unmapped func(layers.Entry) bool) ([]layers.Entry, error) {
	if known, ok := r.foreign.Load(l.ID); ok {
		return known.([]layers.Entry), nil
	}
	t, err := r.Layers.Tree(ctx, l)
	if err != nil {
		return nil, err
	}
	var found []layers.Entry
	for _, entry := range t.Entries {
		if unmapped(entry) {
			found = append(found, entry)
		}
	}
	r.foreign.Store(l.ID, found)
	return found, nil
}

// tellSetID warns of set-user-ID and set-group-ID files where there is one user: a
// chown would have given them to another one, or cleared the bits.
func (r *Runner) tellSetID(c Command, t *layers.Tree) {
	const setID = 0o6000
	var paths []string
	for _, entry := range t.Entries {
		if entry.Kind == layers.File && entry.Mode&setID != 0 {
			paths = append(paths, fmt.Sprintf("/%s (mode %04o)", entry.Path, entry.Mode))
		}
	}
	if len(paths) > 0 {
		r.Warn(fmt.Sprintf("%s: set-user-ID and set-group-ID files belong to root: with one user ID, chown changes no owner and clears no set-ID bits: %s; "+
			"build with ranges in /etc/subuid and /etc/subgid, or as root", c.Name, progress.Few(paths)))
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
	return likeness{e.Kind, e.Size, e.Target + e.Link, time.Duration(e.ModTime).Truncate(time.Microsecond)}
}
