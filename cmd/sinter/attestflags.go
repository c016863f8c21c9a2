package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/distribution/reference"
	"github.com/spf13/pflag"

	"github.com/sinter-build/sinter/builder/attest"
	"github.com/sinter-build/sinter/builder/manifest"
	"github.com/sinter-build/sinter/builder/provenance"
	"github.com/sinter-build/sinter/builder/sbom"
	"github.com/sinter-build/sinter/layers/hint"
	"github.com/sinter-build/sinter/parser"
)

// attestFlags are --attest and its short forms.
type attestFlags struct {
	attest           []string
	provenance, sbom string
}

func (f *attestFlags) register(s *pflag.FlagSet) {
	s.StringVar(&f.provenance, "provenance", "", "record how the image was built: true, false, or `ATTRIBUTES` such as mode=max (same as --attest type=provenance,ATTRIBUTES; default mode=min, kept beside the image)")
	s.StringVar(&f.sbom, "sbom", "", "list the packages in the image: true, false, or `ATTRIBUTES` such as format=cyclonedx or generator=IMAGE (same as --attest type=sbom,ATTRIBUTES)")
	s.StringArrayVar(&f.attest, "attest", nil, "attest `type=TYPE`[,ATTRIBUTE=VALUE…] of the image, where TYPE is provenance or sbom (repeatable)")
}

// The types of attestations.
const (
	attestProvenance = "provenance"
	attestSBOM       = "sbom"
)

// noDefaultAttestations names a variable, as of buildx: a build attests only what it is
// asked to.
const noDefaultAttestations = "BUILDX_NO_DEFAULT_ATTESTATIONS"

// attestations are what a build attests.
type attestations struct {
	// provenance is nil for none. isDefault says that nobody asked for it.
	provenance *provenance.Options
	isDefault  bool
	where      attest.Where
	// sbom is nil for none.
	sbom *sbomOptions
}

// sbomOptions are the attributes of --attest type=sbom.
type sbomOptions struct {
	parser.SBOM
	format sbom.Format
	where  attest.Where
}

// asked are the attestations without what they state.
func (a attestations) asked() []attest.Attestation {
	var list []attest.Attestation
	if a.sbom != nil {
		list = append(list, attest.Attestation{Type: a.sbom.predicateType(), Where: a.sbom.where})
	}
	if a.provenance != nil {
		list = append(list, a.asProvenance(nil))
	}
	return list
}

// asProvenance is the attestation with this predicate.
func (a attestations) asProvenance(predicate []byte) attest.Attestation {
	o := *a.provenance
	return attest.Attestation{
		Type: o.PredicateType(), Predicate: predicate, File: o.File, InlineOnly: o.InlineOnly, Default: a.isDefault, Where: a.where,
	}
}

// request is what the frontend is asked for; nil for nothing.
func (a attestations) request() *parser.SBOM {
	if a.sbom == nil {
		return nil
	}
	return &a.sbom.SBOM
}

func (o *sbomOptions) predicateType() string {
	if o.format == sbom.CycloneDX {
		return manifest.PredicateCycloneDX
	}
	return manifest.PredicateSPDX
}

// attestArg begins the build arguments that stand for --attest, as with BuildKit.
const attestArg = "BUILDKIT_ATTEST_"

// attestations reads the flags, build arguments and variables that ask for attestations.
// Of several for the same type the first counts, as with buildx (buildflags.Attests.ToMap):
// --attest comes before the short forms. Build arguments come last.
func (f *buildFlags) attestations(args map[string]string) (attestations, error) {
	var out attestations
	byType := map[string]map[string]string{}
	add := func(flag, text, value string) error {
		kind, attrs, err := parseAttest(value)
		if err != nil {
			return badFlag(flag, text, err)
		}
		if _, ok := byType[kind]; !ok {
			byType[kind] = attrs
		}
		return nil
	}
	for _, text := range f.attests.attest {
		if err := add("attest", text, text); err != nil {
			return out, err
		}
	}
	for _, short := range [][2]string{{attestProvenance, f.attests.provenance}, {attestSBOM, f.attests.sbom}} {
		kind, text := short[0], short[1]
		if text == "" {
			continue
		}
		if err := add(kind, text, canonicalAttest(kind, text)); err != nil {
			return out, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(args)) {
		if kind, ok := strings.CutPrefix(name, attestArg); ok {
			if err := add("build-arg", name+"="+args[name], canonicalAttest(strings.ToLower(kind), args[name])); err != nil {
				return out, err
			}
		}
	}
	if err := out.setSBOM(byType[attestSBOM]); err != nil {
		return out, usage(fmt.Errorf("--attest type=sbom: %w", err))
	}
	attrs, ok := byType[attestProvenance]
	if !ok {
		return out, out.setDefault()
	}
	if err := out.setProvenance(attrs); err != nil {
		return out, usage(fmt.Errorf("--attest type=provenance: %w", err))
	}
	return out, nil
}

func (a *attestations) setProvenance(attrs map[string]string) (err error) {
	if attrs == nil {
		return nil
	}
	if a.where, err = takeWhere(attrs); err != nil {
		return err
	}
	options, err := provenance.ParseOptions(attrs)
	a.provenance = &options
	return err
}

func (a *attestations) setSBOM(attrs map[string]string) (err error) {
	if attrs == nil {
		return nil
	}
	a.sbom = &sbomOptions{format: sbom.SPDX}
	if a.sbom.where, err = takeWhere(attrs); err != nil {
		return err
	}
	if text, ok := attrs["generator"]; ok {
		if _, err := reference.ParseNormalizedNamed(text); err != nil {
			return fmt.Errorf("generator=%s: %w", text, err)
		}
		a.sbom.Generator = text
		delete(attrs, "generator")
		a.sbom.Parameters = attrs
		return nil
	}
	if text, ok := attrs["format"]; ok {
		a.sbom.format = sbom.Format(text)
		if !slices.Contains([]sbom.Format{sbom.SPDX, sbom.CycloneDX}, a.sbom.format) {
			return fmt.Errorf("format=%s: want spdx or cyclonedx", text)
		}
		delete(attrs, "format")
	}
	if len(attrs) > 0 {
		key := slices.Min(slices.Collect(maps.Keys(attrs)))
		advice := "the options are generator, format, attestation-manifest and disabled; a generator is given any others"
		if key == string(sbom.SPDX) || key == string(sbom.CycloneDX) {
			advice = "write format=" + key
		}
		return hint.Add(fmt.Errorf("option %q is not known for type=sbom", key), advice)
	}
	return nil
}

// takeWhere takes the place of an attestation out of its attributes.
func takeWhere(attrs map[string]string) (attest.Where, error) {
	const key = "attestation-manifest"
	text, ok := attrs[key]
	if !ok {
		return "", nil
	}
	delete(attrs, key)
	return attest.ParseWhere(text)
}

// setDefault is for a build that does not say anything of provenance.
func (a *attestations) setDefault() error {
	if v := os.Getenv(noDefaultAttestations); v != "" {
		off, err := strconv.ParseBool(v)
		if err != nil {
			return wrongValue(noDefaultAttestations, v, "want true or false")
		}
		if off {
			return nil
		}
	}
	options := provenance.Default
	a.provenance = &options
	// Where something else makes an index, it has its place there, as with buildx.
	a.isDefault = a.sbom == nil || a.sbom.where == attest.AsReferrer
	return nil
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

// parseAttest reads the value of --attest. attrs is nil when it is disabled. Their names
// keep their case, as in buildx: a generator gets them as parts of variables' names.
func parseAttest(text string) (kind string, attrs map[string]string, err error) {
	fields, err := csvPairs(text)
	if err != nil {
		return "", nil, err
	}
	attrs = map[string]string{}
	disabled := false
	for _, field := range fields {
		switch key, value := field[0], field[1]; strings.ToLower(key) {
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
