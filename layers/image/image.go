// Package image knows the tagged images of a store: its index.json, which with
// the blobs is an OCI image layout that any OCI tool can read; and what refers to
// manifests and indexes.
//
// The invariant: every reference names a manifest whose blob was there when the
// reference was written. What layers are on disk is not this package's matter.
package image

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/distribution/reference"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/layers/folder"
	"github.com/sinter-build/sinter/layers/hostfile"
)

// The annotations of an entry of index.json. The first two are what other
// tools look for.
const (
	annotationName    = ocispec.AnnotationRefName
	annotationFull    = "io.containerd.image.name"
	annotationUpdated = "build.sinter.updated"
	annotationPulled  = "build.sinter.pulled"
	annotationAsked   = "build.sinter.asked"
)

// maxBlob is the most that a manifest, index or config may have, in bytes.
const maxBlob = 16 << 20

// Images are the tagged images of one store. Several processes may use one.
type Images struct {
	// Warn gets a line about a list that was damaged; may be nil.
	Warn func(string)

	root string
	disk interface{ Sync() error }
	lost atomic.Bool
}

// Image is one reference and what it stands for.
type Image struct {
	// Ref is the full name: docker.io/library/debian:12. It is empty for an
	// image that was built without a name.
	Ref string
	// Desc describes its manifest or index.
	Desc ocispec.Descriptor
	// Updated is when the reference was last written.
	Updated time.Time
	// Pulled says that it came from a registry, as a base image or by pull.
	Pulled bool
	// Asked is when its registry was last asked in vain what the reference stands
	// for; zero when it has told since.
	Asked time.Time
}

// Open returns the images of the store at root. Nothing is made before Put. Sync of disk
// returns when everything that is new is on disk, which an image is before it gets a
// name. disk may be nil: then only the names are durable.
func Open(root string, disk interface{ Sync() error }) *Images {
	return &Images{root: root, disk: disk}
}

// Lost reports whether a damaged list was repaired by way of s and names are lost: an
// image without a name may be one that is wanted.
func (s *Images) Lost() bool { return s.lost.Load() }

func (s *Images) warn(text string) {
	if s.Warn != nil {
		s.Warn(text)
	}
}

// List returns all images, sorted by reference.
func (s *Images) List() ([]Image, error) {
	idx, err := s.read()
	if err != nil {
		return nil, err
	}
	list := make([]Image, 0, len(idx.Manifests))
	for _, d := range idx.Manifests {
		list = append(list, fromDescriptor(d))
	}
	slices.SortStableFunc(list, func(a, b Image) int { return strings.Compare(a.Ref, b.Ref) })
	return list, nil
}

// Get returns what ref (a full name) stands for; fs.ErrNotExist when there is
// no such image.
func (s *Images) Get(ref string) (ocispec.Descriptor, error) {
	img, err := s.Find(ref)
	return img.Desc, err
}

// Find is Get with all that is known of the image.
func (s *Images) Find(ref string) (Image, error) {
	list, err := s.List()
	if err != nil {
		return Image{}, err
	}
	for _, img := range list {
		if img.Ref == ref {
			return img, nil
		}
	}
	return Image{}, fmt.Errorf("image %s: %w", ref, fs.ErrNotExist)
}

// fresh is how long the time of a name is not written again when the name is given
// to the same image: a build that changes nothing writes nothing.
const fresh = time.Minute

// Put makes ref stand for the manifest or index that desc describes. An image
// that had the name before loses it. When Put returns, name and image are on disk.
func (s *Images) Put(ctx context.Context, ref string, desc ocispec.Descriptor) error {
	return s.put(ctx, Image{Ref: ref, Desc: desc})
}

// PutPulled is Put for an image that came from the registry in its name.
func (s *Images) PutPulled(ctx context.Context, ref string, desc ocispec.Descriptor) error {
	return s.put(ctx, Image{Ref: ref, Desc: desc, Pulled: true})
}

// NoteAsked notes that the registry of img was asked now and did not answer. It
// changes nothing when the reference has another image by now.
func (s *Images) NoteAsked(ctx context.Context, img Image) error {
	return s.change(ctx, func(idx *ocispec.Index) error {
		for i, d := range idx.Manifests {
			if old := fromDescriptor(d); old.Ref == img.Ref && old.Pulled && old.Desc.Digest == img.Desc.Digest {
				old.Asked = time.Now().UTC()
				idx.Manifests[i] = toDescriptor(old)
			}
		}
		return nil
	})
}

func (s *Images) put(ctx context.Context, img Image) error {
	img.Updated = time.Now().UTC()
	return s.change(ctx, func(idx *ocispec.Index) error {
		if i := slices.IndexFunc(idx.Manifests, img.sameName); i >= 0 && img.isFresh(idx.Manifests[i]) {
			return nil
		}
		idx.Manifests = slices.DeleteFunc(idx.Manifests, img.sameName)
		idx.Manifests = append(idx.Manifests, toDescriptor(img))
		return nil
	})
}

// Remove takes their names from images, as List returned them; nameless ones are
// forgotten, also with the last name of the image. It fails with ErrMoved, and removes none, when a name stands for another
// image by now, and with fs.ErrNotExist when there is none such any more. Blobs stay
// until they are collected.
func (s *Images) Remove(ctx context.Context, images ...Image) error {
	return s.remove(ctx, func(Image) bool { return true }, images...)
}

func (s *Images) remove(ctx context.Context, goes func(now Image) bool, images ...Image) error {
	return s.change(ctx, func(idx *ocispec.Index) error {
		for _, img := range images {
			i := slices.IndexFunc(idx.Manifests, img.sameName)
			if i < 0 {
				return fmt.Errorf("image %s: %w", img.name(), fs.ErrNotExist)
			}
			if idx.Manifests[i].Digest != img.Desc.Digest || !goes(fromDescriptor(idx.Manifests[i])) {
				return fmt.Errorf("image %s: %w", img.Ref, ErrMoved)
			}
			idx.Manifests = slices.Delete(idx.Manifests, i, i+1)
		}
		for _, img := range images {
			if !slices.ContainsFunc(idx.Manifests, func(d ocispec.Descriptor) bool {
				return d.Digest == img.Desc.Digest && fromDescriptor(d).Ref != ""
			}) {
				idx.Manifests = slices.DeleteFunc(idx.Manifests, Image{Desc: img.Desc}.sameName)
			}
		}
		return nil
	})
}

// RemoveUntouched is Remove for one image, whose name must not have been given anew,
// also to the same image, since it was listed: then it fails with ErrMoved.
func (s *Images) RemoveUntouched(ctx context.Context, img Image) error {
	return s.remove(ctx, func(now Image) bool { return now.Updated.Equal(img.Updated) }, img)
}

// ErrMoved is about a name that was given to another image meanwhile.
var ErrMoved = errors.New("its name was given to another image meanwhile")

// sameName reports whether an entry has the name of img; if that has none, whether
// it is its nameless entry.
func (img Image) sameName(entry ocispec.Descriptor) bool {
	old := fromDescriptor(entry)
	return old.Ref == img.Ref && (img.Ref != "" || old.Desc.Digest == img.Desc.Digest)
}

// name is what people know the image by.
func (img Image) name() string { return cmp.Or(img.Ref, img.Desc.Digest.String()) }

// isFresh reports whether an entry says all of img, and was written just now.
func (img Image) isFresh(entry ocispec.Descriptor) bool {
	old := fromDescriptor(entry)
	age := img.Updated.Sub(old.Updated)
	img.Updated = old.Updated
	return age >= 0 && age < fresh && reflect.DeepEqual(toDescriptor(img), entry)
}

func fromDescriptor(d ocispec.Descriptor) Image {
	img := Image{Ref: d.Annotations[annotationName], Pulled: d.Annotations[annotationPulled] != ""}
	// An image of another tool may have a bare tag there.
	if full := d.Annotations[annotationFull]; full != "" {
		img.Ref = full
	}
	img.Updated, _ = time.Parse(time.RFC3339Nano, d.Annotations[annotationUpdated])
	img.Asked, _ = time.Parse(time.RFC3339Nano, d.Annotations[annotationAsked])
	d.Annotations = nil
	img.Desc = d
	return img
}

func toDescriptor(img Image) ocispec.Descriptor {
	d := img.Desc
	d.Annotations = map[string]string{annotationUpdated: img.Updated.Format(time.RFC3339Nano)}
	if img.Ref != "" {
		d.Annotations[annotationName], d.Annotations[annotationFull] = img.Ref, img.Ref
	}
	if img.Pulled {
		d.Annotations[annotationPulled] = "true"
	}
	if !img.Asked.IsZero() {
		d.Annotations[annotationAsked] = img.Asked.Format(time.RFC3339Nano)
	}
	return d
}

func (s *Images) indexPath() string { return filepath.Join(s.root, ocispec.ImageIndexFile) }

func (s *Images) lockPath() string { return filepath.Join(s.root, "locks", "index") }

// readFile reads index.json; a *damagedError says that it has to be repaired. A store
// in which nothing was ever named has none.
func (s *Images) readFile() (*ocispec.Index, error) {
	data, err := ReadIndexFile(s.root)
	var kind *hostfile.KindError
	var size *hostfile.SizeError
	switch {
	case errors.Is(err, fs.ErrNotExist) && !s.hadIndex():
		return emptyIndex(), nil
	case errors.Is(err, fs.ErrNotExist):
		return nil, &damagedError{path: s.indexPath(), err: errors.New("it is missing")}
	case errors.As(err, &kind), errors.As(err, &size):
		return nil, &damagedError{path: s.indexPath(), err: err}
	case err != nil:
		return nil, fmt.Errorf("reading the list of images: %w", err)
	}
	idx, err := decodeIndex(data)
	if err != nil {
		return nil, &damagedError{path: s.indexPath(), data: data, err: err}
	}
	return idx, nil
}

// hadIndex reports whether there was an index.json: what is written after it is there.
func (s *Images) hadIndex() bool {
	for _, name := range []string{copyName, ocispec.ImageLayoutFile} {
		if _, err := os.Lstat(filepath.Join(s.root, name)); err == nil {
			return true
		}
	}
	return false
}

func decodeIndex(data []byte) (*ocispec.Index, error) {
	var idx ocispec.Index
	if err := json.Unmarshal(data, &idx); err != nil {
		return nil, err
	}
	if idx.SchemaVersion != 2 {
		return nil, fmt.Errorf("schemaVersion is %d, not 2", idx.SchemaVersion)
	}
	if idx.Manifests == nil {
		return nil, errors.New("it has no manifests")
	}
	for _, d := range idx.Manifests {
		if err := d.Digest.Validate(); err != nil {
			return nil, fmt.Errorf("digest %q: %w", d.Digest, err)
		}
	}
	return &idx, nil
}

func emptyIndex() *ocispec.Index {
	return &ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{},
	}
}

// lock takes the lock of the list of images, and of those of referrers.
func (s *Images) lock(ctx context.Context) (*os.File, error) {
	if err := s.makeFolders(); err != nil {
		return nil, fmt.Errorf("writing the list of images: %w", err)
	}
	lock, err := hostfile.Lock(ctx, s.lockPath(), "the list of images, which another command is changing", hostfile.Exclusive)
	if err != nil {
		return nil, fmt.Errorf("locking the list of images: %w", err)
	}
	return lock, nil
}

// change rewrites index.json while no other process does.
func (s *Images) change(ctx context.Context, do func(*ocispec.Index) error) error {
	lock, err := s.lock(ctx)
	if err != nil {
		return err
	}
	defer lock.Close()
	idx, err := s.readLocked()
	if err != nil {
		return err
	}
	if err := do(idx); err != nil {
		return err
	}
	if err := s.write(idx); err != nil {
		return fmt.Errorf("writing the list of images: %w", err)
	}
	return nil
}

// write replaces index.json, unless it stays as it is, then its copy. The caller
// holds the lock of the list.
func (s *Images) write(idx *ocispec.Index) error {
	data, err := json.MarshalIndent(idx, "", "  ")
	if err != nil {
		return err
	}
	data = append(data, '\n')
	if old, err := os.ReadFile(s.indexPath()); err == nil && bytes.Equal(old, data) {
		return nil
	}
	if err := s.writeDurably(s.indexPath(), data); err != nil {
		return err
	}
	if err := s.writeFile(filepath.Join(s.root, copyName), folder.Seal(data)); err != nil {
		return err
	}
	return s.writeLayout()
}

// writeLayout writes oci-layout, unless it is there.
func (s *Images) writeLayout() error {
	path := filepath.Join(s.root, ocispec.ImageLayoutFile)
	data, err := json.Marshal(ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion})
	if err != nil {
		return err
	}
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
		return nil
	}
	return s.writeFile(path, data)
}

// Familiar is a full reference as people write it: app:1 for docker.io/library/app:1.
func Familiar(name string) string {
	ref, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return name
	}
	return reference.FamiliarString(ref)
}
