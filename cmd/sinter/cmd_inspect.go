package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"text/template"
	"time"

	"github.com/distribution/reference"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"
)

type inspectFlags struct {
	format, kind string
	platform     platformFlag
	raw          bool
	attestations bool
}

func newInspectCmd(a *app) *cobra.Command {
	f := &inspectFlags{}
	c := &cobra.Command{
		Use:   "inspect [flags] IMAGE…",
		Short: "Show what an image is made of",
		Example: `  sinter inspect app
  sinter inspect --format '{{json .Config.Env}}' app
  sinter inspect --attestations app
  sinter inspect --attestations --raw app`,
		Args:              usageArgs(cobra.MinimumNArgs(1)),
		ValidArgsFunction: a.imageNames,
		RunE: func(c *cobra.Command, args []string) error {
			if f.kind != "" && f.kind != "image" {
				return wrongFlag("type", f.kind, "sinter has only images")
			}
			if f.attestations {
				return a.inspectAttestations(c.Context(), f, args)
			}
			return a.inspect(c.Context(), f, args)
		},
	}
	c.Flags().StringVar(&f.kind, "type", "", "`KIND` of what is shown: image")
	c.Flags().BoolP("size", "s", false, noEffect+"the size of images is always shown")
	hide(c.Flags(), "size")
	c.Flags().StringVarP(&f.format, "format", "f", "", "print as `FORMAT`: json, or a Go template such as '{{.Config.Env}}'")
	c.Flags().Var(&f.platform, "platform", "show this `PLATFORM` of the image (default this machine's, or the first)")
	c.Flags().BoolVar(&f.raw, "raw", false, "print the manifest or index as it is, or with --attestations their statements, one on each line")
	c.Flags().BoolVar(&f.attestations, "attestations", false, "list what is attested of the image, and its signatures")
	return c
}

// inspected is an image as docker inspect shows it.
type inspected struct {
	ID           string `json:"Id"`
	RepoTags     []string
	RepoDigests  []string
	Comment      string
	Created      string `json:",omitempty"`
	Author       string
	Config       inspectedConfig
	Architecture string
	Variant      string `json:",omitempty"`
	Os           string
	Size         int64
	RootFS       inspectedRoot
	Metadata     inspectedMetadata
	Descriptor   ocispec.Descriptor
	// Platforms are those of an image with several.
	Platforms []ocispec.Platform `json:",omitempty"`
}

// Id is the name that docker's JSON has for ID, for templates.
func (i inspected) Id() string { return i.ID } //nolint:revive,staticcheck // the name is docker's

// inspectedConfig is an image's config: by its fields for templates, and as it
// stands in the image for JSON.
type inspectedConfig struct {
	dockerspec.DockerOCIImageConfig
	raw json.RawMessage
}

// MarshalJSON implements json.Marshaler.
func (c inspectedConfig) MarshalJSON() ([]byte, error) {
	if c.raw == nil {
		return []byte("{}"), nil
	}
	return c.raw, nil
}

type inspectedRoot struct {
	Type   string
	Layers []string
}

type inspectedMetadata struct {
	LastTagTime time.Time
}

func (a *app) inspect(ctx context.Context, f *inspectFlags, args []string) error {
	format, err := f.parse()
	if err != nil {
		return err
	}
	return a.readLibrary(ctx, func(lib library) error {
		var list []inspected
		var missing []error
		for _, arg := range args {
			n, err := lib.find(ctx, arg)
			if errors.Is(err, fs.ErrNotExist) {
				missing = append(missing, err)
				continue
			}
			if err == nil && f.raw {
				err = a.printRaw(ctx, n)
			} else if err == nil {
				var info inspected
				info, err = inspectOne(ctx, lib, n, f.platform)
				list = append(list, info)
			}
			if err != nil {
				return err
			}
		}
		if len(list) > 0 {
			missing = append(missing, a.printInspected(f.format, format, list))
		}
		return errors.Join(missing...)
	})
}

// printRaw prints the index or the only manifest of an image.
func (a *app) printRaw(ctx context.Context, n namedImage) error {
	data, err := n.built.Read(ctx, n.Desc)
	if err == nil {
		_, err = a.stdout.Write(data)
	}
	return err
}

// inspectOne describes an image for a platform, or for this machine's or else the first
// if none is given.
func inspectOne(ctx context.Context, lib library, n namedImage, p platformFlag) (info inspected, err error) {
	built, one, err := n.shown(p.Platform)
	if err != nil {
		return info, err
	}
	var config dockerspec.DockerOCIImage
	var raw struct {
		Config json.RawMessage `json:"config"`
	}
	if err := n.readConfig(ctx, one, &config, &raw); err != nil {
		return info, err
	}
	info = inspected{
		ID: n.id().String(), RepoTags: []string{}, RepoDigests: []string{},
		Author: config.Author, Config: inspectedConfig{config.Config, raw.Config},
		Architecture: config.Architecture, Variant: config.Variant, Os: config.OS,
		Size: built.Size(), RootFS: inspectedRoot{Type: config.RootFS.Type, Layers: []string{}},
		Descriptor: n.Desc,
	}
	for _, d := range config.RootFS.DiffIDs {
		info.RootFS.Layers = append(info.RootFS.Layers, d.String())
	}
	if config.Created != nil {
		info.Created = config.Created.Format(time.RFC3339Nano)
	}
	if h := config.History; len(h) > 0 {
		info.Comment = h[len(h)-1].Comment
	}
	if all := built.Manifests; len(all) > 1 {
		for _, m := range all {
			info.Platforms = append(info.Platforms, m.Platform)
		}
	}
	return info, info.addNames(lib, n)
}

// addNames adds all names that the image has.
func (info *inspected) addNames(lib library, n namedImage) error {
	list, err := lib.Images.List()
	if err != nil {
		return err
	}
	for _, img := range list {
		if img.Desc.Digest != n.Desc.Digest {
			continue
		}
		if img.Updated.After(info.Metadata.LastTagTime) {
			info.Metadata.LastTagTime = img.Updated
		}
		named, err := reference.ParseNormalizedNamed(img.Ref)
		if err != nil {
			continue
		}
		if _, ok := named.(reference.Tagged); ok {
			info.RepoTags = append(info.RepoTags, reference.FamiliarString(named))
		}
		d := reference.FamiliarName(named) + "@" + img.Desc.Digest.String()
		if !slices.Contains(info.RepoDigests, d) {
			info.RepoDigests = append(info.RepoDigests, d)
		}
	}
	return nil
}

// parse reads --format; without a template it is nil.
func (f *inspectFlags) parse() (*template.Template, error) {
	if f.raw && f.format != "" {
		return nil, usagef("--raw and --format exclude each other")
	}
	if f.format == "" || f.format == "json" {
		return nil, nil
	}
	return parseFormat(f.format)
}

func (a *app) printInspected(format string, t *template.Template, list []inspected) error {
	switch {
	case format == "json":
		return printJSON(a.stdout, list)
	case t == nil:
		data, err := json.MarshalIndent(list, "", "    ")
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(a.stdout, escapeObeyed(string(data)))
		return err
	}
	var out bytes.Buffer
	for _, info := range list {
		text, err := formatInspected(t, info)
		if err != nil {
			return usagef("invalid --format: %w", err)
		}
		fmt.Fprintln(&out, text)
	}
	_, err := out.WriteTo(a.stdout)
	return err
}

// formatInspected executes a template on the image. One that names what the image's
// fields do not have, such as .Descriptor.digest, is executed on the image as JSON, as in docker.
func formatInspected(t *template.Template, info inspected) (string, error) {
	var out strings.Builder
	typedErr := t.Option("missingkey=default").Execute(&out, info)
	if typedErr == nil {
		return out.String(), nil
	}
	data, err := json.Marshal(info)
	if err != nil {
		return "", err
	}
	var fields any
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber() // a size in bytes is not 1.04e+06
	if err := d.Decode(&fields); err != nil {
		return "", err
	}
	out.Reset()
	if t.Option("missingkey=error").Execute(&out, fields) != nil {
		return "", typedErr
	}
	return out.String(), nil
}
