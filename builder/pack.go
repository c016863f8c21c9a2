package builder

import (
	"context"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/store"
	"github.com/sinter-build/sinter/parser"
)

// packs turns layers into blobs while later steps run, so that at the end of a
// build only the last layer is left to write.
type packs struct {
	store  *store.Store
	bounds bounds
	wanted store.ConvertOptions

	mu      sync.Mutex
	byLayer map[layers.ID]*future[layers.Layer]
	running sync.WaitGroup
	// begin packs a layer in the background, for as long as the build goes
	// on (not only the step that made it).
	begin func(layers.Layer)
}

func newPacks(ctx context.Context, s *store.Store, b bounds, w store.ConvertOptions) *packs {
	p := &packs{store: s, bounds: b, wanted: w, byLayer: map[layers.ID]*future[layers.Layer]{}}
	p.begin = func(l layers.Layer) {
		f := p.future(l)
		p.running.Go(func() {
			// A failure is remembered and reported by whoever needs the blob.
			_, _ = p.pack(ctx, l, f)
		})
	}
	return p
}

// packIfExported starts to pack a new layer of n when an image will hold it.
func (e *engine) packIfExported(n *parser.Node, l layers.Layer) {
	if e.jobs[n].exported {
		e.packs.begin(l)
	}
}

// future is the one packing of a layer in this build.
func (p *packs) future(l layers.Layer) *future[layers.Layer] {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.byLayer[l.ID]
	if f == nil {
		f = &future[layers.Layer]{}
		p.byLayer[l.ID] = f
	}
	return f
}

func (p *packs) pack(ctx context.Context, l layers.Layer, f *future[layers.Layer]) (layers.Layer, error) {
	return f.get(func() (layers.Layer, error) {
		end, err := p.bounds.beginWork(ctx)
		if err != nil {
			return l, err
		}
		defer end()
		return p.store.Convert(ctx, l, p.wanted)
	})
}

func (p *packs) began(l layers.Layer) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.byLayer[l.ID] != nil
}

// wait returns when nothing is being packed any more.
func (p *packs) wait() { p.running.Wait() }

// chain returns c with every layer packed. With an epoch it only waits for what
// has begun: which layers are the base image's, and so keep the times of their
// files, is for the export to say.
func (p *packs) chain(ctx context.Context, c layers.Chain) (layers.Chain, error) {
	packed := make(layers.Chain, len(c))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(4)
	for i, l := range c {
		packed[i] = l
		if p.wanted.Epoch != nil && !p.began(l) {
			continue
		}
		group.Go(func() error {
			done, err := p.pack(ctx, l, p.future(l))
			if p.wanted.Epoch == nil {
				packed[i] = done
			}
			return err
		})
	}
	return packed, group.Wait()
}
