package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	intoto "github.com/in-toto/attestation/go/v1"
	"github.com/rogpeppe/go-internal/testscript"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/sinter-build/sinter/builder/manifest"
)

// cmdValidateAll recomputes every digest of all images at a place: of an OCI
// layout or its tar all that there are, in a registry those of an index. It wants
// a number of them: validate-all PLACE NUMBER.
func cmdValidateAll(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: validate-all PLACE NUMBER")
	}
	want, err := strconv.Atoi(args[1])
	ts.Check(err)
	idx, err := openIndex(ts, args[0])
	ts.Check(err)
	n, err := validateAll(idx)
	ts.Check(err)
	if n != want {
		ts.Fatalf("%s has %d images, not %d", args[0], n, want)
	}
}

func openIndex(ts *testscript.TestScript, where string) (v1.ImageIndex, error) {
	info, err := os.Stat(ts.MkAbs(where))
	switch {
	case err != nil:
		ref, err := name.ParseReference(where)
		if err != nil {
			return nil, err
		}
		return remote.Index(ref)
	case info.IsDir():
		return layout.ImageIndexFromPath(ts.MkAbs(where))
	}
	dir := filepath.Join(ts.Getenv("WORK"), ".opened", filepath.Base(where))
	ts.Check(os.RemoveAll(dir))
	ts.Check(os.MkdirAll(dir, 0o755))
	ts.Check(ts.Exec("tar", "-xf", ts.MkAbs(where), "-C", dir))
	return layout.ImageIndexFromPath(dir)
}

// validateAll counts the images of an index. That the platform of each is what its
// descriptor says is a part of being valid.
func validateAll(idx v1.ImageIndex) (images int, err error) {
	m, err := idx.IndexManifest()
	if err != nil {
		return 0, err
	}
	for _, d := range m.Manifests {
		if d.MediaType.IsIndex() {
			below, err := idx.ImageIndex(d.Digest)
			if err != nil {
				return images, err
			}
			n, err := validateAll(below)
			if err != nil {
				return images, err
			}
			images += n
			continue
		}
		img, err := idx.Image(d.Digest)
		if err != nil {
			return images, err
		}
		check := validateOne
		if d.Annotations[manifest.ReferenceType] != "" {
			check = validateAttestation
		}
		if err := check(img, d); err != nil {
			return images, fmt.Errorf("manifest %s: %w", d.Digest, err)
		}
		images++
	}
	return images, nil
}

// validateAttestation reads the statements of an attestation manifest with in-toto's library:
// their bytes are those of their digests, and each is about what the descriptor d refers to.
func validateAttestation(img v1.Image, d v1.Descriptor) error {
	m, err := img.Manifest()
	if err != nil {
		return err
	}
	for _, l := range m.Layers {
		layer, err := img.LayerByDigest(l.Digest)
		if err != nil {
			return err
		}
		r, err := layer.Compressed()
		if err != nil {
			return err
		}
		data, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil {
			return err
		}
		if sum, _, err := v1.SHA256(bytes.NewReader(data)); err != nil || sum != l.Digest || int64(len(data)) != l.Size {
			return fmt.Errorf("statement %s has the digest %s and %d bytes (%v)", l.Digest, sum, len(data), err)
		}
		var s intoto.Statement
		if err := protojson.Unmarshal(data, &s); err != nil {
			return fmt.Errorf("statement %s: %w", l.Digest, err)
		}
		if err := s.Validate(); err != nil {
			return fmt.Errorf("statement %s: %w", l.Digest, err)
		}
		if s.PredicateType != l.Annotations[manifest.PredicateTypeKey] {
			return fmt.Errorf("statement %s is of type %s", l.Digest, s.PredicateType)
		}
		for _, about := range s.Subject {
			if "sha256:"+about.Digest["sha256"] != d.Annotations[manifest.ReferenceDigest] {
				return fmt.Errorf("statement %s is about %v, and its manifest about %s", l.Digest, about, d.Annotations[manifest.ReferenceDigest])
			}
		}
	}
	return nil
}

func validateOne(img v1.Image, d v1.Descriptor) error {
	m, err := img.Manifest()
	if err != nil {
		return err
	}
	for _, l := range m.Layers {
		// The library takes every layer for gzip.
		if l.MediaType != types.OCILayer && l.MediaType != types.DockerLayer {
			return fmt.Errorf("a layer is %s", l.MediaType)
		}
	}
	if err := validate.Image(img); err != nil {
		return err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return err
	}
	p := v1.Platform{OS: config.OS, Architecture: config.Architecture, Variant: config.Variant, OSVersion: config.OSVersion}
	if d.Platform != nil && !d.Platform.Equals(p) {
		return fmt.Errorf("it is for %s, but its descriptor says %s", p, d.Platform)
	}
	return nil
}

// cmdSame compares two files byte by byte: same FILE FILE.
func cmdSame(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: same FILE FILE")
	}
	a, err := os.ReadFile(ts.MkAbs(args[0]))
	ts.Check(err)
	b, err := os.ReadFile(ts.MkAbs(args[1]))
	ts.Check(err)
	if bytes.Equal(a, b) == neg {
		ts.Fatalf("%s and %s have the same bytes: %v", args[0], args[1], neg)
	}
}
