package catalog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"

	"github.com/anchore/syft/syft/artifact"
	"github.com/anchore/syft/syft/file"
	"github.com/anchore/syft/syft/format/syftjson"
	"github.com/anchore/syft/syft/pkg"
	"github.com/anchore/syft/syft/sbom"
	"golang.org/x/sync/errgroup"

	"github.com/sinter-build/sinter/layers"
)

// layered is all catalogers as one: it runs them on each layer, or takes what they
// found there before, and joins the results.
type layered struct {
	im    *Image
	cache *Cache
	// parts are what there is to look at, by layer and cataloger.
	parts  []*part
	layers []kept
	// changed says of which layers there is something new to keep.
	changed []bool

	problems []string
	unkept   error
	scanned  int // how many parts were not in the cache
}

// part is a layer for a cataloger that has something to look at there.
type part struct {
	*resolver
	by searching
	// found is what was found, before if known.
	found result
	known bool
}

var _ pkg.Cataloger = (*layered)(nil)

// Name returns the name of the program.
func (*layered) Name() string { return "sinter-sbom" }

// look finds out what there is to look at, and takes what is known.
func (c *layered) look(ctx context.Context) error {
	c.layers, c.changed = make([]kept, len(c.im.Layers)), make([]bool, len(c.im.Layers))
	err := each(ctx, c.im.Layers, func(ctx context.Context, i int) (err error) {
		c.layers[i] = c.cache.layer(c.im.Layers[i].ID)
		if c.layers[i].Types == nil {
			c.changed[i] = true
			c.layers[i].Types, err = c.im.typed(ctx, i)
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, one := range catalogers() {
		by, err := searches(ctx, one)
		if err != nil {
			return err
		}
		if err := c.addParts(by); err != nil {
			return err
		}
	}
	return each(ctx, c.parts, func(_ context.Context, i int) error {
		p := c.parts[i]
		for _, old := range c.layers[p.layer].Found[p.by.Name()] {
			if old.Listed == p.found.Listed && c.im.answers(old.Lookups) {
				p.found, p.known = old, true
				return nil
			}
		}
		return nil
	})
}

// addParts adds the layers in which a cataloger has something to look at: nothing to look
// at is nothing found. What it looks at in all layers together is one part, of the highest.
func (c *layered) addParts(by searching) error {
	for i := range c.im.Layers {
		p := &part{resolver: &resolver{im: c.im, layer: i, types: c.layers[i].Types, store: by.store, searched: by.patterns, trace: &trace{}}, by: by}
		found, err := p.files(by)
		if err != nil {
			return err
		}
		if by.store {
			for _, f := range found {
				p.layer = max(p.layer, f.Layer)
			}
		}
		if len(found) > 0 {
			p.found.Listed = c.im.identify(found...)
			c.parts = append(c.parts, p)
		}
		if by.store {
			break
		}
	}
	return nil
}

// each calls fn for each index of list, several at a time.
func each[T any](ctx context.Context, list []T, fn func(ctx context.Context, i int) error) error {
	group, within := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i := range list {
		group.Go(func() error { return errors.Join(context.Cause(within), fn(within, i)) })
	}
	return group.Wait()
}

// Catalog returns the packages of the image. syft has prepared ctx, with its scanner of
// licenses. The resolver that it gives is not needed.
func (c *layered) Catalog(ctx context.Context, _ file.Resolver) ([]pkg.Package, []artifact.Relationship, error) {
	err := each(ctx, c.parts, func(ctx context.Context, i int) error {
		if c.parts[i].known {
			return nil
		}
		return c.parts[i].run(ctx)
	})
	if err := errors.Join(err, c.im.failed()); err != nil {
		return nil, nil, err
	}
	for _, p := range c.parts {
		c.changed[p.layer] = c.layers[p.layer].use(p.by.Name(), p.found) || c.changed[p.layer]
		if !p.known {
			c.scanned++
		}
	}
	for i, l := range c.im.Layers {
		if !c.changed[i] {
			continue
		}
		c.unkept = errors.Join(c.unkept, save(c.cache, layersFolder, l.ID, c.layers[i]))
	}
	return c.join()
}

// files returns what a cataloger will search.
func (r *resolver) files(by searching) ([]place, error) {
	var all []place
	for _, pattern := range slices.Sorted(maps.Keys(by.patterns)) {
		matches, err := r.im.files.glob(pattern)
		if err != nil {
			return nil, err
		}
		all = append(all, places(matches, r.searches())...)
	}
	if by.programs {
		all = append(all, r.programs()...)
	}
	if by.store {
		err := r.im.view.Walk(func(e layers.Entry, layer int) error {
			if inStore(e.Path) {
				all = append(all, place{layers.Named{Entry: e, Layer: layer}, "/" + e.Path})
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// run runs the part's cataloger.
func (p *part) run(ctx context.Context) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%s failed in layer %d: %v", p.by.Name(), p.layer, r)
		}
	}()
	p.ctx = ctx
	pkgs, rels, failed := p.by.Catalog(ctx, p)
	if err := errors.Join(p.im.failed(), context.Cause(ctx)); err != nil {
		return err
	}
	if failed != nil {
		p.found.Problems = strings.Split(failed.Error(), "\n")
		slices.Sort(p.found.Problems)
	}
	p.found.Lookups = p.trace.list()
	if len(pkgs) == 0 {
		return nil
	}
	for i := range pkgs {
		if pkgs[i].FoundBy == "" {
			pkgs[i].FoundBy = p.by.Name()
		}
	}
	var text bytes.Buffer
	err = syftjson.NewFormatEncoder().Encode(&text, sbom.SBOM{
		Artifacts: sbom.Artifacts{Packages: pkg.NewCollection(pkgs...)}, Relationships: rels,
	})
	p.found.Packages = bytes.TrimSpace(text.Bytes())
	return err
}

// join returns what was found in all layers.
func (c *layered) join() (pkgs []pkg.Package, rels []artifact.Relationship, err error) {
	for _, part := range c.parts {
		for _, said := range part.found.Problems {
			c.problems = append(c.problems, part.by.Name()+": "+c.digests(said))
		}
		if len(part.found.Packages) == 0 {
			continue
		}
		p, r, err := c.decode(part.found)
		if err != nil {
			return nil, nil, fmt.Errorf("what %s found in layer %d: %w", part.by.Name(), part.layer, err)
		}
		pkgs, rels = append(pkgs, p...), append(rels, r...)
	}
	return pkgs, rels, nil
}

// decode returns the packages of a result as they are in this image: with the digests
// of its layers.
func (c *layered) decode(found result) ([]pkg.Package, []artifact.Relationship, error) {
	s, _, _, err := syftjson.NewFormatDecoder().Decode(strings.NewReader(c.digests(string(found.Packages))))
	if err != nil {
		return nil, nil, err
	}
	pkgs := s.Artifacts.Packages.Sorted()
	renamed := map[artifact.ID]pkg.Package{}
	for i := range pkgs {
		was := pkgs[i].ID()
		pkgs[i].SetID() // it depends on where the package is
		renamed[was] = pkgs[i]
	}
	for i := range s.Relationships {
		for _, end := range []*artifact.Identifiable{&s.Relationships[i].From, &s.Relationships[i].To} {
			if p, ok := (*end).(pkg.Package); ok {
				*end = renamed[p.ID()]
			}
		}
	}
	return pkgs, s.Relationships, nil
}

// digests puts the digests of layers in place of their IDs.
func (c *layered) digests(text string) string {
	var pairs []string
	for _, l := range c.im.Layers {
		if l.ID != "" {
			pairs = append(pairs, `"layerID":"`+l.ID+`"`, `"layerID":"`+l.Digest+`"`, "("+l.ID+")", "("+l.Digest+")")
		}
	}
	return strings.NewReplacer(pairs...).Replace(text)
}
