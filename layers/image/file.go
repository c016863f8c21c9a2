package image

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/layers/folder"
	"github.com/sinter-build/sinter/layers/hostfile"
)

func (s *Images) writeFile(path string, data []byte) error {
	return s.writing(func(temp string) error { return folder.WriteFile(temp, path, data, 0o644) })
}

// writeDurably writes a file that names what is in the store, when that is on disk.
func (s *Images) writeDurably(path string, data []byte) error {
	return s.writing(func(temp string) error {
		return folder.WriteDurably(temp, path, data, 0o644, func() error {
			if s.disk == nil {
				return nil
			}
			return s.disk.Sync()
		})
	})
}

// writing calls write, which writes to a file whose name begins with temp. As long
// as tmp/ is held the file is not taken for a leftover.
func (s *Images) writing(write func(temp string) error) error {
	tmp := filepath.Join(s.root, "tmp")
	held, err := hostfile.LockDir(tmp, hostfile.Shared)
	if err != nil {
		return err
	}
	defer held.Close()
	return write(filepath.Join(tmp, ".file-"))
}

// makeFolders makes what is needed for writing, also where no store was opened.
func (s *Images) makeFolders() error {
	err := os.MkdirAll(filepath.Join(s.root, "blobs/sha256"), 0o755)
	for _, dir := range []string{"locks", "tmp"} {
		err = errors.Join(err, hostfile.Private(filepath.Join(s.root, dir)))
	}
	return err
}

func (s *Images) blobPath(d digest.Digest) string {
	return filepath.Join(s.root, "blobs", d.Algorithm().String(), d.Encoded())
}

// MaxIndex is how long the index.json of a layout may be, in bytes.
const MaxIndex = 64 << 20

// ReadIndexFile returns the bytes of the index.json of an OCI layout, which may
// be anybody's.
func ReadIndexFile(dir string) ([]byte, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	data, err := hostfile.ReadIn(root, ocispec.ImageIndexFile, MaxIndex)
	if err != nil {
		return nil, fmt.Errorf("directory %s: %w", dir, err)
	}
	return data, nil
}

// OpenBlob opens a blob of an OCI layout, which may be anybody's.
func OpenBlob(dir string, d digest.Digest) (*os.File, error) {
	if err := d.Validate(); err != nil {
		return nil, fmt.Errorf("blob %q: %w", d, err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return hostfile.OpenIn(root, filepath.Join(ocispec.ImageBlobsDir, d.Algorithm().String(), d.Encoded()))
}

// ErrDamaged is what reading a blob yields that is not what its descriptor says, or
// that cannot be a manifest, index or config.
var ErrDamaged = errors.New("damaged")

// ReadBlob returns a manifest, index or config, verified.
func (s *Images) ReadBlob(desc ocispec.Descriptor) ([]byte, error) {
	if err := desc.Digest.Validate(); err != nil {
		return nil, fmt.Errorf("blob %q: %w: %w", desc.Digest, ErrDamaged, err)
	}
	if desc.Size > maxBlob {
		return nil, fmt.Errorf("blob %s: %w: %d bytes are too many for a manifest or config", desc.Digest, ErrDamaged, desc.Size)
	}
	data, err := hostfile.Read(s.blobPath(desc.Digest), maxBlob)
	var long *hostfile.SizeError
	var kind *hostfile.KindError
	if errors.As(err, &long) || errors.As(err, &kind) {
		err = fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", desc.Digest, err)
	}
	if digest.FromBytes(data) != desc.Digest {
		return nil, fmt.Errorf("blob %s is %w", desc.Digest, ErrDamaged)
	}
	return data, nil
}

// Used notes of a manifest that a build began with its image.
func (s *Images) Used(d digest.Digest) {
	now := time.Now()
	_ = os.Chtimes(s.blobPath(d), now, now) // it only saves work
}
