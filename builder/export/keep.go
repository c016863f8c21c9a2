package export

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/distribution/reference"

	"github.com/sinter-build/sinter/builder/export/output"
	"github.com/sinter-build/sinter/builder/progress"
	"github.com/sinter-build/sinter/builder/registry"
	"github.com/sinter-build/sinter/builder/stored"
	"github.com/sinter-build/sinter/layers/hint"
)

// keep stores and pushes.
func (w *writing) keep(ctx context.Context, o output.Spec, built *stored.Image, names []string, part func(string) func()) error {
	if o.Pushes() && len(names) == 0 {
		return hint.Add(errors.New("pushing needs a name"), "give one with -t HOST/NAME:TAG")
	}
	if o.Dangling != "" && (len(names) == 0 || !o.DanglingOnly) {
		names = append(slices.Clone(names), o.Dangling+"@"+built.Digest().String())
	}
	if err := w.refer(ctx, o, built); err != nil {
		return err
	}
	if o.Keep {
		for _, name := range keptNames(o, built, names) {
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
	if !o.Pushes() {
		return nil
	}
	pushed := pushedNames(o, built, names)
	for i, name := range pushed {
		if err := w.push(ctx, o, built, name, part); err != nil {
			return w.pushFailed(ctx, o, built, pushed[i:], err)
		}
	}
	return nil
}

func (w *writing) push(ctx context.Context, o output.Spec, built *stored.Image, name string, part func(string) func()) error {
	client := w.Registry
	if ref, err := reference.ParseNormalizedNamed(name); err == nil && o.Insecure {
		client = client.WithInsecure(reference.Domain(ref))
	}
	done := part("pushing to " + name)
	err := client.Push(ctx, name, built, func(p progress.Update) {
		p.Step = w.current
		w.Events(p)
	})
	if err != nil {
		return err
	}
	done()
	w.place(nil, name)
	return w.pushReferrers(ctx, client, o, built, name, part)
}

// pushReferrers pushes the attestations that belong beside the image. The image is in the
// registry by then: that these failed to follow is an error all the same, unless nobody has
// asked for them.
func (w *writing) pushReferrers(ctx context.Context, client *registry.Client, o output.Spec, built *stored.Image, name string, part func(string) func()) error {
	list, err := w.referrers(ctx, o, built)
	if err != nil || len(list) == 0 {
		return w.unlessAsked(ctx, o, err)
	}
	done := part("pushing attestations to " + repository(name))
	if _, err = registry.PushReferrers(ctx, client, name, list, nil, nil); err != nil {
		err = fmt.Errorf("%s is pushed, but not its attestations: %w", name, err)
	}
	done()
	return w.unlessAsked(ctx, o, err)
}

// keptNames are those that the image gets in the store; "" is none.
func keptNames(o output.Spec, built *stored.Image, names []string) []string {
	if len(names) == 0 {
		return []string{""}
	}
	kept := slices.Clone(names)
	if !o.NameCanonical {
		return kept
	}
	for _, name := range names {
		if c := repository(name) + "@" + built.Digest().String(); !slices.Contains(kept, c) {
			kept = append(kept, c)
		}
	}
	return kept
}

// pushedNames are those under which the image is pushed.
func pushedNames(o output.Spec, built *stored.Image, names []string) []string {
	list := toldNames(o, names)
	if !o.ByDigest {
		return list
	}
	for i, name := range list {
		list[i] = name + "@" + built.Digest().String()
	}
	return list
}

// toldNames are those that a caller is told of.
func toldNames(o output.Spec, names []string) []string {
	if !o.ByDigest {
		return names
	}
	var list []string
	for _, name := range names {
		if r := repository(name); !slices.Contains(list, r) {
			list = append(list, r)
		}
	}
	return list
}

// repository is a full reference without tag and digest.
func repository(name string) string {
	ref, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return name
	}
	return ref.Name()
}
