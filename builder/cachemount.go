package builder

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/sinter-build/sinter/cache"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/archive"
	"github.com/sinter-build/sinter/layers/store"
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
func (m mounter) cacheDirs(ctx context.Context, mounts []parser.Mount) (map[int]string, error) {
	keys := map[int]cache.Key{}
	var wanted []cacheMount
	for i, pm := range mounts {
		if pm.Type != parser.MountCache {
			continue
		}
		c, err := m.cacheMount(ctx, pm)
		if err != nil {
			return nil, mountError(pm, err)
		}
		keys[i] = c.key
		if !slices.ContainsFunc(wanted, func(w cacheMount) bool { return w.key == c.key }) {
			wanted = append(wanted, c)
		}
	}
	slices.SortFunc(wanted, func(a, b cacheMount) int { return bytes.Compare(a.key[:], b.key[:]) })
	byKey := map[cache.Key]string{}
	for _, c := range wanted {
		dir, release, err := m.Cache.Mount(ctx, c.key, c.mount.Sharing, func(dir string) error {
			return m.fill(ctx, dir, c.begins, c.mount.Selector)
		})
		if err != nil {
			return nil, mountError(c.mount, err)
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

func (m mounter) cacheMount(ctx context.Context, pm parser.Mount) (cacheMount, error) {
	c := cacheMount{mount: pm}
	var recipe cache.Recipe
	recipe.Add("cache mount", pm.CacheID)
	if pm.Input >= 0 {
		var what string
		var err error
		if c.begins, what, err = m.beginning(ctx, m.node.Inputs[pm.Input], pm.Selector); err != nil {
			return c, err
		}
		recipe.AddList("begins as", what, pm.Selector)
	}
	c.key = recipe.MountKey()
	return c, nil
}

// beginning returns what a new cache mount begins with, and a name of that: the
// key of the step, or the content of the user's files.
func (m mounter) beginning(ctx context.Context, in parser.Input, selector string) (layers.Chain, string, error) {
	if m.isFiles(in.Node) {
		// As a whole: its layer then has the same name whatever was copied before.
		c, err := m.copied(ctx, in, selector, store.Forms{Tar: true})
		return c, fmt.Sprint(layerNames(c)), err
	}
	c, err := m.chainOf(ctx, in)
	if err != nil {
		return nil, "", err
	}
	id, err := m.plan.final(ctx, in.Node)
	return c, id.key.String(), err
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
		return m.Layers.OpenFile(ctx, c[from[entry.Path]], entry)
	}
	return archive.Unpack(ctx, tree, open, dir, archive.UnpackOptions{SingleUser: m.SingleUser})
}
