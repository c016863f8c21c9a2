package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/identity"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/builder/attest"
	"github.com/sinter-build/sinter/builder/export"
	"github.com/sinter-build/sinter/builder/export/annotation"
	"github.com/sinter-build/sinter/builder/export/assemble"
	"github.com/sinter-build/sinter/builder/export/output"
	"github.com/sinter-build/sinter/builder/export/place"
	"github.com/sinter-build/sinter/builder/stored"
	"github.com/sinter-build/sinter/layers/hint"
	"github.com/sinter-build/sinter/parser"
)

// outputs are those that -o, --push and --load ask for; without any, the image
// stays in the store. terminal says that standard output is one.
func (f *buildFlags) outputs(names []string, terminal bool) ([]output.Spec, error) {
	var list []output.Spec
	for _, text := range f.output {
		o, err := output.Parse(text)
		if err == nil && o.Stdout() && terminal {
			err = hint.Add(fmt.Errorf("an output of type=%s is not written to a terminal", o.Type), fmt.Sprintf("write it to a file: type=%s,dest=FILE", o.Type))
		}
		if err == nil {
			err = o.CheckDest()
		}
		if err != nil {
			return nil, usage(err)
		}
		list = append(list, o)
	}
	if f.push {
		list = pushing(list)
	}
	if f.load {
		list = append(list, output.Spec{Type: output.Docker})
	}
	if len(list) == 0 {
		list = append(list, output.Spec{Type: output.Store, Keep: true})
	}
	for i, o := range list {
		if len(names) > 0 {
			list[i].Tagged = slices.ContainsFunc(f.tags, hasTag)
		}
		if o.Pushes() && len(names) == 0 && len(o.Names) == 0 {
			return nil, usage(hint.Add(errors.New("an image without a name cannot be pushed"), "give it one with -t HOST/NAME:TAG"))
		}
	}
	return list, nil
}

// hasTag reports whether a name is written with its tag.
func hasTag(name string) bool {
	ref, err := reference.ParseNormalizedNamed(name)
	return err == nil && !reference.IsNameOnly(ref)
}

// unused are warnings about flags and attributes of outputs that do nothing. attested is what
// the build attests.
func (f *buildFlags) unused(outputs []output.Spec, attested []attest.Attestation) []string {
	var out []string
	image := false
	for _, o := range outputs {
		image = image || o.NeedsBlobs()
		out = append(out, o.Notes...)
		if o.Type == output.Docker && slices.ContainsFunc(attested, func(a attest.Attestation) bool { return !a.InlineOnly }) {
			out = append(out, "type=docker cannot hold attestations: they are left out")
		}
		if len(f.tags) > 0 && len(o.Names) > 0 {
			out = append(out, fmt.Sprintf("name=%s of an output is not used: -t names the image", strings.Join(o.Names, ",")))
		}
	}
	if !image && len(f.annotations) > 0 {
		out = append(out, "--annotation does nothing: no output is an image")
	}
	if !image && f.given.Changed("format") {
		out = append(out, "--format does nothing: no output is an image")
	}
	return out
}

// checkOutputs finds out, now that it is known what is built, whether all outputs
// can be written. It returns the latest time that files may have, if any output wants
// one.
func (b *building) checkOutputs(g *parser.Graph) (epoch *int64, err error) {
	var targets []ocispec.Platform
	for _, t := range g.Targets {
		targets = append(targets, t.Platform)
		// All targets have the same epoch, when they have one.
		epoch = t.Epoch
	}
	clamps := false
	for _, o := range b.outputs {
		clamps = clamps || o.RewriteTimes == nil || *o.RewriteTimes
		if epoch == nil && o.RewriteTimes != nil && *o.RewriteTimes {
			b.warn("rewrite-timestamp=true does nothing without SOURCE_DATE_EPOCH")
		}
	}
	if !clamps {
		epoch = nil
	}
	if err := output.Check(b.outputs, b.assembly, targets); err != nil {
		return nil, usage(err)
	}
	return epoch, nil
}

// pushing makes the outputs that are images pushed, as --push does in docker;
// without such an output there is one more, which also stays in the store, as with
// docker's default.
func pushing(list []output.Spec) []output.Spec {
	for i := range list {
		if list[i].Type == output.Store {
			list[i].Push = true
			return list
		}
		if list[i].Type == output.Registry {
			return list
		}
	}
	return append(list, output.Spec{Type: output.Store, Keep: true, Push: true})
}

// assembly returns the options that all images of the build have.
func (f *buildFlags) assembly() (assemble.Options, error) {
	o := assemble.Options{DockerTypes: f.format == "docker"}
	for _, text := range f.annotations {
		a, err := annotation.Parse(text)
		if err != nil {
			return o, badFlag("annotation", text, err)
		}
		o.Annotations = append(o.Annotations, a...)
	}
	return o, nil
}

// checkFiles refuses files about an image when none is made, and those that
// cannot be written. Those that are there from an earlier build go, so that none
// is left when this one fails.
func (f *buildFlags) checkFiles(outputs []output.Spec) error {
	image := slices.ContainsFunc(outputs, func(o output.Spec) bool { return o.NeedsBlobs() })
	for _, file := range []struct {
		name, path string
		ofImage    bool
	}{{"iidfile", f.iidFile, true}, {"digest-file", f.digestFile, true}, {"metadata-file", f.metadataFile, false}} {
		if file.path == "" {
			continue
		}
		if file.ofImage && !image {
			return hintedFlag(file.name, file.path, "no output is an image", "leave it out, or add an output such as -o type=oci,dest=FILE")
		}
		if err := checkFile(file.name, file.path); err != nil {
			return err
		}
	}
	return nil
}

// checkFile finds out whether a file can be written, and removes the one that is
// there.
func checkFile(flag, path string) error {
	if err := place.Check(path); err != nil {
		return badFlag(flag, path, err)
	}
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		return hintedFlag(flag, path, "it is a directory", "name a file in it")
	case err == nil && !info.Mode().IsRegular():
		return nil
	case err == nil:
		if err := os.Remove(path); err != nil {
			return hintedFlag(flag, path, "the file there cannot be replaced: "+cause(err), "name another file")
		}
	}
	dir := filepath.Dir(path)
	if info, err := os.Stat(dir); err != nil {
		return hintedFlag(flag, path, "directory "+dir+" does not exist", "make the directory first, or name another file")
	} else if !info.IsDir() {
		return hintedFlag(flag, path, dir+" is not a directory", "name another file")
	}
	if err := unix.Access(dir, unix.W_OK); err != nil {
		return hintedFlag(flag, path, "the directory cannot be written to: "+err.Error(), "name another file")
	}
	return nil
}

// cause is what the system said of a file, without the file's name.
func cause(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}

// imageID is what docker calls so: the digest of the config, or of the index when
// there is one.
func imageID(b *stored.Image) digest.Digest {
	if len(b.Manifests) == 1 && b.Root().Digest == b.Manifests[0].Desc.Digest {
		return b.Manifests[0].Config.Digest
	}
	return b.Digest()
}

// warningsVariable asks, as of buildx, for the warnings in --metadata-file.
const warningsVariable = "BUILDX_METADATA_WARNINGS"

// writeFiles writes --iidfile and --metadata-file. provenance returns what the latter tells
// of how the targets were built.
func (f *buildFlags) writeFiles(ctx context.Context, w *export.Written, warnings []client.VertexWarning, provenance func(context.Context) (map[string]json.RawMessage, error)) error {
	if f.iidFile != "" && w.Image != nil {
		if err := replaceFile(ctx, f.iidFile, []byte(imageID(w.Image))); err != nil {
			return err
		}
	}
	if f.digestFile != "" && w.Image != nil {
		if err := replaceFile(ctx, f.digestFile, []byte(w.Image.Digest())); err != nil {
			return err
		}
	}
	if f.metadataFile == "" {
		return nil
	}
	meta := metadata(w)
	if isOn(warningsVariable) && len(warnings) > 0 {
		meta["buildx.build.warnings"] = warnings
	}
	built, err := provenance(ctx)
	if err != nil {
		return err
	}
	for key, value := range built {
		meta[key] = value
	}
	data, err := json.MarshalIndent(meta, "", "  ")
	if err != nil {
		return err
	}
	return replaceFile(ctx, f.metadataFile, data)
}

// metadata is what there is to say of a build, under buildx's keys. Nobody keeps
// record of the build that the ref names.
func metadata(w *export.Written) map[string]any {
	meta := map[string]any{"buildx.build.ref": strings.Join([]string{builderName, builderName, identity.NewID()}, "/")}
	if w.Image != nil {
		meta["containerimage.digest"] = w.Image.Digest()
		meta["containerimage.descriptor"] = w.Desc
		if id := imageID(w.Image); id != w.Image.Digest() {
			meta["containerimage.config.digest"] = id
		}
		if len(w.Names) > 0 {
			meta["image.name"] = strings.Join(w.Names, ",")
		}
	}
	return meta
}

// replaceFile writes a file, which is there as a whole or not at all.
func replaceFile(ctx context.Context, path string, data []byte) error {
	return place.WriteFile(ctx, path, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}
