package export

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/attest"
	"github.com/sinter-build/sinter/builder/export/assemble"
	"github.com/sinter-build/sinter/builder/export/layout"
	"github.com/sinter-build/sinter/builder/export/output"
	"github.com/sinter-build/sinter/builder/manifest"
	"github.com/sinter-build/sinter/builder/stored"
	"github.com/sinter-build/sinter/layers/hint"
	"github.com/sinter-build/sinter/layers/image"
)

// refer keeps, beside the image, what is attested of it and does not belong into its
// index. What a build of this store has said of these bytes is as true as anything newer:
// it stays, unless it was asked for and tells something else than a time. What another build
// was asked to tell does not stay when this one was not: with mode=max it has build
// arguments, and would be pushed to wherever this build pushes. What others say of the
// bytes, which came with a pull, stays beside that, and is not believed.
func (w *writing) refer(ctx context.Context, o output.Spec, built *stored.Image) error {
	opts := w.options(o).Attest
	asked := opts.Referring(opts.Asked)
	if len(asked) == 0 {
		return nil
	}
	for i, m := range built.Manifests {
		if err := w.referTo(ctx, opts, asked, m, w.targets[i]); err != nil {
			return w.unlessAsked(ctx, o, fmt.Errorf("keeping attestations: %w", err))
		}
	}
	return nil
}

// unlessAsked makes an error about attestations that nobody has asked for a warning.
func (w *writing) unlessAsked(ctx context.Context, o output.Spec, err error) error {
	if err == nil || w.options(o).Attest.Required() || ctx.Err() != nil {
		return err
	}
	w.warn(err.Error() + "; --provenance=false leaves them out")
	return nil
}

func (w *writing) referTo(ctx context.Context, opts assemble.Attest, asked []attest.Attestation, m stored.Manifest, part assemble.Part) error {
	known, lost, err := w.knownReferrers(ctx, m.Desc)
	if err != nil {
		return err
	}
	byDefault := func(old ocispec.Descriptor) bool { return !image.IsAsked(old) }
	isKept := func(a attest.Attestation) bool {
		return a.Default && slices.ContainsFunc(known[a.Kind()], byDefault)
	}
	if part.Attest == nil || !slices.ContainsFunc(asked, func(a attest.Attestation) bool { return !isKept(a) }) {
		return nil
	}
	list, err := part.Attest(ctx, m.Layers)
	if err != nil {
		return err
	}
	list = opts.Referring(list)
	if len(list) > manifest.MaxReferrers {
		return hint.Add(fmt.Errorf("%d attestations cannot be kept beside an image, only %d", len(list), manifest.MaxReferrers),
			"keep them in the image's index: attestation-manifest=index")
	}
	var add []image.Own
	said := map[string]map[digest.Digest]ocispec.Descriptor{} // by kind: what the known ones say
	stays := map[digest.Digest]bool{}
	replaced := map[string]bool{} // by kind: whether more goes than what is lost
	for _, a := range list {
		kind := a.Kind()
		replaced[kind] = replaced[kind] || !isKept(a)
		if isKept(a) {
			stays[known[kind][slices.IndexFunc(known[kind], byDefault)].Digest] = true
			continue
		}
		if said[kind] == nil {
			said[kind] = w.said(ctx, known[kind])
		}
		desc, ok := said[kind][saying(a.Type, a.Predicate)]
		if !ok {
			made, err := attest.NewReferrer(m.Desc, a, opts.Names)
			if err != nil {
				return err
			}
			if err := assemble.PutAttestations(ctx, w.Store, made); err != nil {
				return err
			}
			desc = made.Descriptor
		}
		add = append(add, image.Own{Desc: desc, Asked: !a.Default})
		stays[desc.Digest] = true
	}
	var remove []digest.Digest
	for kind, all := range replaced {
		old := lost[kind]
		if all {
			old = slices.Concat(old, known[kind])
		}
		for _, d := range old {
			if !stays[d.Digest] {
				remove = append(remove, d.Digest)
			}
		}
	}
	return w.Images.ReplaceOwnReferrers(ctx, m.Desc.Digest, add, remove)
}

// knownReferrers are the attestations of a manifest that builds of this store have made, by
// their kinds, and those that it has lost a part of. A list that is damaged is as good as
// none: it begins anew when something is added.
func (w *writing) knownReferrers(ctx context.Context, of ocispec.Descriptor) (known, lost map[string][]ocispec.Descriptor, err error) {
	list, err := w.Images.Referrers(of.Digest)
	if err != nil && !errors.Is(err, image.ErrDamaged) {
		return nil, nil, err
	}
	known, lost = map[string][]ocispec.Descriptor{}, map[string][]ocispec.Descriptor{}
	for _, d := range list {
		t := d.Annotations[manifest.PredicateTypeKey]
		if !image.IsOwn(d) || d.ArtifactType != manifest.AttestationType || t == "" {
			continue
		}
		t = attest.Attestation{Type: t}.Kind()
		if stored.CheckReferrer(ctx, w.Store, manifest.Referrer{Subject: of.Digest, Desc: d}) != nil {
			lost[t] = append(lost[t], d)
		} else {
			known[t] = append(known[t], d)
		}
	}
	return known, lost, nil
}

// said maps what attestation manifests state (saying) to the first one that states it. One
// that cannot be read states nothing.
func (w *writing) said(ctx context.Context, list []ocispec.Descriptor) map[digest.Digest]ocispec.Descriptor {
	said := map[digest.Digest]ocispec.Descriptor{}
	for _, desc := range list {
		predicate, err := w.predicateOf(ctx, desc)
		if err != nil {
			continue
		}
		says := saying(desc.Annotations[manifest.PredicateTypeKey], predicate)
		if _, ok := said[says]; !ok && says != "" {
			said[says] = desc
		}
	}
	return said
}

// predicateOf reads what the one statement of an attestation manifest says.
func (w *writing) predicateOf(ctx context.Context, desc ocispec.Descriptor) ([]byte, error) {
	data, err := stored.ReadBlob(ctx, w.Store, desc)
	if err != nil {
		return nil, err
	}
	m, err := manifest.Parse(desc, data)
	if err != nil {
		return nil, err
	}
	if len(m.Layers) != 1 {
		return nil, fmt.Errorf("attestation manifest %s has %d statements", desc.Digest, len(m.Layers))
	}
	if data, err = stored.ReadBlob(ctx, w.Store, m.Layers[0]); err != nil {
		return nil, err
	}
	var statement struct {
		Predicate json.RawMessage `json:"predicate"`
	}
	err = json.Unmarshal(data, &statement)
	return statement.Predicate, err
}

// saying is the same for statements that say the same but for times; "" of a predicate that
// is not an object.
func saying(predicateType string, predicate []byte) digest.Digest {
	var fields map[string]any
	if json.Unmarshal(predicate, &fields) != nil {
		return ""
	}
	data, err := json.Marshal(timeless(fields))
	if err != nil {
		return ""
	}
	return digest.FromString(predicateType + "\n" + string(data))
}

// timeless removes from provenance of any version what differs between two runs of a
// build.
func timeless(predicate map[string]any) map[string]any {
	isTime := func(key string, _ any) bool {
		key = strings.ToLower(strings.TrimPrefix(key, "build"))
		return key == "startedon" || key == "finishedon" || key == "invocationid"
	}
	for _, in := range []any{predicate["metadata"], predicate["runDetails"]} {
		meta, _ := in.(map[string]any)
		if inner, ok := meta["metadata"].(map[string]any); ok {
			meta = inner
		}
		maps.DeleteFunc(meta, isTime)
	}
	return predicate
}

// beside are the attestations that an OCI layout holds beside the image: those that its
// output wants to be referrers.
func (w *writing) beside(ctx context.Context, o output.Spec, built *stored.Image) ([]layout.Named, error) {
	opts := w.options(o).Attest
	wanted := func(a attest.Attestation) bool { return !a.Default && !a.InlineOnly }
	if o.Type != output.OCI || !slices.ContainsFunc(opts.Referring(opts.Asked), wanted) {
		return nil, nil
	}
	if err := w.refer(ctx, o, built); err != nil {
		return nil, err
	}
	list, err := w.referrers(ctx, o, built)
	named := make([]layout.Named, len(list))
	for i, r := range list {
		named[i].Image = r.Entry()
	}
	return named, err
}

// referrers are the attestations that builds of this store have made and an output wants
// beside the image. What else refers to it, and attestations that this build was told to
// leave out or not asked for, are not among them: sinter push sends these.
func (w *writing) referrers(ctx context.Context, o output.Spec, built *stored.Image) ([]stored.Referrer, error) {
	opts := w.options(o).Attest
	wanted := map[string]bool{}
	for _, a := range opts.Referring(opts.Asked) {
		wanted[a.Kind()] = true
	}
	if len(wanted) == 0 {
		return nil, nil
	}
	list, err := built.Beside(ctx, w.Images, built.Digest().String(), w.warn)
	return slices.DeleteFunc(list, func(r stored.Referrer) bool {
		kind := attest.Attestation{Type: r.Desc.Annotations[manifest.PredicateTypeKey]}.Kind()
		return !image.IsOwn(r.Desc) || !wanted[kind] || !opts.Required() && image.IsAsked(r.Desc)
	}), err
}
