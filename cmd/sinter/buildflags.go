package main

import (
	"encoding/csv"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/docker/go-units"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/pflag"

	"github.com/sinter-build/sinter/parser"
)

// buildFlags are the flags of the build command as they were given.
type buildFlags struct {
	context string

	file, target                     string
	tags, buildArgs, contexts        []string
	platforms, secrets, ssh, output  []string
	push, load, pull, quiet, noCache bool
	noCacheFilter                    []string
	labels, annotations, addHosts    []string
	network, shmSize, cgroupParent   string
	ulimits                          []string
	iidFile, metadataFile, progress  string

	// These do nothing, and a warning says so.
	rm, forceRm, compress, squash bool
	isolation                     string
	securityOpt                   []string
	given                         *pflag.FlagSet
}

func (f *buildFlags) register(s *pflag.FlagSet) {
	f.given = s
	s.StringVarP(&f.file, "file", "f", "", "`NAME` of the Dockerfile (default PATH/Dockerfile; - reads it from standard input)")
	s.StringArrayVarP(&f.tags, "tag", "t", nil, "`NAME[:TAG]` of the image (repeatable)")
	s.StringVar(&f.target, "target", "", "build this `STAGE`")
	s.StringArrayVar(&f.buildArgs, "build-arg", nil, "set the build argument `NAME=VALUE` (NAME alone: from the environment)")
	s.StringArrayVar(&f.contexts, "build-context", nil, "named context `NAME=DIR|docker-image://REF|oci-layout://DIR` (repeatable)")
	s.StringSliceVar(&f.platforms, "platform", nil, "build for these `PLATFORMS`, such as linux/amd64")
	s.StringArrayVar(&f.secrets, "secret", nil, "secret for RUN --mount=type=secret: `id=ID[,src=FILE|,env=VARIABLE]`")
	s.StringArrayVar(&f.ssh, "ssh", nil, "agent or keys for RUN --mount=type=ssh: `default|ID[=SOCKET|KEY[,KEY]]`")
	s.StringArrayVarP(&f.output, "output", "o", nil, "where the result goes: `DIR`, - or type=oci|docker|local|tar|registry|image|cacheonly[,dest=PATH] (repeatable)")
	s.BoolVar(&f.push, "push", false, "push to the registry (same as -o type=registry)")
	s.BoolVar(&f.load, "load", false, "load into the Docker engine (same as -o type=docker)")
	s.BoolVar(&f.noCache, "no-cache", false, "run every step")
	s.StringSliceVar(&f.noCacheFilter, "no-cache-filter", nil, "run every step of these `STAGES`")
	s.BoolVar(&f.pull, "pull", false, "ask the registry for base images even when they are known")
	s.StringArrayVar(&f.labels, "label", nil, "add the label `NAME=VALUE`")
	s.StringArrayVar(&f.annotations, "annotation", nil, "add the annotation `[LEVEL:]NAME=VALUE`")
	s.StringVar(&f.network, "network", "default", "network of RUN: default, host or none")
	s.StringSliceVar(&f.addHosts, "add-host", nil, "line for /etc/hosts: `NAME:IP`")
	s.StringVar(&f.shmSize, "shm-size", "", "`SIZE` of /dev/shm, such as 64m")
	s.StringArrayVar(&f.ulimits, "ulimit", nil, "resource limit `NAME=SOFT[:HARD]`")
	s.StringVar(&f.cgroupParent, "cgroup-parent", "", "parent `CGROUP` of RUN commands")
	s.StringVar(&f.iidFile, "iidfile", "", "write the image's ID to `FILE`")
	s.StringVar(&f.metadataFile, "metadata-file", "", "write what was built, as JSON, to `FILE`")
	s.StringVar(&f.progress, "progress", "auto", "display: auto, tty, plain, quiet or rawjson")
	s.BoolVarP(&f.quiet, "quiet", "q", false, "print the image's digest and nothing else")
	s.BoolVar(&f.rm, "rm", true, "no effect: there are no intermediate containers")
	s.BoolVar(&f.forceRm, "force-rm", false, "no effect: there are no intermediate containers")
	s.BoolVar(&f.compress, "compress", false, "no effect: the context is not sent anywhere")
	s.BoolVar(&f.squash, "squash", false, "no effect")
	s.StringVar(&f.isolation, "isolation", "", "no effect: `TECHNOLOGY`")
	s.StringSliceVar(&f.securityOpt, "security-opt", nil, "no effect: `OPTION`")
}

// withoutEffect returns a warning for each flag that was given and does nothing.
func (f *buildFlags) withoutEffect() []string {
	var out []string
	for _, name := range []string{"rm", "force-rm", "compress", "squash", "isolation", "security-opt"} {
		if f.given.Changed(name) {
			out = append(out, "--"+name+" does nothing in sinter")
		}
	}
	return out
}

// wrongFlag is a mistake in the value of a flag.
func wrongFlag(name, value, why string) error {
	return &usageError{err: fmt.Errorf("invalid value %q for --%s: %s", value, name, why), command: "sinter build"}
}

func (f *buildFlags) progressMode() string {
	if f.quiet {
		return "quiet"
	}
	return f.progress
}

// request is the part of the flags that the Dockerfile's frontend needs.
func (f *buildFlags) request() (parser.Request, error) {
	r := parser.Request{
		Target: f.target, NoCache: f.noCache, NoCacheFilter: f.noCacheFilter, Pull: f.pull,
		CgroupParent: f.cgroupParent, BuildPlatform: platforms.Normalize(platforms.DefaultSpec()),
		BuildArgs: f.args(), Contexts: map[string]string{},
	}
	var err error
	if r.Labels, err = pairs("label", f.labels); err != nil {
		return r, err
	}
	if r.Platforms, err = f.platformList(); err != nil {
		return r, err
	}
	r.MultiPlatform = len(r.Platforms) > 1
	switch mode := parser.NetMode(f.network); mode {
	case parser.NetDefault, parser.NetHost, parser.NetNone:
		r.Network = mode
	default:
		return r, wrongFlag("network", f.network, "want default, host or none")
	}
	if r.AddHosts, err = f.hosts(); err != nil {
		return r, err
	}
	if f.shmSize != "" {
		if r.ShmSize, err = units.RAMInBytes(f.shmSize); err != nil {
			return r, wrongFlag("shm-size", f.shmSize, "want a size such as 64m")
		}
	}
	for _, u := range f.ulimits {
		l, err := units.ParseUlimit(u)
		if err != nil {
			return r, wrongFlag("ulimit", u, err.Error())
		}
		r.Ulimits = append(r.Ulimits, parser.Ulimit{Name: l.Name, Soft: l.Soft, Hard: l.Hard})
	}
	return r, nil
}

// args are the build arguments. One without a value takes it from the
// environment, and counts as not given when it is not set there.
func (f *buildFlags) args() map[string]string {
	args := map[string]string{}
	if v := os.Getenv("SOURCE_DATE_EPOCH"); v != "" {
		args["SOURCE_DATE_EPOCH"] = v
	}
	for _, arg := range f.buildArgs {
		name, value, ok := strings.Cut(arg, "=")
		if !ok {
			if value, ok = os.LookupEnv(name); !ok {
				continue
			}
		}
		args[name] = value
	}
	return args
}

func (f *buildFlags) platformList() ([]ocispec.Platform, error) {
	var list []ocispec.Platform
	for _, text := range f.platforms {
		if text == "local" {
			list = append(list, platforms.Normalize(platforms.DefaultSpec()))
			continue
		}
		p, err := platforms.Parse(text)
		if err != nil {
			return nil, wrongFlag("platform", text, err.Error())
		}
		list = append(list, platforms.Normalize(p))
	}
	return list, nil
}

// hosts reads NAME:IP and NAME=IP, with or without brackets around an IPv6
// address.
func (f *buildFlags) hosts() ([]parser.Host, error) {
	var list []parser.Host
	for _, text := range f.addHosts {
		name, ip, ok := strings.Cut(text, "=")
		if !ok {
			name, ip, ok = strings.Cut(text, ":")
		}
		if !ok || name == "" {
			return nil, wrongFlag("add-host", text, "want NAME:IP")
		}
		ip = strings.TrimSuffix(strings.TrimPrefix(ip, "["), "]")
		if net.ParseIP(ip) == nil {
			return nil, wrongFlag("add-host", text, fmt.Sprintf("%q is no IP address", ip))
		}
		list = append(list, parser.Host{Name: name, IP: ip})
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
			return nil, wrongFlag("tag", t, err.Error())
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
