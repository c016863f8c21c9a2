package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
	"text/template"
	"unicode"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/sinter-build/sinter/builder/imagetools"
	"github.com/sinter-build/sinter/builder/manifest"
)

func newImagetoolsInspectCmd(a *app) *cobra.Command {
	var format string
	var raw bool
	c := &cobra.Command{
		Use:   "inspect [flags] NAME",
		Short: "Show an image in a registry or an OCI layout",
		Long: `Show an image in a registry, without pulling it, or in an OCI layout:
oci-layout://DIR[:TAG|@DIGEST].

A --format has the fields .Name, .Manifest (the index or the descriptor of the
manifest) and .Image (the config; of an image for several platforms, the configs
by platform), and of images with attestations .Provenance and .SBOM: those in the
index, and those that refer to the image. These have .Provenance.SLSA, .SBOM.SPDX and
.SBOM.AdditionalSPDXs; of an image for several platforms they are by platform:
(index .Provenance "linux/amd64").SLSA. Signatures are not checked.`,
		Example: `  sinter imagetools inspect host/app
  sinter imagetools inspect --format '{{json .Provenance.SLSA}}' host/app
  sinter imagetools inspect --format '{{json .SBOM.SPDX.packages}}' host/app`,
		Args: exactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if raw && format != "" {
				return usagef("--raw and --format exclude each other")
			}
			return a.inspectRemote(c.Context(), args[0], format, raw)
		},
	}
	c.Flags().StringVar(&format, "format", "", "print as `FORMAT`, a Go template such as '{{json .Manifest}}'")
	c.Flags().BoolVar(&raw, "raw", false, "print the manifest or index as it is")
	return c
}

func (a *app) inspectRemote(ctx context.Context, name, format string, raw bool) error {
	place, err := parsePlace(name)
	if err != nil {
		return usage(err)
	}
	img, err := a.findRemote(ctx, place)
	if err != nil {
		return orLayout(err, name)
	}
	if raw {
		// No newline: what is printed has the image's digest.
		_, err := a.stdout.Write(img.Data())
		return err
	}
	r := &remoteImage{place: place, desc: img.Root()}
	if err := json.Unmarshal(img.Data(), &r.index); err != nil {
		return fmt.Errorf("reading the manifest of %s: %w", place, err)
	}
	if format == "" || wholeManifest().MatchString(format) {
		referrers, err := img.Referrers(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			a.warn(fmt.Sprintf("not all that refers to %s is shown: %v", place, err))
		}
		return r.print(a.stdout, referrers)
	}
	t, err := parseFormat(format)
	if err != nil {
		return err
	}
	t.Funcs(template.FuncMap{"json": indentedJSON}).Option("missingkey=default")
	parts, err := img.Parts(ctx, func(err error) { a.warn(fmt.Sprintf("not all that refers to %s is read: %v", place, err)) })
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := t.Execute(&out, r.fields(name, parts)); err != nil {
		return usagef("invalid --format: %w", err)
	}
	_, err = out.WriteTo(a.stdout)
	return err
}

// findRemote looks for an image in a registry or layout.
func (a *app) findRemote(ctx context.Context, place imagetools.Place) (*imagetools.Image, error) {
	client, err := a.registry()
	if err != nil {
		return nil, err
	}
	return imagetools.Find(ctx, client, place)
}

// wholeManifest is the format that means the same as none.
func wholeManifest() *regexp.Regexp { return regexp.MustCompile(`^\s*\{\{\s*\.Manifest\s*\}\}\s*$`) }

func indentedJSON(v any) (string, error) {
	data, err := json.MarshalIndent(v, "", "  ")
	return escapeObeyed(string(data)), err
}

// escapeObeyed escapes in JSON what a terminal would obey, and encoding/json leaves as it
// is. It can only be in strings: JSON itself has but line breaks.
func escapeObeyed(text string) string {
	text = strings.ToValidUTF8(text, string(unicode.ReplacementChar))
	if !strings.ContainsFunc(text, func(r rune) bool { return r != '\n' && obeyed(r) }) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if r != '\n' && obeyed(r) { // all of them are below U+10000
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// remoteImage is an image in a registry or layout. Of a single manifest, index has only
// what both have.
type remoteImage struct {
	place imagetools.Place
	desc  ocispec.Descriptor
	index ocispec.Index
}

// remoteIndex is an index as .Manifest shows it.
type remoteIndex struct {
	SchemaVersion int                  `json:"schemaVersion"`
	MediaType     string               `json:"mediaType,omitempty"`
	Digest        digest.Digest        `json:"digest"`
	Size          int64                `json:"size"`
	Manifests     []ocispec.Descriptor `json:"manifests"`
	Annotations   map[string]string    `json:"annotations,omitempty"`
}

// remoteFields are what a format can name.
type remoteFields struct {
	Name     string `json:"name,omitempty"`
	Manifest any    `json:"manifest,omitempty"`
	Image    any    `json:"image,omitempty"`

	Provenance any `json:"-"`
	SBOM       any `json:"-"`
}

func (r *remoteImage) fields(name string, parts []imagetools.Part) remoteFields {
	f := remoteFields{Name: name, Manifest: r.desc}
	if manifest.IsIndex(r.desc.MediaType) {
		f.Manifest = remoteIndex{
			SchemaVersion: r.index.SchemaVersion, MediaType: r.index.MediaType,
			Digest: r.desc.Digest, Size: r.desc.Size,
			Manifests: r.index.Manifests, Annotations: r.index.Annotations,
		}
	}
	if len(parts) == 1 {
		f.Image, f.Provenance, f.SBOM = parts[0].Config, parts[0].Provenance, parts[0].SBOM
		return f
	}
	images := map[string]*ocispec.Image{}
	provenance, sbom := map[string]imagetools.Provenance{}, map[string]imagetools.SBOM{}
	for _, p := range parts {
		platform := platforms.Format(platforms.Normalize(p.Platform))
		images[platform] = p.Config
		if !p.Provenance.IsEmpty() {
			provenance[platform] = p.Provenance
		}
		if !p.SBOM.IsEmpty() {
			sbom[platform] = p.SBOM
		}
	}
	f.Image, f.Provenance, f.SBOM = images, provenance, sbom
	return f
}

// print shows the image as people read it, and as buildx does it; then what refers to it,
// which buildx does not show.
func (r *remoteImage) print(w io.Writer, referrers []imagetools.Referrer) error {
	var b bytes.Buffer
	rows := columns(&b)
	printFields(rows, "", [][2]string{{"Name", r.place.String()}, {"MediaType", r.desc.MediaType}, {"Digest", r.desc.Digest.String()}})
	rows.Flush()
	begin := func(title string) {
		fmt.Fprintf(rows, "\t\n%s:\t\n", title)
		rows.Flush()
	}
	if manifest.IsIndex(r.desc.MediaType) {
		begin("Manifests")
		for i, m := range r.index.Manifests {
			r.printManifest(rows, i, m)
		}
		rows.Flush()
	}
	if len(referrers) > 0 {
		begin("Referrers")
		for i, ref := range referrers {
			r.printManifest(rows, i, ref.Root(), [2]string{"ArtifactType", ref.Root().ArtifactType}, [2]string{"Subject", ref.Subject.String()})
		}
		rows.Flush()
	}
	_, err := b.WriteTo(w)
	return err
}

// printManifest prints manifest i of a list, in the columns that buildx has.
func (r *remoteImage) printManifest(rows *tabwriter.Writer, i int, m ocispec.Descriptor, more ...[2]string) {
	const indent = "  "
	if i > 0 {
		fmt.Fprint(rows, "\t\n")
	}
	place := r.place
	if place.Layout != "" {
		place = place.At(m.Digest)
	} else {
		place.Ref.Digest = m.Digest
	}
	fields := [][2]string{{"Name", place.String()}, {"MediaType", m.MediaType}}
	if p := m.Platform; p != nil {
		fields = append(fields, [][2]string{
			{"Platform", platforms.Format(*p)}, {"OSVersion", p.OSVersion}, {"OSFeatures", strings.Join(p.OSFeatures, ", ")},
		}...)
	}
	fields = append(append(fields, [2]string{"URLs", strings.Join(m.URLs, ", ")}), more...)
	printFields(rows, indent, slices.DeleteFunc(fields, func(f [2]string) bool { return f[1] == "" }))
	if len(m.Annotations) == 0 {
		return
	}
	fmt.Fprintf(rows, "%sAnnotations:\t\n", indent)
	rows.Flush()
	var notes [][2]string
	for _, key := range slices.Sorted(maps.Keys(m.Annotations)) {
		notes = append(notes, [2]string{key, m.Annotations[key]})
	}
	printFields(rows, indent+indent, notes)
	rows.Flush()
}

func columns(w io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(w, 0, 0, 1, ' ', 0) }

// printFields prints names and values, which are a registry's.
func printFields(rows io.Writer, indent string, fields [][2]string) {
	for _, f := range fields {
		fmt.Fprintf(rows, "%s%s:\t%s\n", indent, onLine(f[0]), onLine(f[1]))
	}
}
