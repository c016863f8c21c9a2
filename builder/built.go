package builder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"

	"github.com/sinter-build/sinter/cache"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/folder"
)

// finish packs the layers of a target and finds out when it was built.
func (e *engine) finish(ctx context.Context, r *TargetResult) (err error) {
	if r.Chain, err = e.packs.chain(ctx, r.Chain); err != nil {
		return err
	}
	if r.Target.Epoch == nil {
		r.Built, err = e.built(ctx, r)
	}
	return err
}

// built returns when a target was first built with this config and these layers:
// now, unless there is a record of it. So a build in which nothing is new yields
// the same image again. The layers do not tell: the last steps may have changed no
// file, or have yielded a layer that is much older.
func (e *engine) built(ctx context.Context, r *TargetResult) (time.Time, error) {
	var id identity
	id.recipe.Add("operation", "image")
	id.recipe.Add("config", digest.FromBytes(r.Target.Config).String())
	id.recipe.Add("base config", digest.FromBytes(r.Target.BaseConfig).String())
	// Empty layers are in no image: with them the record would not be kept for
	// as long as the image is.
	chain := r.Chain.WithoutEmpty()
	for _, name := range layerNames(chain) {
		id.recipe.Add("layer", name)
	}
	id.key = id.recipe.Key()
	if at, ok, err := e.lookUpBuilt(id.key); ok || err != nil {
		return at, err
	}
	name := "image for " + platforms.FormatAll(r.Target.Platform)
	unlock, err := e.Cache.Lock(ctx, id.key, name)
	if err != nil {
		return time.Time{}, err
	}
	defer unlock()
	// Another process may have built it.
	if at, ok, err := e.lookUpBuilt(id.key); ok || err != nil {
		return at, err
	}
	record := newRecord(id, name, value{chains: []layers.Chain{chain}})
	record.Kind, record.Created = cache.FirstBuild, time.Now().UTC()
	return record.Created, e.Cache.Put(record)
}

// lookUpBuilt returns what the record says. One that cannot be read now is an error:
// without it the image would be another one.
func (e *engine) lookUpBuilt(key cache.Key) (at time.Time, ok bool, err error) {
	r, err := e.Cache.Get(key)
	switch {
	case err == nil:
		return r.Created, true, nil
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, folder.ErrCorrupt):
		return at, false, nil
	}
	return at, false, fmt.Errorf("reading when the image was built: %w", err)
}
