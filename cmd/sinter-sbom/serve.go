package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"

	"github.com/sinter-build/sinter/builder/sbom"
	"github.com/sinter-build/sinter/cmd/sinter-sbom/catalog"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/hostfile"
	"github.com/sinter-build/sinter/layers/store"
)

const (
	// maxRequest is how long a request may be, in bytes: thousands of subjects.
	maxRequest = 64 << 20
	// cacheName is the folder of the store that has what was found.
	cacheName = "sbom"
)

// serve answers a request of sinter's.
func serve(ctx context.Context, scanner *catalog.Scanner, stdin io.Reader, stdout, stderr io.Writer) (err error) {
	data, err := io.ReadAll(io.LimitReader(stdin, maxRequest+1))
	if err != nil {
		return fmt.Errorf("reading the request: %w", err)
	}
	if len(data) > maxRequest {
		return fmt.Errorf("a request of more than %d bytes", maxRequest)
	}
	r, err := sbom.ReadRequest(data)
	if err != nil {
		return err
	}
	s, err := store.Open(r.Store, store.Options{Read: true, Context: ctx, Warn: func(w string) { fmt.Fprintln(stderr, "warning:", w) }})
	if err != nil {
		return fmt.Errorf("opening the store %s: %w", r.Store, err)
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	a, err := answer(ctx, scanner, s, r)
	if err != nil {
		return err
	}
	return json.NewEncoder(stdout).Encode(a)
}

// answer finds the packages of all subjects.
func answer(ctx context.Context, scanner *catalog.Scanner, s *store.Store, r sbom.Request) (*sbom.Answer, error) {
	// syft unpacks archives into a temporary directory: in the store, there is room.
	if temp, err := s.TempDir("sbom-"); err == nil {
		if err := os.Setenv("TMPDIR", temp); err != nil {
			return nil, err
		}
	}
	if err := checkTemp(); err != nil {
		return nil, err
	}
	cache := &catalog.Cache{Folder: filepath.Join(s.Root(), cacheName), Known: func(layer string) bool {
		_, err := os.Lstat(filepath.Join(s.Root(), store.LayerPart(layers.ID(layer))))
		return err == nil
	}}
	a := &sbom.Answer{Handshake: sbom.Hello(), Documents: map[string]json.RawMessage{}, Packages: map[string][]sbom.Package{}}
	for _, subject := range r.Subjects {
		found, err := scan(ctx, scanner, s, cache, r, subject)
		if err != nil {
			return nil, err
		}
		a.Documents[subject.Name], a.Packages[subject.Name] = found.Document, found.Packages
		a.Warnings = append(a.Warnings, found.Warnings...)
	}
	return a, nil
}

// scan finds the packages of one subject, or takes what was found in the same before.
func scan(ctx context.Context, scanner *catalog.Scanner, s *store.Store, cache *catalog.Cache, r sbom.Request, subject sbom.Subject) (catalog.Found, error) {
	opt := catalog.Options{
		Name: subject.Name, Architecture: subject.Architecture, Format: r.Format, Created: r.Created, Version: version(),
	}
	list := make([]catalog.Layer, len(subject.Layers))
	for i, l := range subject.Layers {
		list[i] = catalog.Layer{ID: string(l.ID), Digest: string(l.Descriptor.Digest)}
		if list[i].Digest == "" {
			list[i].Digest = string(l.DiffID)
		}
		if len(subject.LayerNames) == len(list) {
			list[i].Digest = subject.LayerNames[i]
		}
	}
	said, err := json.Marshal(struct {
		Options catalog.Options
		Layers  []catalog.Layer
	}{opt, list})
	if err != nil {
		return catalog.Found{}, err
	}
	key := digest.FromBytes(said).Encoded()
	if found, ok := cache.Answer(key); ok {
		return found, nil
	}
	im, err := open(ctx, s, subject.Layers, list)
	if err != nil {
		return catalog.Found{}, fmt.Errorf("reading the layers of %s: %w", subject.Name, err)
	}
	found, err := scanner.Scan(ctx, im, cache, opt)
	if err != nil {
		return found, err
	}
	// It can be found again, and a store that can only be read is one by design.
	if err := errors.Join(found.Unkept, cache.Keep(key, found)); err != nil && !hostfile.IsReadOnly(err) {
		found.Warnings = append(found.Warnings, fmt.Sprintf("what was found in %s cannot be kept for the next time: %v", subject.Name, err))
	}
	return found, nil
}

// open returns an image of the store.
func open(ctx context.Context, s *store.Store, chain layers.Chain, list []catalog.Layer) (*catalog.Image, error) {
	trees := make([]*layers.Tree, len(chain))
	for i, l := range chain {
		t, err := s.Tree(ctx, l)
		if err != nil {
			return nil, err
		}
		trees[i] = t
	}
	return catalog.NewImage(list, trees, func(ctx context.Context, layer int, e layers.Entry) (io.ReadCloser, error) {
		return s.OpenFile(ctx, chain[layer], e)
	})
}
