package main

import (
	"context"
	"encoding/csv"
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sinter-build/sinter/layers/hostfile"
	"github.com/sinter-build/sinter/parser"
)

// buildFlags are the flags of the build command as they were given.
type buildFlags struct {
	context string

	file, ignoreFile, from, target string
	tags, buildArgs, buildArgFiles []string
	contexts, platforms            []string
	secrets, ssh, output           []string
	push, load, quiet              bool
	pull                           pullFlag
	noCache, squash                bool
	noCacheFilter                  []string
	labels, annotations            []string
	call                           string
	iidFile, digestFile            string
	metadataFile                   string
	progress                       displayMode
	timestamp, format              string

	addHosts, ulimits, volumes     []string
	allow, resources, cdiDirs      []string
	network, shmSize, cgroupParent string
	maxParallelism                 int

	attests attestFlags
	foreign foreignFlags
	given   *pflag.FlagSet
	// planning is what the command plan wants; nil for build.
	planning *planning
}

func (f *buildFlags) register(c *cobra.Command) {
	s := c.Flags()
	s.SortFlags = false
	f.given = s
	flagGroup(s, "What is built", f.registerInput)
	flagGroup(s, "Cache and base images", f.registerCache)
	flagGroup(s, "The image", f.registerImage)
	flagGroup(s, "Where it goes", f.registerOutput)
	flagGroup(s, "Attestations", f.attests.register)
	flagGroup(s, "RUN commands", f.registerRun)
	flagGroup(s, "Limits of each RUN command", f.registerLimits)
	flagGroup(s, "Display", f.registerDisplay)
	f.foreign = newForeignFlags()
	s.AddFlagSet(f.foreign.FlagSet)
	s.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if name == "jobs" { // Buildah's name
			name = "max-parallelism"
		}
		return pflag.NormalizedName(name)
	})
	completeProgress(c)
	complete(c, "network", "default", "host", "none")
	complete(c, "call", "build", "check", "outline", "targets")
	complete(c, "pull", "always", "missing", "never", "newer")
	complete(c, "allow", "network.host", "security.insecure", "device")
}

func (f *buildFlags) registerInput(s *pflag.FlagSet) {
	s.StringVarP(&f.file, "file", "f", "", "`FILE` to build from, - for standard input (default PATH/Dockerfile, else PATH/Containerfile)")
	s.StringVar(&f.target, "target", "", "build this `STAGE`")
	s.StringSliceVar(&f.platforms, "platform", nil, "build for these `PLATFORMS`, such as linux/amd64,linux/arm64 (default $DOCKER_DEFAULT_PLATFORM, else this machine's)")
	s.StringArrayVar(&f.buildArgs, "build-arg", nil, "set a build argument; `NAME=VALUE`, or NAME to take the value from the environment (repeatable)")
	s.StringArrayVar(&f.buildArgFiles, "build-arg-file", nil, "read build arguments from `FILE`, one NAME=VALUE in each line (repeatable; --build-arg wins)")
	s.StringArrayVar(&f.contexts, "build-context", nil, "`NAME=SOURCE` of a named context: a directory, a URL, docker-image://REF, oci-layout://DIR[:TAG] or target:STAGE (repeatable)")
	s.StringVar(&f.ignoreFile, "ignorefile", "", "read ignore rules from `FILE` in place of .dockerignore")
	s.StringVar(&f.from, "from", "", "use `IMAGE` in place of the one in the first FROM")
	s.StringVar(&f.call, "call", "build", "`METHOD`: build, or report on the Dockerfile: check, outline, targets; ,format=json may follow")
	s.BoolFunc("check", "check the Dockerfile and build nothing (same as --call=check)", whenTrue(func() error {
		f.call = string(parser.Check)
		return nil
	}))
}

func (f *buildFlags) registerCache(s *pflag.FlagSet) {
	s.BoolVar(&f.noCache, "no-cache", false, "do not use the cache")
	s.StringSliceVar(&f.noCacheFilter, "no-cache-filter", nil, "do not use the cache for these `STAGES`")
	pull := s.VarPF(&f.pull, "pull", "", "ask the registry for base images that are in the store: always, missing, newer, never, or after a time such as 12h (default 24h; --pull alone: always)")
	pull.NoOptDefVal = "always"
	for _, policy := range []string{"always", "never"} { // Buildah's names
		s.BoolFunc("pull-"+policy, "same as --pull="+policy, whenTrue(func() error { return f.pull.Set(policy) }))
		hide(s, "pull-"+policy)
	}
}

func (f *buildFlags) registerImage(s *pflag.FlagSet) {
	s.StringArrayVarP(&f.tags, "tag", "t", nil, "name the image `NAME[:TAG]` (repeatable)")
	s.StringArrayVar(&f.labels, "label", nil, "add the label `NAME=VALUE` (repeatable)")
	s.StringArrayVar(&f.annotations, "annotation", nil, "add the annotation `NAME=VALUE`, or LEVEL[PLATFORM],…:NAME=VALUE, where LEVEL is manifest (the default), manifest-descriptor, index or index-descriptor (repeatable)")
	s.BoolVar(&f.squash, "squash", false, "make one layer of all that the build adds to the base image")
	s.StringVar(&f.timestamp, "timestamp", "", "clamp timestamps to `SECONDS` since 1970 (same as --build-arg SOURCE_DATE_EPOCH=SECONDS)")
	s.StringVar(&f.format, "format", "oci", "media `TYPES`: oci or docker (same as the attribute oci-mediatypes=false of an output)")
}

func (f *buildFlags) registerOutput(s *pflag.FlagSet) {
	s.StringArrayVarP(&f.output, "output", "o", nil, "write the result to `OUTPUT`: a directory, - for a tar archive, or type=TYPE[,dest=PATH][,ATTRIBUTE=VALUE…], where TYPE is oci, docker, local, tar, registry, image or cacheonly (repeatable)")
	s.BoolVar(&f.push, "push", false, "push to the registry and keep the image in the store (same as -o type=image,push=true; -o type=registry keeps nothing)")
	s.BoolVar(&f.load, "load", false, "load into the Docker engine (same as -o type=docker)")
	s.StringVar(&f.iidFile, "iidfile", "", "write the image's ID to `FILE`")
	s.StringVar(&f.digestFile, "digest-file", "", "write the image's digest to `FILE`")
	s.StringVar(&f.metadataFile, "metadata-file", "", "write what was built, as JSON, to `FILE`")
}

func (f *buildFlags) registerDisplay(s *pflag.FlagSet) {
	f.progress.register(s)
	progress := s.Lookup("progress")
	progress.Usage, progress.DefValue = progress.Usage+" (default $"+progressVariable+", else auto)", ""
	s.BoolVarP(&f.quiet, "quiet", "q", false, "print only the image's ID")
}

// imageFormats are the values of --format.
var imageFormats = []string{"oci", "docker"}

// display is the mode of the display. $BUILDKIT_PROGRESS stands for auto.
func (f *buildFlags) display() (displayMode, error) {
	mode := f.progress
	if env := os.Getenv(progressVariable); env != "" && mode == "auto" && !f.quiet {
		if err := mode.Set(env); err != nil {
			return "", wrongValue(progressVariable, env, err.Error())
		}
	}
	if f.quiet && f.given.Changed("progress") && mode != "auto" && mode != quiet {
		return "", wrongFlag("progress", string(mode), "it does not go with --quiet")
	}
	// As in docker, the two are the same.
	if f.quiet = f.quiet || mode == quiet; f.quiet {
		return quiet, nil
	}
	return mode, nil
}

// The variables that stand for flags which were not given.
const (
	progressVariable = "BUILDKIT_PROGRESS"
	platformVariable = "DOCKER_DEFAULT_PLATFORM"
)

// check finds flags that do not go together.
func (f *buildFlags) check() error {
	if f.noCache && len(f.noCacheFilter) > 0 {
		return usagef("--no-cache and --no-cache-filter exclude each other: leave one out")
	}
	if err := checkContentTrust(f.given); err != nil {
		return err
	}
	if f.maxParallelism < 0 {
		return wrongFlag("max-parallelism", strconv.Itoa(f.maxParallelism), "it must not be negative; 0 means the default bound")
	}
	if !slices.Contains(imageFormats, f.format) {
		return wrongFlag("format", f.format, "want oci or docker")
	}
	return f.foreign.check()
}

// request is the part of the flags that the Dockerfile's frontend needs.
func (f *buildFlags) request(ctx context.Context, files *hostfile.Streams) (parser.Request, error) {
	r := parser.Request{
		Target: f.target, NoCache: f.noCache, NoCacheFilter: f.noCacheFilter, Pull: f.pull.must(),
		BuildPlatform: hostPlatform(),
		Contexts:      map[string]string{},
	}
	var err error
	if r.BuildArgs, err = f.args(ctx, files); err != nil {
		return r, err
	}
	if r.Labels, err = pairs("label", f.labels); err != nil {
		return r, err
	}
	if r.Platforms, err = f.platformList(); err != nil {
		return r, err
	}
	r.MultiPlatform = len(r.Platforms) > 1
	if v, ok := r.BuildArgs["BUILDKIT_MULTI_PLATFORM"]; ok {
		if r.MultiPlatform, err = strconv.ParseBool(v); err != nil {
			return r, wrongFlag("build-arg", "BUILDKIT_MULTI_PLATFORM="+v, "want true or false")
		}
	}
	if !r.MultiPlatform && len(r.Platforms) > 1 {
		return r, wrongFlag("platform", strings.Join(f.platforms, ","), "with BUILDKIT_MULTI_PLATFORM=false only one is allowed")
	}
	if f.from != "" {
		if _, err := reference.ParseNormalizedNamed(f.from); err != nil {
			return r, badFlag("from", f.from, err)
		}
		r.From = f.from
	}
	return r, f.runRequest(&r)
}

func (f *buildFlags) platformList() ([]ocispec.Platform, error) {
	var list []ocispec.Platform
	wanted, from := f.platforms, "--platform"
	if env := os.Getenv(platformVariable); env != "" && !f.given.Changed("platform") {
		wanted, from = strings.Split(env, ","), platformVariable
	}
	for _, text := range wanted {
		if text == "local" {
			list = append(list, hostPlatform())
			continue
		}
		p, err := parsePlatform(text)
		if err != nil {
			return nil, wrongValue(from, text, err.Error())
		}
		list = append(list, p)
	}
	return list, nil
}

// pairs reads NAME=VALUE; a missing value is empty.
func pairs(flag string, list []string) (map[string]string, error) {
	m := make(map[string]string, len(list))
	for _, text := range list {
		name, value, _ := strings.Cut(text, "=")
		if name == "" {
			return nil, wrongFlag(flag, text, "want NAME=VALUE")
		}
		m[name] = value
	}
	return m, nil
}

// csvFields reads "key=value,key=value" with CSV quoting, as docker does; a
// field without "=" has an empty value.
func csvFields(text string) ([][2]string, error) {
	pairs, err := csvPairs(text)
	for i := range pairs {
		pairs[i][0] = strings.ToLower(pairs[i][0])
	}
	return pairs, err
}

// csvPairs is csvFields with names as they are written.
func csvPairs(text string) ([][2]string, error) {
	r := csv.NewReader(strings.NewReader(text))
	fields, err := r.Read()
	if err != nil {
		return nil, errors.New("want NAME=VALUE pairs with commas between them")
	}
	out := make([][2]string, 0, len(fields))
	for _, field := range fields {
		name, value, _ := strings.Cut(field, "=")
		out = append(out, [2]string{strings.TrimSpace(name), value})
	}
	return out, nil
}
