package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"github.com/sinter-build/sinter/builder/policy"
	"github.com/sinter-build/sinter/layers/hint"
	"github.com/sinter-build/sinter/layers/hostfile"
	"github.com/sinter-build/sinter/parser"
)

// policyVariable names a file with rules about what a build may fetch.
const policyVariable = "EXPERIMENTAL_BUILDKIT_SOURCE_POLICY"

// sourcePolicy reads that file; nil without one.
func (b *building) sourcePolicy(ctx context.Context) (parser.Policy, error) {
	file := os.Getenv(policyVariable)
	if file == "" {
		return nil, nil
	}
	data, err := b.files.Read(ctx, file, hostfile.MaxText)
	if err != nil {
		return nil, usage(hint.Add(fmt.Errorf("%s: reading the source policy: %w", policyVariable, err), "name a JSON file with rules, or unset the variable"))
	}
	p, ignored, err := policy.Parse(file, data)
	if err != nil {
		return nil, usage(fmt.Errorf("%s: %w", policyVariable, err))
	}
	if ignored != "" {
		b.warn(fmt.Sprintf("the source policy %s: %s: it counts for nothing, as in buildx; names are spelled as in BuildKit: match_type", file, ignored))
	}
	return p.Evaluate, nil
}

// regoHint is the hint where buildx has a policy in Rego, which takes an engine that is as
// large as sinter.
const regoHint = "write the rules as JSON in a file that " + policyVariable + " names; "

// checkPolicies refuses to build without rules that docker would obey.
func (f foreignFlags) checkPolicies() error {
	values := f.list("policy")
	for _, value := range values {
		drops, err := dropsPolicies(value)
		switch {
		case err != nil:
			return err
		case drops == "disabled" && (len(values) > 1 || strings.Contains(value, ",")):
			return wrongFlag("policy", value, "disabled=true goes with nothing else")
		}
	}
	return nil
}

// checkDockerfilePolicy is checkPolicies for the file that buildx takes for the
// policy of a Dockerfile.
func (f foreignFlags) checkDockerfilePolicy(dockerfile string) error {
	return f.checkRego(dockerfile+".rego", os.Stat)
}

// checkContextPolicy is checkDockerfilePolicy for a context that comes from elsewhere, if
// the Dockerfile does.
func (f *buildFlags) checkContextPolicy(files fs.FS) error {
	name := path.Clean(cmp.Or(f.file, "Dockerfile")) + ".rego"
	if !fs.ValidPath(name) || f.file == "-" || parser.IsHTTP(f.file) {
		return nil
	}
	return f.foreign.checkRego(name, func(name string) (fs.FileInfo, error) { return fs.Stat(files, name) })
}

// checkRego refuses a policy in Rego that is there and was not dropped.
func (f foreignFlags) checkRego(file string, stat func(string) (fs.FileInfo, error)) error {
	for _, value := range f.list("policy") {
		if drops, err := dropsPolicies(value); err != nil || drops != "" {
			return err
		}
	}
	if _, err := stat(file); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("looking for a source policy: %w", err)
	}
	return hint.Add(
		fmt.Errorf("%s is a policy for the sources of the build, and policies in Rego are not supported", file),
		regoHint+"to build without it: --policy disabled=true",
	)
}

// dropsPolicies returns which field of a value of --policy drops the Dockerfile's policy:
// disabled, reset or "". A file is refused; what else buildx knows is about files.
func dropsPolicies(value string) (drops string, err error) {
	for field := range strings.SplitSeq(value, ",") {
		name, v, _ := strings.Cut(field, "=")
		name = strings.ToLower(strings.TrimSpace(name))
		switch name {
		case "disabled", "reset", "strict":
			on, err := strconv.ParseBool(v)
			if err != nil {
				return "", wrongFlag("policy", value, fmt.Sprintf("%s is true or false", name))
			}
			if on && name != "strict" {
				drops = name
			}
		case "log-level":
		case "filename":
			return "", hintedFlag("policy", value, "policies in Rego are not supported", regoHint+"to build without: --policy disabled=true")
		default:
			return "", wrongFlag("policy", value, "want disabled=true or reset=true")
		}
	}
	return drops, nil
}
