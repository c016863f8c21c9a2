package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/manifest"
	"github.com/sinter-build/sinter/layers/hostfile"
)

// ReferrersDir is the folder of the store that has a file for each manifest or index
// that others refer to: their index, as registries without an API for referrers have it
// under a tag.
const ReferrersDir = "referrers"

// ownKey marks, in lists of the store alone, what was made here. Nobody else's word for that
// counts, so it is taken away from what comes with a manifest.
const ownKey = "sinter.own"

// The values of ownKey: what was made by default, and what somebody has asked for.
const (
	ownDefault = "true"
	ownAsked   = "asked"
)

// IsAsked reports whether a referrer was made here because somebody has asked for it.
func IsAsked(desc ocispec.Descriptor) bool { return desc.Annotations[ownKey] == ownAsked }

// IsOwn reports whether a referrer, as Referrers describes it, was made here.
func IsOwn(desc ocispec.Descriptor) bool { return desc.Annotations[ownKey] != "" }

// AddReferrers notes that manifests refer to their subjects, as their subject fields say.
// What was noted before stays, also of the same type; one that is noted again is noted
// once, as it is described now. The caller has put the manifests and their blobs into the
// store, and claimed the subjects. The list of each subject is written once.
func (s *Images) AddReferrers(ctx context.Context, add ...manifest.Referrer) error {
	var subjects []digest.Digest
	lists := map[digest.Digest][]ocispec.Descriptor{}
	for _, r := range add {
		if lists[r.Subject] == nil {
			subjects = append(subjects, r.Subject)
		}
		lists[r.Subject] = append(lists[r.Subject], listed(r.Desc, ""))
	}
	for _, subject := range subjects {
		err := s.changeReferrers(ctx, subject, func(list []ocispec.Descriptor) []ocispec.Descriptor {
			return withReferrers(list, lists[subject])
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Own is a referrer that a build of this store has made: because somebody asked for it, or
// by default.
type Own struct {
	Desc  ocispec.Descriptor
	Asked bool
}

// ReplaceOwnReferrers notes what a build of this store has made that refers to subject, as
// AddReferrers does, and forgets others.
func (s *Images) ReplaceOwnReferrers(ctx context.Context, subject digest.Digest, add []Own, remove []digest.Digest) error {
	marked := make([]ocispec.Descriptor, len(add))
	for i, own := range add {
		mark := ownDefault
		if own.Asked {
			mark = ownAsked
		}
		marked[i] = listed(own.Desc, mark)
	}
	return s.changeReferrers(ctx, subject, func(list []ocispec.Descriptor) []ocispec.Descriptor {
		return withoutReferrers(withReferrers(list, marked), remove)
	})
}

// RemoveReferrers forgets that manifests refer to subject; it is not an error if that was
// not known. A list that is damaged is removed as a whole.
func (s *Images) RemoveReferrers(ctx context.Context, subject digest.Digest, remove ...digest.Digest) error {
	return s.changeReferrers(ctx, subject, func(list []ocispec.Descriptor) []ocispec.Descriptor {
		return withoutReferrers(list, remove)
	})
}

// listed is what lists have of a referrer, with a value of ownKey if it was made here; the
// rest is for others.
func listed(desc ocispec.Descriptor, own string) ocispec.Descriptor {
	desc = ocispec.Descriptor{
		MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size,
		ArtifactType: desc.ArtifactType, Annotations: WithoutOwn(desc.Annotations),
	}
	if own != "" {
		if desc.Annotations == nil {
			desc.Annotations = map[string]string{}
		}
		desc.Annotations[ownKey] = own
	}
	return desc
}

// withReferrers is a list with more referrers, or with other descriptions of those that
// it has.
func withReferrers(list, add []ocispec.Descriptor) []ocispec.Descriptor {
	list = slices.Clone(list)
	at := map[digest.Digest]int{}
	for i, d := range list {
		at[d.Digest] = i
	}
	for _, desc := range add {
		i, known := at[desc.Digest]
		if !known {
			at[desc.Digest] = len(list)
			list = append(list, desc)
			continue
		}
		// What was made here stays so when a pull brings it back.
		if !IsOwn(desc) {
			desc = listed(desc, list[i].Annotations[ownKey])
		}
		list[i] = desc
	}
	return list
}

func withoutReferrers(list []ocispec.Descriptor, remove []digest.Digest) []ocispec.Descriptor {
	gone := map[digest.Digest]bool{}
	for _, d := range remove {
		gone[d] = true
	}
	return slices.DeleteFunc(slices.Clone(list), func(d ocispec.Descriptor) bool { return gone[d.Digest] })
}

// WithoutOwn are the annotations of a referrer without what only this store says.
func WithoutOwn(annotations map[string]string) map[string]string {
	annotations = maps.Clone(annotations)
	delete(annotations, ownKey)
	return annotations
}

func sameReferrer(a, b ocispec.Descriptor) bool {
	same := maps.Equal(a.Annotations, b.Annotations)
	a.Annotations, b.Annotations = nil, nil
	return same && reflect.DeepEqual(a, b)
}

// Referrers returns what refers to the manifest or index subject, in the order in which
// it was added. A list that is damaged is ErrDamaged.
func (s *Images) Referrers(subject digest.Digest) ([]ocispec.Descriptor, error) {
	path, err := s.referrersPath(subject)
	if err != nil {
		return nil, err
	}
	data, err := hostfile.Read(path, manifest.MaxBytes)
	var kind *hostfile.KindError
	var size *hostfile.SizeError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err == nil:
		var list []ocispec.Descriptor
		if list, err = decodeReferrers(data); err == nil {
			return list, nil
		}
	case !errors.As(err, &kind) && !errors.As(err, &size):
		return nil, fmt.Errorf("reading the referrers of %s: %w", subject, err)
	}
	return nil, fmt.Errorf("the list of referrers of %s is %w: %w", subject, ErrDamaged, err)
}

// decodeReferrers reads an index of referrers.
func decodeReferrers(data []byte) ([]ocispec.Descriptor, error) {
	d, err := manifest.Parse(ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: digest.FromBytes(data)}, data)
	if err != nil {
		return nil, err
	}
	for _, r := range d.Manifests {
		if !manifest.IsManifest(r.MediaType) {
			return nil, fmt.Errorf("referrer %s has the media type %q, which is not that of a manifest", r.Digest, r.MediaType)
		}
		if err := manifest.CheckSmall(r); err != nil {
			return nil, err
		}
	}
	return d.Manifests, nil
}

// Subjects returns the manifests and indexes that others refer to.
func (s *Images) Subjects() ([]digest.Digest, error) {
	files, err := os.ReadDir(filepath.Join(s.root, ReferrersDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("listing referrers: %w", err)
	}
	var list []digest.Digest
	for _, f := range files {
		if d, ok := SubjectOf(f.Name()); ok {
			list = append(list, d)
		}
	}
	return list, nil
}

// SubjectOf is the manifest or index whose referrers a file of ReferrersDir has; ok is
// false for files of other names.
func SubjectOf(file string) (subject digest.Digest, ok bool) {
	algorithm, hex, _ := strings.Cut(file, "-")
	subject = digest.NewDigestFromEncoded(digest.Algorithm(algorithm), hex)
	return subject, subject.Validate() == nil
}

func (s *Images) referrersPath(subject digest.Digest) (string, error) {
	if err := subject.Validate(); err != nil {
		return "", fmt.Errorf("subject %q: %w", subject, err)
	}
	return filepath.Join(s.root, ReferrersDir, subject.Algorithm().String()+"-"+subject.Encoded()), nil
}

// changeReferrers rewrites a list of referrers, unless that changes nothing, while no other
// process changes one. One that is damaged is told of and begins anew. do must not change
// the list that it is given.
func (s *Images) changeReferrers(ctx context.Context, subject digest.Digest, do func([]ocispec.Descriptor) []ocispec.Descriptor) error {
	path, err := s.referrersPath(subject)
	if err != nil {
		return err
	}
	list, err := s.Referrers(subject)
	if err == nil && slices.EqualFunc(list, do(list), sameReferrer) {
		return nil
	}
	lock, err := s.lock(ctx)
	if err != nil {
		return err
	}
	defer lock.Close()
	list, err = s.Referrers(subject)
	damaged := errors.Is(err, ErrDamaged)
	if damaged {
		s.warn(fmt.Sprintf("%v; it begins anew", err))
	} else if err != nil {
		return err
	}
	changed := do(list)
	if len(changed) > manifest.MaxReferrers && len(changed) > len(list) {
		return fmt.Errorf("more than %d manifests would refer to %s", manifest.MaxReferrers, subject)
	}
	if err := s.writeReferrers(path, changed); err != nil {
		return fmt.Errorf("writing the referrers of %s: %w", subject, err)
	}
	return nil
}

// writeReferrers writes a list that can be read again, or removes the file of an empty
// one.
func (s *Images) writeReferrers(path string, list []ocispec.Descriptor) error {
	if len(list) == 0 {
		if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	idx := emptyIndex()
	idx.Manifests = list
	data, err := json.MarshalIndent(idx, "", "  ")
	if err != nil {
		return err
	}
	if len(data) >= manifest.MaxBytes {
		return fmt.Errorf("the list would have more than %d bytes", manifest.MaxBytes)
	}
	if _, err := decodeReferrers(data); err != nil {
		return err
	}
	return s.writeDurably(path, append(data, '\n'))
}
