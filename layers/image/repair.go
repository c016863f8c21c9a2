package image

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/layers/folder"
	"github.com/sinter-build/sinter/layers/hostfile"
)

// copyName is the file beside index.json that holds the same bytes below a line with
// their checksum. It is written after each change, for the day on which index.json
// is damaged.
const copyName = "index.copy"

// damagedError is an index.json that cannot be read. An error that says nothing about
// the file, of a disk or of a lack of open files, is none.
type damagedError struct {
	path string
	// data is what could be read.
	data []byte
	err  error
}

func (e *damagedError) Error() string {
	return fmt.Sprintf("the list of images %s is damaged: %v", e.path, e.err)
}

func (e *damagedError) Unwrap() error { return e.err }

// read returns the list of images. One that is damaged is repaired: on disk, unless
// another process is doing so or the store cannot be written to.
func (s *Images) read() (*ocispec.Index, error) {
	idx, err := s.readFile()
	var damaged *damagedError
	if !errors.As(err, &damaged) {
		return idx, err
	}
	lock, err := s.tryLock()
	switch {
	case err == nil:
		defer lock.Close()
		// Whoever can only read a lock's file can hold it.
		if idx, err = s.readLocked(); !hostfile.IsReadOnly(err) {
			return idx, err
		}
		return s.readDamaged(damaged), nil
	case errors.Is(err, unix.EWOULDBLOCK):
		// It tells of the loss; this process must know of it as well.
		found := s.salvage(damaged)
		s.lost.Store(!found.hasCopy)
		return found.index, nil
	case hostfile.IsReadOnly(err):
		return s.readDamaged(damaged), nil
	}
	return nil, fmt.Errorf("locking the list of images: %w", err)
}

// readDamaged returns what is known of the images where nothing can be repaired.
func (s *Images) readDamaged(damaged *damagedError) *ocispec.Index {
	found := s.salvage(damaged)
	s.warn(fmt.Sprintf("%v; the store is read-only and so it stays damaged; %s", damaged, found))
	return found.index
}

func (s *Images) tryLock() (*os.File, error) {
	if err := s.makeFolders(); err != nil {
		return nil, err
	}
	return hostfile.TryLock(s.lockPath(), hostfile.Exclusive)
}

// readLocked is read for those who hold the lock of the list.
func (s *Images) readLocked() (*ocispec.Index, error) {
	idx, err := s.readFile()
	var damaged *damagedError
	if !errors.As(err, &damaged) {
		return idx, err
	}
	found := s.salvage(damaged)
	aside, err := s.setAside()
	if err == nil {
		err = s.write(found.index)
	}
	if err != nil {
		return nil, errors.Join(damaged, fmt.Errorf("repairing it: %w", err))
	}
	if aside != "" {
		aside = "; the damaged file is " + aside
	}
	if aside != "" || len(found.index.Manifests) > 0 {
		s.lost.Store(!found.hasCopy)
		s.warn(fmt.Sprintf("%v; it is repaired: %s%s", damaged, found, aside))
	}
	return found.index, nil
}

// setAside gives the damaged file another name, which it returns; "" if there is no
// file. index.json itself stays until the repaired one takes its place.
func (s *Images) setAside() (string, error) {
	from := s.indexPath()
	for n := 1; ; n++ {
		to := from + ".damaged"
		if n > 1 {
			to = fmt.Sprintf("%s-%d", to, n)
		}
		err := os.Link(from, to)
		if err != nil && !errors.Is(err, fs.ErrExist) && !errors.Is(err, fs.ErrNotExist) {
			// A directory, or a file system without hard links.
			err = unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
		}
		switch {
		case err == nil:
			return to, nil
		case errors.Is(err, fs.ErrNotExist):
			return "", nil
		case !errors.Is(err, fs.ErrExist):
			return "", fmt.Errorf("setting the damaged file aside: %w", err)
		}
	}
}

// salvaged is what is known of the images when index.json is damaged.
type salvaged struct {
	index *ocispec.Index
	// hasCopy says that the copy could be read; only counts the entries that
	// the damaged file alone had, and nameless those that were found without it.
	hasCopy        bool
	only, nameless int
}

// String says what came back and what is lost.
func (f *salvaged) String() string {
	if f.hasCopy {
		text := "nothing is lost, since there was a copy"
		if f.only > 0 {
			text += fmt.Sprintf("; entries that only the damaged file had: %d", f.only)
		}
		return text
	}
	text := fmt.Sprintf("entries that could be read: %d, others are lost", f.only)
	if f.nameless > 0 {
		text += fmt.Sprintf("; images found without a name: %d (sinter images lists them, sinter tag names them, sinter prune removes them)", f.nameless)
	}
	return text
}

// salvage puts together what the damaged file and its copy say. Where both know a
// name, the image that is there wins, then the one that was named last. Without a
// copy, images that nothing names are looked for among the blobs.
func (s *Images) salvage(damaged *damagedError) *salvaged {
	found := &salvaged{index: emptyIndex()}
	list := s.readCopy()
	if found.hasCopy = list != nil; found.hasCopy {
		found.index.Manifests = list.Manifests
	}
	for _, d := range salvageEntries(damaged.data) {
		img, ok := s.complete(fromDescriptor(d))
		if !ok {
			continue
		}
		i := slices.IndexFunc(found.index.Manifests, img.sameName)
		switch {
		case i < 0:
			found.index.Manifests = append(found.index.Manifests, toDescriptor(img))
			found.only++
		case s.better(img, fromDescriptor(found.index.Manifests[i])):
			found.index.Manifests[i] = toDescriptor(img)
		}
	}
	if !found.hasCopy {
		nameless := s.unnamed(found.index.Manifests)
		found.nameless = len(nameless)
		found.index.Manifests = append(found.index.Manifests, nameless...)
	}
	return found
}

// readCopy returns the list as sinter last wrote it; nil when there is no sound copy.
func (s *Images) readCopy() *ocispec.Index {
	data, err := hostfile.Read(filepath.Join(s.root, copyName), 2*MaxIndex)
	if err != nil {
		return nil
	}
	payload, err := folder.Unseal(data)
	if err != nil {
		return nil
	}
	idx, err := decodeIndex(payload)
	if err != nil {
		return nil
	}
	return idx
}

// better reports whether a rather than b is what their name stands for.
func (s *Images) better(a, b Image) bool {
	if here := s.has(a.Desc); here != s.has(b.Desc) {
		return here
	}
	return a.Updated.After(b.Updated)
}

func (s *Images) has(d ocispec.Descriptor) bool {
	_, err := os.Stat(s.blobPath(d.Digest))
	return err == nil
}

// complete takes length and type of an image from its blob, since what is left of an
// entry may lack them. ok is false for an image that is not there.
func (s *Images) complete(img Image) (_ Image, ok bool) {
	data, err := s.ReadBlob(ocispec.Descriptor{Digest: img.Desc.Digest})
	if err != nil {
		return img, false
	}
	kind, _ := manifestOf(data)
	img.Desc.Size = int64(len(data))
	img.Desc.MediaType = cmp.Or(kind, img.Desc.MediaType)
	return img, img.Desc.MediaType != ""
}

// manifestTypes are the media types of manifests and indexes.
var manifestTypes = []string{
	ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex,
	"application/vnd.docker.distribution.manifest.v2+json", "application/vnd.docker.distribution.manifest.list.v2+json",
}

// manifestOf returns the media type of a manifest or index and, of an index, what it
// names; "" when data is neither.
func manifestOf(data []byte) (kind string, names []ocispec.Descriptor) {
	var doc struct {
		MediaType string               `json:"mediaType"`
		Manifests []ocispec.Descriptor `json:"manifests"`
	}
	if json.Unmarshal(data, &doc) != nil || !slices.Contains(manifestTypes, doc.MediaType) {
		return "", nil
	}
	return doc.MediaType, doc.Manifests
}

// unnamed returns entries without a name for the manifests and indexes among the
// blobs that neither the list nor an index names.
func (s *Images) unnamed(list []ocispec.Descriptor) []ocispec.Descriptor {
	named := map[digest.Digest]bool{}
	for _, d := range list {
		named[d.Digest] = true
	}
	files, err := os.ReadDir(filepath.Join(s.root, "blobs", "sha256"))
	if err != nil {
		return nil
	}
	var images []Image
	for _, f := range files {
		desc := ocispec.Descriptor{Digest: digest.NewDigestFromEncoded(digest.SHA256, f.Name())}
		info, err := f.Info()
		if err != nil || desc.Digest.Validate() != nil || !beginsJSON(s.blobPath(desc.Digest)) {
			continue
		}
		data, err := s.ReadBlob(desc)
		if err != nil {
			continue
		}
		var below []ocispec.Descriptor
		desc.MediaType, below = manifestOf(data)
		desc.Size = int64(len(data))
		for _, d := range below {
			named[d.Digest] = true
		}
		if desc.MediaType != "" {
			images = append(images, Image{Desc: desc, Updated: info.ModTime().UTC()})
		}
	}
	var entries []ocispec.Descriptor
	for _, img := range images {
		if !named[img.Desc.Digest] {
			entries = append(entries, toDescriptor(img))
		}
	}
	return entries
}

// beginsJSON tells layers, which may be large, from documents.
func beginsJSON(path string) bool {
	f, err := hostfile.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	var first [1]byte
	n, _ := f.Read(first[:])
	return n == 1 && first[0] == '{'
}

// longestEntry is how many bytes of a damaged file an entry may have.
const longestEntry = 64 << 10

// salvageEntries returns the entries that can still be made out in what is left of an
// index.json, wherever they are. Of their fields only the digest is sure to be one.
func salvageEntries(data []byte) []ocispec.Descriptor {
	var list []ocispec.Descriptor
	for i := 0; i < len(data); i++ {
		if data[i] != '{' {
			continue
		}
		var d ocispec.Descriptor
		dec := json.NewDecoder(bytes.NewReader(data[i:min(len(data), i+longestEntry)]))
		err := dec.Decode(&d)
		var wrongType *json.UnmarshalTypeError
		if err != nil && !errors.As(err, &wrongType) || d.Digest.Validate() != nil {
			continue // there may be an entry in it
		}
		list = append(list, d)
		i += int(dec.InputOffset()) - 1
	}
	return list
}
