package export

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/sinter-build/sinter/builder/event"
	"github.com/sinter-build/sinter/builder/registry"
	"github.com/sinter-build/sinter/layers/image"
	"github.com/sinter-build/sinter/layers/store"
)

// Env is what outputs are written with. Images is needed for Store outputs,
// Registry for those that push, Stdout for those with the destination "-".
type Env struct {
	Store    *store.Store
	Images   *image.Images
	Registry *registry.Client
	Stdout   io.Writer
	// Events gets what happens; optional.
	Events event.Func
}

// Written says what Write has done.
type Written struct {
	// Image is the one of the first output that is an image; nil when none
	// is.
	Image *Built
	// Places are the files, directories and references that were written,
	// in the order of the outputs.
	Places []string
}

// Write brings what was built to all outputs. names (full references) are the
// image's; an output with names of its own uses those when there are none.
func Write(ctx context.Context, env Env, targets []Image, opts Options, outputs []Output, names []string) (*Written, error) {
	if env.Events == nil {
		env.Events = func(event.Event) {}
	}
	if err := checkOutputs(outputs, len(targets)); err != nil {
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

// checkOutputs finds what cannot be written before anything is.
func checkOutputs(outputs []Output, targets int) error {
	stdout := 0
	for _, o := range outputs {
		if o.Stdout() {
			stdout++
		}
		if o.Type == Docker && targets > 1 {
			return hinted(errors.New("type=docker cannot hold an image of several platforms"),
				"build one --platform, or use type=oci")
		}
	}
	if stdout > 1 {
		return errors.New("several outputs go to standard output")
	}
	return nil
}

// CheckDest finds out whether the destination can be written, so that it shows
// before a long build. terminal says that standard output is one.
func (o Output) CheckDest(terminal bool) error {
	switch {
	case o.Stdout() && terminal:
		return hinted(fmt.Errorf("type=%s will not be written to a terminal", o.Type),
			fmt.Sprintf("write it to a file: type=%s,dest=FILE", o.Type))
	case o.Dest == "" || o.Stdout():
		return nil
	}
	info, err := os.Stat(o.Dest)
	directory := o.Type == Local || o.Directory
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("destination of type=%s: %w", o.Type, err)
	case directory && !info.IsDir():
		return fmt.Errorf("destination %s of type=%s is a file, not a directory", o.Dest, o.Type)
	case !directory && info.IsDir():
		return hinted(fmt.Errorf("destination %s of type=%s is a directory, not a file", o.Dest, o.Type),
			fmt.Sprintf("name a file in it: type=%s,dest=%s/image.tar", o.Type, strings.TrimSuffix(o.Dest, "/")))
	}
	return nil
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
	current event.Step
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
	return w.step(o.title(), func(part func(string) func()) error {
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
func (w *writing) step(title string, do func(part func(string) func()) error) error {
	w.steps++
	id, began := event.StepOf(fmt.Sprintf("export %d %s", w.steps, title)), time.Now()
	w.current = id
	w.Events(event.Declared{Step: id, Name: title})
	w.Events(event.Started{Step: id, Name: title, Time: began})
	err := do(func(name string) func() {
		p := event.Progress{Step: id, ID: name, Started: time.Now()}
		w.Events(p)
		return func() {
			p.Done = time.Now()
			w.Events(p)
		}
	})
	w.Events(event.Ended{Step: id, Name: title, Time: time.Now(), Err: err})
	return err
}

// image assembles the image as o wants it.
func (w *writing) image(ctx context.Context, o Output, part func(string) func()) (*Built, error) {
	opts := w.opts
	if o.DockerTypes != nil {
		opts.DockerTypes = *o.DockerTypes
	}
	if c, ok, err := o.Compression(); err != nil {
		return nil, err
	} else if ok {
		opts.Compression = &c
	}
	opts.ForceCompression = opts.ForceCompression || o.Force
	opts.Annotations = append(slices.Clone(opts.Annotations), o.Annotations...)
	for _, a := range w.built {
		if sameOptions(a.opts, opts) {
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
	if isIndex(built.Desc.MediaType) {
		part("exporting manifest list " + built.Desc.Digest.String())()
	}
	w.built = append(w.built, assembled{opts, built})
	if w.done.Image == nil {
		w.done.Image = built
	}
	return built, nil
}

func sameOptions(a, b Options) bool {
	same := a.DockerTypes == b.DockerTypes && a.Index == b.Index && a.ForceCompression == b.ForceCompression &&
		slices.Equal(a.Annotations, b.Annotations)
	if a.Compression == nil || b.Compression == nil {
		return same && a.Compression == b.Compression
	}
	return same && *a.Compression == *b.Compression
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
	err := WriteImages(ctx, w.Stdout, images, o)
	done()
	if !o.Stdout() {
		w.place(err, o.Dest)
	}
	return err
}

// WriteImages writes images to the file, the directory or the standard output of
// an OCI or Docker output.
func WriteImages(ctx context.Context, stdout io.Writer, images []Named, o Output) error {
	switch {
	case o.Directory:
		return WriteLayout(ctx, images, o.Dest)
	case o.Stdout():
		return WriteArchive(ctx, stdout, images, o.Type)
	}
	return writeFile(o.Dest, func(f io.Writer) error { return WriteArchive(ctx, f, images, o.Type) })
}

func (w *writing) place(err error, place string) {
	if err == nil {
		w.done.Places = append(w.done.Places, place)
	}
}

// keep stores and pushes.
func (w *writing) keep(ctx context.Context, o Output, built *Built, names []string, part func(string) func()) error {
	if o.pushes() && len(names) == 0 {
		return hinted(errors.New("pushing needs a name"), "give one with -t HOST/NAME:TAG")
	}
	if o.Type == Store && o.Keep {
		for _, name := range o.keptNames(built, names) {
			done := func() {}
			if name != "" {
				done = part("naming to " + name)
			}
			if err := w.Images.Put(ctx, name, built.Desc); err != nil {
				return err
			}
			done()
		}
	}
	if !o.pushes() {
		return nil
	}
	for _, name := range names {
		if o.ByDigest {
			name = repository(name) + "@" + built.Digest().String()
		}
		done := part("pushing to " + name)
		err := w.Registry.Push(ctx, name, built, func(p event.Progress) {
			p.Step = w.current
			w.Events(p)
		})
		if err != nil {
			return err
		}
		done()
		w.place(nil, name)
	}
	return nil
}

// keptNames are those that the image gets in the store; "" is none.
func (o Output) keptNames(built *Built, names []string) []string {
	kept := slices.Clone(names)
	if o.NameCanonical {
		for _, name := range names {
			kept = append(kept, repository(name)+"@"+built.Digest().String())
		}
	}
	switch {
	case len(kept) > 0:
		return kept
	case o.Dangling != "":
		return []string{o.Dangling + "@" + built.Digest().String()}
	}
	return []string{""}
}
