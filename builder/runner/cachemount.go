package runner

import (
	"bytes"
	"context"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/sinter-build/sinter/cache"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/archive"
	"github.com/sinter-build/sinter/parser"
)

// cacheMount is one of a command's cache mounts.
type cacheMount struct {
	key   cache.Key
	mount parser.Mount
	// begins is what a new one begins with.
	begins layers.Chain
}

// cacheDirs returns the directories behind a command's cache mounts, by their
// places among all of its mounts, held until the command has ended. A mount that
// is there twice is held once, as the first says.
//
// All commands take them in the order of their keys: so no two wait for each
// other.
func (m mounter) cacheDirs(ctx context.Context) (map[int]string, error) {
	keys := map[int]cache.Key{}
	var wanted []cacheMount
	for i, pm := range m.command.Mounts {
		if pm.Type != parser.MountCache {
			continue
		}
		below, begins := m.command.Below[i]
		keys[i] = cacheKey(pm, below, begins)
		if !slices.ContainsFunc(wanted, func(w cacheMount) bool { return w.key == keys[i] }) {
			wanted = append(wanted, cacheMount{keys[i], pm, below.Chain})
		}
	}
	slices.SortFunc(wanted, func(a, b cacheMount) int { return bytes.Compare(a.key[:], b.key[:]) })
	byKey := map[cache.Key]string{}
	for _, c := range wanted {
		dir, release, err := m.Caches.Mount(ctx, c.key, c.mount.Sharing, func(dir string) error {
			return m.fill(ctx, dir, c.begins, c.mount.Selector)
		})
		if err != nil {
			return nil, MountError(c.mount, err)
		}
		m.held.add(release)
		byKey[c.key] = dir
	}
	dirs := map[int]string{}
	for i, key := range keys {
		dirs[i] = byKey[key]
	}
	return dirs, nil
}

// cacheKey identifies a cache mount: by its ID, and what it begins with if that is
// anything.
func cacheKey(pm parser.Mount, below Below, begins bool) cache.Key {
	var recipe cache.Recipe
	recipe.Add("cache mount", pm.CacheID)
	if begins {
		recipe.AddList("begins as", below.Name, pm.Selector)
	}
	return recipe.MountKey()
}

// fill unpacks the part of a chain that a cache mount begins with.
func (m mounter) fill(ctx context.Context, dir string, c layers.Chain, selector string) error {
	if len(c) == 0 {
		return nil
	}
	view, err := m.Layers.View(ctx, c)
	if err != nil {
		return err
	}
	below, err := view.Resolve(strings.TrimPrefix(path.Clean("/"+selector), "/"), true)
	if err != nil {
		return err
	}
	tree := &layers.Tree{}
	from := map[string]int{}
	err = view.Walk(func(entry layers.Entry, layer int) error {
		if layers.Under(entry.Path, below) || layers.Under(below, entry.Path) {
			tree.Entries = append(tree.Entries, entry)
			from[entry.Path] = layer
		}
		return nil
	})
	if err != nil {
		return err
	}
	open := func(entry layers.Entry) (io.ReadCloser, error) {
		return m.Layers.OpenUnverified(ctx, c[from[entry.Path]], entry)
	}
	return archive.Unpack(ctx, tree, open, dir, archive.UnpackOptions{SingleUser: m.SingleUser})
}
