package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/sinter-build/sinter/builder/export"
)

type inspectFlags struct {
	format, platform, kind string
	raw                    bool
}

func newInspectCmd(a *app) *cobra.Command {
	f := &inspectFlags{}
	c := &cobra.Command{
		Use:   "inspect [flags] IMAGE…",
		Short: "Show what an image is made of",
		Args:  usageArgs(cobra.MinimumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			if f.kind != "" && f.kind != "image" {
				return &usageError{err: fmt.Errorf("invalid value %q for --type: there is nothing here but images", f.kind), command: "sinter inspect"}
			}
			return a.inspect(c.Context(), f, args)
		},
	}
	c.Flags().StringVar(&f.kind, "type", "", "kind of what is shown: image")
	c.Flags().BoolP("size", "s", false, "no effect: the size of images is always shown")
	c.Flags().StringVarP(&f.format, "format", "f", "", "Go template such as '{{.Config.Env}}', or json")
	c.Flags().StringVar(&f.platform, "platform", "", "show this `PLATFORM` of the image (default this machine's, or the first)")
	c.Flags().BoolVar(&f.raw, "raw", false, "print the manifest or index as it is")
	return c
}

// inspected is an image as docker inspect shows it.
type inspected struct {
	ID           string `json:"Id"`
	RepoTags     []string
	RepoDigests  []string
	Comment      string
	Created      *time.Time
	Author       string
	Config       json.RawMessage
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

type inspectedRoot struct {
	Type   string
	Layers []string
}

type inspectedMetadata struct {
	LastTagTime time.Time
}

func (a *app) inspect(ctx context.Context, f *inspectFlags, args []string) error {
	platform, err := platformFlag(f.platform, "sinter inspect")
	if err != nil {
		return err
	}
	release, err := a.sharedToRead(ctx)
	if err != nil {
		return err
	}
	defer release()
	var list []any
	var missing []error
	for _, arg := range args {
		n, err := a.find(ctx, arg)
		if errors.Is(err, fs.ErrNotExist) {
			missing = append(missing, err)
			continue
		}
		if err != nil {
			return err
		}
		if f.raw {
			data, err := export.ReadBlob(ctx, a.layers, n.Desc)
			if err == nil {
				_, err = a.stdout.Write(data)
			}
			if err != nil {
				return err
			}
			continue
		}
		built := n.built
		if platform != nil {
			if built, err = built.Only(*platform); err != nil {
				return err
			}
		}
		info, err := a.inspected(ctx, n, built)
		if err != nil {
			return err
		}
		list = append(list, info)
	}
	if !f.raw && len(list) > 0 {
		missing = append(missing, a.printInspected(f.format, list))
	}
	return errors.Join(missing...)
}

// inspected tells of the image for this machine's platform, or else of the
// first.
func (a *app) inspected(ctx context.Context, n namedImage, built *export.Built) (any, error) {
	all := built.Manifests
	if len(all) == 0 {
		return nil, fmt.Errorf("of image %s no platform is in the store", displayName(n))
	}
	one := forThisMachine(built)
	data, err := export.ReadBlob(ctx, a.layers, one.Config)
	if err != nil {
		return nil, err
	}
	var config ocispec.Image
	var raw struct {
		Config json.RawMessage `json:"config"`
	}
	if err := json.Unmarshal(data, &config); err != nil {
		return nil, fmt.Errorf("reading the config of %s: %w", displayName(n), err)
	}
	if err := json.Unmarshal(data, &raw); err != nil {
		return nil, fmt.Errorf("reading the config of %s: %w", displayName(n), err)
	}
	info := inspected{
		ID: n.id().String(), RepoTags: []string{}, RepoDigests: []string{},
		Created: config.Created, Author: config.Author, Config: raw.Config,
		Architecture: config.Architecture, Variant: config.Variant, Os: config.OS,
		Size: built.Size(), RootFS: inspectedRoot{Type: config.RootFS.Type, Layers: []string{}},
		Descriptor: n.Desc,
	}
	for _, d := range config.RootFS.DiffIDs {
		info.RootFS.Layers = append(info.RootFS.Layers, d.String())
	}
	if h := config.History; len(h) > 0 {
		info.Comment = h[len(h)-1].Comment
	}
	if len(all) > 1 {
		for _, m := range all {
			info.Platforms = append(info.Platforms, m.Platform)
		}
	}
	return info, a.addNames(&info, n)
}

// forThisMachine is the manifest that this machine would run.
func forThisMachine(b *export.Built) export.Manifest {
	if one, err := b.Only(hostPlatform()); err == nil {
		return one.Manifests[0]
	}
	return b.Manifests[0]
}

// addNames adds all names that the image has.
func (a *app) addNames(info *inspected, n namedImage) error {
	list, err := a.index.List()
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

func (a *app) printInspected(format string, list []any) error {
	switch format {
	case "":
		data, err := json.MarshalIndent(list, "", "    ")
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(a.stdout, string(data))
		return err
	case "json":
		return printJSON(a.stdout, list)
	}
	t, err := listing{command: "sinter inspect"}.template(format)
	if err != nil {
		return err
	}
	for _, info := range list {
		// By way of JSON, so that the template's names are those that
		// are shown without one.
		data, err := json.Marshal(info)
		if err != nil {
			return err
		}
		var fields any
		d := json.NewDecoder(bytes.NewReader(data))
		d.UseNumber() // a size in bytes is no 1.04e+06
		if err := d.Decode(&fields); err != nil {
			return err
		}
		if err := t.Execute(a.stdout, fields); err != nil {
			return &usageError{err: fmt.Errorf("invalid --format: %w", err), command: "sinter inspect"}
		}
		if _, err := fmt.Fprintln(a.stdout); err != nil {
			return err
		}
	}
	return nil
}
