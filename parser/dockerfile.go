package parser

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	dockerfile "github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerui"
	"github.com/moby/buildkit/solver/pb"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// entry is the Dockerfile as the frontend has found it, with the frontend's
// client, which must not be shared: converting for a platform changes it.
type entry struct {
	client *dockerui.Client
	source *dockerui.Source
	// text is the Dockerfile that counts: source's, unless a base image in
	// it was replaced. Lines have the same numbers in both.
	text []byte
	// shown is what people call it.
	shown string
}

// open finds and reads the Dockerfile. What is read is read once in a call,
// however often the Dockerfile is opened. The first time must not be at once
// with others.
func (f *frontend) open(ctx context.Context) (*entry, error) {
	c, src, err := f.entrypoint(ctx)
	if errors.Is(err, fs.ErrNotExist) && f.opts[filenameOpt] == "" {
		// The name that podman and Buildah look for.
		f.opts[filenameOpt] = "Containerfile"
		var other error
		if c, src, other = f.entrypoint(ctx); other == nil {
			err = nil
		} else {
			delete(f.opts, filenameOpt)
		}
	}
	if err != nil {
		return nil, err
	}
	e := &entry{client: c, source: src, text: src.Data, shown: cmp.Or(f.shown, src.Filename)}
	if err := f.checkSyntax(e); err != nil || f.from == "" {
		return e, err
	}
	e.text, err = replaceBase(src.Data, f.from)
	return e, err
}

// filenameOpt is the frontend's option for the Dockerfile's name.
const filenameOpt = "filename"

func (f *frontend) entrypoint(ctx context.Context) (*dockerui.Client, *dockerui.Source, error) {
	c, err := dockerui.NewClient(f)
	if err != nil {
		return nil, nil, err
	}
	src, err := c.ReadEntrypoint(ctx, "Dockerfile")
	return c, src, err
}

// checkSyntax refuses a frontend other than the one that is built in. Which
// version of that is asked for makes no difference.
func (f *frontend) checkSyntax(e *entry) error {
	line, given := f.opts["build-arg:BUILDKIT_SYNTAX"]
	var place []dockerfile.Range
	if !given {
		_, line, place, given = dockerfile.DetectSyntax(e.source.Data)
	}
	ref, _, _ := strings.Cut(strings.TrimSpace(line), " ")
	ref, refused := f.frontendImage(ref)
	if !given || refused == nil && isDockerfileFrontend(ref) {
		return nil
	}
	err := &Error{
		Msg: fmt.Sprintf("the frontend %s is not supported", ref),
		Hint: "Docker's own frontend is built in, whatever version docker/dockerfile is asked for; " +
			"remove the syntax line, or use docker/dockerfile:1",
	}
	if refused != nil {
		err = &Error{Msg: "the syntax line: " + refused.Error(), Err: refused}
	}
	if place != nil {
		err.Source, err.Ranges = e.file(), places(place)
	}
	return err
}

// frontendImage returns the image that the policy has in place of that of the syntax
// line. BuildKit asks before it fetches the image; here the frontend is built in, but
// the image that is named still has to be allowed.
func (f *frontend) frontendImage(ref string) (string, error) {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil || f.policy == nil {
		return ref, nil
	}
	const scheme = "docker-image://"
	op, err := f.policy.apply(&pb.SourceOp{Identifier: scheme + reference.TagNameOnly(named).String()})
	if err != nil {
		return ref, err
	}
	return strings.TrimPrefix(op.Identifier, scheme), nil
}

// isDockerfileFrontend reports whether ref names Docker's Dockerfile frontend,
// in any version, from any registry that mirrors it.
func isDockerfileFrontend(ref string) bool {
	if ref == "" {
		return true
	}
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return false
	}
	p := "/" + reference.Path(named)
	return strings.HasSuffix(p, "/docker/dockerfile") || strings.HasSuffix(p, "/docker/dockerfile-upstream")
}

func (e *entry) file() *SourceFile {
	s := sourceFile(e.shown, e.source.Data)
	return &s
}

// convertOpt is what the frontend's conversions take. A nil platform means
// that of the base image, or of the build. Without a target, all says that every stage
// counts. An error means that the Dockerfile exceeds a limit.
func (f *frontend) convertOpt(e *entry, p *ocispec.Platform, all bool, warn linter.LintWarnFunc) (dockerfile2llb.ConvertOpt, error) {
	images, err := f.evaluate(e, p, all)
	if err != nil {
		return dockerfile2llb.ConvertOpt{}, err
	}
	return dockerfile2llb.ConvertOpt{
		Config:         e.client.Config,
		Client:         e.client,
		SourceMap:      e.source.SourceMap,
		MetaResolver:   images,
		TargetPlatform: p,
		Warn:           warn,
	}, nil
}

// warner hands the findings of the build checks on.
func (f *frontend) warner(e *entry) linter.LintWarnFunc {
	return func(rule, description, url, msg string, at []dockerfile.Range) {
		line := 0
		if len(at) > 0 {
			line = at[0].Start.Line
		}
		f.tell(Warning{
			Short:  linter.LintFormatShort(rule, msg, line),
			Detail: []string{description}, URL: url, Level: 1,
			Source: e.file(), Ranges: places(at),
		})
	}
}

// stages are the Dockerfile's stages as they are written.
func (e *entry) stages() ([]instructions.Stage, error) {
	tree, err := dockerfile.Parse(bytes.NewReader(e.text))
	if err != nil {
		return nil, err
	}
	silent := linter.New(&linter.Config{SkipAll: true})
	stages, _, err := instructions.Parse(tree.AST, silent)
	return stages, err
}

// checkFilter warns of names that are no stages, since nothing is run again for
// them.
func (f *frontend) checkFilter(e *entry, names []string) {
	if len(names) == 0 {
		return
	}
	stages, err := e.stages()
	if err != nil {
		return
	}
	for _, name := range names {
		if name != "" && !slices.ContainsFunc(stages, func(s instructions.Stage) bool { return strings.EqualFold(s.Name, name) }) {
			f.tell(Warning{Short: fmt.Sprintf("no stage is named %s, so no step of it is run again", name), Level: 1})
		}
	}
}

// places translates positions in the Dockerfile.
func places(rs []dockerfile.Range) []Range {
	var out []Range
	for _, r := range rs {
		out = append(out, Range{
			Start: Position{Line: r.Start.Line, Character: r.Start.Character},
			End:   Position{Line: r.End.Line, Character: r.End.Character},
		})
	}
	return out
}

// declaredArgs are the names that ARG instructions of the Dockerfile declare.
func (e *entry) declaredArgs() map[string]bool {
	names := map[string]bool{}
	stages, err := e.stages()
	if err != nil {
		return names
	}
	for _, s := range stages {
		for _, c := range s.Commands {
			if a, ok := c.(*instructions.ArgCommand); ok {
				for _, kv := range a.Args {
					names[kv.Key] = true
				}
			}
		}
	}
	return names
}
