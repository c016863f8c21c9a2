package builder

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/archive"
	"github.com/sinter-build/sinter/layers/store"
	"github.com/sinter-build/sinter/parser"
)

// squash makes one layer of all that a target has over its base image. As in
// docker, the history keeps the steps, without layers, and ends with the layer.
func (e *engine) squash(ctx context.Context, r *TargetResult) error {
	base, err := baseOf(r.Target)
	if err != nil {
		return err
	}
	n := len(base.RootFS.DiffIDs)
	if len(r.Chain) <= n {
		return nil
	}
	l, err := e.squashed(ctx, r.Chain, n)
	if err != nil {
		return fmt.Errorf("joining the layers: %w", err)
	}
	r.Chain = r.Chain[:n].Append(l)
	return squashHistory(&r.Target, len(base.History))
}

// baseOf returns the config of a target's base image; of none it is empty.
func baseOf(t parser.Target) (base ocispec.Image, err error) {
	if len(t.BaseConfig) > 0 {
		if err := json.Unmarshal(t.BaseConfig, &base); err != nil {
			return base, fmt.Errorf("reading the config of the base image: %w", err)
		}
	}
	return base, nil
}

// squashedBefore returns the chain that squash makes of c, or c without Config.Squash. It
// reports false if squash would have to make a layer.
func (e *engine) squashedBefore(t parser.Target, c layers.Chain) (layers.Chain, bool, error) {
	base, err := baseOf(t)
	n := len(base.RootFS.DiffIDs)
	if err != nil || !e.Squash || len(c) <= n {
		return c, err == nil, err
	}
	l, ok := e.recordedSquash(squashIdentity(c, n))
	return c[:n].Append(l), ok, nil
}

// squashIdentity is the key of a layer of all that c has over its base layers.
func squashIdentity(c layers.Chain, base int) (id identity) {
	id.recipe.Add("operation", "squash")
	for _, name := range layerNames(c) {
		id.recipe.Add("layer", name)
	}
	id.recipe.Add("base layers", strconv.Itoa(base))
	id.key = id.recipe.Key()
	return id
}

func (e *engine) recordedSquash(id identity) (layers.Layer, bool) {
	v, ok := e.lookUp(id.key)
	if !ok || len(v.chains) != 1 || len(v.chains[0]) != 1 {
		return layers.Layer{}, false
	}
	return v.chains[0][0], true
}

// squashed returns the layer from its record, or makes it.
func (e *engine) squashed(ctx context.Context, c layers.Chain, base int) (layers.Layer, error) {
	id := squashIdentity(c, base)
	if l, ok := e.recordedSquash(id); ok {
		return l, nil
	}
	start := time.Now()
	l, err := e.joinLayers(ctx, c, base)
	if err != nil {
		return l, err
	}
	return l, e.put(id, "squash", value{chains: []layers.Chain{{l}}}, since(start))
}

func (e *engine) joinLayers(ctx context.Context, c layers.Chain, base int) (layers.Layer, error) {
	trees := make([]*layers.Tree, len(c))
	for i, l := range c {
		var err error
		if trees[i], err = e.Layers.Tree(ctx, l); err != nil {
			return layers.Layer{}, err
		}
	}
	w, err := e.Layers.NewWriter(ctx, store.Forms{Blob: e.Epoch == nil, Tar: e.Epoch != nil}, e.Compression)
	if err != nil {
		return layers.Layer{}, err
	}
	defer w.Abort()
	for _, n := range layers.Squash(trees, base) {
		open := func() (io.ReadCloser, error) { return e.Layers.OpenUnverified(ctx, c[n.Layer], n.Entry) }
		if err := archive.Add(ctx, w, n.Entry, open); err != nil {
			return layers.Layer{}, err
		}
	}
	return w.Commit(time.Now().UTC())
}

// squashHistory leaves the target's own history entries without layers, and
// adds one for the layer that holds all. base is how many entries are the base
// image's.
func squashHistory(t *parser.Target, base int) error {
	var known ocispec.Image
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(t.Config, &fields); err != nil {
		return fmt.Errorf("reading the image config: %w", err)
	}
	if err := json.Unmarshal(t.Config, &known); err != nil {
		return fmt.Errorf("reading the image config: %w", err)
	}
	for i := min(base, len(known.History)); i < len(known.History); i++ {
		known.History[i].EmptyLayer = true
	}
	known.History = append(known.History, ocispec.History{Comment: "merge of all new layers (--squash)"})
	var err error
	if fields["history"], err = json.Marshal(known.History); err != nil {
		return fmt.Errorf("writing the image config: %w", err)
	}
	t.Config, err = json.Marshal(fields)
	return err
}
