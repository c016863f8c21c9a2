// Package export brings what was built where it is wanted: the store, a registry, an OCI
// layout, an archive for docker, a directory, a tar. What stands under its final name is
// complete.
//
// The packages below it have a matter each: assemble makes images, output says what is
// wanted, layout and files write, and place is how files of the user's are written.
package export

import (
	"context"
	"fmt"
	"io"
	"reflect"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/export/assemble"
	"github.com/sinter-build/sinter/builder/export/files"
	"github.com/sinter-build/sinter/builder/export/layout"
	"github.com/sinter-build/sinter/builder/export/output"
	"github.com/sinter-build/sinter/builder/export/place"
	"github.com/sinter-build/sinter/builder/manifest"
	"github.com/sinter-build/sinter/builder/progress"
	"github.com/sinter-build/sinter/builder/registry"
	"github.com/sinter-build/sinter/builder/stored"
	"github.com/sinter-build/sinter/layers/image"
	"github.com/sinter-build/sinter/layers/store"
	"github.com/sinter-build/sinter/parser"
)

// Env is what outputs are written with. Images is needed for Store outputs,
// Registry for those that push, Stdout for those with the destination "-".
type Env struct {
	Store    *store.Store
	Images   *image.Images
	Registry *registry.Client
	Stdout   io.Writer
	// Events gets what happens; optional.
	Events progress.Func
}

// Written says what Write has done.
type Written struct {
	// Image is the one of the first output that is an image; nil when none
	// is. Desc describes it as that output does, Names are those it has: of one
	// that is pushed by digest, the repositories.
	Image *stored.Image
	Desc  ocispec.Descriptor
	Names []string
	// Places are the files, directories and references that were written,
	// in the order of the outputs.
	Places []string
}

// Write brings what was built to all outputs. names (full references) are the
// image's; an output with names of its own uses those when there are none.
func Write(ctx context.Context, env Env, targets []assemble.Part, opts assemble.Options, outputs []output.Spec, names []string) (*Written, error) {
	if env.Events == nil {
		env.Events = func(progress.Event) {}
	}
	if err := output.Check(outputs, opts, assemble.Platforms(targets)); err != nil {
		return nil, err
	}
	w := &writing{Env: env, targets: targets, opts: opts, names: names, done: &Written{}}
	for _, o := range outputs {
		if err := w.output(ctx, o); err != nil {
			return nil, err
		}
	}
	return w.done, nil
}

// writing is one call of Write.
type writing struct {
	Env
	targets []assemble.Part
	opts    assemble.Options
	names   []string
	built   []assembled
	done    *Written
	// current is the step that is shown, the last of steps.
	current progress.Step
	steps   int
}

// assembled remembers an image by what it was asked to look like: most outputs
// ask for the same.
type assembled struct {
	opts  assemble.Options
	image *stored.Image
}

func (w *writing) output(ctx context.Context, o output.Spec) error {
	if o.Type == output.CacheOnly {
		return nil
	}
	return w.step(ctx, title(o.Type), func(part func(string) func()) error {
		if !o.NeedsBlobs() {
			return w.files(ctx, o, part)
		}
		built, err := w.image(ctx, o, part)
		if err != nil {
			return err
		}
		names := w.names
		if len(names) == 0 {
			names = o.Names
		}
		if w.done.Image == nil {
			w.done.Image, w.done.Names = built, toldNames(o, names)
			w.done.Desc = built.Desc
			if o.Type == output.OCI || o.Type == output.Docker {
				w.done.Desc = layout.Describe(built, nil)
			}
		}
		return w.put(ctx, o, built, names, part)
	})
}

// title is what people see while an output is written.
func title(t output.Type) string {
	switch t {
	case output.OCI:
		return "exporting to oci image format"
	case output.Docker:
		return "exporting to docker image format"
	case output.Local:
		return "exporting to client directory"
	case output.Tar:
		return "exporting to client tarball"
	}
	return "exporting to image"
}

// step shows do as one step; part shows a part of it until the function that
// it returns is called.
func (w *writing) step(ctx context.Context, title string, do func(part func(string) func()) error) error {
	w.steps++
	id, began := progress.StepOf(fmt.Sprintf("export %d %s", w.steps, title)), time.Now()
	w.current = id
	w.Events(progress.Declared{Step: id, Name: title})
	w.Events(progress.Started{Step: id, Name: title, Time: began})
	err := do(func(name string) func() {
		p := progress.Update{Step: id, ID: name, Started: time.Now()}
		w.Events(p)
		return func() {
			p.Done = time.Now()
			w.Events(p)
		}
	})
	w.Events(progress.End(ctx, id, title, err))
	return err
}

// image assembles the image as o wants it. Attestations in it name the image, and so differ
// where outputs give it other names; without them one image serves all.
func (w *writing) image(ctx context.Context, o output.Spec, part func(string) func()) (*stored.Image, error) {
	opts := w.options(o)
	if !opts.Attest.InImage() {
		opts.Attest = assemble.Attest{}
	}
	for _, a := range w.built {
		if reflect.DeepEqual(a.opts, opts) {
			return a.image, nil
		}
	}
	done := part("exporting layers")
	built, err := assemble.Image(ctx, w.Store, w.targets, opts)
	if err != nil {
		return nil, err
	}
	done()
	for _, m := range built.Manifests {
		part("exporting manifest " + m.Desc.Digest.String())()
		part("exporting config " + m.Config.Digest.String())()
	}
	if manifest.IsIndex(built.Desc.MediaType) {
		part("exporting manifest list " + built.Desc.Digest.String())()
	}
	w.built = append(w.built, assembled{opts, built})
	return built, nil
}

// options are what the image of an output shall look like.
func (w *writing) options(o output.Spec) assemble.Options {
	opts := o.Options(w.opts)
	opts.Attest.Names = w.names
	if len(w.names) == 0 {
		opts.Attest.Names = o.Names
	}
	return opts
}

// put brings an image to its place.
func (w *writing) put(ctx context.Context, o output.Spec, built *stored.Image, names []string, part func(string) func()) error {
	list := []layout.Named{{Image: built, Names: names}}
	switch o.Type {
	case output.Registry, output.Store:
		return w.keep(ctx, o, built, names, part)
	case output.Docker:
		if o.Dest == "" {
			done := part("loading into the Docker engine")
			place, err := layout.LoadIntoEngine(ctx, list)
			done()
			w.place(err, place)
			return err
		}
	}
	done := part("writing " + o.Dest)
	beside, err := w.beside(ctx, o, built)
	if err == nil {
		err = WriteImages(ctx, w.Stdout, append(list, beside...), o, w.warn)
	}
	done()
	if !o.Stdout() {
		w.place(err, o.Dest)
	}
	return err
}

// WriteImages writes images to the file, the directory or the standard output of
// an OCI or Docker output. warn gets what people should know.
func WriteImages(ctx context.Context, stdout io.Writer, list []layout.Named, o output.Spec, warn func(text string)) error {
	if o.Directory {
		return layout.WriteDir(ctx, list, o.Dest, warn)
	}
	return writeFile(ctx, stdout, o, func(f io.Writer) error { return layout.WriteArchive(ctx, f, list, o.Type == output.Docker) })
}

// writeFile lets write fill the file or the standard output that is the output's.
func writeFile(ctx context.Context, stdout io.Writer, o output.Spec, write func(io.Writer) error) error {
	if o.Stdout() {
		return place.Fill(stdout, write)
	}
	return place.WriteFile(ctx, o.Dest, write)
}

// files writes the outputs that are files.
func (w *writing) files(ctx context.Context, o output.Spec, part func(string) func()) error {
	split := len(w.targets) > 1 || w.opts.Index
	if o.PlatformSplit != nil {
		split = *o.PlatformSplit
	}
	f, err := files.Open(ctx, w.Store, w.targets, files.Options{
		Source: o.Source, Split: split, Platforms: len(w.targets) > 1 || w.opts.Index, Asked: w.opts.Attest.Asked, Prefix: o.AttestPrefix,
	})
	if err != nil {
		return err
	}
	done := part("copying files")
	if o.Type == output.Local {
		var skipped []string
		skipped, err = f.WriteTo(ctx, files.Directory{Dest: o.Dest, Delete: o.Delete, Warn: w.warn})
		for _, p := range skipped {
			w.Events(progress.Output{Step: w.current, Stream: 2, Time: time.Now(),
				Data: []byte("/" + p + " is a device, which only root may make: left out\n")})
		}
	} else {
		err = writeFile(ctx, w.Stdout, o, func(out io.Writer) error { return f.WriteTar(ctx, out) })
	}
	if err != nil {
		return fmt.Errorf("writing the files: %w", err)
	}
	done()
	if !o.Stdout() {
		w.place(nil, o.Dest)
	}
	return nil
}

func (w *writing) warn(text string) {
	w.Events(progress.Warned{Warning: parser.Warning{Short: text}})
}

func (w *writing) place(err error, place string) {
	if err == nil {
		w.done.Places = append(w.done.Places, place)
	}
}
