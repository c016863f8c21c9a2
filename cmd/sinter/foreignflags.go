package main

import (
	"errors"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/sinter-build/sinter/layers/hint"
)

// foreignFlags are flags that scripts written for docker may give, and that ask
// for what sinter has not, or has no need of.
type foreignFlags struct {
	rm, forceRm, compress  bool
	layers                 bool
	isolation              string
	provenance, sbom       string
	cacheFrom, cacheTo     []string
	attest, policy, secure []string
}

// contentTrust is the flag of docker's build, push and pull that turns a check
// off which is not made here.
const contentTrust = "disable-content-trust"

// addContentTrust registers that flag.
func addContentTrust(s *pflag.FlagSet) {
	s.Bool(contentTrust, true, "no effect: signatures are not checked")
	_ = s.MarkHidden(contentTrust)
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
	return usage(hint.Add(errors.New(what+": sinter cannot check or make signatures of images"), "to go on without: --"+contentTrust))
}

func (f *foreignFlags) register(s *pflag.FlagSet) {
	s.BoolVar(&f.rm, "rm", true, "no effect: sinter has no intermediate containers")
	s.BoolVar(&f.forceRm, "force-rm", false, "no effect: sinter has no intermediate containers")
	s.BoolVar(&f.compress, "compress", false, "no effect: the context is not sent anywhere")
	s.BoolVar(&f.layers, "layers", true, "no effect: every instruction has a layer and is cached")
	addContentTrust(s)
	s.StringVar(&f.isolation, "isolation", "", "no effect: `TECHNOLOGY`")
	s.StringSliceVar(&f.secure, "security-opt", nil, "no effect: `OPTION`")
	s.String("builder", "", "no effect: `NAME` of a builder")
	s.StringArrayVar(&f.cacheFrom, "cache-from", nil, "no effect: `SOURCE` of a cache")
	s.StringArrayVar(&f.cacheTo, "cache-to", nil, "not supported: `DESTINATION` of a cache")
	s.StringVar(&f.provenance, "provenance", "", "only false is supported: no attestation is made")
	s.StringVar(&f.sbom, "sbom", "", "only false is supported: no attestation is made")
	s.StringArrayVar(&f.attest, "attest", nil, "only type=`TYPE`,disabled=true is supported: no attestation is made")
	s.StringArrayVar(&f.policy, "policy", nil, "only disabled=true and reset=true are supported: `POLICY` for sources")
	for _, name := range []string{"rm", "force-rm", "compress", "layers", "isolation", "security-opt", "builder", "cache-from", "cache-to", "provenance", "sbom", "attest", "policy"} {
		// Only an unknown name is an error.
		_ = s.MarkHidden(name)
	}
}

// warnings returns what there is to say of flags that were given and without
// which the same image is built.
func (f *foreignFlags) warnings(given *pflag.FlagSet) []string {
	var out []string
	for _, name := range []string{"rm", "force-rm", "compress", "layers", contentTrust, "isolation", "security-opt"} {
		if given.Changed(name) {
			out = append(out, "--"+name+" does nothing in sinter")
		}
	}
	if len(f.cacheFrom) > 0 {
		out = append(out, "--cache-from does nothing: what is known is in the store")
	}
	for _, to := range f.cacheTo {
		if to == "type=inline" {
			out = append(out, "--cache-to type=inline does nothing: images hold no cache")
		}
	}
	return append(out, foreignVariables()...)
}

// check refuses what asks for something that would be missing from the result.
func (f *foreignFlags) check() error {
	if !f.layers {
		return hintedFlag("layers", "false", "every instruction has a layer and is cached",
			"for one layer write --squash, to run every step --no-cache")
	}
	for _, to := range f.cacheTo {
		if to != "type=inline" {
			return hintedFlag("cache-to", to, "caches cannot be exported",
				"leave it out: what the build learns stays in the store (SINTER_ROOT), which can be kept between runs")
		}
	}
	for _, a := range []struct{ name, value string }{{"provenance", f.provenance}, {"sbom", f.sbom}} {
		if a.value != "" && !isDisabled(a.value) {
			return hintedFlag(a.name, a.value, "attestations are not supported", "use --"+a.name+"=false, or leave it out")
		}
	}
	for _, a := range f.attest {
		if !isDisabled(a) {
			return hintedFlag("attest", a, "attestations are not supported", "leave it out")
		}
	}
	return f.checkPolicies()
}

// isDisabled reads the value of an attestation flag: "false", or fields with
// disabled=true among them.
func isDisabled(value string) bool {
	if on, err := strconv.ParseBool(value); err == nil {
		return !on
	}
	for field := range strings.SplitSeq(value, ",") {
		name, v, _ := strings.Cut(field, "=")
		if off, err := strconv.ParseBool(v); name == "disabled" && err == nil {
			return off
		}
	}
	return false
}
