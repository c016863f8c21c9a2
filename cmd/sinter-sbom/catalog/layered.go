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
	"sync"

	"github.com/anchore/syft/syft/artifact"
	"github.com/anchore/syft/syft/file"
	"github.com/anchore/syft/syft/format/syftjson"
	"github.com/anchore/syft/syft/pkg"
	"github.com/anchore/syft/syft/sbom"
	"golang.org/x/sync/errgroup"
)

// layered is all catalogers as one: it runs them on each layer, or takes what they
// found there before, and joins the results.
type layered struct {
	im    *Image
	cache *Cache

	mu       sync.Mutex
	problems []string
	scanned  int // how many results were not in the cache
}

var _ pkg.Cataloger = (*layered)(nil)

// Name returns the name of the program.
func (*layered) Name() string { return "sinter-sbom" }

// Catalog returns the packages of the image. syft has prepared ctx, with its scanner of
// licenses. The resolver that it gives is not needed.
func (c *layered) Catalog(ctx context.Context, _ file.Resolver) ([]pkg.Package, []artifact.Relationship, error) {
	all := make([]searching, 0, 40)
	for _, one := range catalogers() {
		s, err := searches(ctx, one)
		if err != nil {
			return nil, nil, err
		}
		all = append(all, s)
	}
	scans := make([]*layerScan, len(c.im.Layers))
	group, within := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i := range c.im.Layers {
		group.Go(func() (err error) {
			scans[i], err = c.prepare(within, i)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, nil, err
	}
	group, within = errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for _, s := range all { // first the same cataloger on all layers: one may take long
		for _, scan := range scans {
			group.Go(func() error { return c.catalog(within, scan, s) })
		}
	}
	err := errors.Join(group.Wait(), c.im.failed())
	if err != nil {
		return nil, nil, err
	}
	for _, scan := range scans {
		c.keep(scan)
	}
	return c.join(scans)
}

// layerScan is one layer while it is looked at.
type layerScan struct {
	layer int

	mu      sync.Mutex
	kept    kept
	changed bool
	found   map[string]result // by cataloger
}

func (c *layered) prepare(ctx context.Context, layer int) (*layerScan, error) {
	s := &layerScan{layer: layer, kept: c.cache.layer(c.im.Layers[layer].ID), found: map[string]result{}}
	if s.kept.Types != nil {
		return s, nil
	}
	types, err := c.im.typed(ctx, layer)
	s.kept.Types, s.changed = types, true
	return s, err
}

// catalog has one cataloger look at one layer, unless it is known what it finds.
func (c *layered) catalog(ctx context.Context, s *layerScan, by searching) error {
	r := &resolver{ctx: ctx, im: c.im, layer: s.layer, types: s.kept.Types, searched: by.patterns, trace: &trace{}}
	listed, err := r.listed(by)
	if err != nil || listed == "" {
		return err // nothing to look at is nothing found
	}
	s.mu.Lock()
	known := slices.Clone(s.kept.Found[by.Name()])
	s.mu.Unlock()
	at := slices.IndexFunc(known, func(old result) bool { return old.Listed == listed && c.im.answers(old.Lookups) })
	var found result
	if at >= 0 {
		found = known[at]
	} else if found, err = r.run(by); err != nil {
		return err
	}
	found.Listed = listed
	s.mu.Lock()
	defer s.mu.Unlock()
	s.found[by.Name()] = found
	if at != 0 {
		s.kept.add(by.Name(), found)
		s.changed = true
	}
	if at < 0 {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.scanned++
	}
	return nil
}

// listed identifies the files that a cataloger will search, and is empty if there are
// none.
func (r *resolver) listed(by searching) (string, error) {
	var all []place
	for _, pattern := range slices.Sorted(maps.Keys(by.patterns)) {
		matches, err := r.im.files.glob(pattern)
		if err != nil {
			return "", err
		}
		all = append(all, places(matches, r.layer)...)
	}
	if by.programs {
		all = append(all, r.programs()...)
	}
	return r.im.identify(all...), nil
}

// run runs a cataloger.
func (r *resolver) run(by searching) (found result, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s failed in layer %d: %v", by.Name(), r.layer, p)
		}
	}()
	pkgs, rels, failed := by.Catalog(r.ctx, r)
	if err := errors.Join(r.im.failed(), context.Cause(r.ctx)); err != nil {
		return found, err
	}
	if failed != nil {
		found.Problems = strings.Split(failed.Error(), "\n")
		slices.Sort(found.Problems)
	}
	for i := range pkgs {
		if pkgs[i].FoundBy == "" {
			pkgs[i].FoundBy = by.Name()
		}
	}
	found.Lookups = r.trace.list()
	if len(pkgs) == 0 {
		return found, nil
	}
	var text bytes.Buffer
	err = syftjson.NewFormatEncoder().Encode(&text, sbom.SBOM{
		Artifacts: sbom.Artifacts{Packages: pkg.NewCollection(pkgs...)}, Relationships: rels,
	})
	found.Packages = bytes.TrimSpace(text.Bytes())
	return found, err
}

// keep keeps what was found in a layer.
func (c *layered) keep(s *layerScan) {
	if !s.changed {
		return
	}
	if err := save(c.cache, layersFolder, c.im.Layers[s.layer].ID, s.kept); err != nil {
		c.problems = append(c.problems, keepWarning(err)...)
	}
}

// join returns what was found in all layers.
func (c *layered) join(scans []*layerScan) (pkgs []pkg.Package, rels []artifact.Relationship, err error) {
	for _, s := range scans {
		for _, name := range slices.Sorted(maps.Keys(s.found)) {
			found := s.found[name]
			for _, p := range found.Problems {
				c.problems = append(c.problems, name+": "+c.digests(p))
			}
			if len(found.Packages) == 0 {
				continue
			}
			p, r, err := c.decode(found)
			if err != nil {
				return nil, nil, fmt.Errorf("what %s found in layer %d: %w", name, s.layer, err)
			}
			pkgs, rels = append(pkgs, p...), append(rels, r...)
		}
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
