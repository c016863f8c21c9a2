package catalog

import (
	"cmp"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"maps"
	"runtime"
	"slices"

	"github.com/anchore/syft/syft/file"
	syftsbom "github.com/anchore/syft/syft/sbom"
	"golang.org/x/sync/errgroup"

	"github.com/sinter-build/sinter/builder/sbom"
	"github.com/sinter-build/sinter/layers"
)

// digests are those of a file, in hexadecimal.
type digests struct {
	SHA1   string `json:"1"`
	SHA256 string `json:"2"`
}

// addDigests adds the digests of the files that packages have. SPDX asks for SHA-1,
// which no table of contents has, so the files are read; what was read is kept.
// CycloneDX documents list no files.
func (c *layered) addDigests(ctx context.Context, s *syftsbom.SBOM, format sbom.Format) error {
	if format != sbom.SPDX {
		return nil
	}
	wanted := make([][]layers.Entry, len(c.im.Layers))
	at := map[string][]file.Coordinates{} // by path
	for _, l := range s.AllCoordinates() {
		e, layer, ok := c.im.view.Lookup(l.RealPath)
		if !ok || e.Kind != layers.File || l.FullPath != "" || e.Size > maxFile {
			continue
		}
		if at[e.Path] == nil {
			wanted[layer] = append(wanted[layer], e)
		}
		at[e.Path] = append(at[e.Path], l)
	}
	s.Artifacts.FileDigests = map[file.Coordinates][]file.Digest{}
	for layer, entries := range wanted {
		known, err := c.digestsOf(ctx, layer, entries)
		if err != nil {
			return err
		}
		for _, e := range entries {
			d := known[e.Path]
			for _, l := range at[e.Path] {
				s.Artifacts.FileDigests[l] = []file.Digest{{Algorithm: "sha1", Value: d.SHA1}, {Algorithm: "sha256", Value: d.SHA256}}
			}
		}
	}
	return nil
}

// digestsOf returns the digests of files of a layer, by their paths.
func (c *layered) digestsOf(ctx context.Context, layer int, entries []layers.Entry) (map[string]digests, error) {
	id := c.im.Layers[layer].ID
	known, _ := load[map[string]digests](c.cache, digestsFolder, id)
	if known == nil {
		known = map[string]digests{}
	}
	entries = slices.DeleteFunc(slices.Clone(entries), func(e layers.Entry) bool { _, ok := known[e.Path]; return ok })
	if len(entries) == 0 {
		return known, nil
	}
	slices.SortFunc(entries, func(a, b layers.Entry) int { return cmp.Compare(a.Place, b.Place) }) // read on, not to and fro
	parts := slices.Collect(slices.Chunk(entries, max(1, len(entries)/(4*runtime.GOMAXPROCS(0)))))
	read := make([]map[string]digests, len(parts))
	group, within := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, part := range parts {
		group.Go(func() error {
			read[i] = map[string]digests{}
			buf := make([]byte, 64<<10)
			for _, e := range part {
				d, err := c.im.digest(within, layers.Named{Entry: e, Layer: layer}, buf)
				if err != nil {
					return err
				}
				read[i][e.Path] = d
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	for _, r := range read {
		maps.Copy(known, r)
	}
	c.unkept = errors.Join(c.unkept, save(c.cache, digestsFolder, id, known))
	return known, nil
}

// digest reads a file through buf. The SHA-256 is the one that the layer's table of contents
// has, if it has one.
func (im *Image) digest(ctx context.Context, n layers.Named, buf []byte) (digests, error) {
	r, err := im.open(ctx, n.Layer, n.Entry)
	if err != nil {
		return digests{}, err
	}
	defer r.Close()
	one, two := sha1.New(), sha256.New()
	to := io.Writer(one)
	if !n.Sum.Known() {
		to = io.MultiWriter(one, two)
	}
	if _, err := io.CopyBuffer(to, r, buf); err != nil {
		return digests{}, err
	}
	d := digests{SHA1: hex.EncodeToString(one.Sum(nil)), SHA256: hex.EncodeToString(two.Sum(nil))}
	if n.Sum.Known() {
		d.SHA256 = n.Sum.Digest().Encoded()
	}
	return d, nil
}
