package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/sinter-build/sinter/layers/hint"
)

// policyVariable names a file with rules about what a build may fetch.
const policyVariable = "EXPERIMENTAL_BUILDKIT_SOURCE_POLICY"

// foreignVariables returns what there is to say of variables that mean something to
// docker and buildx, and without which the same image is built.
func foreignVariables() []string {
	var out []string
	say := func(name, why string) {
		out = append(out, fmt.Sprintf("%s=%s does nothing: %s", name, os.Getenv(name), why))
	}
	for _, name := range []string{"BUILDX_BUILDER", "BUILDKIT_HOST", "DOCKER_HOST", "DOCKER_CONTEXT"} {
		if v := os.Getenv(name); v != "" && v != "default" {
			say(name, "sinter is the builder, and talks to no daemon")
		}
	}
	if on, err := strconv.ParseBool(os.Getenv("DOCKER_BUILDKIT")); err == nil && !on {
		say("DOCKER_BUILDKIT", "sinter has no other builder")
	}
	if isOn("BUILDX_NO_DEFAULT_LOAD") {
		say("BUILDX_NO_DEFAULT_LOAD", "without --load or -o the image is in sinter's own store")
	}
	if isOn("BUILDX_DEFAULT_POLICY") {
		say("BUILDX_DEFAULT_POLICY", "sinter has no source policies")
	}
	if v := os.Getenv("BUILDX_METADATA_PROVENANCE"); v != "" && v != "disabled" && v != "0" && v != "false" {
		say("BUILDX_METADATA_PROVENANCE", "no provenance is recorded")
	}
	return out
}

// isOn reports whether a variable is true, as buildx reads it.
func isOn(name string) bool {
	on, err := strconv.ParseBool(os.Getenv(name))
	return err == nil && on
}

// trustVariable turns content trust on, unless the flag says otherwise.
const trustVariable = "DOCKER_CONTENT_TRUST"

// trustWanted reads its value as docker does: what is not a boolean is true.
func trustWanted(value string) bool {
	on, err := strconv.ParseBool(value)
	return value != "" && (on || err != nil)
}

// checkPolicies refuses to build without rules that docker would obey.
func (f foreignFlags) checkPolicies() error {
	for _, p := range f.list("policy") {
		if !dropsPolicies(p) {
			return hintedFlag("policy", p, "source policies are not supported", "leave it out, or say --policy disabled=true")
		}
	}
	if file := os.Getenv(policyVariable); file != "" {
		return usage(hint.Add(fmt.Errorf("%s=%s: source policies are not supported", policyVariable, file), "unset it to build without"))
	}
	return nil
}

// checkDockerfilePolicy is checkPolicies for the file that buildx takes for the
// policy of a Dockerfile.
func (f foreignFlags) checkDockerfilePolicy(dockerfile string) error {
	path := dockerfile + ".rego"
	if f.Changed("policy") { // checkPolicies has found that they say there shall be none
		return nil
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("looking for a source policy: %w", err)
	}
	return hint.Add(
		fmt.Errorf("%s is a policy for the sources of the build, and policies are not supported", path),
		"to build without it: --policy disabled=true",
	)
}

// dropsPolicies reports whether a value of --policy says that there is none.
func dropsPolicies(value string) bool {
	drops := false
	for field := range strings.SplitSeq(value, ",") {
		name, v, _ := strings.Cut(field, "=")
		on, err := strconv.ParseBool(v)
		if (name != "disabled" && name != "reset") || err != nil {
			return false
		}
		drops = drops || on
	}
	return drops
}
