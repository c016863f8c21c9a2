package export

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/layers"
)

// finishConfig adds to the frontend's config what only the builder knows: the
// diff IDs, the times of history entries, the time of the image. What it does
// not know of the config stays as it is. The rules are those of the reference
// (BuildKit's exporter/containerimage/writer.go).
func finishConfig(img Image, chain layers.Chain) ([]byte, error) {
	data := img.Config
	if len(data) == 0 {
		var err error
		if data, err = emptyConfig(img.Platform); err != nil {
			return nil, err
		}
	}
	var known ocispec.Image
	fields := map[string]json.RawMessage{}
	if err := errors.Join(json.Unmarshal(data, &known), json.Unmarshal(data, &fields)); err != nil {
		return nil, fmt.Errorf("reading the image config: %w", err)
	}
	if fields == nil || known.OS == "" || known.Architecture == "" {
		return nil, errors.New("the image config does not say its os and architecture")
	}
	base, err := baseHistory(img.BaseConfig)
	if err != nil {
		return nil, err
	}
	history := fillHistory(known.History, chain)
	if img.Epoch != nil {
		clampHistory(history, base, time.Unix(*img.Epoch, 0).UTC())
	}
	rootfs := ocispec.RootFS{Type: "layers"}
	for _, l := range chain {
		rootfs.DiffIDs = append(rootfs.DiffIDs, l.DiffID)
	}
	_, hasCreated := fields["created"]
	set := map[string]any{"rootfs": rootfs, "history": history}
	switch created := known.Created; {
	case !hasCreated:
		set["created"] = lastTime(history)
	case img.Epoch != nil && created != nil && created.After(time.Unix(*img.Epoch, 0)):
		set["created"] = time.Unix(*img.Epoch, 0).UTC()
	}
	for name, value := range set {
		if fields[name], err = json.Marshal(value); err != nil {
			return nil, fmt.Errorf("writing the image config: %w", err)
		}
	}
	// A map's keys are written in order, so the bytes are always the same.
	return json.Marshal(fields)
}

// defaultPath is what an image without any config gets.
const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

func emptyConfig(p ocispec.Platform) ([]byte, error) {
	if p.OS == "" {
		p = platforms.DefaultSpec()
	}
	var img ocispec.Image
	img.Platform = platforms.Normalize(p)
	img.Config.WorkingDir = "/"
	img.Config.Env = []string{defaultPath}
	return json.Marshal(img)
}

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

// fillHistory makes the history agree with the layers: as many entries with a
// layer as there are layers, and a time for each.
func fillHistory(history []ocispec.History, chain layers.Chain) []ocispec.History {
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
		history = append(history, ocispec.History{Created: timeOf(l), Comment: "buildkit.exporter.image.v0"})
	}
	fillTimes(history)
	return history
}

func timeOf(l layers.Layer) *time.Time {
	if l.Created.IsZero() {
		return nil
	}
	t := l.Created.UTC()
	return &t
}

// fillTimes gives entries without a time that of the layer before, or of the
// first new layer when they are right after the base image.
func fillTimes(history []ocispec.History) {
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
