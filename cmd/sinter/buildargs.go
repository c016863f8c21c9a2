package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/sinter-build/sinter/builder/registry"
	"github.com/sinter-build/sinter/layers/hint"
	"github.com/sinter-build/sinter/layers/hostfile"
)

// args are the build arguments: from the command line, else from files. One without a value takes
// it from the environment, and counts as not given when it is not set there.
func (f *buildFlags) args(ctx context.Context, files *hostfile.Streams) (map[string]string, error) {
	args := map[string]string{}
	if v := os.Getenv(epochArg); v != "" {
		args[epochArg] = v
	}
	for _, file := range f.buildArgFiles {
		if err := readArgFile(ctx, files, file, args); err != nil {
			return nil, badFlag("build-arg-file", file, err)
		}
	}
	for _, arg := range f.buildArgs {
		if err := addArg(args, arg); err != nil {
			return nil, badFlag("build-arg", arg, err)
		}
	}
	if f.timestamp != "" {
		if _, err := strconv.ParseUint(f.timestamp, 10, 62); err != nil {
			return nil, wrongFlag("timestamp", f.timestamp, "want seconds since 1970")
		}
		if v, ok := args[epochArg]; ok && v != f.timestamp && slices.Contains(f.buildArgs, epochArg+"="+v) {
			return nil, wrongFlag("timestamp", f.timestamp, "--build-arg "+epochArg+" says "+v)
		}
		args[epochArg] = f.timestamp
	}
	if v, ok := args["BUILDKIT_SYNTAX"]; ok && strings.TrimSpace(v) == "" {
		return nil, wrongFlag("build-arg", "BUILDKIT_SYNTAX=", "it is empty; leave it out to use the Dockerfile's own syntax line")
	}
	return args, nil
}

// epochArg is a build argument and an environment variable.
const epochArg = "SOURCE_DATE_EPOCH"

func addArg(args map[string]string, text string) error {
	name, value, ok := strings.Cut(text, "=")
	if name == "" {
		return errors.New("want NAME=VALUE")
	}
	if !ok {
		if value, ok = os.LookupEnv(name); !ok {
			return nil
		}
	}
	args[name] = value
	return nil
}

// readArgFile reads a file of Buildah's format: a build argument NAME=VALUE in
// each line; empty lines and those that begin with # do not count.
func readArgFile(ctx context.Context, files *hostfile.Streams, file string, args map[string]string) error {
	data, err := files.Read(ctx, file, hostfile.MaxText)
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, len(data)+1)
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		if strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if err := addArg(args, line); err != nil {
			return hint.Add(fmt.Errorf("%s:%d: invalid build argument %q: %w", file, n, line, err),
				"each line is NAME=VALUE, or NAME to take the value from the environment")
		}
	}
	return lines.Err()
}

// addProxies adds the proxies of docker's config.json, in both spellings as
// docker does, but for those that args name in any spelling. The frontend gives
// them to RUN and to nothing else.
func (a *app) addProxies(args map[string]string) {
	file, err := registry.DockerConfig()
	if err != nil {
		a.warn(fmt.Sprintf("docker's configuration cannot be read, so its proxies are not known: %v", err))
		return
	}
	given := slices.Collect(maps.Keys(args))
	for name, value := range file.ParseProxyConfig("", nil) {
		named := func(arg string) bool { return strings.EqualFold(arg, name) }
		if value != nil && !slices.ContainsFunc(given, named) {
			args[name] = *value
		}
	}
}

// withoutEffect returns a warning for each build argument that asks for
// something that is not done.
func withoutEffect(args map[string]string) []string {
	var out []string
	if on, err := strconv.ParseBool(args["BUILDKIT_INLINE_CACHE"]); on && err == nil {
		out = append(out, "BUILDKIT_INLINE_CACHE does nothing: images hold no cache")
	}
	return out
}
