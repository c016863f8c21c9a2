package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/manifest"
	"github.com/sinter-build/sinter/builder/stored"
)

// attestationListing lists what is attested of images.
func attestationListing(format string, several bool) listing {
	l := listing{format: format, headers: row{
		"Image": "IMAGE", "Platform": "PLATFORM", "PredicateType": "PREDICATE TYPE", "Where": "WHERE",
		"Size": "SIZE", "Digest": "DIGEST", "Subject": "SUBJECT",
	}, table: []string{"Platform", "PredicateType", "Where", "Size", "Digest"}}
	if several {
		l.table = append([]string{"Image"}, l.table...)
	}
	return l
}

// inspectAttestations shows what is attested of images of the store.
func (a *app) inspectAttestations(ctx context.Context, f *inspectFlags, args []string) error {
	if f.raw && f.format != "" {
		return usagef("--raw and --format exclude each other")
	}
	return a.readLibrary(ctx, func(lib library) error {
		var rows []row
		for _, arg := range args {
			n, err := lib.find(ctx, arg)
			if err != nil {
				return err
			}
			var only *stored.Image
			if p := f.platform.Platform; p != nil {
				if only, err = n.built.Only(*p); err != nil {
					return err
				}
			}
			list, err := lib.attestationsOf(ctx, n, only)
			if err != nil {
				return err
			}
			for _, at := range list {
				if !f.raw {
					rows = append(rows, attestationRow(n, at))
				} else if err := a.printStatement(ctx, n, at); err != nil {
					return err
				}
			}
		}
		if f.raw {
			return nil
		}
		return attestationListing(f.format, len(args) > 1).print(a.stdout, rows)
	})
}

// printStatement prints a statement on one line of JSON, or what envelops it. Signatures
// of other kinds are left out.
func (a *app) printStatement(ctx context.Context, n namedImage, at stored.Attestation) error {
	if !manifest.MayState(at.Desc.MediaType) {
		return nil
	}
	data, err := n.built.Read(ctx, at.Desc)
	if err != nil {
		return err
	}
	var line bytes.Buffer
	if err := json.Compact(&line, data); err != nil {
		a.warn(fmt.Sprintf("attestation %s is not shown: it is not JSON: %v", at.Desc.Digest, err))
		return nil
	}
	_, err = fmt.Fprintln(a.stdout, escapeObeyed(line.String()))
	return err
}

// attestationsOf is what the store has that is attested of an image, or of only, if that is
// not nil, which is a part of it. What the store lacks is warned of.
func (lib library) attestationsOf(ctx context.Context, n namedImage, only *stored.Image) ([]stored.Attestation, error) {
	lib.warnOfMissing(n, only)
	referrers, err := lib.referrers(ctx, n, n.built)
	if err != nil {
		return nil, err
	}
	list, err := n.built.Attestations(ctx, referrers)
	return slices.DeleteFunc(list, func(at stored.Attestation) bool { return only != nil && at.Subject != only.Digest() }), err
}

// warnOfMissing warns of what the index of an image attests, of the whole image or of only,
// that is not in the store. A pull gets what is attested of the platforms in the store.
func (lib library) warnOfMissing(n namedImage, only *stored.Image) {
	var here, elsewhere []string
	others := false
	add := func(list []string, p ocispec.Platform) []string {
		if text := platforms.FormatAll(p); !slices.Contains(list, text) {
			list = append(list, text)
		}
		return list
	}
	inStore, missing := map[digest.Digest]ocispec.Platform{}, map[digest.Digest]ocispec.Platform{}
	for _, m := range n.built.Manifests {
		inStore[m.Desc.Digest] = m.Platform
	}
	for _, d := range n.built.Missing {
		if _, known := missing[d.Digest]; !known && d.Platform != nil {
			missing[d.Digest] = *d.Platform
		}
	}
	for _, d := range n.built.Missing {
		of := digest.Digest(d.Annotations[manifest.ReferenceDigest])
		if !manifest.IsAttestation(d) || only != nil && of != only.Digest() {
			continue
		}
		if p, ok := inStore[of]; ok {
			here = add(here, p)
		} else if p, ok := missing[of]; ok {
			elsewhere = add(elsewhere, p)
		} else {
			others = true
		}
	}
	if len(here) > 0 {
		lib.warn(fmt.Sprintf("not all attestations of image %s for %s are in the store%s",
			displayName(n), strings.Join(here, ", "), n.pullGets("them", here)))
	}
	if len(elsewhere) > 0 {
		lib.warn(fmt.Sprintf("neither image %s nor its attestations are in the store for %s%s",
			displayName(n), strings.Join(elsewhere, ", "), n.pullGets("both", elsewhere)))
	}
	if others {
		lib.warn(fmt.Sprintf("not all attestations in the index of image %s are in the store", displayName(n)))
	}
}

// pullGets ends a warning of something that a pull for some platforms gets; "" for an image
// that did not come from a registry under this name.
func (n namedImage) pullGets(what string, of []string) string {
	if !n.Pulled {
		return ""
	}
	return fmt.Sprintf("; sinter pull --platform %s %s gets %s", strings.Join(of, ","), displayName(n), what)
}

func attestationRow(n namedImage, at stored.Attestation) row {
	where := "index"
	if at.IsReferrer {
		where = "referrer"
	}
	return row{
		"Image": displayName(n), "Platform": n.platformOf(at.Subject), "PredicateType": at.Kind, "Where": where,
		"Size": humanSize(at.Desc.Size), "Digest": at.Desc.Digest.String(), "Subject": at.Subject.String(),
	}
}

// platformOf is the platform of a part of the image, "all" for its index, and the digest
// of anything else.
func (n namedImage) platformOf(d digest.Digest) string {
	for _, m := range n.built.Manifests {
		if m.Desc.Digest == d {
			return platforms.FormatAll(m.Platform)
		}
	}
	if d == n.Desc.Digest {
		return "all"
	}
	return d.String()
}

// referrers is what refers to built, which is the image n or a part of it. What cannot be
// used is warned of.
func (lib library) referrers(ctx context.Context, n namedImage, built *stored.Image) ([]stored.Referrer, error) {
	return built.Beside(ctx, lib.Images, displayName(n), lib.warn)
}
