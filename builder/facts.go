package builder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sinter-build/sinter/builder/fileop"
	"github.com/sinter-build/sinter/builder/source"
	"github.com/sinter-build/sinter/cache"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/store"
	"github.com/sinter-build/sinter/parser"
)

// stored are the facts of a build: what the stores hold, and what the build itself has
// yielded so far.
type stored struct{ *engine }

// Base implements Facts.
func (s stored) Base(ctx context.Context, n *parser.Node) (BaseImage, error) {
	v, err := s.resolve(ctx, n)
	if err != nil {
		return BaseImage{}, err
	}
	return BaseImage{Name: v.image, Layers: layerNames(v.chains[0])}, nil
}

// Digest implements Facts. What a step yielded is known once it is resolved, and then
// remembered for builds to come.
func (s stored) Digest(ctx context.Context, in parser.Input, sel fileop.Selection) (digest.Digest, error) {
	if s.isFiles(in.Node) {
		v, err := s.resolve(ctx, in.Node)
		if err != nil {
			return "", err
		}
		return s.bounds.digest(ctx, v.files, sel)
	}
	if !s.jobs[in.Node].done.Load() {
		return "", nil
	}
	c, err := s.chainOf(ctx, in)
	if err != nil {
		return "", err
	}
	files, err := source.OpenChain(ctx, s.Layers, c)
	if err != nil {
		return "", err
	}
	d, err := s.bounds.digest(ctx, files, sel)
	if err != nil {
		return "", err
	}
	return d, s.Cache.PutContent(layerNames(c), sel.String(), d)
}

// Remembered implements Facts.
func (s stored) Remembered(layers []string, sel fileop.Selection) digest.Digest {
	d, _ := s.Cache.Content(layers, sel.String())
	return d
}

// Record implements Facts.
func (s stored) Record(key cache.Key) *cache.Record {
	r, err := s.readRecord(key)
	s.warnOfRecord(err)
	return r
}

// Result implements Facts.
func (s stored) Result(r *cache.Record) ([]layers.Chain, bool) {
	v, ok := s.believed(r)
	return v.chains, ok
}

func (e *engine) warnOfRecord(err error) {
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		e.warn(fmt.Sprintf("a cache record cannot be used, the step will run: %v", err))
	}
}

// lookUp returns what the record of key says, if it can be believed.
func (e *engine) lookUp(key cache.Key) (value, bool) {
	r, err := e.readRecord(key)
	if err != nil {
		e.warnOfRecord(err)
		return value{}, false
	}
	return e.believed(r)
}

// readRecord reads a record and claims the layers that it names: they stay as long as
// this build runs.
func (e *engine) readRecord(key cache.Key) (r *cache.Record, err error) {
	err = e.Layers.ClaimFound(func() (parts []string, err error) {
		if r, err = e.Cache.Get(key); err != nil {
			return nil, err
		}
		for _, o := range r.Outputs {
			for _, name := range o.Layers {
				parts = append(parts, store.LayerPart(layers.ID(name)))
			}
		}
		return parts, nil
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

// believed returns what a record says, if all the layers it names are there.
func (e *engine) believed(r *cache.Record) (value, bool) {
	v := value{chains: []layers.Chain{}}
	for _, o := range r.Outputs {
		c := make(layers.Chain, 0, len(o.Layers))
		for _, name := range o.Layers {
			l, err := e.layer(layers.ID(name))
			if err != nil {
				if !errors.Is(err, fs.ErrNotExist) {
					e.warn(fmt.Sprintf("a cached layer cannot be used, the step will run: %v", err))
				}
				return value{}, false
			}
			c = append(c, l)
		}
		v.chains = append(v.chains, c)
	}
	return v, true
}

// layer returns a layer that can be used.
func (e *engine) layer(id layers.ID) (layers.Layer, error) {
	l, err := e.Layers.Get(id)
	if err != nil {
		return l, err
	}
	err = e.Layers.Usable(l)
	if errors.Is(err, store.ErrNoForm) {
		// Not once for each layer: in a store that was copied it is about many.
		err = errCopied
	}
	return l, err
}

// errCopied is about layers of which there is nothing but a directory that was not
// made here.
var errCopied = errors.New("its only form is a directory that was not made here, or with other user IDs: the store was copied or changed, or /etc/subuid was")

// layerNames are the layers of a chain as records name them.
func layerNames(c layers.Chain) []string {
	names := make([]string, len(c))
	for i, l := range c {
		names[i] = string(l.ID)
	}
	return names
}

// put writes down what a step yielded.
func (e *engine) put(id identity, name string, v value, took time.Duration) error {
	r := newRecord(id, name, v)
	r.Duration, r.Created = took, time.Now().UTC()
	return e.Cache.Put(r)
}

func newRecord(id identity, name string, v value) *cache.Record {
	r := &cache.Record{Key: id.key, Name: name}
	for _, c := range v.chains {
		r.Outputs = append(r.Outputs, cache.Output{Layers: layerNames(c)})
	}
	return r
}
