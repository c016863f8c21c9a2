// Package output says where results go, and what they shall look like there.
package output

import (
	"encoding/csv"
	"errors"
	"fmt"
	"strings"

	"github.com/sinter-build/sinter/builder/attest"
	"github.com/sinter-build/sinter/builder/export/annotation"
	"github.com/sinter-build/sinter/builder/export/assemble"
	"github.com/sinter-build/sinter/layers/archive"
	"github.com/sinter-build/sinter/layers/hint"
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

// Spec is one place that a result goes to.
type Spec struct {
	Type Type
	// Dest is a file, a directory, "-" (standard output), or "" for the
	// Docker engine, a registry and the store.
	Dest string
	// Names are the image's when it has no others; full references. Tagged
	// says that one of them was written with its tag.
	Names  []string
	Tagged bool
	// Directory, of an OCI or Docker output: the layout as a directory.
	Directory bool

	// Keep the image in the store, and Push it to a registry: Insecure, which
	// speaks plain HTTP or has a certificate of its own; ByDigest, without a
	// tag.
	Keep, Push, Insecure, ByDigest bool
	// NameCanonical also keeps NAME@DIGEST. Dangling@DIGEST is another name;
	// with DanglingOnly only of an image without any other.
	NameCanonical bool
	Dangling      string
	DanglingOnly  bool

	// PlatformSplit, of a Local or Tar output: a directory for each
	// platform; nil is when there are several.
	PlatformSplit *bool
	// Source, of a Local or Tar output: this directory of the image only.
	Source string
	// AttestPrefix, of a Local or Tar output, begins the names of its attestations.
	AttestPrefix string
	// Attest is where the attestations of an image are kept; "" is where each belongs.
	Attest attest.Where
	// Artifact says whether attestation manifests are OCI artifacts; nil is yes. Inline
	// says whether those that are inline-only get into the image; nil is in the store and
	// in registries.
	Artifact, Inline *bool
	// Delete, of a Local output: remove files that the result has not.
	Delete bool

	// What the image shall look like. RewriteTimes says whether files of new
	// layers get no time after the epoch; nil is when there is an epoch.
	DockerTypes  *bool
	Force        bool
	RewriteTimes *bool
	Annotations  annotation.List
	compression  archive.Compression

	// Notes say which attributes do nothing, and why.
	Notes []string
}

// Parse reads the value of -o: a directory, "-", or "type=TYPE,KEY=VALUE,…"
// in CSV, as docker buildx does.
func Parse(text string) (Spec, error) {
	var o Spec
	if strings.TrimSpace(text) == "" {
		return o, hint.Add(fmt.Errorf("invalid output %q: it is empty", text), usage)
	}
	fields, err := csv.NewReader(strings.NewReader(text)).Read()
	if err != nil {
		return o, hint.Add(fmt.Errorf("invalid output %q: %w", text, err), usage)
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
			return o, hint.Add(fmt.Errorf("invalid output %q: %q has no value", text, field), usage)
		}
		// An annotation's key keeps its case.
		key = strings.TrimSpace(key)
		if !strings.HasPrefix(strings.ToLower(key), "annotation") {
			key = strings.ToLower(key)
		}
		if key == "type" {
			o.Type = Type(value)
			o.Keep, o.Push = o.Type == Store, o.Type == Registry
			continue
		}
		attrs = append(attrs, [2]string{key, value})
	}
	if err := o.setAll(attrs); err != nil {
		return o, fmt.Errorf("invalid output %q: %w", text, err)
	}
	return o, nil
}

const usage = "an output is a directory, - or type=oci|docker|local|tar|registry|image|cacheonly with options: type=oci,dest=image.tar"

func (o *Spec) setAll(attrs [][2]string) error {
	switch o.Type {
	case "":
		return hint.Add(errors.New("type is required"), usage)
	case OCI, Docker, Local, Tar, Registry, Store, CacheOnly:
	default:
		return hint.Add(fmt.Errorf("type %q is not known", o.Type), usage)
	}
	var level string
	for _, a := range attrs {
		if a[0] == "compression-level" && o.Type.isImage() {
			level = a[1]
			continue
		}
		if err := o.set(a[0], a[1]); err != nil {
			return err
		}
	}
	if err := o.setLevel(level); err != nil {
		return err
	}
	return o.checkPlace()
}

func (o *Spec) checkPlace() error {
	dir := o.Type == Local || o.Directory
	switch {
	case dir && o.Dest == "":
		return hint.Add(fmt.Errorf("dest is required for a directory of type=%s", o.Type), fmt.Sprintf("write type=%s,dest=DIR", o.Type))
	case dir && o.Dest == "-":
		return hint.Add(fmt.Errorf("dest cannot be standard output for a directory of type=%s", o.Type), "give it a directory with dest=DIR, or choose type=tar")
	case o.Dest == "" && (o.Type == OCI || o.Type == Tar):
		o.Dest = "-"
	}
	if o.Type == Registry && !o.Push {
		return hint.Add(errors.New("type=registry with push=false does nothing"), "type=image keeps the image in the store")
	}
	return nil
}

// NeedsBlobs reports whether the output is an image, so that layers have to be
// compressed; otherwise it is files, or nothing.
func (o Spec) NeedsBlobs() bool { return o.Type.isImage() }

// Stdout reports whether the output goes to standard output.
func (o Spec) Stdout() bool { return o.Dest == "-" }

// Compression is that of the image's layers.
func (o Spec) Compression() archive.Compression { return o.compression }

// Pushes reports whether the output goes to a registry.
func (o Spec) Pushes() bool { return o.Type == Registry || o.Type == Store && o.Push }

// Options are o's own wishes added to those that all outputs share.
func (o Spec) Options(shared assemble.Options) assemble.Options {
	if o.DockerTypes != nil {
		shared.DockerTypes = *o.DockerTypes
	}
	shared.Compression = o.compression
	shared.ForceCompression = o.Force
	shared.KeepTimes = o.RewriteTimes != nil && !*o.RewriteTimes
	shared.Annotations = append(shared.Annotations[:len(shared.Annotations):len(shared.Annotations)], o.Annotations...)
	shared.Attest.Where = o.Attest
	shared.Attest.NoArtifact = o.Artifact != nil && !*o.Artifact
	shared.Attest.NoInline = o.Type != Store && o.Type != Registry
	if o.Inline != nil {
		shared.Attest.NoInline = !*o.Inline
	}
	if o.Type == Docker { // which holds one manifest
		shared.Attest.Asked = nil
	}
	return shared
}
