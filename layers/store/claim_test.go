package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/hostfile"
)

// openOnly is open for a store that the test closes, or not.
func openOnly(t *testing.T, root string) *Store {
	t.Helper()
	s, err := Open(root, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// exclude returns what s may remove, or what it waits for.
func exclude(t *testing.T, s *Store) (x *Exclusion, waits string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	x, err := s.Exclude(hostfile.WithWaiting(ctx, hostfile.Waiting{Tell: func(what string) {
		waits = what
		cancel()
	}}))
	if err != nil && waits == "" {
		t.Fatal(err)
	}
	return x, waits
}

// What one process has looked at stays, for as long as the process lives.
func TestClaims(t *testing.T) {
	for name, c := range map[string]struct {
		// end ends the process that uses the layer.
		end  func(t *testing.T, s *Store)
		goes bool
	}{
		"alive":  {end: func(*testing.T, *Store) {}},
		"closed": {end: func(t *testing.T, s *Store) { errorIf(t, s.Close()) }, goes: true},
		"killed": {end: func(t *testing.T, s *Store) { errorIf(t, errors.Join(s.own.Close(), s.claims.gate.Close())) }, goes: true},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			l := writeAndClose(t, root, Forms{Blob: true, Dir: true})
			user, other := openOnly(t, root), openOnly(t, root)
			if _, err := user.Get(l.ID); err != nil || !user.Blobs.Has(l.Descriptor) {
				t.Fatal(err)
			}
			c.end(t, user)
			x, waits := exclude(t, other)
			if waits != "" {
				t.Fatalf("waits for %s", waits)
			}
			for _, err := range []error{x.RemoveLayer(l.ID), x.RemoveBlob(l.Descriptor.Digest)} {
				if (err == nil) != c.goes {
					t.Errorf("removing: %v", err)
				}
			}
			errorIf(t, x.Release())
			if got := other.Blobs.Has(l.Descriptor); got == c.goes {
				t.Errorf("the blob is there: %t", got)
			}
			if _, err := other.Get(l.ID); (err == nil) == c.goes {
				t.Errorf("the layer: %v", err)
			}
		})
	}
}

func errorIf(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}

// Everything through which a layer or a blob is found claims it first.
func TestEveryLookClaims(t *testing.T) {
	root := t.TempDir()
	l := writeAndClose(t, root, Forms{Blob: true, Tar: true, Dir: true})
	layer, blob := LayerPart(l.ID), BlobPart(l.Descriptor.Digest)
	chain := layers.Chain{l}
	for name, c := range map[string]struct {
		look func(s *Store) error
		part string
	}{
		"Get":         {func(s *Store) error { _, err := s.Get(l.ID); return err }, layer},
		"absent":      {func(s *Store) error { _, _ = s.Get("none"); return nil }, LayerPart("none")},
		"Tree":        {func(s *Store) error { _, err := s.Tree(ctx, l); return err }, layer},
		"View":        {func(s *Store) error { _, err := s.View(ctx, chain); return err }, layer},
		"Dir":         {func(s *Store) error { _, err := s.Dir(ctx, chain); return err }, layer},
		"Base":        {func(s *Store) error { s.Base(l.Descriptor, l.DiffID); return nil }, LayerPart(layers.BaseID(l.Descriptor, l.DiffID))},
		"Has":         {func(s *Store) error { s.Blobs.Has(l.Descriptor); return nil }, blob},
		"Available":   {func(s *Store) error { s.Available(l); return nil }, blob},
		"OpenBlob":    {func(s *Store) error { r, err := s.OpenBlob(ctx, l); return errors.Join(err, r.Close()) }, blob},
		"PutBlob":     {func(s *Store) error { return s.Blobs.Put(ctx, l.Descriptor, strings.NewReader("")) }, blob},
		"writingBlob": {func(s *Store) error { done, err := s.writingBlob(l.Descriptor.Digest); done(); return err }, blob},
		"ClaimImage":  {func(s *Store) error { return s.ClaimImage(l.Descriptor.Digest) }, "image " + l.Descriptor.Digest.String()},
		"NewWriter":   {func(s *Store) error { write(t, s, Forms{Blob: true}); return nil }, layer},
	} {
		t.Run(name, func(t *testing.T) {
			s, other := open(t, root, Options{}), open(t, root, Options{})
			if err := c.look(s); err != nil {
				t.Fatal(err)
			}
			claimed, err := other.Claimed()
			if err != nil || !claimed.Has(c.part) {
				t.Errorf("%s is not claimed: %v, %v", c.part, claimed, err)
			}
		})
	}
}

// Who cannot write claims is waited for, and so are processes of older versions, which
// made none.
func TestExcludeWaits(t *testing.T) {
	for name, c := range map[string]struct {
		hinder func(t *testing.T, s *Store)
		waits  string
	}{
		"nobody":        {func(*testing.T, *Store) {}, ""},
		"a full disk":   {hinderClaims, "commands that cannot tell what they use"},
		"older version": {beOlder, "an older version of sinter"},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			user, other := openOnly(t, root), open(t, root, Options{})
			c.hinder(t, user)
			x, waits := exclude(t, other)
			if !strings.Contains(waits, c.waits) || (waits == "") != (c.waits == "") {
				t.Errorf("waits for %q", waits)
			}
			if waits == "" {
				errorIf(t, x.Release())
			}
			errorIf(t, user.Close())
			if x, waits = exclude(t, other); waits != "" {
				t.Fatalf("then waits for %q", waits)
			}
			errorIf(t, x.Release())
		})
	}
}

// beOlder makes s look like a process of a version that makes no claims.
func beOlder(t *testing.T, s *Store) {
	t.Helper()
	former := filepath.Join(filepath.Dir(s.tmp), "123")
	errorIf(t, os.Rename(s.tmp, former))
	s.tmp = former
}

// hinderClaims lets s claim something that it cannot write down.
func hinderClaims(t *testing.T, s *Store) {
	t.Helper()
	file, err := os.Open(filepath.Join(s.tmp, lockName))
	if err != nil {
		t.Fatal(err)
	}
	own := s.own
	s.own = file
	errorIf(t, s.Claim("mounts/m"))
	s.own = own
	errorIf(t, file.Close())
}

// While somebody removes something nobody can claim it.
func TestClaimWaits(t *testing.T) {
	root := t.TempDir()
	l := writeAndClose(t, root, Forms{Blob: true})
	user, other := open(t, root, Options{}), open(t, root, Options{})
	x, _ := exclude(t, other)
	found := make(chan bool)
	go func() { found <- user.Blobs.Has(l.Descriptor) }()
	errorIf(t, x.RemoveBlob(l.Descriptor.Digest))
	errorIf(t, x.Release())
	if <-found {
		t.Error("it was claimed while it was removed")
	}
}
