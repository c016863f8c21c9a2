package manifest

import (
	"encoding/base64"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	statement  = `{"_type":"https://in-toto.io/Statement/v1","predicateType":"` + PredicateSPDX + `","predicate":{"a":1}}`
	bundleType = "application/vnd.dev.sigstore.bundle.v0.3+json"
)

func enveloped() string {
	return `{"payloadType":"application/vnd.in-toto+json","payload":"` + base64.StdEncoding.EncodeToString([]byte(statement)) + `","signatures":[]}`
}

func TestParseStatement(t *testing.T) {
	for _, c := range []struct {
		mediaType, data string
		ok              bool
	}{
		{InToto, statement, true},
		{DSSE, enveloped(), true},
		{"application/vnd.in-toto.spdx+dsse", enveloped(), true},
		{bundleType, `{"dsseEnvelope":` + enveloped() + `}`, true},
		{"application/vnd.dev.sigstore.bundle+json;version=0.3", `{"dsseEnvelope":` + enveloped() + `}`, true},
		{bundleType, `{"messageSignature":{}}`, false},
		{DSSE, `{"payload":"not base64"}`, false},
		{InToto, `[`, false},
		{"text/plain", statement, false},
	} {
		s, err := ParseStatement(c.mediaType, []byte(c.data))
		if (err == nil) != c.ok || c.ok && (s.PredicateType != PredicateSPDX || string(s.Predicate) != `{"a":1}`) {
			t.Errorf("%s, %s: %+v, %v", c.mediaType, c.data, s, err)
		}
		if MayState(c.mediaType) != (c.mediaType != "text/plain") {
			t.Errorf("%s may state: %t", c.mediaType, MayState(c.mediaType))
		}
	}
}

func TestPredicateType(t *testing.T) {
	for _, c := range []struct{ layer, manifest map[string]string }{
		{map[string]string{"in-toto.io/predicate-type": "x"}, nil},
		{map[string]string{"predicateType": "x"}, nil},
		{nil, map[string]string{"dev.sigstore.bundle.predicateType": "x"}},
	} {
		d := &Document{Annotations: c.manifest}
		if got := d.PredicateType(ocispec.Descriptor{Annotations: c.layer}); got != "x" {
			t.Errorf("%v, %v: %q", c.layer, c.manifest, got)
		}
	}
	if got := (&Document{}).PredicateType(ocispec.Descriptor{}); got != "" {
		t.Errorf("got %q", got)
	}
}

// FuzzParseStatement: whatever is in a statement, an envelope or a bundle.
func FuzzParseStatement(f *testing.F) {
	f.Add(InToto, []byte(statement))
	f.Add(DSSE, []byte(enveloped()))
	f.Add(bundleType, []byte(`{"dsseEnvelope":{"payload":1}}`))
	f.Fuzz(func(t *testing.T, mediaType string, data []byte) {
		s, err := ParseStatement(mediaType, data)
		if (s == nil) == (err == nil) || err == nil && !MayState(mediaType) {
			t.Errorf("%+v, %v", s, err)
		}
	})
}
