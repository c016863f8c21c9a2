package main

import (
	"context"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sinter-build/sinter/builder/attest"
	"github.com/sinter-build/sinter/builder/manifest"
	"github.com/sinter-build/sinter/builder/sbom"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/hint"
	"github.com/sinter-build/sinter/layers/store"
	"github.com/sinter-build/sinter/parser"
)

// sbomScanner is the program sinter-sbom. It implements builder.Scanner.
type sbomScanner struct {
	store  *store.Store
	format sbom.Format
	warn   func(string)
}

// Identity is that of the program file, since each release of it may find something else,
// and the format. People read it when it is the reason for a scan.
func (s *sbomScanner) Identity() (string, error) {
	path, err := sbom.Find()
	if err != nil {
		return "", orGenerator(err)
	}
	id := goBuildID(path)
	if id == "" {
		info, err := os.Stat(path)
		if err != nil {
			return "", err
		}
		id = fmt.Sprintln(path, info.Size(), info.ModTime().UnixNano())
	}
	return fmt.Sprintf("%s by %s %s", s.format, filepath.Base(path), digest.FromString(id).Encoded()[:16]), nil
}

// orGenerator adds to the hint how to get the program what a build can use instead.
func orGenerator(err error) error {
	var program *sbom.ProgramError
	if !errors.As(err, &program) {
		return err
	}
	return &hint.Error{Err: err, Hint: program.HintText() + ", or name a scanner's image with --sbom=generator=IMAGE", First: true}
}

// goBuildID is the ID that Go's linker writes into a program, which differs for programs
// that differ; "" if there is none.
func goBuildID(path string) string {
	f, err := elf.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	section := f.Section(".note.go.buildid")
	if section == nil {
		return ""
	}
	data, err := section.Data()
	// A header of 16 bytes comes before the ID.
	if err != nil || len(data) <= 16 {
		return ""
	}
	return string(data[16:])
}

// Scan implements builder.Scanner.
func (s *sbomScanner) Scan(ctx context.Context, op parser.Scan, chains []layers.Chain) (map[string][]byte, error) {
	r := sbom.Request{Store: s.store.Root(), Format: s.format, Created: time.Now().UTC().Truncate(time.Second)}
	for i, name := range op.Names {
		// Which digests the layers will have in an image is not known yet.
		numbers := make([]string, len(chains[i]))
		for n := range numbers {
			numbers[n] = "layer-" + strconv.Itoa(n+1)
		}
		r.Subjects = append(r.Subjects, sbom.Subject{Name: name, Layers: chains[i], LayerNames: numbers, Architecture: op.Architecture})
	}
	answer, err := sbom.Scan(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("listing the packages: %w", orGenerator(err))
	}
	for _, text := range answer.Warnings {
		s.warn(text)
	}
	kind, ext := manifest.PredicateSPDX, ".spdx.json"
	if s.format == sbom.CycloneDX {
		kind, ext = manifest.PredicateCycloneDX, ".cdx.json"
	}
	files := map[string][]byte{}
	for _, name := range op.Names {
		a := attest.Attestation{Type: kind, Predicate: json.RawMessage(answer.Documents[name])}
		if files[name+ext], err = a.Statement(nil, false); err != nil {
			return nil, err
		}
	}
	return files, nil
}
