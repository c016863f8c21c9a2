// Package builder turns a parser.Graph into root file systems. It plans (plan.go: a
// key for every step, a record for every step that was done before) and acts
// (resolve.go: runs what missed, in parallel as the graph allows). What each
// operation reads, what decides its key and how it runs is in op_*.go; newOp is the
// one dispatch over parser.Op.
//
// The invariant: a step's result is stored under a key that names all that
// decided it, and only after the result is complete.
//
// The package does not know what an image looks like outside (builder/export),
// how one command is isolated (builder/sandbox) or what COPY means
// (builder/fileop).
package builder

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/sinter-build/sinter/builder/progress"
	"github.com/sinter-build/sinter/builder/runner"
	"github.com/sinter-build/sinter/builder/sandbox"
	"github.com/sinter-build/sinter/builder/source"
	"github.com/sinter-build/sinter/builder/source/git"
	"github.com/sinter-build/sinter/builder/source/local"
	"github.com/sinter-build/sinter/builder/source/web"
	"github.com/sinter-build/sinter/cache"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/archive"
	"github.com/sinter-build/sinter/layers/store"
	"github.com/sinter-build/sinter/parser"
)

// Images finds root file systems of base images. The resolver that answered
// the parser and the one that answers the builder are the same value, so an
// image is looked up once.
type Images interface {
	// Chain returns the layers of an image op's reference for a platform.
	Chain(ctx context.Context, op parser.Op, p ocispec.Platform) (layers.Chain, error)
	// Named returns its name with its digest, for people.
	Named(ctx context.Context, op parser.Op, p ocispec.Platform) (string, error)
}

// Config is what a build works with. All but the marked fields are needed.
type Config struct {
	Layers *store.Store
	Cache  *cache.Store
	Images Images
	// Locals are the directories behind parser.Local nodes, by name.
	Locals map[string]*local.Directory
	// Git and Web get what parser.Git and parser.HTTP nodes ask for.
	Git *git.Fetcher
	Web *web.Fetcher
	// Scanner does what parser.Scan asks for; only needed where a graph has that.
	Scanner Scanner
	// Given is what the person who builds gives to commands; optional.
	Given runner.Given
	// Journal writes down what the build does and why; optional.
	Journal *Journal
	// Events gets what happens; optional.
	Events progress.Func
	// Began is called when the first step that is not cached begins; optional.
	Began func()
	// Compression of layers that are exported.
	Compression archive.Compression
	// Blobs says that the targets' layers will be exported as blobs: they
	// are then compressed while later steps run.
	Blobs bool
	// Squash makes one layer of all that a target has over its base image.
	Squash bool
	// Epoch, in seconds since 1970, is the latest time that files of new
	// layers will have where they are exported to, and that of files which a
	// step made; optional. It decides no step: with another one everything
	// stays cached.
	Epoch *int64
	// SingleUser says that commands can only make files that belong to one
	// user, whatever they ask for. Their results are then other ones.
	SingleUser bool
	// UnusualIDs lists the user and group IDs that commands have, if these are not
	// the usual ones: it is part of their keys, since a file may get another owner
	// where one is missing.
	UnusualIDs string
	// Parallel is how many commands run at once at most; 0 means as many as the
	// graph allows and the limit on open files has room for.
	Parallel int
}

// Result is what a build yields.
type Result struct {
	Targets []TargetResult
	Stats   Stats
}

// TargetResult is the root file system of one target. With Config.Blobs its
// layers are packed: they have diff IDs and descriptors; with an epoch as well the
// store has them as they are wanted then (see store.Convert).
type TargetResult struct {
	Target parser.Target
	Chain  layers.Chain
	// Scan are the layers of Target.Scan; nil without it. See Statements.
	Scan layers.Chain
	// Built is when an image of this config and these layers was first built;
	// zero without Config.Blobs, and with an epoch.
	Built time.Time

	steps func(context.Context) (map[digest.Digest]Span, map[digest.Digest]layers.Chain, error)
}

// Stats counts the steps (commands and file operations) of a build.
type Stats struct {
	Ran, Cached int
}

// StepError is the failure of one step.
type StepError struct {
	Node  *parser.Node
	Graph *parser.Graph
	Err   error
}

// Error names the step by its place in the Dockerfile, where that is known: its lines
// are shown beside it.
func (e *StepError) Error() string {
	if src := e.Source(); src != nil {
		return fmt.Sprintf("%s:%d: %v", src.Name, e.Node.Pos[0].Start.Line, e.Err)
	}
	return fmt.Sprintf("%s: %v", e.Node.Name, e.Err)
}

// Source is the Dockerfile that the step comes from; nil where that is not known.
func (e *StepError) Source() *parser.SourceFile {
	if e.Graph == nil || len(e.Node.Pos) == 0 {
		return nil
	}
	return &e.Graph.Files[e.Node.Pos[0].File]
}

// Unwrap returns the reason.
func (e *StepError) Unwrap() error { return e.Err }

// Build does what g asks for. The error of a step that failed is a *StepError.
func Build(ctx context.Context, g *parser.Graph, c Config) (*Result, error) {
	return replanned(ctx, g, c, func(ctx context.Context, e *engine) (*Result, error) { return e.build(ctx) })
}

// engine is one build. Its maps are filled before any goroutine starts.
type engine struct {
	Config
	graph  *parser.Graph
	plan   *planner
	jobs   map[*parser.Node]*job
	bounds bounds
	packs  *packs
	runner runner.Runner
	told   sync.Map // warnings
	// was has the index of each step in the last build of the same, -1 for new ones.
	match sync.Once
	was   map[*parser.Node]int
	began sync.Once // for Config.Began
	// background are the steps that were begun before somebody waits for them.
	background sync.WaitGroup
}

// job is what the engine knows of one node. exported and ranOn are decided by the
// graph alone.
type job struct {
	// exported: the layer becomes part of an image.
	exported bool
	// ranOn: a command runs on top of the layer, so it is wanted as a
	// directory.
	ranOn  bool
	result future[value]
	// done: result is there and is not an error.
	done  atomic.Bool
	shown shown
}

// value is what a node yields: chains (one for each output) or, for a source
// of files, an FS.
type value struct {
	chains []layers.Chain
	files  source.FS
	// image is the name of a base image, with its digest.
	image string
}

// newEngine prepares a build. Steps that it begins ahead end with ctx, and one that fails
// calls fail.
func newEngine(ctx context.Context, g *parser.Graph, c Config, fail func(error)) (*engine, error) {
	if c.Events == nil {
		c.Events = func(progress.Event) {}
	}
	e := &engine{
		Config: c, graph: g,
		jobs:   make(map[*parser.Node]*job, len(g.Nodes)),
		bounds: newBounds(c.Parallel),
	}
	e.runner = runner.Runner{
		Given: c.Given, Layers: c.Layers, Caches: c.Cache, SingleUser: c.SingleUser,
		Warn: e.warn, Sandbox: sandbox.Run,
	}
	var err error
	if e.plan, err = newPlanner(g, &e.Config, stored{e}, e.blame); err != nil {
		return nil, err
	}
	e.plan.ahead = func(n *parser.Node) {
		e.background.Go(func() {
			if _, err := e.resolve(ctx, n); err != nil {
				fail(err)
			}
		})
	}
	for _, n := range g.Nodes {
		e.jobs[n] = &job{}
	}
	e.markUses()
	e.packs = newPacks(ctx, e.Layers, e.bounds, store.ConvertOptions{Compression: e.Compression, Epoch: e.epoch()})
	return e, nil
}

// wait returns when nothing goes on in the background any more.
func (e *engine) wait() {
	e.background.Wait()
	e.packs.wait()
}

// markUses finds which forms the layers of each node will be wanted in.
func (e *engine) markUses() {
	// Layers that are squashed are no part of an image themselves.
	if e.Blobs && !e.Squash {
		for _, t := range e.graph.Targets {
			e.eachBelow(t.Node, func(j *job) bool {
				was := j.exported
				j.exported = true
				return !was
			})
		}
	}
	for _, n := range e.graph.Nodes {
		s := e.plan.nodes[n]
		if _, ok := s.op.(execOp); !ok {
			continue
		}
		for _, in := range s.inputs {
			e.eachBelow(in.from.Node, func(j *job) bool {
				was := j.ranOn
				j.ranOn = true
				return !was
			})
		}
	}
}

// eachBelow calls fn for n and for the nodes whose layers are part of n's
// root, as long as fn returns true.
func (e *engine) eachBelow(n *parser.Node, fn func(*job) bool) {
	if n == nil || !fn(e.jobs[n]) {
		return
	}
	for _, in := range e.plan.nodes[n].inputs {
		if in.root {
			e.eachBelow(in.from.Node, fn)
		}
	}
}

func (e *engine) build(ctx context.Context) (*Result, error) {
	e.declare()
	res := &Result{Targets: make([]TargetResult, len(e.graph.Targets))}
	group, stepCtx := errgroup.WithContext(ctx)
	for i, t := range e.graph.Targets {
		res.Targets[i].Target = t
		if t.Scan.Node != nil {
			group.Go(func() (err error) {
				res.Targets[i].Scan, err = e.chainOf(stepCtx, t.Scan)
				return err
			})
		}
		if t.Node == nil {
			continue
		}
		group.Go(func() error {
			chain, err := e.chainOf(stepCtx, parser.Input{Node: t.Node, Output: t.Output})
			res.Targets[i].Chain = chain
			res.Targets[i].steps = func(ctx context.Context) (map[digest.Digest]Span, map[digest.Digest]layers.Chain, error) {
				return e.stepLayers(ctx, t, chain)
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	if e.Squash {
		for i := range res.Targets {
			if err := e.squash(ctx, &res.Targets[i]); err != nil {
				return nil, err
			}
		}
	}
	if e.Blobs {
		for i := range res.Targets {
			if err := e.finish(ctx, &res.Targets[i]); err != nil {
				return nil, err
			}
		}
	}
	res.Stats = e.stats()
	return res, nil
}

// epoch is what becomes of times in the layers that are packed while later steps
// run.
func (e *engine) epoch() *layers.Epoch {
	if e.Epoch == nil {
		return nil
	}
	return &layers.Epoch{Seconds: *e.Epoch}
}

func (v value) chain(output int) (layers.Chain, error) {
	if v.chains == nil {
		return nil, errors.New("a source of files has no layers")
	}
	if output < 0 || output >= len(v.chains) {
		return nil, fmt.Errorf("the step has no output %d", output)
	}
	return v.chains[output], nil
}

// stats counts the steps that people think of: commands and file operations.
func (e *engine) stats() Stats {
	var s Stats
	for _, n := range e.graph.Nodes {
		if e.plan.nodes[n].op.kind() != stepKind {
			continue
		}
		if e.jobs[n].shown.now() == showRan {
			s.Ran++
		} else {
			s.Cached++
		}
	}
	return s
}

func since(t time.Time) time.Duration { return time.Since(t).Round(time.Microsecond) }
