package image

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/containerd/platforms"

	"github.com/sinter-build/sinter/builder/registry"
	"github.com/sinter-build/sinter/layers/image"
)

// resolve resolves ref as a new build does. It returns the digest's first characters
// and the warnings.
func (w *imageWorld) resolve(ref string, policy registry.Policy) (string, []string, error) {
	var warnings []string
	s := NewFinder(w.store, w.tags, w.images.client)
	s.Pull, s.patience = policy, w.images.patience
	s.Warn = func(text string) { warnings = append(warnings, text) }
	amd := platforms.MustParse("linux/amd64")
	var got string
	for range 2 { // the build asks for each platform and stage
		meta, err := s.Resolve(w.t.Context(), ref, &amd, policy.Must)
		if err != nil {
			return "", warnings, err
		}
		got = meta.Digest.String()
	}
	return got, warnings, nil
}

// A registry that is asked in vain is asked again after a pause. The build uses
// the image that is known, unless it wants the registry's word.
func TestRegistryIsSilent(t *testing.T) {
	w := newImageWorld(t)
	first := w.push("app:1", platformImage(t, "linux/amd64")).String()
	ref := w.host + "/app:1"
	newer := registry.Policy{}
	if got, warnings, err := w.resolve(ref, newer); err != nil || got != first || len(warnings) != 0 {
		t.Fatal(got, warnings, err)
	}
	second := w.push("app:1", platformImage(t, "linux/amd64")).String()

	w.images.patience = time.Nanosecond
	got, warnings, err := w.resolve(ref, newer)
	if err != nil || got != first || len(warnings) != 1 || !strings.Contains(warnings[0], "the registry cannot be asked: no answer in 1ns") {
		t.Errorf("silent: %s, %q, %v", got, warnings, err)
	}
	w.images.patience = patience
	if got, warnings, err = w.resolve(ref, newer); err != nil || got != first || len(warnings) != 0 {
		t.Errorf("in the pause: %s, %q, %v", got, warnings, err)
	}
	if requests := w.seen(); len(requests) != 0 {
		t.Errorf("in the pause the registry was asked: %v", requests)
	}
	if got, _, err = w.resolve(ref, registry.Policy{Must: true}); err != nil || got != second {
		t.Errorf("always: %s, %v", got, err)
	}
	list, err := w.tags.List()
	if err != nil || len(list) != 1 || !list[0].Asked.IsZero() {
		t.Errorf("the answer is not noted: %+v, %v", list, err)
	}
}

// A tag that the registry answers not to have is not said to be unanswered.
func TestTagIsGone(t *testing.T) {
	w := newImageWorld(t)
	first := w.push("app:1", platformImage(t, "linux/amd64")).String()
	ref := w.host + "/app:1"
	if _, _, err := w.resolve(ref, registry.Policy{}); err != nil {
		t.Fatal(err)
	}
	w.remove("app:1")
	got, warnings, err := w.resolve(ref, registry.Policy{})
	if err != nil || got != first || len(warnings) != 1 || !strings.Contains(warnings[0], "the registry does not have it any more: ") {
		t.Errorf("%s, %q, %v", got, warnings, err)
	}
	if _, _, err := w.resolve(ref, registry.Policy{Must: true}); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("always: %v", err)
	}
}

// Within a build a tag has one meaning, and is asked about once.
func TestTagIsAskedAboutOnce(t *testing.T) {
	w := newImageWorld(t)
	first := w.push("app:1", platformImage(t, "linux/amd64")).String()
	ref := w.host + "/app:1"
	if got, _, err := w.resolve(ref, registry.DefaultPolicy); err != nil || got != first {
		t.Fatal(got, err)
	}
	w.seen()
	if _, _, err := w.resolve(ref, registry.DefaultPolicy); err != nil || len(w.seen()) != 0 {
		t.Errorf("a new tag is not believed: %v", err)
	}
	if _, _, err := w.resolve(ref, registry.Policy{}); err != nil {
		t.Error(err)
	}
	if requests := w.seen(); len(requests) != 1 || !strings.HasPrefix(requests[0], "HEAD ") {
		t.Errorf("asked: %v", requests)
	}
	if _, _, err := w.resolve(w.host+"/app:2", registry.Policy{Never: true}); err == nil || len(w.seen()) != 0 {
		t.Errorf("never: %v", err)
	} else {
		wantImageError(t, err, "not in the store", "sinter pull")
	}
}

// An image that has its name from this machine is nothing to ask a registry about.
func TestLocalNameIsBelieved(t *testing.T) {
	w := newImageWorld(t)
	w.push("app:1", platformImage(t, "linux/amd64"))
	ref := w.host + "/app:1"
	first, _, err := w.resolve(ref, registry.DefaultPolicy)
	if err != nil {
		t.Fatal(err)
	}
	img, err := w.tags.Find(ref)
	if err == nil {
		err = w.tags.Put(t.Context(), ref, img.Desc)
	}
	if err != nil {
		t.Fatal(err)
	}
	w.push("app:1", platformImage(t, "linux/amd64"))
	if got, _, err := w.resolve(ref, registry.Policy{}); err != nil || got != first {
		t.Errorf("%s, %v", got, err)
	}
	if img, err = w.tags.Find(ref); err != nil || img.Pulled {
		t.Errorf("%+v, %v", img, err)
	}
}

// An answer in vain says nothing of a name that has another image by now.
func TestNoteAskedOfAnother(t *testing.T) {
	w := newImageWorld(t)
	w.push("app:1", platformImage(t, "linux/amd64"))
	ref := w.host + "/app:1"
	if _, _, err := w.resolve(ref, registry.DefaultPolicy); err != nil {
		t.Fatal(err)
	}
	if err := w.tags.NoteAsked(t.Context(), image.Image{Ref: ref, Pulled: true}); err != nil {
		t.Error(err)
	}
	if img, err := w.tags.Find(ref); err != nil || !img.Asked.IsZero() {
		t.Errorf("%+v, %v", img, err)
	}
}
