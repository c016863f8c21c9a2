package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/sinter-build/sinter/builder/attest"
	"github.com/sinter-build/sinter/builder/provenance"
	"github.com/sinter-build/sinter/layers/hint"
)

// attestFlags are --attest and its short forms.
type attestFlags struct {
	attest           []string
	provenance, sbom string
}

func (f *attestFlags) register(s *pflag.FlagSet) {
	s.StringVar(&f.provenance, "provenance", "", "record how the image was built: true, false, or `ATTRIBUTES` such as mode=max (same as --attest type=provenance,ATTRIBUTES)")
	s.StringVar(&f.sbom, "sbom", "", "list the packages in the image: true, false, or `ATTRIBUTES` (same as --attest type=sbom,ATTRIBUTES)")
	s.StringArrayVar(&f.attest, "attest", nil, "attest `type=TYPE`[,ATTRIBUTE=VALUE…] of the image, where TYPE is provenance or sbom (repeatable)")
}

// The types of attestations.
const (
	attestProvenance = "provenance"
	attestSBOM       = "sbom"
)

// noDefaultAttestations is a variable of buildx.
const noDefaultAttestations = "BUILDX_NO_DEFAULT_ATTESTATIONS"

// attestations are what a build attests.
type attestations struct {
	// provenance is nil for none. isDefault says that nobody asked for it.
	provenance *provenance.Options
	isDefault  bool
	where      attest.Where
}

// asked are the attestations without what they state.
func (a attestations) asked() []attest.Attestation {
	if a.provenance == nil {
		return nil
	}
	o := *a.provenance
	return []attest.Attestation{{
		Type: o.PredicateType(), File: o.File, InlineOnly: o.InlineOnly, Default: a.isDefault, Where: a.where,
	}}
}

// attestArg begins the build arguments that stand for --attest, as with BuildKit.
const attestArg = "BUILDKIT_ATTEST_"

// attestations reads the flags, build arguments and variables that ask for attestations.
// Of two for the same type the last counts, as with buildx: first come build arguments, then
// --attest, then the short forms.
func (f *buildFlags) attestations(args map[string]string) (attestations, error) {
	var out attestations
	byType := map[string]map[string]string{}
	add := func(flag, text, value string) error {
		kind, attrs, err := parseAttest(value)
		if err != nil {
			return badFlag(flag, text, err)
		}
		byType[kind] = attrs
		return nil
	}
	for _, kind := range []string{attestProvenance, attestSBOM} {
		name := attestArg + strings.ToUpper(kind)
		if v, ok := args[name]; ok {
			if err := add("build-arg", name+"="+v, canonicalAttest(kind, v)); err != nil {
				return out, err
			}
		}
	}
	for _, text := range f.attests.attest {
		if err := add("attest", text, text); err != nil {
			return out, err
		}
	}
	for kind, text := range map[string]string{attestProvenance: f.attests.provenance, attestSBOM: f.attests.sbom} {
		if text == "" {
			continue
		}
		if err := add(kind, text, canonicalAttest(kind, text)); err != nil {
			return out, err
		}
	}
	if attrs, ok := byType[attestSBOM]; ok && attrs != nil {
		return out, usage(hint.Add(errors.New("--sbom: lists of packages are not supported yet"), "leave it out"))
	}
	attrs, ok := byType[attestProvenance]
	if !ok {
		return f.defaultAttestations()
	}
	if attrs == nil {
		return out, nil
	}
	if text, ok := attrs["attestation-manifest"]; ok {
		var err error
		if out.where, err = attest.ParseWhere(text); err != nil {
			return out, usage(err)
		}
		delete(attrs, "attestation-manifest")
	}
	options, err := provenance.ParseOptions(attrs)
	if err != nil {
		return out, usage(fmt.Errorf("--attest type=provenance: %w", err))
	}
	out.provenance = &options
	return out, nil
}

// defaultAttestations are those of a build that does not say anything of them.
func (f *buildFlags) defaultAttestations() (attestations, error) {
	if v := os.Getenv(noDefaultAttestations); v != "" {
		off, err := strconv.ParseBool(v)
		if err != nil {
			return attestations{}, wrongValue(noDefaultAttestations, v, "want true or false")
		}
		if off {
			return attestations{}, nil
		}
	}
	options := provenance.Default
	return attestations{provenance: &options, isDefault: true}, nil
}

// canonicalAttest writes the value of a short form as that of --attest.
func canonicalAttest(kind, text string) string {
	if on, err := strconv.ParseBool(text); err == nil {
		return fmt.Sprintf("type=%s,disabled=%t", kind, !on)
	}
	if text == "" {
		return "type=" + kind
	}
	return "type=" + kind + "," + text
}

// parseAttest reads the value of --attest. attrs is nil when it is disabled.
func parseAttest(text string) (kind string, attrs map[string]string, err error) {
	fields, err := csvFields(text)
	if err != nil {
		return "", nil, err
	}
	attrs = map[string]string{}
	disabled := false
	for _, field := range fields {
		switch key, value := field[0], field[1]; key {
		case "type":
			kind = value
		case "disabled":
			if disabled, err = strconv.ParseBool(value); err != nil {
				return "", nil, fmt.Errorf("disabled=%s: want true or false", value)
			}
		default:
			attrs[key] = value
		}
	}
	switch {
	case kind == "":
		return "", nil, hint.Add(errors.New("it has no type"), "write type=provenance or type=sbom")
	case !slices.Contains([]string{attestProvenance, attestSBOM}, kind):
		return "", nil, hint.Add(fmt.Errorf("attestations of type %q are not known", kind), "the types are provenance and sbom")
	case disabled:
		return kind, nil, nil
	}
	return kind, attrs, nil
}
