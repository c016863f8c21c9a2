package main

import (
	"context"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// imageFilter decides which images are listed.
type imageFilter struct {
	dangling   *bool
	references []string
	labels     labelFilter
	// Images made before and after these times; zero means no limit. They are
	// those of the images in beforeImages and sinceImages as well.
	before, after             time.Time
	beforeImages, sinceImages []string
}

func newImageFilter(filters, args []string, now time.Time) (*imageFilter, error) {
	f := &imageFilter{}
	for _, arg := range args {
		if _, err := reference.ParseNormalizedNamed(strings.NewReplacer("*", "x", "?", "x", "[", "", "]", "").Replace(arg)); err != nil {
			return nil, usagef("%q is not an image name: %w", arg, err)
		}
		f.references = append(f.references, arg)
	}
	for _, text := range filters {
		name, value, _ := strings.Cut(text, "=")
		switch name {
		case "dangling":
			b := value == "true" || value == "1"
			if !b && value != "false" && value != "0" {
				return nil, wrongFlag("filter", text, "want true or false")
			}
			f.dangling = &b
		case "reference":
			if _, err := path.Match(value, ""); err != nil {
				return nil, wrongFlag("filter", text, err.Error())
			}
			f.references = append(f.references, value)
		case "label":
			f.labels.with = append(f.labels.with, value)
		case "before":
			f.beforeImages = append(f.beforeImages, value)
		case "since":
			f.sinceImages = append(f.sinceImages, value)
		case "until":
			until, err := parseUntil(value, now)
			if err != nil {
				return nil, wrongFlag("filter", text, untilWanted)
			}
			f.madeBefore(until)
		default:
			return nil, wrongFlag("filter", text, "the filters are dangling, reference, label, before, since and until")
		}
	}
	return f, nil
}

func (f *imageFilter) madeBefore(t time.Time) {
	if f.before.IsZero() || t.Before(f.before) {
		f.before = t
	}
}

func (f *imageFilter) madeAfter(t time.Time) {
	if t.After(f.after) {
		f.after = t
	}
}

// readDates finds the times of the images that the filter names.
func (f *imageFilter) readDates(ctx context.Context, lib library) error {
	for _, of := range []struct {
		images []string
		limit  func(time.Time)
	}{{f.beforeImages, f.madeBefore}, {f.sinceImages, f.madeAfter}} {
		for _, name := range of.images {
			n, err := lib.find(ctx, name)
			if err != nil {
				return err
			}
			config, err := n.config(ctx)
			if err != nil {
				return err
			}
			of.limit(created(config))
		}
	}
	return nil
}

// created is when the image was made, as far as it says so.
func created(config ocispec.Image) time.Time {
	if config.Created == nil {
		return time.Time{}
	}
	return *config.Created
}

func (f *imageFilter) matches(n namedImage, config ocispec.Image) bool {
	if f.dangling != nil && *f.dangling != (n.Ref == "") {
		return false
	}
	if at := created(config); !f.before.IsZero() && !at.Before(f.before) || !f.after.IsZero() && !at.After(f.after) {
		return false
	}
	if len(f.references) > 0 && !slices.ContainsFunc(f.references, func(p string) bool { return matchesReference(p, n.Ref) }) {
		return false
	}
	return f.labels.matches(config.Config.Labels)
}

// labelFilter is what labels an image has and has not, each as NAME or NAME=VALUE.
type labelFilter struct{ with, without []string }

func (f labelFilter) isEmpty() bool { return len(f.with)+len(f.without) == 0 }

func (f labelFilter) matches(labels map[string]string) bool {
	has := func(l string) bool {
		name, value, hasValue := strings.Cut(l, "=")
		got, ok := labels[name]
		return ok && (!hasValue || got == value)
	}
	hasNot := func(l string) bool { return !has(l) }
	return !slices.ContainsFunc(f.with, hasNot) && !slices.ContainsFunc(f.without, has)
}
