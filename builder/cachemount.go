package builder

import (
	"context"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/sinter-build/sinter/cache"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/archive"
	"github.com/sinter-build/sinter/layers/store"
	"github.com/sinter-build/sinter/parser"
)

// cacheDir returns the directory behind a cache mount, held until the command
// has ended. A new one begins with what the mount's input has.
func (m mounter) cacheDir(ctx context.Context, pm parser.Mount) (string, error) {
	var recipe cache.Recipe
	recipe.Add("cache mount", pm.CacheID)
	var begins layers.Chain
	if pm.Input >= 0 {
		var what string
		var err error
		if begins, what, err = m.beginning(ctx, m.node.Inputs[pm.Input], pm.Selector); err != nil {
			return "", err
		}
		recipe.AddList("begins as", what, pm.Selector)
	}
	dir, release, err := m.Cache.Mount(ctx, recipe.Key(), pm.Sharing, func(dir string) error {
		return m.fill(ctx, dir, begins, pm.Selector)
	})
	if err != nil {
		return "", err
	}
	m.held.add(release)
	return dir, nil
}

// beginning returns what a new cache mount begins with, and a name of that: the
// key of the step, or the content of the user's files.
func (m mounter) beginning(ctx context.Context, in parser.Input, selector string) (layers.Chain, string, error) {
	if isFiles(in.Node) {
		c, err := m.copied(ctx, in, selector, store.Forms{Dir: true})
		return c, fmt.Sprint(c.IDs()), err
	}
	id, err := m.final(ctx, in.Node)
	if err != nil {
		return nil, "", err
	}
	c, err := m.chainOf(ctx, in)
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
