package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/sinter-build/sinter/builder/imagetools"
	"github.com/sinter-build/sinter/builder/registry"
	"github.com/sinter-build/sinter/layers/hint"
)

func newImagetoolsCmd(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "imagetools",
		Short: "Join and inspect images in registries and OCI layouts",
		Args:  unknownSubcommand,
		RunE:  showHelp,
	}
	c.AddCommand(newImagetoolsCreateCmd(a), newImagetoolsInspectCmd(a))
	return c
}

const sourceHint = "a source is NAME[:TAG|@DIGEST], oci-layout://DIR[:TAG|@DIGEST], a digest, or a descriptor as JSON"

// layoutScheme begins the address of an image in an OCI layout.
const layoutScheme = "oci-layout://"

// parsePlace reads where an image is.
func parsePlace(text string) (imagetools.Place, error) {
	if rest, ok := strings.CutPrefix(text, layoutScheme); ok {
		dir, ref := cutLayout(rest)
		if dir == "" {
			return imagetools.Place{}, hint.Add(fmt.Errorf("%q does not name a directory", text), sourceHint)
		}
		return imagetools.Place{Layout: dir, LayoutRef: ref}, nil
	}
	ref, err := registry.ParseRef(text)
	return imagetools.Place{Ref: ref}, orLayout(err, text)
}

// orLayout gives the error about images that were looked for in registries another
// hint, when the name of one is also an OCI layout.
func orLayout(err error, names ...string) error {
	for _, name := range names {
		dir, _ := cutLayout(name)
		if dir == "" || err == nil {
			continue
		}
		if info, statErr := os.Stat(filepath.Join(dir, ocispec.ImageLayoutFile)); statErr == nil && info.Mode().IsRegular() {
			return &hint.Error{First: true, Err: err, Hint: fmt.Sprintf("%s is also a directory with an OCI layout: if that is meant, write %s%s", dir, layoutScheme, name)}
		}
	}
	return err
}

// parseSource reads a source: a reference, or a digest or descriptor of a
// repository that the others name.
func parseSource(text string) (imagetools.Source, error) {
	text = strings.TrimSpace(text)
	switch {
	case strings.HasPrefix(text, "{"):
		return parseDescriptor(text)
	case strings.HasPrefix(text, "sha256:"), strings.HasPrefix(text, "sha512:"):
		d, err := digest.Parse(text)
		if err != nil {
			return imagetools.Source{}, hint.Add(fmt.Errorf("source %q: %w", text, err), sourceHint)
		}
		return imagetools.Source{Desc: ocispec.Descriptor{Digest: d}}, nil
	}
	place, err := parsePlace(text)
	return imagetools.Source{Place: place}, err
}

func parseDescriptor(text string) (imagetools.Source, error) {
	var d struct {
		ocispec.Descriptor
		SchemaVersion int `json:"schemaVersion"`
	}
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		return imagetools.Source{}, hint.Add(fmt.Errorf("a source is not a descriptor: %w", err), sourceHint)
	}
	if d.SchemaVersion != 0 {
		return imagetools.Source{}, hint.Add(
			errors.New("a source is a manifest or index, not a descriptor of one"),
			"take one of the index's manifests: jq '.manifests[0]'",
		)
	}
	if err := d.Digest.Validate(); err != nil {
		return imagetools.Source{}, hint.Add(fmt.Errorf("the digest of a descriptor is wrong: %w", err), sourceHint)
	}
	return imagetools.Source{Desc: d.Descriptor}, nil
}

// placeSources gives sources that are only a digest their repository: the only
// one that tags and other sources name.
func placeSources(sources []imagetools.Source, tags []registry.Ref) error {
	var repositories []registry.Ref
	note := func(r registry.Ref) {
		for _, known := range repositories {
			if known.Repository() == r.Repository() {
				return
			}
		}
		repositories = append(repositories, r)
	}
	for _, t := range tags {
		note(t)
	}
	for _, s := range sources {
		if s.Ref.Path != "" {
			note(s.Ref)
		}
	}
	for i, s := range sources {
		if !s.IsZero() {
			continue
		}
		if len(repositories) != 1 {
			return hint.Add(
				fmt.Errorf("%s may be in any of %d repositories", s.Desc.Digest, len(repositories)),
				"write NAME@"+s.Desc.Digest.String(),
			)
		}
		sources[i].Ref = registry.Ref{Host: repositories[0].Host, Path: repositories[0].Path, Digest: s.Desc.Digest}
	}
	return nil
}
