package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"

	"github.com/containerd/platforms"

	"github.com/sinter-build/sinter/builder/provenance"
)

// metadataVariable says how much --metadata-file tells of how the image was built.
const metadataVariable = "BUILDX_METADATA_PROVENANCE"

// metadata is what --metadata-file tells of how the targets were built, as buildx writes
// it: always provenance of version 0.2, of which min leaves the steps out and what is known
// of the run.
func (a *attesting) metadata(ctx context.Context) (map[string]json.RawMessage, error) {
	mode := os.Getenv(metadataVariable)
	if on, err := strconv.ParseBool(mode); mode == "disabled" || err == nil && !on {
		return nil, nil
	}
	build := a.build
	build.Finished = a.finished()
	if mode == "max" {
		build.VCS = a.vcs()
	}
	options := provenance.Options{Max: true, Version: "v0.2"}
	if o := a.wanted.provenance; o != nil {
		options.BuilderID = o.BuilderID
	}
	out := map[string]json.RawMessage{}
	for i, t := range build.Graph.Targets {
		data, err := build.Predicate(ctx, i, options)
		if err != nil && ctx.Err() == nil {
			// The image is where it belongs by now.
			a.warn(fmt.Sprintf("the metadata file does not tell how the image was built: %v", err))
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		if mode != "max" {
			if data, err = minimal(data); err != nil {
				return nil, err
			}
		}
		key := "buildx.build.provenance"
		if a.assembly.Index { // buildx has results by platform then, even of one
			key += "/" + platforms.FormatAll(t.Platform)
		}
		out[key] = data
	}
	return out, nil
}

// minimal leaves out of a predicate what min does not tell.
func minimal(predicate []byte) ([]byte, error) {
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(predicate, &fields); err != nil {
		return nil, err
	}
	delete(fields, "buildConfig")
	delete(fields, "metadata")
	return json.Marshal(fields)
}
