package store

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/archive"
)

// zstd is a compression other than the default.
var zstd = archive.Compression{Type: archive.Zstd}

// convert converts, and looks at the blob.
func convert(t *testing.T, s *Store, l layers.Layer, w ConvertOptions) layers.Layer {
	t.Helper()
	got, err := s.Convert(ctx, l, w)
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.OpenBlob(ctx, got)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.Copy(io.Discard, r); err != nil {
		t.Error(err)
	}
	return got
}

func TestConvert(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	l := write(t, s, Forms{Blob: true})
	z := convert(t, s, l, ConvertOptions{Compression: zstd})
	if z.Descriptor.MediaType != ocispec.MediaTypeImageLayerZstd || z.DiffID != l.DiffID || z.Descriptor.Digest == l.Descriptor.Digest {
		t.Errorf("got %+v", z)
	}
	if kept, err := s.Get(l.ID); err != nil || kept.Descriptor.Digest != l.Descriptor.Digest {
		t.Errorf("the stored layer changed: %+v, %v", kept, err)
	}
	check(t, s, l)
}

// TestConvertIsExact converts to and fro: the blob must be the one that is made
// when nothing was there before.
func TestConvertIsExact(t *testing.T) {
	for _, c := range []archive.Compression{
		{}, zstd, {Type: archive.Gzip, Level: 9}, {Type: archive.Gzip, Level: archive.Stored}, {Type: archive.Uncompressed},
	} {
		t.Run(c.String(), func(t *testing.T) {
			fresh := open(t, t.TempDir(), Options{})
			want, err := fresh.Pack(ctx, write(t, fresh, Forms{Tar: true}), c)
			if err != nil {
				t.Fatal(err)
			}
			for _, first := range []archive.Compression{{}, zstd} {
				s := open(t, t.TempDir(), Options{})
				l, err := s.Pack(ctx, write(t, s, Forms{Tar: true}), first)
				if err != nil {
					t.Fatal(err)
				}
				if got := convert(t, s, l, ConvertOptions{Compression: c}); !sameBlob(got, want) {
					t.Errorf("by way of %s it is %+v, not %+v", first, got.Descriptor, want.Descriptor)
				}
			}
		})
	}
}

func sameBlob(a, b layers.Layer) bool {
	return a.Descriptor.Digest == b.Descriptor.Digest && a.Descriptor.MediaType == b.Descriptor.MediaType && a.DiffID == b.DiffID
}

func TestConvertRemembers(t *testing.T) {
	root := t.TempDir()
	s := open(t, root, Options{})
	l := write(t, s, Forms{Blob: true})
	z := convert(t, s, l, ConvertOptions{Compression: zstd})
	// Without the first blob a new one could not be made.
	if err := s.Blobs.Remove(l.Descriptor.Digest); err != nil {
		t.Fatal(err)
	}
	s = open(t, root, Options{})
	if again := convert(t, s, l, ConvertOptions{Compression: zstd}); !sameBlob(again, z) {
		t.Errorf("got %+v, not %+v", again, z)
	}
	if err := s.Blobs.Remove(z.Descriptor.Digest); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Convert(ctx, l, ConvertOptions{Compression: zstd}); err == nil {
		t.Errorf("made %+v of nothing", got)
	}
}

func TestConvertForeign(t *testing.T) {
	l, blob := pulled(t)
	s := open(t, t.TempDir(), Options{Fetch: func(context.Context, layers.Layer) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(blob)), nil
	}})
	if err := s.AddRemote(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	if got := convert(t, s, l, ConvertOptions{Compression: zstd}); !sameBlob(got, l) {
		t.Errorf("without force it became %+v", got)
	}
	if got := convert(t, s, l, ConvertOptions{Force: true}); !sameBlob(got, l) {
		t.Errorf("gzip became another gzip: %+v", got)
	}
	for _, c := range []archive.Compression{zstd, {Type: archive.Gzip, Level: 9}} {
		got := convert(t, s, l, ConvertOptions{Compression: c, Force: true})
		if got.Descriptor.Digest == l.Descriptor.Digest || got.Descriptor.MediaType != c.MediaType() || got.DiffID != l.DiffID || got.Origins != nil {
			t.Errorf("with force it became %+v", got)
		}
	}
}

// TestConvertForcedOnce: what one image wanted by force is not what the next gets
// without.
func TestConvertForcedOnce(t *testing.T) {
	l, blob := pulled(t)
	s := open(t, t.TempDir(), Options{})
	know(t, s, l, blob)
	forced := convert(t, s, l, ConvertOptions{Compression: zstd, Force: true})
	if got := convert(t, s, l, ConvertOptions{Compression: zstd}); !sameBlob(got, l) {
		t.Errorf("without force it is %+v", got)
	}
	if got := convert(t, s, l, ConvertOptions{Compression: zstd, Force: true}); !sameBlob(got, forced) {
		t.Errorf("with force again it is %+v", got)
	}
}

// TestConvertVariant converts what is a variant already.
func TestConvertVariant(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	l, err := s.Pack(ctx, write(t, s, Forms{Tar: true}), zstd)
	if err != nil {
		t.Fatal(err)
	}
	gzip := convert(t, s, l, ConvertOptions{})
	if got := convert(t, s, gzip, ConvertOptions{Compression: zstd}); !sameBlob(got, l) {
		t.Errorf("back to zstd it is %+v", got)
	}
	fresh := open(t, t.TempDir(), Options{})
	nine := archive.Compression{Type: archive.Gzip, Level: 9}
	want, err := fresh.Pack(ctx, write(t, fresh, Forms{Tar: true}), nine)
	if err != nil {
		t.Fatal(err)
	}
	if got := convert(t, s, gzip, ConvertOptions{Compression: nine}); !sameBlob(got, want) {
		t.Errorf("at level 9 it is %+v, not %+v", got, want)
	}
}

func TestConvertClampsTimes(t *testing.T) {
	for name, forms := range map[string]Forms{"blob": {Blob: true}, "tar": {Tar: true}, "directory": {Dir: true}} {
		t.Run(name, func(t *testing.T) {
			s := open(t, t.TempDir(), Options{})
			l := write(t, s, forms)
			late, early := layers.Epoch{Seconds: 3}, layers.Epoch{Seconds: 2}
			if got := convert(t, s, l, ConvertOptions{Epoch: &late}); got.DiffID != l.DiffID {
				t.Errorf("nothing is younger, but the diff ID changed to %s", got.DiffID)
			}
			got := convert(t, s, l, ConvertOptions{Epoch: &early})
			if got.DiffID == l.DiffID || got.ID != l.ID {
				t.Errorf("got %+v", got)
			}
			for name, at := range times(t, s, got) {
				if want := map[string]int64{"dir/": 1, "dir/file": 2, "dir/large": 2, "dir/link": 2, "empty": 2}[name]; at != want {
					t.Errorf("%s has the time %d, not %d", name, at, want)
				}
			}
			if z := convert(t, s, l, ConvertOptions{Epoch: &early, Compression: zstd}); z.DiffID != got.DiffID || z.Descriptor.Digest == got.Descriptor.Digest {
				t.Errorf("zstd is %+v", z)
			}
			check(t, s, l)
		})
	}
}

// What has no time of its own gets the epoch, also a later one, and also where
// other times are kept.
func TestConvertGivesTimes(t *testing.T) {
	for name, forms := range map[string]Forms{"blob": {Blob: true}, "tar": {Tar: true}, "directory": {Dir: true}} {
		t.Run(name, func(t *testing.T) {
			s := open(t, t.TempDir(), Options{})
			w, err := s.NewWriter(ctx, forms, archive.Compression{})
			if err != nil {
				t.Fatal(err)
			}
			defer w.Abort()
			made := layers.Entry{Path: "made", Kind: layers.Dir, Mode: 0o755, ModTime: layers.MadeTime}
			own := layers.Entry{Path: "own", Kind: layers.Dir, Mode: 0o755, ModTime: 5e9}
			if err := errors.Join(w.Add(made, nil), w.Add(own, nil)); err != nil {
				t.Fatal(err)
			}
			l, err := w.Commit(time.Now())
			if err != nil {
				t.Fatal(err)
			}
			for epoch, want := range map[layers.Epoch][2]int64{
				{Seconds: 2}: {2, 2}, {Seconds: 2, Keep: true}: {2, 5}, {Seconds: 1_700_000_000}: {1_700_000_000, 5},
			} {
				got := times(t, s, convert(t, s, l, ConvertOptions{Epoch: &epoch}))
				if got["made/"] != want[0] || got["own/"] != want[1] {
					t.Errorf("%+v: got %v, want %v", epoch, got, want)
				}
			}
			if got := times(t, s, convert(t, s, l, ConvertOptions{})); got["made/"] != layers.MadeTime/1e9 || got["own/"] != 5 {
				t.Errorf("without an epoch: %v", got)
			}
		})
	}
}

// times are the modification times in a layer's gzip blob.
func times(t *testing.T, s *Store, l layers.Layer) map[string]int64 {
	t.Helper()
	r, err := s.OpenBlob(ctx, l)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	plain, _, err := archive.Decompress(r)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	list := map[string]int64{}
	for tr := tar.NewReader(plain); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		list[h.Name] = h.ModTime.Unix()
	}
}

func TestConvertDamaged(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	l := write(t, s, Forms{Blob: true})
	data, err := os.ReadFile(s.blobPath(l.Descriptor.Digest))
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.WriteFile(s.blobPath(l.Descriptor.Digest), data, 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Convert(ctx, l, ConvertOptions{Compression: zstd}); err == nil {
		t.Errorf("made %+v of a damaged blob", got)
	} else if errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
