package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/registry"
	"github.com/sinter-build/sinter/layers/image"
)

// When a registry is asked about a tag that the store knows: patience is how long
// its answer is waited for, pause is after which time it is asked again when none
// came. An answer that is younger than confirmed is not written down again.
const (
	patience  = 10 * time.Second
	pause     = 10 * time.Minute
	confirmed = time.Hour
)

// meaning is what a reference stands for. isNew says that a registry told of it just
// now, and that this is to be remembered; pulled, that it came from one before.
type meaning struct {
	desc          ocispec.Descriptor
	isNew, pulled bool
}

// find returns the descriptor of the manifest or index that ref names. With pull
// the registry is asked in any case. A mirror's answer must be usable for platform.
func (f *Finder) find(ctx context.Context, ref registry.Ref, platform *ocispec.Platform, pull bool) (meaning, error) {
	policy := f.Pull
	policy.Must = policy.Must || pull
	known, err := f.known(ref)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return meaning{}, err
	case err != nil && policy.Never:
		return meaning{}, &registry.Error{
			Msg: fmt.Sprintf("image %s is not in the store, and the pull policy is never", ref), Err: err,
			Hint: "pull it first (sinter pull), or leave --pull=never out",
		}
	case err != nil:
		return f.ask(ctx, ref, platform, image.Image{})
	case ref.Digest != "" || !policy.Must && !known.Pulled || !policy.Asks(known.Updated, time.Now()):
		return meaning{desc: known.Desc, pulled: known.Pulled}, nil
	case policy.Must:
		return f.ask(ctx, ref, platform, known)
	}
	return f.asked.Get(ref.String(), func() (meaning, error) { return f.refresh(ctx, ref, platform, known) })
}

// ask asks the registry what ref stands for. known is what it stood for before.
func (f *Finder) ask(ctx context.Context, ref registry.Ref, platform *ocispec.Platform, known image.Image) (meaning, error) {
	if known.Desc.Digest != "" {
		// The tag may have moved; asking costs nothing of a pull limit.
		if now, err := f.client.Head(ctx, ref); err == nil && now.Digest == known.Desc.Digest {
			age := time.Since(known.Updated)
			isNew := known.Pulled && (age < 0 || age > confirmed || !known.Asked.IsZero())
			return meaning{desc: known.Desc, isNew: isNew, pulled: known.Pulled}, nil
		}
	}
	desc, data, err := f.client.ResolveUsable(ctx, ref, func(desc ocispec.Descriptor, data []byte) error {
		desc, err := f.take(ctx, ref, desc, data)
		if err == nil {
			_, err = f.load(ctx, ref, desc, platform)
		}
		return err
	})
	if err != nil {
		return meaning{}, err
	}
	desc, err = f.take(ctx, ref, desc, data)
	return meaning{desc: desc, isNew: true}, err
}

// refresh asks about a tag whose last answer is too old. When none comes, or the tag is
// gone, the known image counts, with a warning, and the registry is left alone for a
// while.
func (f *Finder) refresh(ctx context.Context, ref registry.Ref, platform *ocispec.Platform, known image.Image) (meaning, error) {
	if since := time.Since(known.Asked); since >= 0 && since < pause {
		return meaning{desc: known.Desc, pulled: known.Pulled}, nil
	}
	asking, cancel := context.WithTimeoutCause(ctx, f.patience, fmt.Errorf("no answer in %s", f.patience))
	defer cancel()
	a, err := f.ask(asking, ref, platform, known)
	switch {
	case err == nil:
		return a, nil
	case ctx.Err() != nil:
		return meaning{}, context.Cause(ctx)
	case asking.Err() != nil:
		err = context.Cause(asking)
	}
	day := known.Updated.Local().Format(time.DateTime)
	if errors.Is(err, registry.ErrNotFound) {
		f.Warn(fmt.Sprintf("using %s as its registry knew it on %s, since the registry does not have it any more: %v; where the image is not in the store the build fails: choose another tag, or have it pushed again", ref, day, err))
	} else {
		f.Warn(fmt.Sprintf("using %s as its registry knew it on %s, since the registry cannot be asked: %v", ref, day, err))
	}
	return meaning{desc: known.Desc, pulled: known.Pulled}, f.images.NoteAsked(ctx, known)
}

// known looks for ref in the store. A manifest that is gone from there counts
// as not known.
func (f *Finder) known(ref registry.Ref) (image.Image, error) {
	var img image.Image
	if ref.Digest != "" {
		img.Desc.Digest = ref.Digest
	} else {
		var err error
		if img, err = f.images.Find(ref.String()); err != nil {
			return img, err
		}
	}
	if err := f.store.ClaimImage(img.Desc.Digest); err != nil {
		return img, err
	}
	data, err := f.images.ReadBlob(img.Desc)
	if err != nil {
		return img, errors.Join(err, fs.ErrNotExist)
	}
	f.images.Used(img.Desc.Digest)
	img.Desc.Size = int64(len(data))
	img.Desc.MediaType, err = kindOf(data, img.Desc.MediaType)
	return img, err
}
