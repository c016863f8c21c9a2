package attest

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sinter-build/sinter/builder/manifest"
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
	// Rename gives the document an ID that is made of what it says, and takes out of it what
	// the layers were called when they were scanned.
	Rename bool
	// Redact hides in a text what nobody may see, such as passwords of addresses: packages
	// of stages and contexts that the image does not have are listed, too. It may be nil.
	Redact func(string) string
}

// Add completes an attestation. The image's own is the one whose file is named as core;
// others, of stages and contexts, list files that the image may not have. One that is
// neither SPDX nor CycloneDX, or that is not understood, stays as it is.
func (s Supplement) Add(a Attestation, core string) (Attestation, error) {
	doc := map[string]any{}
	d := json.NewDecoder(bytes.NewReader(a.Predicate))
	d.UseNumber()
	if d.Decode(&doc) != nil {
		return a, nil
	}
	switch a.Type {
	case manifest.PredicateSPDX, manifest.PredicateCycloneDX:
		if s.Redact != nil {
			s.redact(doc)
		}
	}
	switch a.Type {
	case manifest.PredicateSPDX:
		s.spdx(doc, isNamed(a.File, core) == 1)
		s.rename(doc, "documentNamespace")
	case manifest.PredicateCycloneDX:
		if meta, ok := doc["metadata"].(map[string]any); ok {
			s.clamp(meta, "timestamp")
		}
		s.rename(doc, "serialNumber")
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
	files, _ := doc["files"].([]any)
	for _, f := range files {
		file, _ := f.(map[string]any)
		name, _ := file["fileName"].(string)
		said, _ := file["comment"].(string)
		// What else a scanner says of a file stays.
		if name == "" || said != "" && !strings.HasPrefix(said, layerComment) {
			continue
		}
		layer := digest.Digest("")
		if ofImage {
			layer = s.LayerOf(strings.TrimPrefix(path.Clean("/"+name), "/"))
		}
		switch {
		case layer != "":
			file["comment"] = layerComment + layer.String()
		case s.Rename:
			delete(file, "comment")
		}
	}
}

// redact applies Redact to all texts in decoded JSON.
func (s Supplement) redact(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			v[key] = s.redact(value)
		}
	case []any:
		for i, value := range v {
			v[i] = s.redact(value)
		}
	case string:
		return s.Redact(v)
	}
	return v
}

// clamp brings a time in a document down to the latest that it may have.
func (s Supplement) clamp(in map[string]any, key string) {
	text, _ := in[key].(string)
	at, err := time.Parse(time.RFC3339, text)
	if s.Created != nil && err == nil && at.After(*s.Created) {
		in[key] = s.Created.UTC().Format(time.RFC3339)
	}
}

// uuidLength is that of a UUID in text.
const uuidLength = 36

// rename exchanges the UUID that ends the ID under key.
func (s Supplement) rename(doc map[string]any, key string) {
	id, _ := doc[key].(string)
	if !s.Rename || len(id) < uuidLength {
		return
	}
	delete(doc, key)
	data, err := json.Marshal(doc)
	if err != nil { // decoded JSON can be encoded
		return
	}
	sum := sha256.Sum256(data)
	sum[6], sum[8] = sum[6]&0x0f|0x80, sum[8]&0x3f|0x80 // version 8, of RFC 9562
	doc[key] = fmt.Sprintf("%s%x-%x-%x-%x-%x", id[:len(id)-uuidLength], sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}
