package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// imageFile is one path of an image.
type imageFile struct {
	header tar.Header
	// inode is shared by hard links.
	inode *inode
}

type inode struct {
	size int64
	sum  [sha256.Size]byte
	text string // the content, when it is short
}

// shortFile is the length in bytes up to which a file's content is shown.
const shortFile = 100

// imageTree is what a container made of an image would see, by absolute path.
type imageTree map[string]imageFile

// archivedImage is an image as it was written.
type archivedImage struct {
	manifest v1.Manifest
	config   map[string]any // as in the config blob
	diffIDs  []string
	layers   [][]byte // tar archives
}

// readImage reads an OCI layout in a tar archive and checks every digest.
func readImage(file string) (*archivedImage, error) {
	blobs, err := tarFiles(file)
	if err != nil {
		return nil, err
	}
	var index v1.IndexManifest
	data := blobs["index.json"]
	for {
		if err := json.Unmarshal(data, &index); err != nil {
			return nil, fmt.Errorf("reading the index: %w", err)
		}
		manifests := slices.DeleteFunc(index.Manifests, func(d v1.Descriptor) bool {
			return d.Platform != nil && d.Platform.OS == "unknown"
		})
		if len(manifests) != 1 {
			return nil, fmt.Errorf("the archive has %d images, not 1", len(manifests))
		}
		if data, err = verifiedBlob(blobs, manifests[0].Digest); err != nil {
			return nil, err
		}
		if !manifests[0].MediaType.IsIndex() {
			break
		}
		index = v1.IndexManifest{}
	}
	img := &archivedImage{}
	if err := json.Unmarshal(data, &img.manifest); err != nil {
		return nil, fmt.Errorf("reading the manifest: %w", err)
	}
	return img, img.read(blobs)
}

func (img *archivedImage) read(blobs map[string][]byte) error {
	data, err := verifiedBlob(blobs, img.manifest.Config.Digest)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, &img.config); err != nil {
		return fmt.Errorf("reading the config: %w", err)
	}
	var config v1.ConfigFile
	if err := json.Unmarshal(data, &config); err != nil {
		return fmt.Errorf("reading the config: %w", err)
	}
	if len(config.RootFS.DiffIDs) != len(img.manifest.Layers) {
		return fmt.Errorf("%d diff IDs for %d layers", len(config.RootFS.DiffIDs), len(img.manifest.Layers))
	}
	for i, l := range img.manifest.Layers {
		data, err := verifiedBlob(blobs, l.Digest)
		if err != nil {
			return err
		}
		if bytes.HasPrefix(data, []byte("\x1f\x8b")) {
			z, err := gzip.NewReader(bytes.NewReader(data))
			if err != nil {
				return fmt.Errorf("layer %d: %w", i, err)
			}
			if data, err = io.ReadAll(z); err != nil {
				return fmt.Errorf("layer %d: %w", i, err)
			}
		}
		if sum := sha256.Sum256(data); config.RootFS.DiffIDs[i].Hex != hex.EncodeToString(sum[:]) {
			return fmt.Errorf("layer %d is not what its diff ID %s says", i, config.RootFS.DiffIDs[i])
		}
		img.diffIDs = append(img.diffIDs, config.RootFS.DiffIDs[i].String())
		img.layers = append(img.layers, data)
	}
	return nil
}

func tarFiles(file string) (map[string][]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	files := map[string][]byte{}
	for tr := tar.NewReader(f); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return files, nil
		}
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", file, err)
		}
		if files[path.Clean(h.Name)], err = io.ReadAll(tr); err != nil {
			return nil, fmt.Errorf("reading %s: %w", file, err)
		}
	}
}

func verifiedBlob(blobs map[string][]byte, digest v1.Hash) ([]byte, error) {
	data, ok := blobs["blobs/"+digest.Algorithm+"/"+digest.Hex]
	if !ok {
		return nil, fmt.Errorf("blob %s is missing", digest)
	}
	if sum := sha256.Sum256(data); digest.Hex != hex.EncodeToString(sum[:]) {
		return nil, fmt.Errorf("blob %s has another digest", digest)
	}
	return data, nil
}

// contains names the part of the image that has text in it.
func (img *archivedImage) contains(text string) string {
	if config, err := json.Marshal(img.config); err != nil || bytes.Contains(config, []byte(text)) {
		return "the config"
	}
	for i, layer := range img.layers {
		if bytes.Contains(layer, []byte(text)) {
			return fmt.Sprintf("layer %d", i)
		}
	}
	return ""
}

// apply lays a layer over the tree. Whiteouts speak of the layers below only.
func (t imageTree) apply(layer []byte) error {
	var whiteouts []string
	upper := imageTree{}
	for tr := tar.NewReader(bytes.NewReader(layer)); ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("reading a layer: %w", err)
		}
		p := path.Clean("/" + h.Name)
		if strings.HasPrefix(path.Base(p), ".wh.") {
			whiteouts = append(whiteouts, p)
			continue
		}
		f := imageFile{header: *h}
		switch h.Typeflag {
		case tar.TypeReg:
			if f.inode, err = readInode(tr); err != nil {
				return err
			}
		case tar.TypeLink:
			name := path.Clean("/" + h.Linkname)
			target, ok := upper[name]
			if !ok {
				target, ok = t[name]
			}
			if !ok {
				return fmt.Errorf("%s is a hard link to %s, which is not there", p, h.Linkname)
			}
			f = target
		}
		upper[p] = f
	}
	for _, w := range whiteouts {
		dir, name := path.Dir(w), strings.TrimPrefix(path.Base(w), ".wh.")
		if name == ".wh..opq" {
			t.removeBelow(dir)
			continue
		}
		delete(t, path.Join(dir, name))
		t.removeBelow(path.Join(dir, name))
	}
	for p, f := range upper {
		if f.header.Typeflag != tar.TypeDir {
			t.removeBelow(p)
		}
		t[p] = f
	}
	return nil
}

func (t imageTree) removeBelow(dir string) {
	for p := range t {
		if p != dir && strings.HasPrefix(p, strings.TrimSuffix(dir, "/")+"/") {
			delete(t, p)
		}
	}
}

func readInode(r io.Reader) (*inode, error) {
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("reading a layer: %w", err)
	}
	i := &inode{size: int64(len(data)), sum: sha256.Sum256(data)}
	if len(data) <= shortFile {
		i.text = string(data)
	}
	return i, nil
}

// firstNames are the first of the paths of each inode.
func (t imageTree) firstNames() map[*inode]string {
	first := map[*inode]string{}
	for p, f := range t {
		if name, ok := first[f.inode]; !ok || p < name {
			first[f.inode] = p
		}
	}
	return first
}

// line describes the file at p, whose inode has the first name; times adds when
// it was changed.
func (f imageFile) line(p, first string, times bool) string {
	h := f.header
	line := fmt.Sprintf("%s %s %04o %d:%d", quotePath(p), typeNames[h.Typeflag], h.Mode&0o7777, h.Uid, h.Gid)
	switch h.Typeflag {
	case tar.TypeReg:
		if first != p {
			return fmt.Sprintf("%s = %s", quotePath(p), quotePath(first))
		}
		if f.inode.size <= shortFile && printable(f.inode.text) {
			line += fmt.Sprintf(" %q", f.inode.text)
		} else {
			line += fmt.Sprintf(" %d bytes sha256:%x", f.inode.size, f.inode.sum[:8])
		}
	case tar.TypeSymlink:
		line = fmt.Sprintf("%s symlink %d:%d -> %s", quotePath(p), h.Uid, h.Gid, quotePath(h.Linkname))
	case tar.TypeChar, tar.TypeBlock:
		line += fmt.Sprintf(" %d:%d", h.Devmajor, h.Devminor)
	}
	var attributes []string
	for k, v := range h.PAXRecords {
		if name, ok := strings.CutPrefix(k, "SCHILY.xattr."); ok {
			attributes = append(attributes, fmt.Sprintf(" %s=%x", name, v))
		}
	}
	slices.Sort(attributes)
	line += strings.Join(attributes, "")
	if times {
		line += " " + h.ModTime.UTC().Truncate(time.Second).Format(time.RFC3339)
	}
	return line
}
