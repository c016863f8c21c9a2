// Package annotation reads what people write about annotations of images, and says
// which belong where.
package annotation

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/layers/hint"
)

// The places of an image that can be annotated.
const (
	Manifest           = "manifest"
	ManifestDescriptor = "manifest-descriptor"
	Index              = "index"
	IndexDescriptor    = "index-descriptor"
)

// One is one annotation of an image.
type One struct {
	// Level is "manifest", "manifest-descriptor", "index" or
	// "index-descriptor".
	Level string
	// Platform limits it to the image of that platform; nil is all.
	Platform   *ocispec.Platform
	Key, Value string
}

// List has annotations that are applied in order: of two with one key the later counts, and
// one with a platform counts more than one without.
type List []One

const usage = "write [LEVEL[PLATFORM],…:]KEY=VALUE, where LEVEL is manifest, manifest-descriptor, index or index-descriptor"

// levelPattern is a level with an optional platform in brackets.
var levelPattern = regexp.MustCompile(`^([a-z-]+)(?:\[([A-Za-z0-9_/-]+)\])?$`)

// Parse reads "[LEVEL[PLATFORM],…:]KEY=VALUE" as docker's --annotation
// does; without a level it is one of the manifest.
func Parse(text string) (List, error) {
	key, value, ok := strings.Cut(text, "=")
	if !ok {
		return nil, hint.Add(fmt.Errorf("annotation %q has no value", text), usage)
	}
	levels, name, ok := strings.Cut(key, ":")
	if !ok {
		levels, name = Manifest, key
	}
	if name == "" {
		return nil, hint.Add(fmt.Errorf("annotation %q has no key", text), usage)
	}
	var list List
	for level := range strings.SplitSeq(levels, ",") {
		a := One{Key: name, Value: value}
		if err := a.at(level); err != nil {
			return nil, hint.Add(fmt.Errorf("annotation %q: %w", text, err), usage)
		}
		list = append(list, a)
	}
	return list, nil
}

func (a *One) at(level string) error {
	groups := levelPattern.FindStringSubmatch(level)
	if groups == nil {
		return fmt.Errorf("unknown level %q", level)
	}
	a.Level = groups[1]
	switch a.Level {
	case Manifest, ManifestDescriptor, Index, IndexDescriptor:
	default:
		return fmt.Errorf("unknown level %q", a.Level)
	}
	if groups[2] == "" {
		return nil
	}
	p, err := platforms.Parse(groups[2])
	if err != nil {
		return err
	}
	p = platforms.Normalize(p)
	a.Platform = &p
	return nil
}

// OfOutput reads an attribute of an output such as
// "annotation-manifest[linux/amd64].KEY". ok is false for any other attribute.
func OfOutput(name, value string) (a One, ok bool, err error) {
	rest, ok := strings.CutPrefix(name, "annotation")
	if !ok || rest == "" || !strings.ContainsRune(".-[", rune(rest[0])) {
		return a, false, nil
	}
	level, key, _ := strings.Cut(rest, ".")
	// A platform has no dot in it, a key may have any number.
	switch {
	case level == "":
		level = Manifest
	case level[0] == '-':
		level = level[1:]
	default:
		level = Manifest + level
	}
	a = One{Key: key, Value: value}
	if err := a.at(level); err != nil {
		return a, true, err
	}
	if key == "" {
		return a, true, errors.New("it has no key")
	}
	return a, true, nil
}

// At are the annotations at a level, for a platform where that is one of a
// manifest; nil when there are none.
func (list List) At(level string, p *ocispec.Platform) map[string]string {
	var m map[string]string
	for _, general := range []bool{true, false} {
		for _, a := range list {
			if a.Level != level || (a.Platform == nil) != general {
				continue
			}
			// An index is of all platforms.
			if a.Platform != nil && p != nil && !samePlatform(*a.Platform, *p) {
				continue
			}
			if m == nil {
				m = map[string]string{}
			}
			m[a.Key] = a.Value
		}
	}
	return m
}

// samePlatform leaves the version of the system out: it cannot be written in an
// annotation.
func samePlatform(a, b ocispec.Platform) bool {
	return platforms.Format(platforms.Normalize(a)) == platforms.Format(platforms.Normalize(b))
}

// Annotate adds the annotations to an index of manifests that are there already,
// so that only it and its descriptors can have any. Its media type is OCI's.
func (list List) Annotate(index *ocispec.Index) error {
	if list.has(Manifest) {
		return hint.Add(errors.New("the manifests are there already and cannot be annotated"),
			"annotate the index (index:KEY=VALUE) or its descriptors (manifest-descriptor:KEY=VALUE)")
	}
	if list.has(IndexDescriptor) {
		return hint.Add(errors.New("an image in a registry has no index descriptor"), "annotate the index: index:KEY=VALUE")
	}
	if err := list.forPlatforms(index.Manifests); err != nil {
		return err
	}
	index.Annotations = mergeAnnotations(index.Annotations, list.At(Index, nil))
	for i, d := range index.Manifests {
		if d.Platform == nil {
			d.Platform = &ocispec.Platform{}
		}
		index.Manifests[i].Annotations = mergeAnnotations(d.Annotations, list.At(ManifestDescriptor, d.Platform))
	}
	return nil
}

// forPlatforms refuses an annotation for a platform that no manifest has.
func (list List) forPlatforms(manifests []ocispec.Descriptor) error {
	for _, a := range list {
		has := func(d ocispec.Descriptor) bool { return d.Platform != nil && samePlatform(*d.Platform, *a.Platform) }
		if a.Platform != nil && !slices.ContainsFunc(manifests, has) {
			return fmt.Errorf("annotation %s is for platform %s, which the image does not have", a.Key, platforms.FormatAll(*a.Platform))
		}
	}
	return nil
}

// mergeAnnotations returns those of both; where they differ, those that are
// added count.
func mergeAnnotations(old, added map[string]string) map[string]string {
	if len(added) == 0 {
		return old
	}
	merged := maps.Clone(added)
	for k, v := range old {
		if _, ok := merged[k]; !ok {
			merged[k] = v
		}
	}
	return merged
}

func (list List) has(levels ...string) bool {
	return slices.ContainsFunc(list, func(a One) bool { return slices.Contains(levels, a.Level) })
}

// Check refuses annotations that would have no place.
func (list List) Check(targets []ocispec.Platform, index, docker bool) error {
	if !index && list.has(Index, IndexDescriptor) {
		return hint.Add(errors.New("index annotations are not possible for an image of one platform"),
			"it has no index: annotate the manifest, or build for several platforms")
	}
	if docker && list.has(Index, IndexDescriptor, ManifestDescriptor) {
		return hint.Add(errors.New("these annotations do not go with Docker's media types (oci-mediatypes=false)"),
			"Docker's media types have no place for them: leave one of the two out")
	}
	for _, a := range list {
		if a.Platform == nil {
			continue
		}
		if !slices.ContainsFunc(targets, func(p ocispec.Platform) bool { return samePlatform(p, *a.Platform) }) {
			return fmt.Errorf("annotation %s is for platform %s, which is not built", a.Key, platforms.FormatAll(*a.Platform))
		}
	}
	return nil
}
