package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// TestAttestations has what a build attests, by its flags and build arguments.
func TestAttestations(t *testing.T) {
	for name, test := range map[string]struct {
		attest           []string
		provenance, sbom string
		args             map[string]string
		want             string
	}{
		"nothing":                     {want: "default min"},
		"yes":                         {provenance: "true", sbom: "1", want: "max, sbom"},
		"no":                          {provenance: "false", sbom: "false", want: ""},
		"attributes":                  {provenance: "mode=min", sbom: "format=cyclonedx", want: "min, sbom cyclonedx"},
		"in full":                     {attest: []string{"type=provenance,mode=min", "type=sbom,disabled=true"}, want: "min"},
		"the first counts":            {attest: []string{"type=provenance,mode=max", "type=provenance,mode=min"}, want: "max"},
		"also if it says no":          {attest: []string{"type=provenance,disabled=true", "type=provenance"}, want: ""},
		"before a short form":         {attest: []string{"type=provenance,mode=min", "type=sbom"}, provenance: "false", sbom: "false", want: "min, sbom"},
		"a build argument":            {args: map[string]string{"BUILDKIT_ATTEST_PROVENANCE": "mode=max", "BUILDKIT_ATTEST_SBOM": ""}, want: "max, sbom"},
		"a build argument, no":        {args: map[string]string{"BUILDKIT_ATTEST_SBOM": "true", "BUILDKIT_ATTEST_Provenance": "false"}, want: "sbom"},
		"a flag and a build argument": {args: map[string]string{"BUILDKIT_ATTEST_PROVENANCE": "mode=max"}, provenance: "false", want: ""},
		"SBOM makes an index":         {sbom: "true", want: "min, sbom"},
		"SBOM beside the image":       {sbom: "attestation-manifest=referrer", want: "default min, sbom"},
		"what a generator takes":      {sbom: "generator=scanner,COLOUR=red,format=x", want: `min, sbom scanner map[COLOUR:red format:x]`},
		"what does not count":         {attest: []string{"type=sbom", "type=sbom,format=x"}, want: "min, sbom"},
	} {
		t.Run(name, func(t *testing.T) {
			f := buildFlags{attests: attestFlags{attest: test.attest, provenance: test.provenance, sbom: test.sbom}}
			a, err := f.attestations(test.args)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			if p := a.provenance; p != nil {
				mode := map[bool]string{false: "min", true: "max"}[p.Max]
				if a.isDefault {
					mode = "default " + mode
				}
				got = append(got, mode)
			}
			if s := a.sbom; s != nil {
				text := "sbom"
				if s.Generator != "" {
					text += fmt.Sprintf(" %s %v", s.Generator, s.Parameters)
				} else if s.format != "spdx" {
					text += " " + string(s.format)
				}
				got = append(got, text)
			}
			if text := strings.Join(got, ", "); text != test.want {
				t.Errorf("got %q, want %q", text, test.want)
			}
		})
	}
}

func TestMistakesInAttestations(t *testing.T) {
	for text, test := range map[string]struct {
		flags attestFlags
		arg   string
	}{
		"it has no type":                  {flags: attestFlags{attest: []string{"mode=max"}}},
		`type "vex" are not known`:        {flags: attestFlags{attest: []string{"type=vex"}}},
		"disabled=maybe":                  {flags: attestFlags{attest: []string{"type=sbom,disabled=maybe"}}},
		"mode=odd: want min or max":       {flags: attestFlags{provenance: "mode=odd"}},
		`option "moon" is not known`:      {flags: attestFlags{sbom: "moon=1"}},
		"format=x: want spdx":             {flags: attestFlags{sbom: "format=x"}},
		"generator=: ":                    {flags: attestFlags{sbom: "generator="}},
		"attestation-manifest=x":          {flags: attestFlags{sbom: "attestation-manifest=x"}},
		"NAME=VALUE pairs":                {flags: attestFlags{provenance: `"`}},
		`type "provenence" are not known`: {arg: "BUILDKIT_ATTEST_PROVENENCE"},
	} {
		_, err := (&buildFlags{attests: test.flags}).attestations(map[string]string{test.arg: "mode=max"})
		var mistake *usageError
		if !errors.As(err, &mistake) || !strings.Contains(err.Error(), text) {
			t.Errorf("%+v: got %v, want a mistake with %q", test, err, text)
		}
	}
}
