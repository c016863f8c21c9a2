package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/archive"
	"github.com/sinter-build/sinter/layers/folder"
)

// claimed returns the layer of an image that claims a diff ID for the blob of l.
func claimed(l layers.Layer, diffID digest.Digest, origins ...string) layers.Layer {
	return layers.Layer{ID: layers.BaseID(l.Descriptor, diffID), DiffID: diffID, Descriptor: l.Descriptor, Origins: origins}
}

// know makes a layer of an image known, with its blob on disk.
func know(t *testing.T, s *Store, l layers.Layer, blob []byte) {
	t.Helper()
	if err := errors.Join(s.AddRemote(ctx, l), s.Blobs.Put(ctx, l.Descriptor, bytes.NewReader(blob))); err != nil {
		t.Fatal(err)
	}
}

// TestClaimedDiffID: what an image claims of a blob is found out to be wrong, by
// whatever looks at it, and says nothing of the layer that has the diff ID.
func TestClaimedDiffID(t *testing.T) {
	root := t.TempDir()
	s := open(t, root, Options{})
	_, blob := pulled(t)
	evil, evilBlob := otherBlob(t)
	genuine, _ := pulled(t)
	lie := claimed(evil, genuine.DiffID)
	know(t, s, lie, evilBlob)
	for name, err := range map[string]error{
		"CheckDiffID": s.CheckDiffID(ctx, lie),
		"Tree":        second(s.Tree(ctx, lie)),
		"Dir":         second(s.Dir(ctx, layers.Chain{lie})),
		"Convert":     second(s.Convert(ctx, lie, ConvertOptions{Compression: zstd, Force: true})),
	} {
		if !errors.Is(err, ErrDiffID) {
			t.Errorf("%s: %v", name, err)
		}
		var l *LayerError
		if !errors.As(err, &l) || !strings.Contains(l.HintText(), "choose another") {
			t.Errorf("%s: the hint is missing in %v", name, err)
		}
	}
	own := write(t, s, Forms{Blob: true})
	if own.DiffID != genuine.DiffID || own.Descriptor.Digest != digest.FromBytes(blob) {
		t.Errorf("made here it is %+v", own)
	}
	check(t, s, own)
	know(t, s, genuine, blob)
	if err := s.CheckDiffID(ctx, genuine); err != nil {
		t.Error(err)
	}
	check(t, s, genuine)
	if l, err := s.Get(lie.ID); err != nil || l.Descriptor.Digest != evil.Descriptor.Digest {
		t.Errorf("the claim is %+v, %v", l, err)
	}
}

func second[T any](_ T, err error) error { return err }

// otherBlob returns a layer with other files, and its blob.
func otherBlob(t *testing.T) (layers.Layer, []byte) {
	t.Helper()
	s := open(t, t.TempDir(), Options{})
	w, err := s.NewWriter(ctx, Forms{Blob: true}, archive.Compression{})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Add(layers.Entry{Path: "evil", Kind: layers.File, Size: 4}, strings.NewReader("evil")); err != nil {
		t.Fatal(err)
	}
	l, err := w.Commit(made)
	if err != nil {
		t.Fatal(err)
	}
	blob, err := os.ReadFile(s.blobPath(l.Descriptor.Digest))
	if err != nil {
		t.Fatal(err)
	}
	return l, blob
}

// TestDiffIDIsCheckedOnce, and not before the blob is there.
func TestDiffIDIsCheckedOnce(t *testing.T) {
	root := t.TempDir()
	l, blob := pulled(t)
	s := open(t, root, Options{Fetch: func(context.Context, layers.Layer) (io.ReadCloser, error) {
		t.Error("the blob was fetched")
		return nil, errors.ErrUnsupported
	}})
	if err := s.AddRemote(ctx, l); err != nil {
		t.Fatal(err)
	}
	verified := func(want bool) {
		t.Helper()
		if err := s.CheckDiffID(ctx, l); err != nil {
			t.Error(err)
		}
		if m, err := open(t, root, Options{}).meta(l.ID); err != nil || m.Verified != want {
			t.Errorf("verified: %v, %v", m.Verified, err)
		}
	}
	verified(false)
	know(t, s, l, blob)
	verified(true)
	damage := bytes.Clone(blob)
	damage[len(damage)/2] ^= 1
	if err := os.WriteFile(s.blobPath(l.Descriptor.Digest), damage, 0o644); err != nil {
		t.Fatal(err)
	}
	s = open(t, root, Options{})
	verified(true)
}

// TestDamagedBlobIsNotAClaim: a blob that has gone bad is got again.
func TestDamagedBlobIsNotAClaim(t *testing.T) {
	l, blob := pulled(t)
	s := open(t, t.TempDir(), Options{Fetch: func(context.Context, layers.Layer) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(blob)), nil
	}})
	know(t, s, l, blob)
	damage := bytes.Clone(blob)
	damage[len(damage)/2] ^= 1
	if err := os.WriteFile(s.blobPath(l.Descriptor.Digest), damage, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := s.CheckDiffID(ctx, l); err != nil {
		t.Error(err)
	}
	check(t, s, l)
}

// TestBaseMadeHere: a layer of an image that was built in this store is not inflated
// again, and keeps its blob where another compression is wanted.
func TestBaseMadeHere(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	own := write(t, s, Forms{Blob: true})
	l := claimed(own, own.DiffID)
	if err := s.AddRemote(ctx, l); err != nil {
		t.Fatal(err)
	}
	check(t, s, l)
	if _, err := os.Lstat(s.layerPath(l.ID, tarName)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it was inflated: %v", err)
	}
	if got := convert(t, s, l, ConvertOptions{Compression: zstd}); !sameBlob(got, l) {
		t.Errorf("it became %+v", got)
	}
}

// TestFormerClaims: stores of earlier versions have layers of images under the diff
// IDs that these claimed. None of it is believed but where the blob came from.
func TestFormerClaims(t *testing.T) {
	evil, _ := otherBlob(t)
	genuine, blob := pulled(t)
	for name, treed := range map[string]bool{"known": false, "inflated": true} {
		t.Run(name, func(t *testing.T) {
			s := open(t, t.TempDir(), Options{})
			old := layers.Layer{
				ID: layers.ID(genuine.DiffID.Encoded()), DiffID: genuine.DiffID,
				Descriptor: evil.Descriptor, Origins: []string{"example.com/evil"},
			}
			if err := os.MkdirAll(s.layerPath(old.ID, ""), 0o755); err != nil {
				t.Fatal(err)
			}
			data, err := json.Marshal(map[string]any{"layer": old})
			if err != nil {
				t.Fatal(err)
			}
			if err := s.writeFile(s.layerPath(old.ID, metaName), folder.Seal(data)); err != nil {
				t.Fatal(err)
			}
			if treed {
				if err := s.putTree(old.ID, &layers.Tree{}); err != nil {
					t.Fatal(err)
				}
			}
			if l, err := s.Get(old.ID); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("it is believed: %+v, %v", l, err)
			}
			if problems, err := s.Verify(ctx); err != nil || len(problems) > 0 {
				t.Errorf("Verify: %v, %v", problems, err)
			}
			same := claimed(evil, genuine.DiffID, "example.com/again")
			if got := s.Base(same.Descriptor, same.DiffID).Origins; !slices.Equal(got, []string{"example.com/evil"}) {
				t.Errorf("the origins are %v", got)
			}
			if err := s.AddRemote(ctx, same); err != nil {
				t.Fatal(err)
			}
			if l, err := s.Get(same.ID); err != nil || !slices.Equal(l.Origins, []string{"example.com/again", "example.com/evil"}) {
				t.Errorf("known again it is %+v, %v", l, err)
			}
			know(t, s, genuine, blob)
			if l, err := s.Get(genuine.ID); err != nil || !slices.Equal(l.Origins, genuine.Origins) {
				t.Errorf("another blob's layer is %+v, %v", l, err)
			}
			if own := write(t, s, Forms{Blob: true}); own.Descriptor.Digest != genuine.Descriptor.Digest || own.Origins != nil {
				t.Errorf("made here it is %+v", own)
			}
		})
	}
}

// A layer of an image that nobody has noted, or whose folder has no description, is
// not half there when its blob was inflated.
func TestInflatedWhole(t *testing.T) {
	for _, half := range []bool{false, true} {
		s := open(t, t.TempDir(), Options{})
		l, blob := pulled(t)
		if err := s.Blobs.Put(ctx, l.Descriptor, bytes.NewReader(blob)); err != nil {
			t.Fatal(err)
		}
		if half {
			if err := os.Mkdir(s.layerPath(l.ID, ""), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.Tree(ctx, l); err != nil {
			t.Fatal(err)
		}
		check(t, s, l)
		if problems, err := s.Verify(ctx); err != nil || len(problems) > 0 {
			t.Errorf("half %v: %v, %v", half, problems, err)
		}
		if got, err := open(t, s.root, Options{}).Get(l.ID); err != nil || got.DiffID != l.DiffID {
			t.Errorf("half %v: %+v, %v", half, got, err)
		}
	}
}
