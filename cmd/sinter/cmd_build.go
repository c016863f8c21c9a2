package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/platforms"
	"github.com/spf13/cobra"

	"github.com/sinter-build/sinter/builder"
	"github.com/sinter-build/sinter/builder/cdi"
	"github.com/sinter-build/sinter/builder/export"
	"github.com/sinter-build/sinter/builder/export/assemble"
	"github.com/sinter-build/sinter/builder/export/output"
	"github.com/sinter-build/sinter/builder/progress"
	"github.com/sinter-build/sinter/builder/runner"
	"github.com/sinter-build/sinter/builder/sandbox/userns"
	"github.com/sinter-build/sinter/cache"
	"github.com/sinter-build/sinter/layers/archive"
	"github.com/sinter-build/sinter/layers/hostfile"
	"github.com/sinter-build/sinter/parser"
)

func newBuildCmd(a *app) *cobra.Command {
	f := &buildFlags{}
	c := &cobra.Command{
		Use:     "build [flags] PATH | URL | -",
		Aliases: []string{"b", "bud"},
		Short:   "Build an image from a Dockerfile",
		Long: `Build an image from a Dockerfile.

PATH is the build context: a directory, a git repository (an address that ends in
.git, or one of ssh; #REF:DIR may follow), or the address of a tar archive or a
Dockerfile. With - the context is read from standard input: a tar archive (plain
or compressed), or a Dockerfile on its own.

Docker's environment variables count: DOCKER_DEFAULT_PLATFORM, BUILDKIT_PROGRESS,
BUILDKIT_COLORS, NO_COLOR, SOURCE_DATE_EPOCH, BUILDX_GIT_LABELS; so do the proxies in docker's
config.json, for RUN alone.

Without -o, --push or --load the image is kept in sinter's own store.`,
		Args: f.checkArgs,
		RunE: func(c *cobra.Command, args []string) error {
			f.context = args[0]
			return a.build(c.Context(), f)
		},
	}
	f.register(c.Flags())
	return c
}

// building is one run of the build command.
type building struct {
	*app
	flags   *buildFlags
	inputs  *inputs
	outputs []output.Spec
	names   []string
	// files reads what the flags name.
	files   hostfile.Streams
	secrets secrets
	agents  agents
	volumes []runner.Volume
	allowed builder.Entitlements
	devices cdi.Specs
	// ignore are the rules of --ignorefile; nil without that.
	ignore []byte
	// assembly is what all images shall look like.
	assembly assemble.Options
	began    time.Time
	journal  *builder.Journal
	// image is the digest of what was built; "" for none.
	image string
}

func (a *app) build(ctx context.Context, f *buildFlags) error {
	if f.planning != nil {
		if err := f.planning.take(f); err != nil {
			return err
		}
	}
	if err := a.checkPipes(f); err != nil {
		return err
	}
	if done, err := a.enterForPipes(ctx, f); done || err != nil {
		return err
	}
	b := &building{app: a, flags: f, began: time.Now()}
	mode, err := f.display()
	if err != nil {
		return err
	}
	a.rawJSON = mode == rawJSON
	call, req, err := b.read(ctx)
	if err != nil {
		return err
	}
	if b.screen, err = newScreen(a.stderr, mode); err != nil {
		return usage(err)
	}
	defer b.screen.close()
	// A process that may have to start again in a user namespace keeps
	// quiet until that is decided.
	if !userns.Needed() {
		b.screen.show()
	}
	release, err := a.shared(ctx)
	if err != nil {
		return err
	}
	defer release()
	if b.inputs, err = b.openInputs(ctx, &req); err != nil {
		return err
	}
	defer b.inputs.close()
	a.events, a.silent = b.screen.event, b.screen.words == nil && !a.rawJSON
	if call.method != "" {
		return b.call(ctx, req, call)
	}
	if f.planning != nil {
		return b.plan(ctx, req)
	}
	return b.run(ctx, req, release)
}

// read makes sense of the flags. What is wrong with them is found before
// anything else is done.
func (b *building) read(ctx context.Context) (call calling, req parser.Request, err error) {
	f := b.flags
	if err = f.check(); err != nil {
		return call, req, err
	}
	if f.pull.policy != nil {
		b.policy = f.pull.policy
	}
	if call, err = f.called(); err != nil {
		return call, req, err
	}
	if b.names, err = tagNames(f.tags); err != nil {
		return call, req, err
	}
	if b.outputs, err = f.outputs(b.names); err != nil {
		return call, req, err
	}
	if err = f.checkFiles(b.outputs); err != nil {
		return call, req, err
	}
	if b.secrets, err = parseSecrets(f.secrets); err != nil {
		return call, req, err
	}
	for _, text := range b.secrets.unset() {
		b.warn(text)
	}
	if b.agents, err = parseAgents(ctx, &b.files, f.ssh); err != nil {
		return call, req, err
	}
	if b.volumes, err = f.volumeList(); err != nil {
		return call, req, err
	}
	if b.allowed, err = f.entitlements(); err != nil {
		return call, req, err
	}
	b.devices = cdi.Specs{Dirs: f.cdiDirs}
	if f.ignoreFile != "" {
		if b.ignore, err = b.files.Read(ctx, f.ignoreFile, hostfile.MaxText); err != nil {
			return call, req, badFlag("ignorefile", f.ignoreFile, err)
		}
	}
	if req, err = f.request(ctx, &b.files); err != nil {
		return call, req, err
	}
	if b.assembly, err = f.assembly(); err != nil {
		return call, req, err
	}
	b.assembly.Index = req.MultiPlatform
	warnings := append(f.foreign.warnings(f.given), withoutEffect(req.BuildArgs)...)
	for _, w := range append(warnings, f.unused(b.outputs)...) {
		b.warn(w)
	}
	b.addProxies(req.BuildArgs)
	return call, req, nil
}

// run builds. release gives up the hold on the store.
func (b *building) run(ctx context.Context, req parser.Request, release func()) error {
	config, err := b.config(ctx)
	if err != nil {
		return err
	}
	graph, err := parser.Parse(ctx, req, b.resolver(config), b.found)
	if err != nil {
		return err
	}
	if err := b.allowed.Check(graph, b.devices); err != nil {
		return err
	}
	if config.Epoch, err = b.checkOutputs(graph); err != nil {
		return err
	}
	if b.wantsPrivileges(ctx, graph, config) {
		b.screen.discard()
		b.inputs.close()
		release()
		if done, err := b.reexec(ctx, b.inputs.stdin); done || err != nil {
			return err
		}
	}
	if reason := userns.Reason(); reason != "" && builder.Runs(graph) {
		b.warn("commands have one user ID, so all that they make belongs to root: " + reason)
	}
	b.screen.show()
	b.journal = builder.NewJournal(config.Cache, config.Layers, b.subject(graph), graph.Redact, b.warn)
	config.Journal = b.journal
	result, err := builder.Build(ctx, graph, config)
	if err == nil {
		err = b.export(ctx, result)
	}
	b.journal.Close(ctx, b.names, b.image, err)
	return err
}

// subject says what is built.
func (b *building) subject(g *parser.Graph) cache.Subject {
	of := cache.Subject{Context: b.flags.context, Dockerfile: parser.Redact(b.flags.file), Target: b.flags.target}
	if abs, err := filepath.Abs(of.Context); err == nil && !strings.Contains(of.Context, "://") && of.Context != "-" {
		of.Context = abs
	}
	of.Context = parser.Redact(of.Context)
	for _, t := range g.Targets {
		of.Platforms = append(of.Platforms, platforms.FormatAll(t.Platform))
	}
	return of
}

// found shows a finding about the Dockerfile.
func (b *building) found(w parser.Warning) { b.screen.event(progress.Warned{Warning: w}) }

// resolver answers the frontend.
func (b *building) resolver(c builder.Config) *builder.Resolver {
	return &builder.Resolver{
		Images: b.sources, Locals: b.inputs.locals, Ignore: b.ignore, Containerfile: b.inputs.containerfile, Events: b.screen.event, Build: c,
	}
}

// wantsPrivileges reports whether the build has to handle files of users other
// than our own.
func (b *building) wantsPrivileges(ctx context.Context, g *parser.Graph, c builder.Config) bool {
	if !userns.Needed() || !builder.Runs(g) {
		return false
	}
	for _, o := range b.outputs {
		if !o.NeedsBlobs() {
			return true
		}
	}
	return !builder.Planned(ctx, g, c)
}

// config is what the builder works with.
func (b *building) config(ctx context.Context) (builder.Config, error) {
	var c builder.Config
	var err error
	if c.Layers, err = b.store(); err != nil {
		return c, err
	}
	if c.Cache, err = b.cache(); err != nil {
		return c, err
	}
	if _, err = b.imageSources(); err != nil {
		return c, err
	}
	c.Compression = b.compression()
	for name, dir := range b.inputs.layouts {
		b.sources.AddLayout(name, dir)
	}
	for _, o := range b.outputs {
		c.Blobs = c.Blobs || o.NeedsBlobs()
	}
	c.Images, c.Locals, c.Git, c.Web = b.sources, b.inputs.locals, b.inputs.git, b.inputs.web
	c.Given = runner.Given{
		Secrets: b.secrets.reader(ctx, &b.files), SSH: b.agents.serve, Devices: b.devices, Volumes: b.volumes,
	}
	c.Squash = b.flags.squash
	c.Events = b.screen.event
	c.SingleUser, c.UnusualIDs = userns.CommandIDs()
	c.Parallel = b.flags.maxParallelism
	if !b.flags.given.Changed("max-parallelism") {
		c.Parallel = b.parallel
	}
	return c, nil
}

// compression is that of the first image that goes out: its layers are made
// while the build goes on.
func (b *building) compression() archive.Compression {
	for _, o := range b.outputs {
		if o.NeedsBlobs() {
			return o.Compression()
		}
	}
	return archive.Compression{}
}

// export writes all outputs, then says what was built.
func (b *building) export(ctx context.Context, result *builder.Result) error {
	images, err := b.images()
	if err != nil {
		return err
	}
	env := export.Env{Store: b.layers, Images: images, Stdout: b.stdout, Events: b.screen.event}
	if env.Registry, err = b.registry(); err != nil {
		return err
	}
	targets := make([]assemble.Part, len(result.Targets))
	for i, t := range result.Targets {
		targets[i] = assemble.Part{
			Platform: t.Target.Platform, Config: t.Target.Config, BaseConfig: t.Target.BaseConfig,
			Chain: t.Chain, Built: t.Built, Epoch: t.Target.Epoch,
		}
	}
	written, err := export.Write(ctx, env, targets, b.assembly, b.outputs, b.names)
	if err != nil {
		return err
	}
	b.screen.close()
	if written.Image != nil {
		b.image = written.Image.Digest().String()
	}
	if err := b.flags.writeFiles(ctx, written, b.allWarnings()); err != nil {
		return err
	}
	return b.summary(written, result.Stats)
}

// summary is the last line: what was built, its digest, its size, how many
// steps ran.
func (b *building) summary(w *export.Written, s builder.Stats) error {
	if b.flags.quiet {
		if w.Image == nil {
			return nil
		}
		_, err := fmt.Fprintln(b.stdout, imageID(w.Image))
		return err
	}
	if b.rawJSON {
		return nil
	}
	what := "done"
	if w.Image != nil {
		name := "image"
		if len(b.names) > 0 {
			name = b.names[0]
		}
		what = fmt.Sprintf("built %s %s, %s", name, w.Image.Digest(), humanSize(w.Image.Size()))
	}
	for _, place := range w.Places {
		what += ", written to " + place
	}
	_, err := fmt.Fprintf(b.stderr, "%s; %s ran, %d cached, %.1fs\n", what, count(s.Ran, "step"), s.Cached, time.Since(b.began).Seconds())
	return err
}
