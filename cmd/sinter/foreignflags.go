package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/sinter-build/sinter/layers/hint"
)

// foreignFlags are flags that scripts written for docker may give, and that ask
// for what sinter has not, or has no need of. They are not in the help.
type foreignFlags struct{ *pflag.FlagSet }

// noEffect begins the usage of a flag without which the same image is built.
const noEffect = "no effect: "

func newForeignFlags() foreignFlags {
	s := pflag.NewFlagSet("", pflag.ContinueOnError)
	s.Bool("rm", true, noEffect+"sinter has no intermediate containers")
	s.Bool("force-rm", false, noEffect+"sinter has no intermediate containers")
	s.Bool("compress", false, noEffect+"the context is not sent anywhere")
	s.Bool("layers", true, noEffect+"every instruction has a layer and is cached")
	s.String("isolation", "", noEffect+"commands always run in a sandbox")
	s.StringSlice("security-opt", nil, noEffect+"commands always run in a sandbox")
	s.StringArray("cache-from", nil, noEffect+"the cache is in the store")
	addContentTrust(s)
	s.String("builder", "", "sinter is the builder")
	s.StringArray("cache-to", nil, "cache export is not supported")
	s.StringArray("policy", nil, "policies in Rego are not supported")
	s.VisitAll(func(f *pflag.Flag) { f.Hidden = true })
	return foreignFlags{s}
}

// list is the value of a flag, or its values.
func (f foreignFlags) list(name string) []string {
	v := f.Lookup(name).Value
	if list, ok := v.(pflag.SliceValue); ok {
		return list.GetSlice()
	}
	if v.String() == "" {
		return nil
	}
	return []string{v.String()}
}

// contentTrust is the flag of docker's build, push and pull that turns a check
// off which is not made here.
const contentTrust = "disable-content-trust"

// addContentTrust registers that flag.
func addContentTrust(s *pflag.FlagSet) {
	s.Bool(contentTrust, true, noEffect+"signatures are not checked")
	hide(s, contentTrust)
}

// checkContentTrust refuses to leave a check out that the flag or the variable asks
// for. As with docker, the flag counts before the variable.
func checkContentTrust(s *pflag.FlagSet) error {
	disabled, err := s.GetBool(contentTrust)
	var what string
	switch {
	case err != nil:
		return err
	case s.Changed(contentTrust) && !disabled:
		what = "--" + contentTrust + "=false"
	case !s.Changed(contentTrust) && trustWanted(os.Getenv(trustVariable)):
		what = trustVariable + "=" + os.Getenv(trustVariable)
	default:
		return nil
	}
	return usage(hint.Add(errors.New(what+": sinter cannot check or make signatures of images"), "leave them out with --"+contentTrust))
}

// warnings returns what there is to say of flags that were given and without
// which the same image is built.
func (f foreignFlags) warnings() []string {
	var out []string
	f.VisitAll(func(flag *pflag.Flag) {
		if why, ok := strings.CutPrefix(flag.Usage, noEffect); ok && flag.Changed {
			out = append(out, fmt.Sprintf("--%s does nothing: %s", flag.Name, why))
		}
	})
	if slices.Contains(f.list("cache-to"), inlineCache) {
		out = append(out, "--cache-to "+inlineCache+" does nothing: images hold no cache")
	}
	return append(out, foreignVariables()...)
}

const inlineCache = "type=inline"

// check refuses what asks for something that would be missing from the result.
func (f foreignFlags) check() error {
	if layers, err := f.GetBool("layers"); err != nil || !layers {
		return hintedFlag("layers", "false", "every instruction has a layer and is cached",
			"for one layer write --squash, to run every step --no-cache")
	}
	for _, to := range f.list("cache-to") {
		if to != inlineCache {
			return hintedFlag("cache-to", to, "cache export is not supported",
				"leave it out: the cache stays in the store (SINTER_ROOT), which can be kept between runs")
		}
	}
	return f.checkPolicies()
}

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
		say("BUILDX_DEFAULT_POLICY", "it checks images that buildx loads for itself, and sinter loads none")
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
