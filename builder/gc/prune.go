package gc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/sinter-build/sinter/layers/image"
	"github.com/sinter-build/sinter/layers/store"
)

// Preview returns what Prune would remove now.
func Preview(ctx context.Context, env Env, o Options) (*Plan, error) {
	s, err := Take(ctx, env)
	if err != nil {
		return &Plan{}, err
	}
	return s.Plan(o), nil
}

// Prune removes what the options let go and no other process uses. Others may go on
// meanwhile: they are kept from beginning to use anything only while it is looked once
// more what there is, and what goes is moved away. The plan says what was removed, also
// when there is an error.
func Prune(ctx context.Context, env Env, o Options) (*Plan, error) {
	// To measure takes long, and so does naming images: both come first.
	measured, err := Take(ctx, env)
	if err != nil {
		return &Plan{}, err
	}
	if env.Images.Lost() {
		return &Plan{}, &NamesLostError{}
	}
	var untagged []Image
	for _, img := range measured.Plan(o).Images {
		removed, err := removeImage(ctx, env, img)
		if err != nil {
			return &Plan{Images: untagged}, err
		}
		if removed {
			untagged = append(untagged, img)
		}
	}
	p, err := pruneUnnamed(ctx, env, o, measured)
	p.Images = untagged
	return p, err
}

// A NamesLostError says that nobody knows which images have a name: the list of images
// was damaged.
type NamesLostError struct{}

func (*NamesLostError) Error() string {
	return "the list of images was damaged and names are lost, so nothing is removed"
}

// HintText says what to do.
func (*NamesLostError) HintText() string {
	return "sinter images lists what is there: give what is to stay a name with sinter tag, then prune again"
}

// pruneUnnamed is Prune for all but the names of images.
func pruneUnnamed(ctx context.Context, env Env, o Options, measured *Stock) (*Plan, error) {
	x, err := env.Store.Exclude(ctx)
	if err != nil {
		return &Plan{}, err
	}
	p := &Plan{}
	s, err := take(ctx, env, x.Claims, measured)
	if err == nil && env.Images.Lost() {
		err = &NamesLostError{}
	}
	if err == nil {
		// An image that was named meanwhile stays.
		o.named = true
		p = s.Plan(o)
		err = p.apply(ctx, env, x)
	}
	if err = errors.Join(err, x.Release()); err != nil {
		return p, err
	}
	return p, env.Store.RemoveLocks()
}

// apply moves away what the plan says.
func (p *Plan) apply(ctx context.Context, env Env, x *store.Exclusion) error {
	for _, r := range p.Records {
		if err := env.Cache.Remove(r.Record.Key); err != nil {
			return fmt.Errorf("removing record %s: %w", r.Record.Key, err)
		}
	}
	for _, list := range [][]Folder{p.Notes, p.Builds, p.Mounts, p.Downloads, p.Referrers} {
		for _, f := range list {
			if err := x.Remove(f.Path); err != nil {
				return err
			}
		}
	}
	for _, l := range p.Layers {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if err := x.RemoveLayer(l.Layer.ID); err != nil {
			return err
		}
	}
	for _, b := range p.Blobs {
		if err := x.RemoveBlob(b.Digest); err != nil {
			return fmt.Errorf("removing blob %s: %w", b.Digest, err)
		}
	}
	if err := x.RemoveReplaced(); err != nil {
		return fmt.Errorf("removing what was replaced: %w", err)
	}
	return nil
}

// removeImage removes a name, unless it was given anew meanwhile, or somebody has begun
// to use the image since it was measured.
func removeImage(ctx context.Context, env Env, img Image) (bool, error) {
	claims, err := env.Store.Claimed()
	if err != nil || claims.HasImage(img.Desc.Digest) {
		return false, err
	}
	err = env.Images.RemoveUntouched(ctx, img.Image)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, image.ErrMoved) {
		return false, nil
	}
	return err == nil, err
}
