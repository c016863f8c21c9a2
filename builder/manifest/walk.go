package manifest

import (
	"fmt"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Walker visits the manifests and indexes of an image.
type Walker struct {
	// Read returns a manifest or index, verified.
	Read func(ocispec.Descriptor) ([]byte, error)
	// Want reports whether to read an entry of an index; nil means all. The root is
	// not asked about.
	Want func(ocispec.Descriptor) (bool, error)
	// Visit gets each document. An index follows its entries, so the root comes
	// last.
	Visit func(*Document) error

	entries int
	indexes map[digest.Digest]bool
}

// Walk visits root and, if it is an index, its entries. An index that is listed
// several times is visited once; a manifest each time.
func (w Walker) Walk(root ocispec.Descriptor) error {
	w.indexes = map[digest.Digest]bool{}
	return w.walk(root, 0)
}

func (w *Walker) walk(desc ocispec.Descriptor, depth int) error {
	if w.indexes[desc.Digest] {
		return nil
	}
	if err := CheckSmall(desc); err != nil {
		return err
	}
	data, err := w.Read(desc)
	if err != nil {
		return err
	}
	d, err := Parse(desc, data)
	if err != nil {
		return err
	}
	if d.IsIndex() {
		w.indexes[desc.Digest] = true
		if err := w.index(d, depth); err != nil {
			return err
		}
	}
	return w.Visit(d)
}

func (w *Walker) index(d *Document, depth int) error {
	if depth >= MaxNesting {
		return fmt.Errorf("index %s: more than %d indexes are nested", d.Desc.Digest, MaxNesting)
	}
	if w.entries += len(d.Manifests); w.entries > MaxEntries {
		return fmt.Errorf("index %s: the image has more than %d manifests", d.Desc.Digest, MaxEntries)
	}
	for _, entry := range d.Manifests {
		if w.Want != nil {
			if wanted, err := w.Want(entry); err != nil {
				return err
			} else if !wanted {
				continue
			}
		}
		if err := w.walk(entry, depth+1); err != nil {
			return err
		}
	}
	return nil
}
