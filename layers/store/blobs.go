package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/archive"
	"github.com/sinter-build/sinter/layers/folder"
	"github.com/sinter-build/sinter/layers/hostfile"
)

// Blobs keep content under its digest: compressed layers, manifests and configs.
type Blobs struct{ shelf *shelf }

func (s *shelf) blobPath(d digest.Digest) string {
	return filepath.Join(s.root, "blobs", d.Algorithm().String(), d.Encoded())
}

// Has reports whether the blob is on disk with its full length. Whether its bytes
// are right shows when it is read.
func (b *Blobs) Has(desc ocispec.Descriptor) bool {
	return desc.Digest.Validate() == nil && b.whole(desc)
}

// Intact reads a blob and reports whether it is there and right.
func (b *Blobs) Intact(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	if err := desc.Digest.Validate(); err != nil {
		return false, fmt.Errorf("blob %q: %w", desc.Digest, err)
	}
	err := verifyFile(ctx, b.shelf.blobPath(desc.Digest), desc)
	if isDamage(err) {
		return false, nil
	}
	return err == nil, err
}

// Open returns a blob of the store. The reader fails at its end when the bytes are not
// what the digest says, and when ctx ends.
func (b *Blobs) Open(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	l := layers.Layer{Descriptor: desc}
	if err := desc.Digest.Validate(); err != nil {
		return nil, ofLayer(l, err)
	}
	if !b.whole(desc) {
		return nil, ofLayer(l, b.shelf.missing(errors.New("it is not in the store")))
	}
	return b.open(ctx, l)
}

// open is Open for the blob of a layer, which is there.
func (b *Blobs) open(ctx context.Context, l layers.Layer) (io.ReadCloser, error) {
	f, err := os.Open(b.shelf.blobPath(l.Descriptor.Digest))
	if errors.Is(err, fs.ErrNotExist) {
		err = b.shelf.missing(err)
	}
	if err != nil {
		return nil, ofLayer(l, err)
	}
	return archive.ContextReadCloser(ctx, readCloser{damaged{l, archive.Verify(f, l.Descriptor)}, f}), nil
}

// Put keeps what r holds as the blob that desc describes, after verifying
// size and digest. When the blob is there already and sound, r is not read.
func (b *Blobs) Put(ctx context.Context, desc ocispec.Descriptor, r io.Reader) error {
	if err := desc.Digest.Validate(); err != nil {
		return fmt.Errorf("blob %q: %w", desc.Digest, err)
	}
	if b.sound(ctx, desc) {
		return nil
	}
	return b.Replace(ctx, desc, r)
}

// Add keeps data as a blob and describes it. One that is there with wrong bytes is
// replaced, however large it is: pulling is what people do when something is damaged.
func (b *Blobs) Add(ctx context.Context, data []byte, mediaType string) (ocispec.Descriptor, error) {
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	if b.whole(desc) && verifyFile(ctx, b.shelf.blobPath(desc.Digest), desc) == nil {
		return desc, nil
	}
	return desc, b.Replace(ctx, desc, bytes.NewReader(data))
}

// Replace is Put for a blob that may be there with wrong bytes. It stays until
// the right ones are there.
func (b *Blobs) Replace(ctx context.Context, desc ocispec.Descriptor, r io.Reader) error {
	err := b.Create(func(w io.Writer) (digest.Digest, error) {
		_, err := io.Copy(w, archive.ContextReader(ctx, archive.Verify(r, desc)))
		return desc.Digest, err
	})
	if err != nil {
		return fmt.Errorf("blob %s: %w", desc.Digest, err)
	}
	return nil
}

// Create makes a blob of what write writes, which returns the digest of that. There is
// none if write fails.
func (b *Blobs) Create(write func(io.Writer) (digest.Digest, error)) error {
	f, err := os.CreateTemp(b.shelf.tmp, "blob-")
	if err != nil {
		return err
	}
	defer removeIfThere(f.Name())
	d, err := write(f)
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err == nil {
		err = b.place(f.Name(), d)
	}
	return hostfile.Full(err, b.shelf.tmp)
}

// place gives a complete file its name among the blobs.
func (b *Blobs) place(path string, d digest.Digest) error {
	done, err := b.shelf.writingBlob(d)
	if err != nil {
		return err
	}
	defer done()
	return folder.Place(path, b.shelf.blobPath(d))
}

// whole claims a blob and reports whether it is there with its full length; one that
// was not on disk when the machine went down, with its bytes.
func (b *Blobs) whole(desc ocispec.Descriptor) bool {
	return b.shelf.Claim(BlobPart(desc.Digest)) == nil && b.isWhole(desc)
}

// isWhole is whole for who need not find the blob there afterwards.
func (b *Blobs) isWhole(desc ocispec.Descriptor) bool {
	info, err := os.Stat(b.shelf.blobPath(desc.Digest))
	if err != nil || info.Size() != desc.Size {
		return false
	}
	mark := blobMark(desc.Digest)
	if !b.shelf.isLost(mark) {
		return true
	}
	sound := verifyFile(context.Background(), b.shelf.blobPath(desc.Digest), desc) == nil
	return sound && (b.shelf.readOnly() || b.shelf.unmark(mark) == nil)
}

// smallBlob is the length in bytes up to which a blob is read to know that it is
// sound: manifests and configs, mostly.
const smallBlob = 256 << 10

// sound is whole for those who have the bytes at hand: of a small blob it looks at
// the content. The machine may have gone down before that was on disk.
func (b *Blobs) sound(ctx context.Context, desc ocispec.Descriptor) bool {
	return b.whole(desc) && (desc.Size > smallBlob || verifyFile(ctx, b.shelf.blobPath(desc.Digest), desc) == nil)
}

// Remove removes a blob. One that is missing is not an error.
func (b *Blobs) Remove(d digest.Digest) error {
	if err := d.Validate(); err != nil {
		return err
	}
	return errors.Join(removeIfThere(b.shelf.blobPath(d)), b.shelf.unmark(blobMark(d)))
}

// BlobUsage is the room that a blob takes.
type BlobUsage struct {
	Digest digest.Digest
	Size   int64
	Made   time.Time
}

// All returns all blobs on disk.
func (b *Blobs) All() ([]BlobUsage, error) {
	entries, err := os.ReadDir(filepath.Join(b.shelf.root, "blobs", string(digest.SHA256)))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var blobs []BlobUsage
	for _, e := range entries {
		d := digest.NewDigestFromEncoded(digest.SHA256, e.Name())
		info, err := e.Info()
		if d.Validate() != nil || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		blobs = append(blobs, BlobUsage{Digest: d, Size: info.Size(), Made: info.ModTime()})
	}
	return blobs, nil
}

// verifyFile reads a file, and fails with folder.ErrCorrupt unless it is what is wanted.
func verifyFile(ctx context.Context, path string, want ocispec.Descriptor) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(io.Discard, archive.ContextReader(ctx, archive.Verify(f, want)))
	return err
}

// damaged says which layer it is whose blob in the store has gone bad.
type damaged struct {
	layer layers.Layer
	r     io.Reader
}

func (d damaged) Read(p []byte) (int, error) {
	n, err := d.r.Read(p)
	if errors.Is(err, folder.ErrCorrupt) {
		d.layer.Origins = nil // what they sent was verified
		err = ofLayer(d.layer, err)
	}
	return n, err
}

type readCloser struct {
	io.Reader
	io.Closer
}
