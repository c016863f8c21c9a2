package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/archive"
	"github.com/sinter-build/sinter/layers/folder"
	"github.com/sinter-build/sinter/layers/hostfile"
)

func (s *Store) blobPath(d digest.Digest) string {
	return filepath.Join(s.root, "blobs", d.Algorithm().String(), d.Encoded())
}

// CanHave reports whether the blob of a layer is in the store with its full
// length, or known where to be got.
func (s *Store) CanHave(l layers.Layer) bool {
	return l.Descriptor.Digest.Validate() == nil && (len(l.Origins) > 0 && s.opt.Fetch != nil || s.whole(l.Descriptor))
}

// Usable says why a layer cannot be used, if it cannot: ErrNoForm when what is left
// of it is at most a directory that is not the one that was made here.
func (s *Store) Usable(l layers.Layer) error {
	if s.CanHave(l) {
		return nil
	}
	if l.Descriptor.Digest != "" {
		return fmt.Errorf("layer %s: its blob %s is damaged or gone", l.ID, l.Descriptor.Digest)
	}
	if _, err := s.tree(l.ID); err != nil {
		return fmt.Errorf("layer %s: reading its table of contents: %w", l.ID, err)
	}
	if _, err := os.Lstat(s.layerPath(l.ID, tarName)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	_, ok, err := s.dirOf(l.ID)
	if err != nil || ok {
		return err
	}
	return ofLayer(l, ErrNoForm)
}

// Has reports whether the blob is on disk with its full length. Whether its bytes
// are right shows when it is read.
func (s *Store) Has(desc ocispec.Descriptor) bool {
	return desc.Digest.Validate() == nil && s.whole(desc)
}

// Intact reads a blob and reports whether it is there and right.
func (s *Store) Intact(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	if err := desc.Digest.Validate(); err != nil {
		return false, fmt.Errorf("blob %q: %w", desc.Digest, err)
	}
	err := verifyFile(ctx, s.blobPath(desc.Digest), desc)
	if isDamage(err) {
		return false, nil
	}
	return err == nil, err
}

// PutBlob keeps what r holds as the blob that desc describes, after verifying
// size and digest. When the blob is there already and sound, r is not read.
func (s *Store) PutBlob(ctx context.Context, desc ocispec.Descriptor, r io.Reader) error {
	if err := desc.Digest.Validate(); err != nil {
		return fmt.Errorf("blob %q: %w", desc.Digest, err)
	}
	if s.sound(ctx, desc) {
		return nil
	}
	return s.ReplaceBlob(ctx, desc, r)
}

// ReplaceBlob is PutBlob for a blob that may be there with wrong bytes. It stays until
// the right ones are there.
func (s *Store) ReplaceBlob(ctx context.Context, desc ocispec.Descriptor, r io.Reader) error {
	f, err := os.CreateTemp(s.tmp, "blob-")
	if err != nil {
		return fmt.Errorf("blob %s: %w", desc.Digest, err)
	}
	_, err = io.Copy(f, archive.ContextReader(ctx, archive.Verify(r, desc)))
	if err == nil {
		err = f.Chmod(0o644)
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = s.placeBlob(f.Name(), desc.Digest)
	}
	if err != nil {
		err = hostfile.Full(err, s.tmp)
		_ = os.Remove(f.Name())
		return fmt.Errorf("blob %s: %w", desc.Digest, err)
	}
	return nil
}

// placeBlob gives a complete file its name among the blobs.
func (s *Store) placeBlob(path string, d digest.Digest) error {
	done, err := s.Writing(d)
	if err != nil {
		return err
	}
	defer done()
	return folder.Place(path, s.blobPath(d))
}

// whole claims a blob and reports whether it is there with its full length; one that
// was not on disk when the machine went down, with its bytes.
func (s *Store) whole(desc ocispec.Descriptor) bool {
	return s.Claim(BlobPart(desc.Digest)) == nil && s.isWhole(desc)
}

// isWhole is whole for who need not find the blob there afterwards.
func (s *Store) isWhole(desc ocispec.Descriptor) bool {
	info, err := os.Stat(s.blobPath(desc.Digest))
	if err != nil || info.Size() != desc.Size {
		return false
	}
	mark := blobMark(desc.Digest)
	if !s.isLost(mark) {
		return true
	}
	sound := verifyFile(context.Background(), s.blobPath(desc.Digest), desc) == nil
	return sound && (s.readOnly() || s.unmark(mark) == nil)
}

// smallBlob is the length in bytes up to which a blob is read to know that it is
// sound: manifests and configs, mostly.
const smallBlob = 256 << 10

// sound is whole for those who have the bytes at hand: of a small blob it looks at
// the content. The machine may have gone down before that was on disk.
func (s *Store) sound(ctx context.Context, desc ocispec.Descriptor) bool {
	return s.whole(desc) && (desc.Size > smallBlob || verifyFile(ctx, s.blobPath(desc.Digest), desc) == nil)
}

// OpenBlob returns the compressed bytes of a layer, getting and keeping them
// when they are not on disk. The reader fails at its end when they are not what
// the digest says, and when ctx ends.
func (s *Store) OpenBlob(ctx context.Context, l layers.Layer) (io.ReadCloser, error) {
	if err := s.haveBlob(ctx, l); err != nil {
		return nil, err
	}
	f, err := os.Open(s.blobPath(l.Descriptor.Digest))
	if errors.Is(err, fs.ErrNotExist) {
		err = s.missing(err)
	}
	if err != nil {
		return nil, ofLayer(l, err)
	}
	return archive.ContextReadCloser(ctx, readCloser{damaged{l, archive.Verify(f, l.Descriptor)}, f}), nil
}

// haveBlob gets the blob of a layer if it is not on disk.
func (s *Store) haveBlob(ctx context.Context, l layers.Layer) error {
	if l.Descriptor.Digest == "" {
		return ofLayer(l, errors.New("it has no blob"))
	}
	if err := l.Descriptor.Digest.Validate(); err != nil {
		return ofLayer(l, fmt.Errorf("blob %q: %w", l.Descriptor.Digest, err))
	}
	if s.whole(l.Descriptor) {
		return nil
	}
	if s.readOnly() {
		return ofLayer(l, s.missing(fmt.Errorf("its blob %s is not in the store", l.Descriptor.Digest)))
	}
	if s.opt.Fetch == nil || len(l.Origins) == 0 {
		return ofLayer(l, fmt.Errorf("its blob %s is not in the store, and where it came from is not known", l.Descriptor.Digest))
	}
	unlock, err := s.Lock(ctx, "blob-"+l.Descriptor.Digest.Encoded(), "blob "+l.Descriptor.Digest.String()+", which is being fetched elsewhere")
	if err != nil {
		return err
	}
	defer unlock()
	if s.whole(l.Descriptor) {
		return nil
	}
	return ofLayer(l, s.fetch(ctx, l))
}

// fetchAttempts is how often a blob is fetched that arrives damaged.
const fetchAttempts = 2

// fetch gets the blob of a layer. One that is damaged on its way is fetched again.
func (s *Store) fetch(ctx context.Context, l layers.Layer) error {
	for n := 1; ; n++ {
		r, err := s.opt.Fetch(ctx, l)
		if err != nil {
			return err
		}
		err = errors.Join(s.PutBlob(ctx, l.Descriptor, r), r.Close())
		if !errors.Is(err, folder.ErrCorrupt) || n >= fetchAttempts {
			return err
		}
		s.opt.Warn(fmt.Sprintf("the blob of layer %s arrived damaged and is fetched again: %v", l.ID, err))
	}
}

// RemoveBlob removes a blob. One that is not there is no error.
func (s *Store) RemoveBlob(d digest.Digest) error {
	if err := d.Validate(); err != nil {
		return err
	}
	return errors.Join(removeIfThere(s.blobPath(d)), s.unmark(blobMark(d)))
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

// Fetch gets the blobs of a chain that are not on disk, several at once.
func (s *Store) Fetch(ctx context.Context, c layers.Chain) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(6)
	for _, l := range c {
		group.Go(func() error { return s.haveBlob(ctx, l) })
	}
	return group.Wait()
}
