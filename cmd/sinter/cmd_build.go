package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
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
BUILDKIT_COLORS, NO_COLOR, SOURCE_DATE_EPOCH, BUILDX_GIT_LABELS, BUILDX_GIT_INFO,
BUILDX_GIT_CHECK_DIRTY, BUILDX_METADATA_PROVENANCE, BUILDX_NO_DEFAULT_ATTESTATIONS.
RUN gets the proxies in docker's config.json.
EXPERIMENTAL_BUILDKIT_SOURCE_POLICY names a JSON file with rules that allow, deny
or convert sources.

Without -o, --push or --load the image is kept in sinter's own store.`,
		Example: `  sinter build -t app .
  sinter build -t registry.example.com/app:1 --platform linux/amd64,linux/arm64 --push .
  sinter build -o type=oci,dest=app.tar https://github.com/org/app.git#main`,
		Args: f.checkArgs,
		RunE: func(c *cobra.Command, args []string) error {
			f.context = args[0]
			return a.build(c.Context(), f)
		},
	}
	f.register(c)
	return c
}

// building is one run of the build command: what its flags say, and the display.
type building struct {
	*app
	flags   *buildFlags
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
	// assembly are the options that all images have.
	assembly assemble.Options
	attests  attestations
	began    time.Time
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
		return err
	}
	b.screen.redact = a.redact
	a.events, a.silent = b.screen.event, b.screen.words == nil && !a.rawJSON
	again, stdin, err := b.run(ctx, call, req)
	if again {
		_, err = a.reexec(ctx, stdin)
	}
	return err
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
	if b.outputs, err = f.outputs(b.names, isTerminal(b.stdout)); err != nil {
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
	if req.Policy, err = b.sourcePolicy(ctx); err != nil {
		return call, req, err
	}
	if b.assembly, err = f.assembly(); err != nil {
		return call, req, err
	}
	if b.attests, err = f.attestations(req.BuildArgs); err != nil {
		return call, req, err
	}
	b.assembly.Attest.Asked, req.SBOM = b.attests.asked(), b.attests.request()
	b.addProxies(req.BuildArgs)
	b.hides = parser.Redactor(req.BuildArgs)
	b.assembly.Index = req.MultiPlatform
	warnings := append(f.foreign.warnings(), withoutEffect(req.BuildArgs)...)
	for _, w := range append(warnings, f.unused(b.outputs, b.assembly.Attest.Asked)...) {
		b.warn(w)
	}
	return call, req, nil
}

// run does what the flags ask for. again says that only a process in a user namespace
// can: it has to begin again, with stdin as its standard input.
func (b *building) run(ctx context.Context, call calling, req parser.Request) (again bool, stdin *os.File, err error) {
	defer b.screen.close()
	// A process that may have to start again in a user namespace keeps
	// quiet until that is decided.
	if !userns.Needed() {
		b.screen.show()
	}
	err = b.withLibrary(ctx, func(lib library) error {
		in, err := b.openInputs(ctx, &req)
		if err != nil {
			return err
		}
		defer in.close()
		resolver, err := b.resolver(ctx, lib, in)
		switch {
		case err != nil:
			return err
		case call.method != "":
			return b.call(ctx, req, resolver, call)
		case b.flags.planning != nil:
			return b.plan(ctx, req, resolver)
		}
		graph, config, err := b.parse(ctx, req, resolver)
		if err != nil {
			return err
		}
		if again = b.wantsPrivileges(ctx, graph, config); again {
			stdin = in.stdin
			b.screen.discard()
			return nil
		}
		return b.act(ctx, lib, graph, config, b.newAttesting(ctx, lib.Store, graph, in, config.Images))
	})
	return again, stdin, err
}

// parse returns the graph, and the configuration with what only that decides.
func (b *building) parse(ctx context.Context, req parser.Request, r *builder.Resolver) (*parser.Graph, builder.Config, error) {
	config := r.Build
	graph, err := parser.Parse(ctx, req, r, b.found)
	if err == nil {
		err = b.allowed.Check(graph, b.devices)
	}
	if err == nil {
		config.Epoch, err = b.checkOutputs(graph)
	}
	return graph, config, err
}

// act runs the steps and writes the outputs.
func (b *building) act(ctx context.Context, lib library, graph *parser.Graph, config builder.Config, attests *attesting) error {
	if reason := userns.Reason(); reason != "" && builder.Runs(graph) {
		b.warn("commands have one user ID, so all that they make belongs to root: " + reason)
	}
	b.screen.show()
	config.Journal = builder.NewJournal(config.Cache, config.Layers, b.subject(graph), graph.Redact, b.warn)
	defer attests.begin(&config)()
	image := ""
	result, err := builder.Build(ctx, graph, config)
	if err == nil {
		image, err = b.export(ctx, lib, result, attests)
	}
	config.Journal.Close(ctx, b.names, image, err)
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

// resolver opens what a build works with. It answers the frontend.
func (b *building) resolver(ctx context.Context, lib library, in *inputs) (*builder.Resolver, error) {
	sources, err := b.imageSources()
	if err != nil {
		return nil, err
	}
	for name, dir := range in.layouts {
		sources.AddLayout(name, dir)
	}
	config, err := b.builderConfig(ctx, lib, in)
	config.Images = sources
	return &builder.Resolver{
		Images: sources, Locals: in.locals, Ignore: b.ignore, Containerfile: in.containerfile, Events: b.screen.event, Build: config,
		CheckContext: b.flags.checkContextPolicy,
	}, err
}

// wantsPrivileges reports whether the build has to handle files of users other
// than our own.
func (b *building) wantsPrivileges(ctx context.Context, g *parser.Graph, c builder.Config) bool {
	if !userns.Needed() || !builder.Runs(g) {
		return false
	}
	files := slices.ContainsFunc(b.outputs, func(o output.Spec) bool { return !o.NeedsBlobs() })
	return files || !builder.Planned(ctx, g, c)
}

// builderConfig is what the builder works with, but for the images.
func (b *building) builderConfig(ctx context.Context, lib library, in *inputs) (c builder.Config, err error) {
	c.Parallel = b.flags.maxParallelism
	if !b.flags.given.Changed("max-parallelism") {
		conf, err := b.configuration()
		if err != nil {
			return c, err
		}
		c.Parallel = conf.MaxParallelism
	}
	c.Compression = b.compression()
	c.Blobs = slices.ContainsFunc(b.outputs, output.Spec.NeedsBlobs)
	c.Layers, c.Cache, c.Locals, c.Git, c.Web = lib.Store, lib.Cache, in.locals, in.git, in.web
	c.Given = runner.Given{
		Secrets: b.secrets.reader(ctx, &b.files), SSH: b.agents.serve, Devices: b.devices, Volumes: b.volumes,
	}
	if b.attests.sbom != nil && b.attests.sbom.Generator == "" {
		c.Scanner = &sbomScanner{lib.Store, b.attests.sbom.format, b.warn}
	}
	c.Squash = b.flags.squash
	c.Events = b.screen.event
	c.SingleUser, c.UnusualIDs = userns.CommandIDs()
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

// export writes all outputs, then says what was built. It returns the image's digest;
// "" for none.
func (b *building) export(ctx context.Context, lib library, result *builder.Result, attests *attesting) (image string, err error) {
	env := export.Env{Store: lib.Store, Images: lib.Images, Stdout: b.stdout, Events: b.screen.event}
	if env.Registry, err = b.registry(); err != nil {
		return "", err
	}
	targets := make([]assemble.Part, len(result.Targets))
	for i, t := range result.Targets {
		targets[i] = assemble.Part{
			Platform: t.Target.Platform, Config: t.Target.Config, BaseConfig: t.Target.BaseConfig,
			Chain: t.Chain, Built: t.Built, Epoch: t.Target.Epoch, Attest: attests.of(i, t),
		}
	}
	written, err := export.Write(ctx, env, targets, b.assembly, b.outputs, b.names)
	if err != nil {
		return "", err
	}
	b.screen.close()
	if written.Image != nil {
		image = written.Image.Digest().String()
	}
	if err := b.flags.writeFiles(ctx, written, b.allWarnings(), attests.metadata); err != nil {
		return image, err
	}
	return image, b.summary(written, result.Stats)
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
