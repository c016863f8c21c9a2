package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
	"github.com/rogpeppe/go-internal/testscript"
)

// otherImage is an image made of a config and of blobs that need not belong to it.
type otherImage struct {
	config, manifest []byte
	blobs            []v1.Layer
}

func (i *otherImage) RawConfigFile() ([]byte, error)      { return i.config, nil }
func (i *otherImage) RawManifest() ([]byte, error)        { return i.manifest, nil }
func (i *otherImage) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }
func (i *otherImage) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	for _, l := range i.blobs {
		if d, err := l.Digest(); err == nil && d == h {
			return l, nil
		}
	}
	return nil, fmt.Errorf("no blob %s", h)
}

// newOtherImage makes an image of a config and blobs.
func newOtherImage(config []byte, blobs []v1.Layer) (v1.Image, error) {
	i := &otherImage{config: config, blobs: blobs}
	hash, size, err := v1.SHA256(bytes.NewReader(config))
	if err != nil {
		return nil, err
	}
	m := v1.Manifest{
		SchemaVersion: 2, MediaType: types.OCIManifestSchema1,
		Config: v1.Descriptor{MediaType: types.OCIConfigJSON, Digest: hash, Size: size},
	}
	for _, l := range blobs {
		d, err := partial.Descriptor(l)
		if err != nil {
			return nil, err
		}
		m.Layers = append(m.Layers, *d)
	}
	if i.manifest, err = json.Marshal(m); err != nil {
		return nil, err
	}
	return partial.CompressedToImage(i)
}

// cmdClaim writes an image with the blobs of one image whose config claims the diff
// IDs of another: claim BLOBS DIFFIDS TO. TO is a reference in a registry or a new OCI
// layout.
func cmdClaim(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: claim BLOBS DIFFIDS TO")
	}
	from, claimed := openImage(ts, args[0]), openImage(ts, args[1])
	config, err := from.ConfigFile()
	ts.Check(err)
	other, err := claimed.ConfigFile()
	ts.Check(err)
	config = config.DeepCopy()
	config.RootFS = other.RootFS
	raw, err := json.Marshal(config)
	ts.Check(err)
	blobs, err := from.Layers()
	ts.Check(err)
	if len(blobs) != len(other.RootFS.DiffIDs) {
		ts.Fatalf("the images have %d and %d layers", len(blobs), len(other.RootFS.DiffIDs))
	}
	writeImage(ts, raw, blobs, args[2])
}

// cmdRecompress writes an image with the same config whose layers are compressed
// otherwise: recompress FROM gzip|zstd TO.
func cmdRecompress(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: recompress FROM gzip|zstd TO")
	}
	from := openImage(ts, args[0])
	config, err := from.RawConfigFile()
	ts.Check(err)
	old, err := from.Layers()
	ts.Check(err)
	var blobs []v1.Layer
	for _, l := range old {
		r, err := l.Uncompressed()
		ts.Check(err)
		var buf bytes.Buffer
		mediaType := types.OCILayer
		var w io.WriteCloser
		if args[1] == "zstd" {
			mediaType = types.OCILayerZStd
			w, err = zstd.NewWriter(&buf)
		} else {
			w, err = gzip.NewWriterLevel(&buf, gzip.HuffmanOnly)
		}
		ts.Check(err)
		_, err = io.Copy(w, r)
		ts.Check(err)
		ts.Check(w.Close())
		ts.Check(r.Close())
		blobs = append(blobs, static.NewLayer(buf.Bytes(), mediaType))
	}
	writeImage(ts, config, blobs, args[2])
}

func writeImage(ts *testscript.TestScript, config []byte, blobs []v1.Layer, to string) {
	img, err := newOtherImage(config, blobs)
	ts.Check(err)
	if strings.Contains(to, "/") {
		ref, err := name.ParseReference(to)
		ts.Check(err)
		ts.Check(remote.Write(ref, img))
		return
	}
	path, err := layout.Write(ts.MkAbs(to), empty.Index)
	ts.Check(err)
	ts.Check(path.AppendImage(img))
}

// cmdImageLayers lists an image's layers, one line for each, to a file:
// image-layers IMAGE FILE.
func cmdImageLayers(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: image-layers IMAGE FILE")
	}
	m, err := openImage(ts, args[0]).Manifest()
	ts.Check(err)
	var b strings.Builder
	for _, l := range m.Layers {
		fmt.Fprintln(&b, l.MediaType, l.Digest, l.Size)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(b.String()), 0o644))
}
