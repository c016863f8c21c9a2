package assemble

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/layers"
)

// finishConfig adds to the frontend's config what only the builder knows: the
// diff IDs, the times of history entries, the time of the image. What it does
// not know of the config stays as it is. The rules are those of BuildKit
// (exporter/containerimage/writer.go).
func finishConfig(img Part, chain layers.Chain) ([]byte, error) {
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
	made := img.made()
	history := fillHistory(known.History, chain, made)
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
	case !hasCreated && made != nil:
		set["created"] = made
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

// made is when the image was built, as it may be told; nil when that is not
// known.
func (img Part) made() *time.Time {
	t := img.Built.UTC()
	switch {
	case img.Epoch != nil:
		t = time.Unix(*img.Epoch, 0).UTC()
	case img.Built.IsZero():
		return nil
	}
	return &t
}
