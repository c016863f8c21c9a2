package attest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

// The types of lists of packages.
const (
	SPDXType      = "https://spdx.dev/Document"
	CycloneDXType = "https://cyclonedx.org/bom"
)

// layerComment begins the comment of a file in an SPDX document that says which layer it is
// from, as BuildKit writes it.
const layerComment = "layerID: "

// Supplement completes a list of packages with what only the image knows.
type Supplement struct {
	// LayerOf returns the digest of the layer that a file is from, by its path without a
	// leading slash; "" if that is not known.
	LayerOf func(path string) digest.Digest
	// Created is the latest time that the document may have; nil for any.
	Created *time.Time
	// Tool is added to the document's creators.
	Tool string
}

// Add completes an attestation; of those whose files are not named as core, files are not
// those of the image. One that is not SPDX or CycloneDX, or that is not understood, stays as
// it is.
func (s Supplement) Add(a Attestation, core string) (Attestation, error) {
	doc := map[string]any{}
	d := json.NewDecoder(bytes.NewReader(a.Predicate))
	d.UseNumber()
	if d.Decode(&doc) != nil {
		return a, nil
	}
	switch a.Type {
	case SPDXType:
		s.spdx(doc, isNamed(a.File, core) == 1)
	case CycloneDXType:
		if meta, ok := doc["metadata"].(map[string]any); ok {
			s.clamp(meta, "timestamp")
		}
	default:
		return a, nil
	}
	var err error
	if a.Predicate, err = json.Marshal(doc); err != nil {
		err = fmt.Errorf("writing the list of packages: %w", err)
	}
	return a, err
}

func (s Supplement) spdx(doc map[string]any, ofImage bool) {
	if info, ok := doc["creationInfo"].(map[string]any); ok {
		s.clamp(info, "created")
		creators, _ := info["creators"].([]any)
		if s.Tool != "" && ofImage {
			info["creators"] = append(creators, "Tool: "+s.Tool)
		}
	}
	if !ofImage {
		return
	}
	files, _ := doc["files"].([]any)
	for _, f := range files {
		file, _ := f.(map[string]any)
		name, _ := file["fileName"].(string)
		said, _ := file["comment"].(string)
		// What else a scanner says of a file stays.
		if name == "" || said != "" && !strings.HasPrefix(said, layerComment) {
			continue
		}
		if layer := s.LayerOf(strings.TrimPrefix(path.Clean("/"+name), "/")); layer != "" {
			file["comment"] = layerComment + layer.String()
		}
	}
}

// clamp brings a time in a document down to the latest that it may have.
func (s Supplement) clamp(in map[string]any, key string) {
	text, _ := in[key].(string)
	at, err := time.Parse(time.RFC3339, text)
	if s.Created != nil && err == nil && at.After(*s.Created) {
		in[key] = s.Created.UTC().Format(time.RFC3339)
	}
}
