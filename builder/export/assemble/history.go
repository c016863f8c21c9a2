package assemble

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/layers"
)

func baseHistory(config []byte) ([]ocispec.History, error) {
	if len(config) == 0 {
		return nil, nil
	}
	var base ocispec.Image
	if err := json.Unmarshal(config, &base); err != nil {
		return nil, fmt.Errorf("reading the config of the base image: %w", err)
	}
	return base.History, nil
}

// completed is history, which begins with that of the base image, with an entry
// for each layer of the base. BuildKit adds them at the end, where entries and
// layers no longer belong together.
func completed(history []ocispec.History, base ocispec.Image, chain layers.Chain) []ocispec.History {
	missing := len(base.RootFS.DiffIDs)
	for _, h := range base.History {
		if !h.EmptyLayer {
			missing--
		}
	}
	if missing <= 0 || len(base.History) > len(history) || len(base.RootFS.DiffIDs) > len(chain) {
		return history
	}
	var added []ocispec.History
	for _, l := range chain[len(base.RootFS.DiffIDs)-missing : len(base.RootFS.DiffIDs)] {
		added = append(added, entryFor(l))
	}
	return slices.Insert(slices.Clone(history), len(base.History), added...)
}

// fillHistory makes the history agree with the layers: as many entries with a
// layer as there are layers, and a time for each.
func fillHistory(history []ocispec.History, chain layers.Chain, made *time.Time) []ocispec.History {
	history = append([]ocispec.History{}, history...)
	var n int
	for i := range history {
		if history[i].EmptyLayer {
			continue
		}
		if n == len(chain) {
			history[i].EmptyLayer = true
			continue
		}
		if history[i].Created == nil {
			history[i].Created = timeOf(chain[n])
		}
		n++
	}
	for _, l := range chain[n:] {
		history = append(history, entryFor(l))
	}
	fillTimes(history, made)
	return history
}

// entryFor is the history entry of a layer that has none. It depends on the layer
// alone, so that it is the same on every machine.
func entryFor(l layers.Layer) ocispec.History {
	return ocispec.History{Created: timeOf(l), CreatedBy: "layer " + l.DiffID.String(), Comment: "buildkit.exporter.image.v0"}
}

func timeOf(l layers.Layer) *time.Time {
	if l.Created.IsZero() {
		return nil
	}
	t := l.Created.UTC()
	return &t
}

// fillTimes gives entries without a time that of the layer before, or of the
// first new layer when they are right after the base image. What comes after the
// last layer was made when the image was; without such a time (nil) it gets that
// of the last layer.
func fillTimes(history []ocispec.History, made *time.Time) {
	if made != nil {
		for i := len(history) - 1; i >= 0 && history[i].Created == nil; i-- {
			history[i].Created = made
		}
	}
	var created *time.Time
	missing := false
	for _, h := range history {
		if h.Created == nil {
			missing = true
			continue
		}
		created = h.Created
		if missing {
			break
		}
	}
	missing = false
	for i, h := range history {
		switch {
		case h.Created == nil:
			missing = true
			history[i].Created = created
		case missing:
			created = h.Created
		}
	}
}

// clampHistory lets nothing be younger than epoch but what the base image
// brought.
func clampHistory(history, base []ocispec.History, epoch time.Time) {
	diverged := false
	for i, h := range history {
		if !diverged && i < len(base) && reflect.DeepEqual(h, base[i]) {
			continue
		}
		diverged = true
		if h.Created == nil || h.Created.After(epoch) {
			history[i].Created = &epoch
		}
	}
}

func lastTime(history []ocispec.History) *time.Time {
	var last *time.Time
	for _, h := range history {
		if h.Created != nil {
			last = h.Created
		}
	}
	return last
}
