package parser

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// targetPrefix marks a named context that is a target of the same Dockerfile.
const targetPrefix = "target:"

// addTargets converts the targets that named contexts refer to, and gives them
// to the frontend as its inputs. Within them no such context counts, so a stage
// can stand for the very image that it is made from.
func (f *frontend) addTargets(ctx context.Context, req Request) error {
	inner := req
	inner.Contexts = maps.Clone(req.Contexts)
	maps.DeleteFunc(inner.Contexts, func(_, value string) bool { return strings.HasPrefix(value, targetPrefix) })
	for _, name := range slices.Sorted(maps.Keys(req.Contexts)) {
		target, ok := strings.CutPrefix(req.Contexts[name], targetPrefix)
		if !ok {
			continue
		}
		key, err := contextKey(name)
		if err != nil {
			return err
		}
		inner.Target = target
		if err := f.addTarget(ctx, inner, key); err != nil {
			return err
		}
	}
	return nil
}

// addTarget converts the request's target for every platform that the context
// of the given key may be wanted for.
func (f *frontend) addTarget(ctx context.Context, req Request, key string) error {
	name, only, one := strings.Cut(key, "::")
	wanted := slices.Clone(req.Platforms)
	if one {
		p, err := platforms.Parse(only)
		if err != nil {
			return err // contextKey has written it
		}
		wanted = []ocispec.Platform{p}
	}
	all := wanted
	if !one && !slices.ContainsFunc(wanted, platforms.Only(f.platform).Match) {
		all = append(all, f.platform) // for FROM --platform=$BUILDPLATFORM
	}
	for i, p := range all {
		if err := f.addInput(ctx, req, name, platforms.Normalize(p)); err != nil && (i < len(wanted) || len(wanted) == 0) {
			return err
		}
	}
	return nil
}

func (f *frontend) addInput(ctx context.Context, req Request, name string, p ocispec.Platform) error {
	inner, err := newFrontend(req, f.resolver, nil)
	if err != nil {
		return err
	}
	inner.found = f.found
	e, err := inner.open(ctx)
	if err != nil {
		return inner.problem(ctx, e, err)
	}
	opt, err := inner.convertOpt(e, &p, false, nil)
	if err != nil {
		return err
	}
	res, err := dockerfile2llb.Dockerfile2LLB(ctx, e.text, opt)
	if err != nil {
		return inner.problem(ctx, e, err)
	}
	redactHistory(res)
	config, err := json.Marshal(res.Image)
	if err != nil {
		return fmt.Errorf("the config of target %s: %w", req.Target, err)
	}
	meta, err := json.Marshal(map[string][]byte{exptypes.ExporterImageConfigKey: config})
	if err != nil {
		return fmt.Errorf("the config of target %s: %w", req.Target, err)
	}
	// With the platform in it, it is none of the frontend's own names.
	key := name + "::" + platforms.FormatAll(p)
	if f.inputs == nil {
		f.inputs = map[string]llb.State{}
	}
	f.inputs[key] = res.State
	f.opts["input-metadata:"+key] = string(meta)
	f.opts["context:"+key] = "input:" + key
	return nil
}
