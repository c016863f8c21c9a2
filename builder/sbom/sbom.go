// Package sbom has the packages in an image found by the program sinter-sbom, which
// holds the scanner: in sinter itself it would be more than twice as large. This
// package finds the program, and defines what the two tell each other. It does not know
// what becomes of the documents.
package sbom

import (
	"encoding/json"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/sinter-build/sinter/layers"
)

// Protocol numbers the form of Request and Answer. A program with another one is
// refused.
const Protocol = 1

// Format is the format of a document.
type Format string

// The formats of documents: SPDX 2.3 and CycloneDX, both as JSON.
const (
	SPDX      Format = "spdx"
	CycloneDX Format = "cyclonedx"
)

// Handshake says who wrote a request or an answer.
type Handshake struct {
	Protocol int    `json:"protocol"`
	Version  string `json:"version,omitempty"`
}

// Request is what sinter-sbom is asked for, as JSON on its standard input.
type Request struct {
	// Handshake is set by Scan.
	Handshake
	// Store is the folder of the store that has the layers. It must have each of them
	// in a form that can be read: nothing is fetched.
	Store string `json:"store"`
	// Subjects are what to look for packages in.
	Subjects []Subject `json:"subjects"`
	Format   Format    `json:"format"`
	// Created is the time that the documents have.
	Created time.Time `json:"created"`
}

// Subject is a file system: an image, a stage or a context.
type Subject struct {
	// Name is what the document calls it; one name for each subject of a request.
	Name string `json:"name"`
	// Layers are its layers, the lowest first. Documents say which layer a file is from
	// by the digest of its Descriptor, or by its DiffID where that is empty.
	Layers layers.Chain `json:"layers"`
	// LayerNames are what documents call the layers instead; optional.
	LayerNames []string `json:"layerNames,omitempty"`
	// Architecture is the one that an image is for, such as "amd64".
	Architecture string `json:"architecture,omitempty"`
}

// Answer is what sinter-sbom found, as JSON on its standard output.
type Answer struct {
	Handshake
	// Documents has a document for each subject, by its name.
	Documents map[string]json.RawMessage `json:"documents"`
	// Packages has the packages of each subject, by its name, ordered by name and version.
	Packages map[string][]Package `json:"packages"`
	// Warnings tell what could not be read, such as an archive that is damaged.
	Warnings []string `json:"warnings,omitempty"`
}

// Package is one package of a subject.
type Package struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	// Type is syft's name for the kind, such as "deb" or "npm".
	Type string `json:"type"`
	PURL string `json:"purl,omitempty"`
	// Layer is the index of the layer in Subject.Layers that brought it.
	Layer int `json:"layer"`
	// Path is the file that tells of it: a package manager's database, a program.
	Path string `json:"path"`
}

// Hello returns the handshake of this program.
func Hello() Handshake {
	h := Handshake{Protocol: Protocol}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "(devel)" {
		h.Version = info.Main.Version
	}
	return h
}

// Check fails unless the other side is of our version. A version that is not known,
// such as that of a test, goes with every other.
func (h Handshake) Check(other Handshake) error {
	known := h.Version != "" && other.Version != ""
	if h.Protocol == other.Protocol && (!known || h.Version == other.Version) {
		return nil
	}
	return fmt.Errorf("it is version %s (protocol %d), and this is version %s (protocol %d)",
		unknown(other.Version), other.Protocol, unknown(h.Version), h.Protocol)
}

func unknown(version string) string {
	if version == "" {
		return "unknown"
	}
	return version
}
