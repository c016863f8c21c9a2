package image

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/layers/folder"
)

func (s *Images) writeFile(path string, data []byte) error {
	return folder.WriteFile(filepath.Join(s.root, "tmp", ".file-"), path, data, 0o644)
}

func (s *Images) blobPath(d digest.Digest) string {
	return filepath.Join(s.root, "blobs", d.Algorithm().String(), d.Encoded())
}

// maxIndex is how long the index.json of a layout may be, in bytes.
const maxIndex = 64 << 20

// ReadIndexFile returns the bytes of the index.json of an OCI layout, which may
// be anybody's.
func ReadIndexFile(dir string) ([]byte, error) {
	return readAtMost(filepath.Join(dir, ocispec.ImageIndexFile), maxIndex)
}

func readAtMost(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		return nil, fmt.Errorf("%s has more than %d bytes", path, limit)
	}
	return data, err
}

// ReadBlob returns a manifest, index or config, verified.
func (s *Images) ReadBlob(desc ocispec.Descriptor) ([]byte, error) {
	if err := desc.Digest.Validate(); err != nil {
		return nil, fmt.Errorf("blob %q: %w", desc.Digest, err)
	}
	if desc.Size > maxBlob {
		return nil, fmt.Errorf("blob %s: %d bytes are too many for a manifest or config", desc.Digest, desc.Size)
	}
	data, err := readAtMost(s.blobPath(desc.Digest), maxBlob)
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", desc.Digest, err)
	}
	if digest.FromBytes(data) != desc.Digest {
		return nil, fmt.Errorf("blob %s is damaged", desc.Digest)
	}
	return data, nil
}

// PutBlob keeps a manifest, index or config and describes it.
func (s *Images) PutBlob(data []byte, mediaType string) (ocispec.Descriptor, error) {
	desc := ocispec.Descriptor{
		MediaType: mediaType, Size: int64(len(data)),
		Digest: digest.FromBytes(data),
	}
	if old, err := os.ReadFile(s.blobPath(desc.Digest)); err == nil && digest.FromBytes(old) == desc.Digest {
		return desc, nil
	}
	for _, dir := range []string{"tmp", "blobs/sha256"} {
		if err := os.MkdirAll(filepath.Join(s.root, dir), 0o755); err != nil {
			return desc, fmt.Errorf("blob %s: %w", desc.Digest, err)
		}
	}
	if err := s.writeFile(s.blobPath(desc.Digest), data); err != nil {
		return desc, fmt.Errorf("blob %s: %w", desc.Digest, err)
	}
	return desc, nil
}
