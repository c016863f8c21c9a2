package output

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/distribution/reference"

	"github.com/sinter-build/sinter/builder/attest"
	"github.com/sinter-build/sinter/builder/export/annotation"
	"github.com/sinter-build/sinter/layers/archive"
	"github.com/sinter-build/sinter/layers/hint"
)

// attributes are those of each type, beside those of images.
func (t Type) attributes() []string {
	switch t {
	case OCI, Docker:
		return []string{"dest", "tar"}
	case Local:
		return []string{"dest", "platform-split", "src", "mode", "attestation-prefix"}
	case Tar:
		return []string{"dest", "platform-split", "src", "attestation-prefix"}
	case Registry, Store:
		return []string{"push", "push-by-digest", "registry.insecure", "store", "unpack",
			"name-canonical", "dangling-name-prefix", "dangling-name-empty-only", "danging-name-empty-only"}
	}
	return nil
}

func (t Type) isImage() bool { return t == OCI || t == Docker || t == Registry || t == Store }

// imageAttributes are those of every type that makes an image.
func imageAttributes() []string {
	return []string{"name", "oci-mediatypes", "compression", "compression-level", "force-compression", "rewrite-timestamp",
		"oci-artifact", "attestation-inline", "attestation-manifest"}
}

// set reads one attribute, except for the level of compression.
func (o *Spec) set(key, value string) error {
	note, isAnnotation, err := annotation.OfOutput(key, value)
	allowed := slices.Contains(o.Type.attributes(), key) ||
		o.Type.isImage() && (isAnnotation || slices.Contains(imageAttributes(), key))
	switch {
	case !allowed:
		return o.unknown(key)
	case err != nil:
		return fmt.Errorf("%s: %w", key, err)
	case isAnnotation:
		o.Annotations = append(o.Annotations, note)
		return nil
	}
	switch key {
	case "dest":
		o.Dest = value
	case "src":
		o.Source = value
		if value == "" {
			return errors.New("src is empty: leave it out for all files")
		}
	case "mode":
		return o.setMode(value)
	case "name":
		return o.setNames(value)
	case "dangling-name-prefix":
		o.Dangling = value
	case "attestation-prefix":
		return o.setPrefix(value)
	case "attestation-manifest":
		o.Attest, err = attest.ParseWhere(value)
		return err
	case "compression":
		return o.setCompression(value)
	default:
		return o.setBool(key, value)
	}
	return nil
}

func (o *Spec) unknown(key string) error {
	known := o.Type.attributes()
	if o.Type.isImage() {
		known = append(append(known, imageAttributes()...), "annotation.KEY")
	}
	advice := fmt.Sprintf("type=%s has no options", o.Type)
	if len(known) > 0 {
		// The last but one is how BuildKit spells it.
		known = slices.DeleteFunc(known, func(k string) bool { return k == "danging-name-empty-only" })
		advice = fmt.Sprintf("the options of type=%s are %s", o.Type, strings.Join(known, ", "))
	}
	switch key {
	case "source-date-epoch":
		advice = "use --build-arg SOURCE_DATE_EPOCH=SECONDS"
	case "buildinfo", "buildinfo-attrs":
		advice = "leave it out: build information is not kept in images any more"
	case "context":
		advice = "name the engine with DOCKER_HOST"
	}
	return hint.Add(fmt.Errorf("option %q is not known for type=%s", key, o.Type), advice)
}

func (o *Spec) setMode(value string) error {
	switch strings.ToLower(value) {
	case "copy":
		o.Delete = false
	case "delete":
		o.Delete = true
	default:
		return fmt.Errorf("mode=%s: want copy or delete", value)
	}
	return nil
}

func (o *Spec) setPrefix(value string) error {
	if strings.ContainsAny(value, "/\\") {
		return fmt.Errorf("attestation-prefix=%s: want the beginning of a file's name, without a directory", value)
	}
	o.AttestPrefix = value
	return nil
}

func (o *Spec) setNames(value string) error {
	o.Names, o.Tagged = nil, false
	if value == "" {
		return nil
	}
	for name := range strings.SplitSeq(value, ",") {
		ref, err := reference.ParseNormalizedNamed(name)
		if err != nil {
			return fmt.Errorf("name %q: %w", name, err)
		}
		o.Tagged = o.Tagged || !reference.IsNameOnly(ref)
		o.Names = append(o.Names, reference.TagNameOnly(ref).String())
	}
	return nil
}

func (o *Spec) setCompression(value string) error {
	switch value {
	case "estargz", "nydus", "overlaybd":
		return hint.Add(fmt.Errorf("compression=%s is not supported: sinter does not make layers for lazy pulling", value),
			"use zstd, gzip or uncompressed")
	}
	if strings.Contains(value, ":") {
		return hint.Add(fmt.Errorf("compression=%s is not known", value), "the level is an option of its own: compression-level")
	}
	c, err := archive.ParseCompression(value)
	o.compression = c
	return err
}

// setLevel reads compression-level, when compression is known. BuildKit
// has a level 0: of gzip it does not compress, of zstd it is the fastest.
func (o *Spec) setLevel(value string) error {
	if value == "" {
		return nil
	}
	level, err := strconv.Atoi(value)
	if err != nil || level < 0 {
		return hint.Add(fmt.Errorf("compression-level=%s is not a level", value), "it is 0 to 9 for gzip, 0 to 22 for zstd")
	}
	c := o.compression.Canonical()
	if level == 0 {
		level = map[string]int{archive.Gzip: archive.Stored, archive.Zstd: 1}[c.Type]
	}
	c.Level = level
	o.compression = c.Canonical()
	return c.Check()
}

// emptyIsTrue are the attributes that mean true when they are empty, as they do
// in BuildKit.
func emptyIsTrue() []string {
	return []string{"push", "push-by-digest", "registry.insecure", "unpack", "store", "name-canonical",
		"danging-name-empty-only", "dangling-name-empty-only", "tar", "force-compression"}
}

func (o *Spec) setBool(key, value string) error {
	b, err := strconv.ParseBool(value)
	if value == "" && slices.Contains(emptyIsTrue(), key) {
		b, err = true, nil
	}
	if err != nil {
		return fmt.Errorf("%s=%s: want true or false", key, value)
	}
	set := map[string]*bool{
		"push": &o.Push, "push-by-digest": &o.ByDigest, "registry.insecure": &o.Insecure, "store": &o.Keep,
		"name-canonical": &o.NameCanonical, "force-compression": &o.Force,
		"dangling-name-empty-only": &o.DanglingOnly, "danging-name-empty-only": &o.DanglingOnly,
	}
	switch key {
	case "tar":
		o.Directory = !b
	case "oci-mediatypes":
		docker := !b
		o.DockerTypes = &docker
	case "platform-split":
		o.PlatformSplit = &b
	case "rewrite-timestamp":
		o.RewriteTimes = &b
	case "oci-artifact":
		o.Artifact = &b
	case "attestation-inline":
		o.Inline = &b
	case "unpack":
		if b {
			o.Notes = append(o.Notes, "unpack=true does nothing: a layer is unpacked when a step needs it")
		}
	default:
		*set[key] = b
	}
	return nil
}
