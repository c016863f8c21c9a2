package parser

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	dockerfile "github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	"github.com/moby/buildkit/util/system"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// evaluation expands the variables of a Dockerfile, for one platform, before the
// frontend does it, with the frontend's own lexer, to hold what they come to against
// the limits. It takes in each stage that the frontend works on once, as soon as its
// base image is known, which is before the frontend works on any stage. What is wrong
// with the Dockerfile otherwise is left for the frontend to tell.
type evaluation struct {
	*frontend
	e      *entry
	escape rune
	args   map[string]string // of the build
	global *variables

	mu       sync.Mutex
	stages   []*evaluated
	named    map[string]*evaluated // by lower-case name; of equal names the last
	expanded int
}

// evaluated is what a stage begins with and has become.
type evaluated struct {
	instructions.Stage
	needed   bool
	base     *evaluated
	image    string     // what the frontend asks for, when base is nil
	start    *variables // when it has neither base nor image
	vars     *variables // nil until the stage is taken in
	env      imageEnv
	triggers []string // for stages that begin with this one
}

// imageEnv is the environment in an image's config. A stage on the image begins with
// these values, also where ARG has given the variables others.
type imageEnv map[string]setting

type setting struct {
	value string
	known bool
}

// evaluate takes in what can be told before any base image is known: of the stages
// that the target needs, or of all if no target is given and all is set.
func (f *frontend) evaluate(e *entry, p *ocispec.Platform, all bool) (*evaluation, error) {
	v := &evaluation{frontend: f, e: e, escape: '\\', args: e.client.BuildArgs, named: map[string]*evaluated{}}
	tree, err := dockerfile.Parse(bytes.NewReader(e.text))
	if err != nil {
		return v, nil
	}
	stages, args, err := instructions.Parse(tree.AST, linter.New(&linter.Config{SkipAll: true}))
	if err != nil || len(stages) == 0 {
		return v, nil
	}
	v.escape = tree.EscapeToken
	target := e.client.Target
	if target == "" {
		target = stages[len(stages)-1].Name
	}
	build := f.platform
	if ps := e.client.BuildPlatforms; len(ps) > 0 {
		build = ps[0]
	}
	if p == nil {
		p = &build
	}
	defined := platformArgs(build, *p, target)
	// The frontend does this twice: also as if no arguments were given.
	if _, err := v.globalArgs(defined, args, nil); found(err) != nil {
		return v, found(err)
	}
	if v.global, err = v.globalArgs(defined, args, v.args); err != nil {
		return v, found(err)
	}
	if ok, err := v.begin(stages, *p); !ok {
		return v, found(err)
	}
	v.needTarget(all)
	return v, found(v.descend())
}

// found is err, if it is about a limit.
func found(err error) error {
	var own *Error
	if errors.As(err, &own) {
		return own
	}
	return nil
}

// platformArgs are the arguments that the frontend defines.
func platformArgs(build, target ocispec.Platform, stage string) map[string]string {
	if stage == "" {
		stage = "default"
	}
	return map[string]string{
		"BUILDPLATFORM": platforms.Format(build), "BUILDOS": build.OS, "BUILDOSVERSION": build.OSVersion,
		"BUILDARCH": build.Architecture, "BUILDVARIANT": build.Variant,
		"TARGETPLATFORM": platforms.FormatAll(target), "TARGETOS": target.OS, "TARGETOSVERSION": target.OSVersion,
		"TARGETARCH": target.Architecture, "TARGETVARIANT": target.Variant,
		"TARGETSTAGE": stage,
	}
}

func (v *evaluation) lex() *shell.Lex { return shell.NewLex(v.escape) }

// globalArgs are the arguments before the first FROM.
func (v *evaluation) globalArgs(defined map[string]string, args []instructions.ArgCommand, given map[string]string) (*variables, error) {
	vars := &variables{values: map[string]string{}}
	for _, name := range slices.Sorted(maps.Keys(defined)) {
		value := defined[name]
		if own, ok := v.args[name]; ok {
			value = own
		}
		if err := vars.set(name, value); err != nil {
			return nil, &Error{Msg: err.Error(), Err: err, Hint: "it was given as a build argument: put long values into a file, COPY it, and let the commands read it"}
		}
	}
	for _, c := range args {
		for _, arg := range c.Args {
			value := arg.Value
			if own, ok := given[arg.Key]; ok {
				value = &own
			} else if value != nil {
				text, _, err := v.expand(vars, v.lex(), *value, &c)
				if err != nil {
					return nil, err
				}
				value = &text
			}
			if value != nil {
				if err := vars.set(arg.Key, *value); err != nil {
					return nil, v.refusal(c.Location(), err)
				}
			}
		}
	}
	return vars, nil
}

// begin finds out what the stages begin with. It reports false when that cannot be
// told.
func (v *evaluation) begin(stages []instructions.Stage, p ocispec.Platform) (bool, error) {
	for _, stage := range stages {
		s := &evaluated{Stage: stage}
		name, _, err := v.global.expand(v.lex(), stage.BaseName)
		if err != nil {
			return false, v.refusal(stage.Location, err)
		}
		platform := p
		if stage.Platform != "" {
			text, _, err := v.global.expand(v.lex(), stage.Platform)
			if err != nil {
				return false, v.refusal(stage.Location, err)
			}
			if platform, err = platforms.Parse(text); err != nil {
				return false, nil
			}
		}
		switch base, ok := v.named[name]; {
		case v.isContext(stage.Name):
			s.start = &variables{values: map[string]string{}, open: true}
		case ok:
			s.base = base
		case name == "scratch":
			s.start = &variables{values: map[string]string{}}
		case v.isContext(name):
			s.start = &variables{values: map[string]string{}, open: true}
		default:
			ref, err := reference.ParseNormalizedNamed(name)
			if err != nil {
				return false, nil
			}
			s.image = imageKey(reference.TagNameOnly(ref).String(), &platform)
		}
		v.stages = append(v.stages, s)
		if stage.Name != "" {
			v.named[strings.ToLower(stage.Name)] = s
		}
	}
	return true, nil
}

// isContext reports whether a named context may stand for name.
func (v *evaluation) isContext(name string) bool {
	if name == "" {
		return false
	}
	familiar := name
	if ref, err := reference.ParseNormalizedNamed(name); err == nil {
		familiar = reference.FamiliarString(reference.TagNameOnly(ref))
	}
	for key := range v.opts {
		if of, ok := strings.CutPrefix(key, "context:"); ok {
			of, _, _ = strings.Cut(of, "::")
			if strings.EqualFold(of, name) || of == familiar || of+":latest" == familiar {
				return true
			}
		}
	}
	return false
}

func imageKey(ref string, p *ocispec.Platform) string {
	return ref + " " + platforms.FormatAll(platforms.Normalize(*p))
}

// ResolveImageConfig answers the frontend, unless a stage on the image would exceed
// a limit.
func (v *evaluation) ResolveImageConfig(ctx context.Context, ref string, opt sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	name, dgst, config, err := v.frontend.ResolveImageConfig(ctx, ref, opt)
	if err != nil || opt.ImageOpt == nil || opt.ImageOpt.Platform == nil {
		return name, dgst, config, err
	}
	return name, dgst, config, v.answered(imageKey(ref, opt.ImageOpt.Platform), config)
}

// answered takes in the stages on an image.
func (v *evaluation) answered(key string, config []byte) error {
	var img struct {
		OS     string `json:"os"`
		Config struct {
			Env     []string
			OnBuild []string
		} `json:"config"`
	}
	if err := json.Unmarshal(config, &img); err != nil {
		return nil // the frontend tells of it
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, s := range v.stages {
		if !s.needed || s.vars != nil || s.image != key {
			continue
		}
		s.vars, s.env = &variables{values: map[string]string{}}, imageEnv{}
		for _, env := range img.Config.Env {
			name, value, _ := strings.Cut(env, "=")
			s.env[name] = setting{value, true}
		}
		if err := v.stage(s, img.Config.OnBuild); err != nil {
			return found(err)
		}
	}
	return found(v.descend())
}

// descend takes in the needed stages that stand on no image, or on a stage that has
// been taken in. Triggers of one stage may need others, also before it.
func (v *evaluation) descend() error {
	for more := true; more; {
		more = false
		for _, s := range v.stages {
			if !s.needed || s.vars != nil {
				continue
			}
			var triggers []string
			switch {
			case s.start != nil:
				s.vars = s.start
			case s.base != nil && s.base.vars != nil:
				vars := *s.base.vars
				vars.values = maps.Clone(vars.values)
				s.vars, s.env, triggers = &vars, maps.Clone(s.base.env), s.base.triggers
			default:
				continue
			}
			if err := v.stage(s, triggers); err != nil {
				return err
			}
			more = true
		}
	}
	return nil
}

// stage takes in a stage whose variables and environment are those of its base.
func (v *evaluation) stage(s *evaluated, triggers []string) error {
	if s.env == nil {
		s.env = imageEnv{}
	}
	if _, ok := s.env["PATH"]; !ok && !s.vars.open {
		s.env["PATH"] = setting{system.DefaultPathEnv("linux"), true}
	}
	for name, e := range s.env {
		if err := s.vars.put(name, e); err != nil {
			return v.refusal(s.Location, fmt.Errorf("the base image: %w", err))
		}
	}
	commands, err := parseTriggers(triggers, s.Location)
	if err != nil {
		return nil
	}
	v.needSources(commands)
	if !v.isContext(s.Name) {
		commands = append(commands, s.Commands...)
	}
	for _, c := range commands {
		if on, ok := c.(*instructions.OnbuildCommand); ok {
			s.triggers = append(s.triggers, on.Expression)
			continue
		}
		if err := v.command(s, c); err != nil {
			return found(err)
		}
	}
	return nil
}

// parseTriggers makes instructions of ONBUILD's, with the place of the FROM that sets
// them off.
func parseTriggers(triggers []string, at []dockerfile.Range) ([]instructions.Command, error) {
	var commands []instructions.Command
	for _, text := range triggers {
		tree, err := dockerfile.Parse(strings.NewReader(text))
		if err != nil || len(tree.AST.Children) != 1 {
			return nil, errors.Join(err, errors.New("not one instruction"))
		}
		node := tree.AST.Children[0]
		if len(at) > 0 {
			node.StartLine, node.EndLine = at[0].Start.Line, at[len(at)-1].End.Line
		}
		c, err := instructions.ParseCommand(node)
		if err != nil {
			return nil, err
		}
		commands = append(commands, c)
	}
	return commands, nil
}
