package gc

import (
	"path/filepath"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sinter-build/sinter/cache"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/image"
	"github.com/sinter-build/sinter/layers/store"
)

// Options say what shall stay. Without any, images with a name stay, and of the
// cache what they are made of.
type Options struct {
	// All: also pulled images go, and all of the cache that no image needs
	// to be complete.
	All bool
	// Only is what may go.
	Only Part
	// Match reports whether an image may go, if the other options let it; nil lets
	// all go.
	Match func(image.Image) bool
	// Until: what was used after this stays; zero means no limit.
	Until time.Time
	// Keep says how much cache may stay, the latest used.
	Keep Space

	// named: no image goes.
	named bool
}

// Part is a part of the store.
type Part int

// The parts. What nothing names goes with each of them.
const (
	Everything Part = iota
	OnlyImages
	OnlyCache
)

// Space says how much cache stays, in bytes. The zero Space lets all of it go.
type Space struct {
	// Reserved stays in any case.
	Reserved int64
	// MaxUsed is the most that stays; 0 means no limit.
	MaxUsed int64
	// MinFree is how much must be free on the disk, which has Free now. Nothing is
	// removed beyond that.
	MinFree, Free int64
}

func (s Space) isLimit() bool { return s.Reserved > 0 || s.MaxUsed > 0 || s.MinFree > 0 }

// keep is how much of a cache of this size stays, as BuildKit counts it.
func (s Space) keep(used int64) int64 {
	var n int64
	switch {
	case s.MaxUsed > 0:
		n = s.MaxUsed
	case s.MinFree > 0:
		n = used
	}
	if lack := s.MinFree - s.Free; s.MinFree > 0 && lack > 0 {
		n = min(n, used-lack)
	}
	return max(n, s.Reserved)
}

// Plan is what will be removed.
type Plan struct {
	Images  []Image
	Records []cache.Stored
	Layers  []store.LayerUsage
	Blobs   []store.BlobUsage
	Mounts  []Folder
	// Downloads go as a whole: a repository with all its checkouts.
	Downloads []Folder
	Notes     []Folder
	Builds    []Folder
	// Referrers are lists of what refers to manifests that are removed or missing.
	Referrers []Folder
}

// Freed is how much room the plan gives back, in bytes.
func (p *Plan) Freed() int64 {
	n := sizeOf(p.Mounts) + sizeOf(p.Downloads) + sizeOf(p.Notes) + sizeOf(p.Builds) + sizeOf(p.Referrers)
	for _, r := range p.Records {
		n += r.Size
	}
	for _, l := range p.Layers {
		n += l.Size
	}
	for _, b := range p.Blobs {
		n += b.Size
	}
	return n
}

func sizeOf(list []Folder) int64 {
	var n int64
	for _, f := range list {
		n += f.Size
	}
	return n
}

// old reports whether the options let something go that was last used then.
func (o Options) old(used time.Time) bool { return o.Until.IsZero() || !used.After(o.Until) }

// mayGo reports whether the options let an image go, as far as that depends on itself.
func (o Options) mayGo(img Image) bool {
	if o.named || o.Only == OnlyCache {
		return false
	}
	// Match comes last: it may read the image.
	return (img.Ref == "" || img.Pulled && o.All) && o.old(img.Updated) && (o.Match == nil || o.Match(img.Image))
}

// planning is the work on one plan.
type planning struct {
	o     Options
	stock *Stock
	plan  *Plan
	// held are the blobs and layers that kept images need.
	heldBlobs  map[digest.Digest]bool
	heldLayers map[layers.ID]bool
	sizes      map[layers.ID]int64 // layer and its blob
	there      map[layers.ID]bool
	// inUse are layers that other processes use.
	inUse map[layers.ID]bool
	// used counts the kept records that name a layer.
	used map[layers.ID]int
}

// Plan decides what is removed of the stock.
func (s *Stock) Plan(o Options) *Plan {
	p := &planning{
		o: o, stock: s, plan: &Plan{},
		heldBlobs: map[digest.Digest]bool{}, heldLayers: map[layers.ID]bool{},
		inUse: map[layers.ID]bool{}, sizes: map[layers.ID]int64{}, there: map[layers.ID]bool{}, used: map[layers.ID]int{},
	}
	p.images()
	p.cache()
	p.rest()
	return p.plan
}

// images decides which images stay, and notes what those need.
func (p *planning) images() {
	blobs := map[digest.Digest]int64{}
	used := map[digest.Digest]time.Time{}
	for _, b := range p.stock.Blobs {
		blobs[b.Digest], used[b.Digest] = b.Size, b.Made
	}
	diffIDs := map[digest.Digest]bool{}
	inUse := map[digest.Digest]bool{}
	hold := func(img Image) {
		for d := range img.Blobs {
			p.heldBlobs[d] = true
		}
		for d := range img.DiffIDs {
			diffIDs[d] = true
		}
	}
	for _, img := range p.stock.inUse {
		inUse[img.Desc.Digest] = true
		hold(img)
	}
	goes := func(img Image) bool {
		return p.o.mayGo(img) && p.o.old(used[img.Desc.Digest]) && !inUse[img.Desc.Digest]
	}
	for _, img := range p.stock.Images {
		if !goes(img) {
			hold(img)
		}
	}
	for _, img := range p.stock.Images {
		// A nameless image that has a name as well gives no room.
		if goes(img) && (img.Ref != "" || !p.heldBlobs[img.Desc.Digest]) {
			p.plan.Images = append(p.plan.Images, img)
		}
	}
	for _, l := range p.stock.Layers {
		id := l.Layer.ID
		p.there[id] = true
		p.sizes[id] = l.Size + blobs[l.Layer.Descriptor.Digest]
		p.heldLayers[id] = p.needed(l, diffIDs)
		p.inUse[id] = p.stock.claims.Has(store.LayerPart(id))
	}
}

// needed reports whether kept images, whose diff IDs these are, need a layer. An
// image is complete with a variant's blob alone; the layer is then cache of what the
// image is made of.
func (p *planning) needed(l store.LayerUsage, diffIDs map[digest.Digest]bool) bool {
	// Another image's layer may only claim the diff ID.
	its := !l.Layer.ID.IsBase() || p.heldBlobs[l.Layer.Descriptor.Digest]
	return its && diffIDs[l.Layer.DiffID] ||
		!(p.o.All && p.o.Only != OnlyImages) && slices.ContainsFunc(l.Variants, func(blob digest.Digest) bool { return p.heldBlobs[blob] })
}

// evictable is a piece of the cache that may have to go.
type evictable struct {
	used   time.Time
	record *cache.Stored
	folder *Folder
	// into is the plan's list that the folder goes to.
	into *[]Folder
}

// cache decides which records and mounts stay: of those that may go, the
// longest unused go first, until what is left fits into the limit.
func (p *planning) cache() {
	var candidates []evictable
	var room int64
	for i, r := range p.stock.Records {
		switch {
		case p.o.Only == OnlyImages:
		case !p.usable(r):
			p.plan.Records = append(p.plan.Records, r)
			continue
		case !p.o.All && p.held(r), p.inUseBy(r), !p.o.old(r.Used):
		default:
			candidates = append(candidates, evictable{used: r.Used, record: &p.stock.Records[i]})
		}
		room += r.Size
		for _, id := range layerIDs(r.Record) {
			if p.used[id]++; p.used[id] == 1 && !p.heldLayers[id] {
				room += p.sizes[id]
			}
		}
	}
	if p.o.Only == OnlyImages {
		return
	}
	add := func(list []Folder, into *[]Folder) {
		for i, f := range list {
			room += f.Size
			if p.o.old(f.Used) && !p.stock.claims.Has(f.Path) {
				candidates = append(candidates, evictable{used: f.Used, folder: &list[i], into: into})
			}
		}
	}
	add(p.stock.Mounts, &p.plan.Mounts)
	add(p.stock.Downloads, &p.plan.Downloads)
	slices.SortStableFunc(candidates, func(a, b evictable) int { return a.used.Compare(b.used) })
	keep := p.o.Keep.keep(room)
	for _, c := range candidates {
		if p.o.Keep.isLimit() && room <= keep {
			break
		}
		room -= p.evict(c)
	}
}

// usable reports whether all layers of a record are there. One in use may just be
// replaced.
func (p *planning) usable(r cache.Stored) bool {
	return !slices.ContainsFunc(layerIDs(r.Record), func(id layers.ID) bool {
		return !p.there[id] && !p.stock.claims.Has(store.LayerPart(id))
	})
}

// inUseBy reports whether another process uses all layers of a record: it has read it
// or written it.
func (p *planning) inUseBy(r cache.Stored) bool {
	ids := layerIDs(r.Record)
	return len(ids) > 0 && !slices.ContainsFunc(ids, func(id layers.ID) bool { return !p.stock.claims.Has(store.LayerPart(id)) })
}

// held reports whether kept images need all layers of a record anyway.
func (p *planning) held(r cache.Stored) bool {
	return !slices.ContainsFunc(layerIDs(r.Record), func(id layers.ID) bool { return !p.heldLayers[id] })
}

// evict lets a piece of the cache go and returns how much room that gives.
func (p *planning) evict(c evictable) int64 {
	if c.folder != nil {
		*c.into = append(*c.into, *c.folder)
		return c.folder.Size
	}
	p.plan.Records = append(p.plan.Records, *c.record)
	freed := c.record.Size
	for _, id := range layerIDs(c.record.Record) {
		if p.used[id]--; p.used[id] == 0 && !p.heldLayers[id] && !p.inUse[id] {
			freed += p.sizes[id]
		}
	}
	return freed
}

// rest lets go what nothing names any more.
func (p *planning) rest() {
	for _, l := range p.stock.Layers {
		id := l.Layer.ID
		if !p.heldLayers[id] && !p.inUse[id] && p.used[id] == 0 && p.o.old(l.Used) {
			p.plan.Layers = append(p.plan.Layers, l)
			continue
		}
		p.heldBlobs[l.Layer.Descriptor.Digest] = true
	}
	for _, f := range p.stock.Referrers {
		subject, ok := image.SubjectOf(filepath.Base(f.Path))
		if !p.heldBlobs[subject] && p.o.old(f.Used) && !(ok && p.stock.claims.Has(store.BlobPart(subject))) {
			p.plan.Referrers = append(p.plan.Referrers, f)
		}
	}
	for _, b := range p.stock.Blobs {
		if !p.heldBlobs[b.Digest] && !p.stock.claims.Has(store.BlobPart(b.Digest)) && p.o.old(b.Made) {
			p.plan.Blobs = append(p.plan.Blobs, b)
		}
	}
	if p.o.Keep.isLimit() || p.o.Only == OnlyImages {
		return
	}
	for _, n := range p.stock.Notes {
		if p.o.old(n.Used) {
			p.plan.Notes = append(p.plan.Notes, n)
		}
	}
	// Builds say why steps run whose layers went, so they stay longer than these.
	for _, b := range p.stock.Builds {
		if p.o.All && p.o.old(b.Used) {
			p.plan.Builds = append(p.plan.Builds, b)
		}
	}
}
