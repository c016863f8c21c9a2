package assemble

import (
	"encoding/json"
	"fmt"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/layers"
)

// dropEmpty leaves the empty layers of steps that changed nothing out of the
// image, and marks their history entries as such. Those of the base image stay:
// its layers are used again as they are; base is how many these are. Where the
// history of the base image tells of fewer layers, entries are added.
func dropEmpty(img Part) (_ Part, chain layers.Chain, base int, err error) {
	chain = img.Chain
	if len(img.Config) == 0 {
		return img, withoutEmpty(chain, nil, 0), 0, nil
	}
	var known ocispec.Image
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(img.Config, &fields); err != nil {
		return img, nil, 0, fmt.Errorf("reading the image config: %w", err)
	}
	if err := json.Unmarshal(img.Config, &known); err != nil {
		return img, nil, 0, fmt.Errorf("reading the image config: %w", err)
	}
	var b ocispec.Image
	if len(img.BaseConfig) > 0 {
		if err := json.Unmarshal(img.BaseConfig, &b); err != nil {
			return img, nil, 0, fmt.Errorf("reading the config of the base image: %w", err)
		}
		base = len(b.RootFS.DiffIDs)
	}
	history := completed(known.History, b, chain)
	kept := withoutEmpty(chain, history, base)
	if len(kept) == len(chain) && len(history) == len(known.History) {
		return img, chain, base, nil
	}
	if fields["history"], err = json.Marshal(history); err != nil {
		return img, nil, 0, fmt.Errorf("writing the image config: %w", err)
	}
	img.Config, err = json.Marshal(fields)
	return img, kept, base, err
}

// withoutEmpty returns chain without its empty layers from the index base on,
// and marks their entries in history.
func withoutEmpty(chain layers.Chain, history []ocispec.History, base int) layers.Chain {
	// entry is the history entry of the layer at hand; entries without a
	// layer are skipped.
	entry := -1
	next := func() {
		for entry++; entry < len(history) && history[entry].EmptyLayer; entry++ {
		}
	}
	kept := layers.Chain{}
	for i, l := range chain {
		next()
		if i < base || l.ID != layers.EmptyID {
			kept = append(kept, l)
			continue
		}
		if entry < len(history) {
			history[entry].EmptyLayer = true
		}
	}
	return kept
}
