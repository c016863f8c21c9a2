package export

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
	annotateManifest           = "manifest"
	annotateManifestDescriptor = "manifest-descriptor"
	annotateIndex              = "index"
	annotateIndexDescriptor    = "index-descriptor"
)

// Annotation is one annotation of an image.
type Annotation struct {
	// Level is "manifest", "manifest-descriptor", "index" or
	// "index-descriptor".
	Level string
	// Platform limits it to the image of that platform; nil is all.
	Platform   *ocispec.Platform
	Key, Value string
}

// Annotations are applied in order: of two with one key the later counts, and
// one with a platform counts more than one without.
type Annotations []Annotation

const annotationHint = "write [LEVEL[PLATFORM],…:]KEY=VALUE, where LEVEL is manifest, manifest-descriptor, index or index-descriptor"

// levelPattern is a level with an optional platform in brackets.
var levelPattern = regexp.MustCompile(`^([a-z-]+)(?:\[([A-Za-z0-9_/-]+)\])?$`)

// ParseAnnotation reads "[LEVEL[PLATFORM],…:]KEY=VALUE" as docker's --annotation
// does; without a level it is one of the manifest.
func ParseAnnotation(text string) (Annotations, error) {
	key, value, ok := strings.Cut(text, "=")
	if !ok {
		return nil, hint.Add(fmt.Errorf("annotation %q has no value", text), annotationHint)
	}
	levels, name, ok := strings.Cut(key, ":")
	if !ok {
		levels, name = annotateManifest, key
	}
	if name == "" {
		return nil, hint.Add(fmt.Errorf("annotation %q has no key", text), annotationHint)
	}
	var list Annotations
	for level := range strings.SplitSeq(levels, ",") {
		a := Annotation{Key: name, Value: value}
		if err := a.at(level); err != nil {
			return nil, hint.Add(fmt.Errorf("annotation %q: %w", text, err), annotationHint)
		}
		list = append(list, a)
	}
	return list, nil
}

func (a *Annotation) at(level string) error {
	groups := levelPattern.FindStringSubmatch(level)
	if groups == nil {
		return fmt.Errorf("unknown level %q", level)
	}
	a.Level = groups[1]
	switch a.Level {
	case annotateManifest, annotateManifestDescriptor, annotateIndex, annotateIndexDescriptor:
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

// outputAnnotation reads an attribute of an output such as
// "annotation-manifest[linux/amd64].KEY". ok is false for any other attribute.
func outputAnnotation(name, value string) (a Annotation, ok bool, err error) {
	rest, ok := strings.CutPrefix(name, "annotation")
	if !ok || rest == "" || !strings.ContainsRune(".-[", rune(rest[0])) {
		return a, false, nil
	}
	level, key, _ := strings.Cut(rest, ".")
	// A platform has no dot in it, a key may have any number.
	switch {
	case level == "":
		level = annotateManifest
	case level[0] == '-':
		level = level[1:]
	default:
		level = annotateManifest + level
	}
	a = Annotation{Key: key, Value: value}
	if err := a.at(level); err != nil {
		return a, true, err
	}
	if key == "" {
		return a, true, errors.New("it has no key")
	}
	return a, true, nil
}

// of are the annotations at a level, for a platform where that is one of a
// manifest; nil when there are none.
func (list Annotations) of(level string, p *ocispec.Platform) map[string]string {
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
func (list Annotations) Annotate(index *ocispec.Index) error {
	if list.at(annotateManifest) {
		return hint.Add(errors.New("the manifests are there already and cannot be annotated"),
			"annotate the index (index:KEY=VALUE) or its descriptors (manifest-descriptor:KEY=VALUE)")
	}
	if list.at(annotateIndexDescriptor) {
		return hint.Add(errors.New("an image in a registry has no index descriptor"), "annotate the index: index:KEY=VALUE")
	}
	if err := list.forPlatforms(index.Manifests); err != nil {
		return err
	}
	index.Annotations = mergeAnnotations(index.Annotations, list.of(annotateIndex, nil))
	for i, d := range index.Manifests {
		if d.Platform == nil {
			d.Platform = &ocispec.Platform{}
		}
		index.Manifests[i].Annotations = mergeAnnotations(d.Annotations, list.of(annotateManifestDescriptor, d.Platform))
	}
	return nil
}

// forPlatforms refuses an annotation for a platform that no manifest has.
func (list Annotations) forPlatforms(manifests []ocispec.Descriptor) error {
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

func (list Annotations) at(levels ...string) bool {
	return slices.ContainsFunc(list, func(a Annotation) bool { return slices.Contains(levels, a.Level) })
}

// check refuses annotations that would have no place.
func (list Annotations) check(targets []ocispec.Platform, index, docker bool) error {
	if !index && list.at(annotateIndex, annotateIndexDescriptor) {
		return hint.Add(errors.New("index annotations are not possible for an image of one platform"),
			"it has no index: annotate the manifest, or build for several platforms")
	}
	if docker && list.at(annotateIndex, annotateIndexDescriptor, annotateManifestDescriptor) {
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
