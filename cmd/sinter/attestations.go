package main

import (
	"context"
	"fmt"
	"slices"

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
	if f.raw {
		return usagef("--raw and --attestations exclude each other")
	}
	return a.readLibrary(ctx, func(lib library) error {
		var rows []row
		for _, arg := range args {
			n, err := lib.find(ctx, arg)
			if err != nil {
				return err
			}
			list, err := lib.attestationsOf(ctx, n)
			if err != nil {
				return err
			}
			if p := f.platform.Platform; p != nil {
				only, err := n.built.Only(*p)
				if err != nil {
					return err
				}
				list = slices.DeleteFunc(list, func(at stored.Attestation) bool { return at.Subject != only.Digest() })
			}
			for _, at := range list {
				rows = append(rows, attestationRow(n, at))
			}
		}
		return attestationListing(f.format, len(args) > 1).print(a.stdout, rows)
	})
}

// attestationsOf is what the store has that is attested of an image. What it lacks is
// warned of.
func (lib library) attestationsOf(ctx context.Context, n namedImage) ([]stored.Attestation, error) {
	if slices.ContainsFunc(n.built.Missing, func(d ocispec.Descriptor) bool { return manifest.IsAttestation(d) }) {
		lib.warn(fmt.Sprintf("not all attestations of image %s are in the store; sinter pull gets them", displayName(n)))
	}
	referrers, err := lib.referrers(ctx, n, n.built)
	if err != nil {
		return nil, err
	}
	return n.built.Attestations(ctx, referrers)
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
