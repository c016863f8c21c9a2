package manifest

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// The media types of in-toto statements: plain, and in signed envelopes.
const (
	InToto = "application/vnd.in-toto+json"
	DSSE   = "application/vnd.dsse.envelope.v1+json"

	bundle = "application/vnd.dev.sigstore.bundle" // with a version, in two spellings
)

// The types of predicates; SLSA's is followed by a version.
const (
	PredicateSLSA      = "https://slsa.dev/provenance/"
	PredicateSPDX      = "https://spdx.dev/Document"
	PredicateCycloneDX = "https://cyclonedx.org/bom"
)

// PredicateTypeKey is the annotation of a statement's blob with the type of its predicate.
const PredicateTypeKey = "in-toto.io/predicate-type"

// MaxStatement is how long a statement may be, in bytes: BuildKit reads no more of one.
const MaxStatement = 80 << 20

// Statement is what an in-toto statement says of its subjects.
type Statement struct {
	PredicateType string
	Predicate     json.RawMessage
}

// MayState reports whether a blob of a media type can be a statement; a sigstore bundle
// can be a mere signature as well.
func MayState(mediaType string) bool {
	return mediaType == InToto || isEnvelope(mediaType) || strings.HasPrefix(mediaType, bundle)
}

// isEnvelope reports whether a media type is that of a DSSE envelope, buildx's among them.
func isEnvelope(mediaType string) bool {
	return mediaType == DSSE || strings.HasPrefix(mediaType, "application/vnd.in-toto.") && strings.HasSuffix(mediaType, "+dsse")
}

// PredicateType is what the annotations say of a layer of an attestation manifest:
// BuildKit's, cosign's, or those of a sigstore bundle; "" if they say nothing.
func (d *Document) PredicateType(layer ocispec.Descriptor) string {
	for _, key := range []string{PredicateTypeKey, "predicateType"} {
		if t := layer.Annotations[key]; t != "" {
			return t
		}
	}
	return d.Annotations["dev.sigstore.bundle.predicateType"]
}

// ParseStatement reads a statement, also out of an envelope or a bundle, whose signatures
// it does not look at.
func ParseStatement(mediaType string, data []byte) (*Statement, error) {
	type envelope struct {
		Payload []byte `json:"payload"`
	}
	var err error
	switch {
	case isEnvelope(mediaType):
		var e envelope
		err = json.Unmarshal(data, &e)
		data = e.Payload
	case strings.HasPrefix(mediaType, bundle):
		var b struct {
			Envelope envelope `json:"dsseEnvelope"`
		}
		err = json.Unmarshal(data, &b)
		data = b.Envelope.Payload
	case mediaType != InToto:
		return nil, fmt.Errorf("%q is not the media type of an attestation", mediaType)
	}
	if err == nil && len(data) == 0 {
		err = errors.New("it holds nothing")
	}
	var s struct {
		PredicateType string          `json:"predicateType"`
		Predicate     json.RawMessage `json:"predicate"`
	}
	if err == nil {
		err = json.Unmarshal(data, &s)
	}
	if err != nil {
		return nil, fmt.Errorf("reading a statement: %w", err)
	}
	return &Statement{s.PredicateType, s.Predicate}, nil
}
