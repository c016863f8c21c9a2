package stored

import (
	"context"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/layers/store"
)

// Lists knows which manifests refer to others.
type Lists interface {
	Referrers(subject digest.Digest) ([]ocispec.Descriptor, error)
}

// Referrers are the manifests of the store that refer to b or to one of its manifests,
// and whose blobs are there.
func Referrers(ctx context.Context, s *store.Store, lists Lists, b *Image) ([]*Image, error) {
	subjects := []digest.Digest{b.Digest()}
	for _, m := range b.Manifests {
		if m.Desc.Digest != b.Digest() {
			subjects = append(subjects, m.Desc.Digest)
		}
	}
	var list []*Image
	for _, subject := range subjects {
		found, err := lists.Referrers(subject)
		if err != nil {
			return nil, err
		}
		for _, d := range found {
			if !s.Blobs.Has(d) {
				continue
			}
			r, err := Open(ctx, s, d)
			if err != nil {
				return nil, err
			}
			if len(r.Missing) == 0 {
				list = append(list, r)
			}
		}
	}
	return list, nil
}
