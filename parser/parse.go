// Package parser turns a Dockerfile and what was asked of it into a Graph: the
// steps that the wanted images need, each once, in an order in which they can
// be done. BuildKit's own frontend reads the Dockerfile, inside this process,
// so that it means what it means in Docker; nothing of BuildKit's is in what
// the package returns. It runs no step and reads no file but through a
// Resolver.
package parser

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	commonexptypes "github.com/moby/buildkit/exporter/exptypes"
	"github.com/moby/buildkit/frontend/gateway/client"
)

// Parse reads the Dockerfile and makes the graph. Findings of the build checks
// go to warn, one at a time, in the order of the Dockerfile; warn may be nil.
// An error that concerns the Dockerfile or the request is, or wraps, an *Error.
func Parse(ctx context.Context, req Request, r Resolver, warn func(Warning)) (*Graph, error) {
	f, err := newFrontend(req, r, warn)
	if err != nil {
		return nil, err
	}
	res, err := f.run(ctx)
	if err != nil {
		return nil, err
	}
	g, err := graph(res, len(req.Platforms) == 0)
	if err != nil {
		return nil, fmt.Errorf("translating the frontend's answer: %w", err)
	}
	return g, nil
}

// graph translates the frontend's answer. When no platform was asked for, the
// image's own config says which one it is.
func graph(res *client.Result, implicit bool) (*Graph, error) {
	var ps exptypes.Platforms
	if err := json.Unmarshal(res.Metadata[exptypes.ExporterPlatformsKey], &ps); err != nil {
		return nil, fmt.Errorf("reading the list of platforms: %w", err)
	}
	t := newTranslation()
	targets := make([]Target, len(ps.Platforms))
	for i, p := range ps.Platforms {
		var err error
		if targets[i], err = t.target(res, p); err != nil {
			return nil, fmt.Errorf("platform %s: %w", p.ID, err)
		}
		if implicit {
			if err := json.Unmarshal(targets[i].Config, &targets[i].Platform); err != nil {
				return nil, fmt.Errorf("reading the image config: %w", err)
			}
		}
	}
	g := t.graph()
	g.Targets = targets
	return g, nil
}

func (t *translation) target(res *client.Result, p exptypes.Platform) (Target, error) {
	ref, suffix := res.Ref, ""
	if ref == nil {
		ref, suffix = res.Refs[p.ID], "/"+p.ID
	}
	s, ok := ref.(*solved)
	if !ok {
		return Target{}, fmt.Errorf("no result")
	}
	end, err := t.add(s.def)
	if err != nil {
		return Target{}, err
	}
	target := Target{
		Platform: p.Platform, Node: end.Node, Output: end.Output,
		Config:     res.Metadata[exptypes.ExporterImageConfigKey+suffix],
		BaseConfig: res.Metadata[exptypes.ExporterImageBaseConfigKey+suffix],
	}
	if e := res.Metadata[commonexptypes.ExporterEpochKey+suffix]; e != nil {
		n, err := strconv.ParseInt(string(e), 10, 64)
		if err != nil {
			return Target{}, fmt.Errorf("reading the epoch: %w", err)
		}
		target.Epoch = &n
	}
	return target, nil
}
