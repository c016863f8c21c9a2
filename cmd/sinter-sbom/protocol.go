package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/sinter-build/sinter/builder/manifest"
	"github.com/sinter-build/sinter/builder/sbom"
	"github.com/sinter-build/sinter/cmd/sinter-sbom/catalog"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/hint"
)

// The environment of BuildKit's scanner protocol
// (docs/attestations/sbom-protocol.md there).
const (
	envSource      = "BUILDKIT_SCAN_SOURCE"
	envExtras      = "BUILDKIT_SCAN_SOURCE_EXTRAS"
	envDestination = "BUILDKIT_SCAN_DESTINATION"
	envPlatform    = "BUILDKIT_SCAN_IMAGE_PLATFORM"
	envEpoch       = "SOURCE_DATE_EPOCH"
)

// statement is an in-toto statement about an SBOM. Whoever runs the scanner adds the
// subject.
type statement struct {
	Type          string          `json:"_type"`
	PredicateType string          `json:"predicateType"`
	Subject       []string        `json:"subject"`
	Predicate     json.RawMessage `json:"predicate"`
}

// scanDirectories scans the directories that the environment names.
func scanDirectories(ctx context.Context, scanner *catalog.Scanner, getenv func(string) string, stderr io.Writer) error {
	if err := checkTemp(); err != nil {
		return err
	}
	destination := getenv(envDestination)
	if destination == "" {
		return hint.Add(fmt.Errorf("%s is not set", envDestination), "name the directory that documents are written to with it")
	}
	created, err := epoch(getenv(envEpoch))
	if err != nil {
		return err
	}
	dirs, err := sources(getenv)
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		opt := catalog.Options{
			Name: filepath.Base(dir), Architecture: architecture(getenv(envPlatform)),
			Format: sbom.SPDX, Created: created, Version: version(),
		}
		if err := scanDirectory(ctx, scanner, dir, destination, opt, stderr); err != nil {
			return fmt.Errorf("scanning %s: %w", dir, err)
		}
	}
	return nil
}

// sources returns the directories to scan.
func sources(getenv func(string) string) ([]string, error) {
	dirs := []string{getenv(envSource)}
	extras := getenv(envExtras)
	if extras == "" {
		return dirs, nil
	}
	entries, err := os.ReadDir(extras)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", envExtras, err)
	}
	for _, e := range entries {
		dirs = append(dirs, filepath.Join(extras, e.Name()))
	}
	return dirs, nil
}

// scanDirectory writes a statement about what is in a directory.
func scanDirectory(ctx context.Context, scanner *catalog.Scanner, dir, destination string, opt catalog.Options, stderr io.Writer) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	im, err := readDirectory(ctx, root)
	if err != nil {
		return err
	}
	found, err := scanner.Scan(ctx, im, nil, opt)
	if err != nil {
		return err
	}
	for _, w := range found.Warnings {
		fmt.Fprintln(stderr, "warning:", w)
	}
	data, err := json.Marshal(statement{
		Type: "https://in-toto.io/Statement/v0.1", PredicateType: manifest.PredicateSPDX,
		Subject: []string{}, Predicate: found.Document,
	})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(destination, opt.Name+".spdx.json"), data, 0o644)
}

// epoch returns the time of documents: SOURCE_DATE_EPOCH, or now.
func epoch(seconds string) (time.Time, error) {
	if seconds == "" {
		return time.Now(), nil
	}
	n, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("%s is not a number of seconds: %q", envEpoch, seconds)
	}
	return time.Unix(n, 0), nil
}

// architecture returns that of a platform such as linux/arm64.
func architecture(platform string) string {
	_, rest, _ := strings.Cut(platform, "/")
	arch, _, _ := strings.Cut(rest, "/")
	return arch
}

// readDirectory returns a directory as an image of one layer.
func readDirectory(ctx context.Context, root *os.Root) (*catalog.Image, error) {
	tree, err := walk(ctx, root.Name())
	if err != nil {
		return nil, err
	}
	return catalog.NewImage([]catalog.Layer{{}}, []*layers.Tree{tree}, func(_ context.Context, _ int, e layers.Entry) (io.ReadCloser, error) {
		return root.Open(e.Path)
	})
}
