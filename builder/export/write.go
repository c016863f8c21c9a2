package export

import (
	"context"
	"fmt"
	"io"
	"reflect"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/manifest"
	"github.com/sinter-build/sinter/builder/progress"
	"github.com/sinter-build/sinter/builder/registry"
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
	Image *Built
	Desc  ocispec.Descriptor
	Names []string
	// Places are the files, directories and references that were written,
	// in the order of the outputs.
	Places []string
}

// Write brings what was built to all outputs. names (full references) are the
// image's; an output with names of its own uses those when there are none.
func Write(ctx context.Context, env Env, targets []Image, opts Options, outputs []Output, names []string) (*Written, error) {
	if env.Events == nil {
		env.Events = func(progress.Event) {}
	}
	if err := Check(outputs, opts, platformsOf(targets)); err != nil {
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
	targets []Image
	opts    Options
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
	opts  Options
	image *Built
}

func (w *writing) output(ctx context.Context, o Output) error {
	if o.Type == CacheOnly {
		return nil
	}
	return w.step(ctx, o.title(), func(part func(string) func()) error {
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
			w.done.Image, w.done.Names = built, o.toldNames(names)
			w.done.Desc = built.Desc
			if o.Type == OCI || o.Type == Docker {
				w.done.Desc = built.layoutEntry(nil)
			}
		}
		return w.put(ctx, o, built, names, part)
	})
}

// title is what people see while an output is written.
func (o Output) title() string {
	switch o.Type {
	case OCI:
		return "exporting to oci image format"
	case Docker:
		return "exporting to docker image format"
	case Local:
		return "exporting to client directory"
	case Tar:
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

// image assembles the image as o wants it.
func (w *writing) image(ctx context.Context, o Output, part func(string) func()) (*Built, error) {
	opts := o.options(w.opts)
	for _, a := range w.built {
		if reflect.DeepEqual(a.opts, opts) {
			return a.image, nil
		}
	}
	done := part("exporting layers")
	built, err := Assemble(ctx, w.Store, w.targets, opts)
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

// put brings an image to its place.
func (w *writing) put(ctx context.Context, o Output, built *Built, names []string, part func(string) func()) error {
	images := []Named{{built, names}}
	switch o.Type {
	case Registry, Store:
		return w.keep(ctx, o, built, names, part)
	case Docker:
		if o.Dest == "" {
			done := part("loading into the Docker engine")
			place, err := LoadIntoEngine(ctx, images)
			done()
			w.place(err, place)
			return err
		}
	}
	done := part("writing " + o.Dest)
	err := WriteImages(ctx, w.Stdout, images, o, w.warn)
	done()
	if !o.Stdout() {
		w.place(err, o.Dest)
	}
	return err
}

// WriteImages writes images to the file, the directory or the standard output of
// an OCI or Docker output. warn gets what people should know.
func WriteImages(ctx context.Context, stdout io.Writer, images []Named, o Output, warn func(text string)) error {
	switch {
	case o.Directory:
		return WriteLayout(ctx, images, o.Dest, warn)
	case o.Stdout():
		return fill(stdout, func(f io.Writer) error { return WriteArchive(ctx, f, images, o.Type) })
	}
	return WriteFile(ctx, o.Dest, func(f io.Writer) error { return WriteArchive(ctx, f, images, o.Type) })
}

func (w *writing) warn(text string) {
	w.Events(progress.Warned{Warning: parser.Warning{Short: text}})
}

func (w *writing) place(err error, place string) {
	if err == nil {
		w.done.Places = append(w.done.Places, place)
	}
}
