package main

import (
	"context"
	"encoding/csv"
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
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
	metadataFile, progress         string
	timestamp, format              string

	addHosts, ulimits, volumes     []string
	allow, resources, cdiDirs      []string
	network, shmSize, cgroupParent string
	maxParallelism                 int

	foreign foreignFlags
	given   *pflag.FlagSet
	// planning is what the command plan wants; nil for build.
	planning *planning
}

func (f *buildFlags) register(s *pflag.FlagSet) {
	f.given = s
	f.registerInput(s)
	f.registerResult(s)
	f.registerRun(s)
	f.foreign.register(s)
	s.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if name == "jobs" { // Buildah's name
			name = "max-parallelism"
		}
		return pflag.NormalizedName(name)
	})
}

// registerInput registers what says what is built.
func (f *buildFlags) registerInput(s *pflag.FlagSet) {
	s.StringVarP(&f.file, "file", "f", "", "`NAME` of the Dockerfile (default PATH/Dockerfile, else PATH/Containerfile; - reads it from standard input)")
	s.StringVar(&f.ignoreFile, "ignorefile", "", "`FILE` with ignore rules, in place of .dockerignore")
	s.StringVar(&f.target, "target", "", "build this `STAGE`")
	s.StringVar(&f.from, "from", "", "`IMAGE` in place of the one in the first FROM")
	s.StringArrayVar(&f.buildArgs, "build-arg", nil, "set the build argument `NAME=VALUE` (NAME alone: from the environment)")
	s.StringArrayVar(&f.buildArgFiles, "build-arg-file", nil, "`FILE` with a build argument NAME=VALUE in each line (repeatable; --build-arg wins)")
	s.StringArrayVar(&f.contexts, "build-context", nil, "named context `NAME=DIR|URL|docker-image://REF|oci-layout://DIR[:TAG]|target:STAGE` (repeatable)")
	s.StringSliceVar(&f.platforms, "platform", nil, "build for these `PLATFORMS`, such as linux/amd64 (default $DOCKER_DEFAULT_PLATFORM)")
	s.BoolVar(&f.noCache, "no-cache", false, "run every step")
	s.StringSliceVar(&f.noCacheFilter, "no-cache-filter", nil, "run every step of these `STAGES`")
	pull := s.VarPF(&f.pull, "pull", "", "ask the registry for base images that are known: `POLICY` always, missing, newer, never, or after a time such as 12h (default 24h; --pull alone: always)")
	pull.NoOptDefVal = "always"
	for _, policy := range []string{"always", "never"} { // Buildah's names
		alias := s.VarPF(&pullAlias{&f.pull, policy}, "pull-"+policy, "", "same as --pull="+policy)
		alias.NoOptDefVal, alias.Hidden = "true", true
	}
	s.StringVar(&f.call, "call", "build", "`METHOD[,format=json]`: build, or tell about the Dockerfile: check, outline, targets")
	check := s.VarPF(&callAlias{f}, "check", "", "check the Dockerfile and build nothing (same as --call=check)")
	check.NoOptDefVal = "true"
}

// registerResult registers what says what becomes of it, and how that is shown.
func (f *buildFlags) registerResult(s *pflag.FlagSet) {
	s.StringArrayVarP(&f.tags, "tag", "t", nil, "`NAME[:TAG]` of the image (repeatable)")
	s.StringArrayVarP(&f.output, "output", "o", nil, "where the result goes: `DIR`, - or type=oci|docker|local|tar|registry|image|cacheonly[,dest=PATH][,ATTRIBUTE=VALUE…] (repeatable)")
	s.BoolVar(&f.push, "push", false, "push to the registry, and keep the image in the store, as docker does (same as -o type=image,push=true; -o type=registry keeps nothing)")
	s.BoolVar(&f.load, "load", false, "load into the Docker engine (same as -o type=docker)")
	s.StringArrayVar(&f.labels, "label", nil, "add the label `NAME=VALUE`")
	s.StringArrayVar(&f.annotations, "annotation", nil, "add the annotation `[LEVEL[PLATFORM],…:]NAME=VALUE`, where LEVEL is manifest (the default), manifest-descriptor, index or index-descriptor")
	s.BoolVar(&f.squash, "squash", false, "make one layer of all that the build adds to the base image")
	s.StringVar(&f.format, "format", "oci", "media types of images: `oci` or docker (same as the attribute oci-mediatypes=false of an output)")
	s.StringVar(&f.timestamp, "timestamp", "", "nothing new in the image is younger than `SECONDS` since 1970 (same as --build-arg SOURCE_DATE_EPOCH=SECONDS)")
	s.StringVar(&f.iidFile, "iidfile", "", "write the image's ID to `FILE`")
	s.StringVar(&f.digestFile, "digest-file", "", "write the image's digest to `FILE`")
	s.StringVar(&f.metadataFile, "metadata-file", "", "write what was built, as JSON, to `FILE`")
	s.StringVar(&f.progress, "progress", "auto", "display: auto, tty, plain, quiet, none or rawjson (default $BUILDKIT_PROGRESS)")
	s.BoolVarP(&f.quiet, "quiet", "q", false, "print only the image's ID")
}

// imageFormats are the values of --format.
var imageFormats = []string{"oci", "docker"}

// display is the mode of the display. $BUILDKIT_PROGRESS stands for auto.
func (f *buildFlags) display() (string, error) {
	mode, from := f.progress, "--progress"
	if env := os.Getenv(progressVariable); env != "" && mode == "auto" {
		mode, from = env, progressVariable
	}
	if f.quiet {
		if f.given.Changed("progress") && mode != "auto" && mode != "quiet" {
			return "", wrongFlag("progress", mode, "it does not go with --quiet")
		}
		return "quiet", nil
	}
	switch mode {
	case "none":
		return "quiet", nil
	case "quiet":
		// As in docker, the same as --quiet.
		f.quiet = true
		return mode, nil
	case "auto", "tty", "plain", "rawjson":
		return mode, nil
	}
	return "", wrongValue(from, mode, "want auto, tty, plain, quiet, none or rawjson")
}

// The variables that stand for flags which were not given.
const (
	progressVariable = "BUILDKIT_PROGRESS"
	platformVariable = "DOCKER_DEFAULT_PLATFORM"
)

// check finds flags that do not go together.
func (f *buildFlags) check() error {
	if f.noCache && len(f.noCacheFilter) > 0 {
		return usagef("--no-cache runs every step, so --no-cache-filter has nothing to choose: leave one out")
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
		return r, wrongFlag("platform", strings.Join(f.platforms, ","), "with BUILDKIT_MULTI_PLATFORM=false there can be only one")
	}
	if f.from != "" {
		if _, err := reference.ParseNormalizedNamed(f.from); err != nil {
			return r, badFlag("from", f.from, err)
		}
		r.From = f.from
	}
	return r, f.runRequest(&r)
}

const platformWanted = "want OS/ARCHITECTURE[/VARIANT], such as linux/amd64 or linux/arm/v7"

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
		p, err := platforms.Parse(text)
		if err != nil {
			return nil, wrongValue(from, text, platformWanted)
		}
		list = append(list, platforms.Normalize(p))
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

// tagNames normalises the names of -t: "app" is docker.io/library/app:latest.
func tagNames(tags []string) ([]string, error) {
	var names []string
	for _, t := range tags {
		ref, err := reference.ParseNormalizedNamed(t)
		if err != nil {
			return nil, badFlag("tag", t, err)
		}
		if _, ok := ref.(reference.Digested); ok {
			return nil, wrongFlag("tag", t, "a name to be given cannot have a digest")
		}
		names = append(names, reference.TagNameOnly(ref).String())
	}
	return names, nil
}

// csvFields reads "key=value,key=value" with CSV quoting, as docker does; a
// field without "=" has an empty value.
func csvFields(text string) ([][2]string, error) {
	r := csv.NewReader(strings.NewReader(text))
	fields, err := r.Read()
	if err != nil {
		return nil, errors.New("want NAME=VALUE pairs with commas between them")
	}
	out := make([][2]string, 0, len(fields))
	for _, field := range fields {
		name, value, _ := strings.Cut(field, "=")
		out = append(out, [2]string{strings.ToLower(strings.TrimSpace(name)), value})
	}
	return out, nil
}
