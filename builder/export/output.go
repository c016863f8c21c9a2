package export

import (
	"encoding/csv"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/distribution/reference"

	"github.com/sinter-build/sinter/layers/archive"
)

// Type is a kind of output.
type Type string

// The kinds of outputs.
const (
	OCI       Type = "oci"       // an OCI layout, as a tar or a directory
	Docker    Type = "docker"    // an archive for docker load, or loaded at once
	Local     Type = "local"     // the files, in a directory
	Tar       Type = "tar"       // the files, as a tar
	Registry  Type = "registry"  // pushed
	Store     Type = "image"     // kept in the store, and pushed on request
	CacheOnly Type = "cacheonly" // nothing
)

// Output is one place that a result goes to.
type Output struct {
	Type Type
	// Dest is a file, a directory, "-" (standard output), or "" for the
	// Docker engine, a registry and the store.
	Dest string
	// Names replace those of the image; full references.
	Names []string
	// Directory, of an OCI or Docker output: the layout as a directory.
	Directory bool
	// Push, of a Store output: push as well. ByDigest pushes without a tag.
	Push, ByDigest bool
	// NameCanonical, of a Store output: also keep NAME@DIGEST. Dangling is
	// the name (with the digest) of an image without any other.
	NameCanonical bool
	Dangling      string
	// Keep, of a Store output: keep the image in the store (the default).
	Keep bool
	// PlatformSplit, of a Local output: a directory for each platform;
	// nil is when there are several.
	PlatformSplit *bool
	// Source, of a Local or Tar output: this directory of the image only.
	Source string
	// Delete, of a Local output: remove files that the result has not.
	Delete bool

	// What the image shall look like.
	DockerTypes      *bool
	Force            bool
	Annotations      Annotations
	compression      string
	compressionLevel int
}

// ParseOutput reads the value of -o: a directory, "-", or "type=TYPE,KEY=VALUE,…"
// in CSV, as docker buildx does.
func ParseOutput(text string) (Output, error) {
	o := Output{Keep: true}
	fields, err := csv.NewReader(strings.NewReader(text)).Read()
	if err != nil {
		return o, fmt.Errorf("invalid output %q: %w", text, err)
	}
	if len(fields) == 1 && fields[0] == text && !strings.HasPrefix(text, "type=") {
		o.Type, o.Dest = Local, text
		if text == "-" {
			o.Type = Tar
		}
		return o, nil
	}
	attrs := make([][2]string, 0, len(fields))
	for _, field := range fields {
		key, value, ok := strings.Cut(field, "=")
		if !ok {
			return o, hinted(fmt.Errorf("invalid output %q: %q has no value", text, field), outputHint)
		}
		// An annotation's key keeps its case.
		key = strings.TrimSpace(key)
		if !strings.HasPrefix(strings.ToLower(key), "annotation") {
			key = strings.ToLower(key)
		}
		if key == "type" {
			o.Type = Type(value)
			continue
		}
		attrs = append(attrs, [2]string{key, value})
	}
	if err := o.setAll(attrs); err != nil {
		return o, fmt.Errorf("invalid output %q: %w", text, err)
	}
	return o, nil
}

const outputHint = "an output is a directory, - or type=oci|docker|local|tar|registry|image|cacheonly with options: type=oci,dest=image.tar"

func (o *Output) setAll(attrs [][2]string) error {
	switch o.Type {
	case "":
		return hinted(errors.New("type is required"), outputHint)
	case OCI, Docker, Local, Tar, Registry, Store, CacheOnly:
	default:
		return hinted(fmt.Errorf("type %q is not known", o.Type), outputHint)
	}
	for _, a := range attrs {
		if err := o.set(a[0], a[1]); err != nil {
			return err
		}
	}
	return o.check()
}

// options are the attributes of each type, beside those of images.
func (t Type) options() []string {
	switch t {
	case OCI, Docker:
		return []string{"dest", "tar"}
	case Local:
		return []string{"dest", "platform-split", "source", "mode"}
	case Tar:
		return []string{"dest", "source"}
	case Registry:
		return []string{"push", "push-by-digest"}
	case Store:
		return []string{"push", "push-by-digest", "name-canonical", "dangling-name-prefix", "store"}
	}
	return nil
}

func (t Type) isImage() bool { return t == OCI || t == Docker || t == Registry || t == Store }

// imageOptions are those of every type that makes an image.
func imageOptions() []string {
	return []string{"name", "oci-mediatypes", "compression", "compression-level", "force-compression", "rewrite-timestamp"}
}

func (o *Output) set(key, value string) error {
	annotation, isAnnotation, err := outputAnnotation(key, value)
	allowed := slices.Contains(o.Type.options(), key) ||
		o.Type.isImage() && (isAnnotation || slices.Contains(imageOptions(), key))
	switch {
	case !allowed:
		return o.unknown(key)
	case err != nil:
		return fmt.Errorf("%s: %w", key, err)
	case isAnnotation:
		o.Annotations = append(o.Annotations, annotation)
		return nil
	}
	switch key {
	case "dest":
		o.Dest = value
	case "source":
		o.Source = value
		if value == "" {
			return errors.New("source is empty: leave it out for all files")
		}
	case "mode":
		return o.setMode(value)
	case "name":
		return o.setNames(value)
	case "dangling-name-prefix":
		o.Dangling = value
	case "compression":
		o.compression = value
	case "compression-level":
		if o.compressionLevel, err = strconv.Atoi(value); err != nil {
			return fmt.Errorf("%s=%s is not a number", key, value)
		}
	default:
		return o.setBool(key, value)
	}
	return nil
}

func (o *Output) unknown(key string) error {
	known := o.Type.options()
	if o.Type.isImage() {
		known = append(append(known, imageOptions()...), "annotation.KEY")
	}
	hint := fmt.Sprintf("type=%s has no options", o.Type)
	if len(known) > 0 {
		hint = fmt.Sprintf("the options of type=%s are %s", o.Type, strings.Join(known, ", "))
	}
	switch key {
	case "source-date-epoch":
		hint = "use --build-arg SOURCE_DATE_EPOCH=SECONDS"
	case "registry.insecure":
		hint = "use --registry-insecure HOST"
	}
	return hinted(fmt.Errorf("option %q is not known for type=%s", key, o.Type), hint)
}

func (o *Output) setMode(value string) error {
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

func (o *Output) setNames(value string) error {
	o.Names = nil
	for name := range strings.SplitSeq(value, ",") {
		ref, err := reference.ParseNormalizedNamed(name)
		if err != nil {
			return fmt.Errorf("name %q: %w", name, err)
		}
		o.Names = append(o.Names, reference.TagNameOnly(ref).String())
	}
	return nil
}

func (o *Output) setBool(key, value string) error {
	b, err := strconv.ParseBool(value)
	if err != nil {
		return fmt.Errorf("%s=%s: want true or false", key, value)
	}
	switch key {
	case "tar":
		o.Directory = !b
	case "platform-split":
		o.PlatformSplit = &b
	case "push":
		if o.Type == Registry && !b {
			return errors.New("type=registry with push=false does nothing")
		}
		o.Push = b
	case "push-by-digest":
		o.ByDigest = b
	case "name-canonical":
		o.NameCanonical = b
	case "store":
		o.Keep = b
	case "oci-mediatypes":
		docker := !b
		o.DockerTypes = &docker
	case "force-compression":
		o.Force = b
	case "rewrite-timestamp":
		// Layers never have times after SOURCE_DATE_EPOCH: true is what
		// happens anyway.
		if !b {
			return errors.New("rewrite-timestamp=false is not possible: with SOURCE_DATE_EPOCH no file in a new layer is younger")
		}
	}
	return nil
}

func (o *Output) check() error {
	if _, _, err := o.Compression(); err != nil {
		return err
	}
	dir := o.Type == Local || o.Directory
	switch {
	case dir && o.Dest == "":
		return hinted(fmt.Errorf("dest is required for a directory of type=%s", o.Type), fmt.Sprintf("write type=%s,dest=DIR", o.Type))
	case dir && o.Dest == "-":
		return fmt.Errorf("dest cannot be standard output for a directory of type=%s", o.Type)
	case o.Dest == "" && (o.Type == OCI || o.Type == Tar):
		o.Dest = "-"
	}
	if o.ByDigest && !o.Push && o.Type == Store {
		return errors.New("push-by-digest=true needs push=true")
	}
	if !o.Keep && !o.Push && o.Type == Store {
		return errors.New("store=false without push=true does nothing")
	}
	return nil
}

// NeedsBlobs reports whether the output is an image, so that layers have to be
// compressed; otherwise it is files, or nothing.
func (o Output) NeedsBlobs() bool { return o.Type.isImage() }

// Stdout reports whether the output goes to standard output.
func (o Output) Stdout() bool { return o.Dest == "-" }

// Compression is what the output says of it; ok is false when it says nothing.
func (o Output) Compression() (c archive.Compression, ok bool, err error) {
	if o.compression == "" && o.compressionLevel == 0 {
		return c, false, nil
	}
	text := o.compression
	if text == "" {
		text = archive.Gzip
	}
	if o.compressionLevel != 0 {
		text += ":" + strconv.Itoa(o.compressionLevel)
	}
	c, err = archive.ParseCompression(text)
	return c, err == nil, err
}

// pushes reports whether the output goes to a registry.
func (o Output) pushes() bool { return o.Type == Registry || o.Type == Store && o.Push }
