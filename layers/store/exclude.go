package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/folder"
	"github.com/sinter-build/sinter/layers/hostfile"
)

// An Exclusion is the right to remove what no other process has claimed. While it
// lasts nobody can claim anything, so it must be short.
type Exclusion struct {
	Claims
	s     *Store
	files []*os.File
	// dir has what was moved away.
	dir string
}

// Claims are what other processes use.
type Claims struct {
	parts map[string]bool
	// processes is how many others use the store.
	processes int
}

// Exclude waits until nobody is about to claim anything, and reads what all other
// processes have claimed. Those that cannot tell, since they belong to an older
// version of sinter, are waited for.
func (s *Store) Exclude(ctx context.Context) (*Exclusion, error) {
	for {
		x, former, err := s.tryExclude(ctx)
		if err != nil {
			return nil, fmt.Errorf("looking for what other processes use: %w", err)
		}
		if former == nil {
			return x, nil
		}
		x.release()
		err = hostfile.Hold(ctx, former, "a command of an older version of sinter, which is running, to end", hostfile.Exclusive)
		if err = errors.Join(err, former.Close()); err != nil {
			return nil, err
		}
	}
}

// tryExclude returns an exclusion, and the lock of a process of an older version if
// there is one; then nothing may be removed.
func (s *Store) tryExclude(ctx context.Context) (x *Exclusion, former *os.File, err error) {
	x = &Exclusion{s: s}
	s.needNoClaims(true)
	defer func() {
		if err != nil {
			x.release()
		}
	}()
	gate, err := hostfile.Lock(ctx, filepath.Join(s.root, "locks", gateName), "commands that cannot tell what they use, as they cannot write to the store, to end", hostfile.Exclusive)
	if err != nil {
		return x, nil, err
	}
	x.files = append(x.files, gate)
	// When nobody at all uses the store, it stays so: older versions wait for this.
	// Not before the gate is closed: who keeps that shared may be about to wait for
	// the store.
	store, err := hostfile.TryLock(filepath.Join(s.root, "locks", storeLock), hostfile.Exclusive)
	switch {
	case err == nil:
		x.files = append(x.files, store)
	case !errors.Is(err, unix.EWOULDBLOCK):
		return x, nil, err
	}
	x.Claims, former, err = s.readClaims()
	return x, former, err
}

// storeLock is the lock that all share who use the store; see cache.Store.Share.
const storeLock = "store"

// needNoClaims says that this process alone may remove something, or that it ended to.
func (s *Store) needNoClaims(alone bool) {
	c := &s.claims
	c.mu.Lock()
	defer c.mu.Unlock()
	c.alone = alone
	if alone && c.kept {
		c.kept = false
		_ = unix.Flock(int(c.gate.Fd()), unix.LOCK_UN)
	}
}

// Claimed returns what all other processes have claimed at this moment.
func (s *Store) Claimed() (Claims, error) {
	c, former, err := s.readClaims()
	if former != nil {
		err = errors.Join(err, former.Close())
	}
	return c, err
}

// readClaims reads what all other processes have claimed. It returns the lock of one
// that cannot tell, if there is one.
func (s *Store) readClaims() (c Claims, former *os.File, err error) {
	c.parts = map[string]bool{}
	entries, err := os.ReadDir(filepath.Join(s.root, "tmp"))
	if err != nil {
		return c, nil, err
	}
	for _, e := range entries {
		if !e.IsDir() || strings.HasPrefix(e.Name(), newPrefix) || e.Name() == filepath.Base(s.tmp) {
			continue
		}
		f, err := os.Open(filepath.Join(s.root, "tmp", e.Name(), lockName))
		if errors.Is(err, fs.ErrNotExist) {
			continue // it is being removed
		}
		if err != nil {
			return c, nil, err
		}
		former, err := c.read(f, strings.HasPrefix(e.Name(), claimsPrefix))
		if former {
			return c, f, nil
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return c, nil, err
		}
	}
	return c, nil, nil
}

// read reads a file of claims, if its process is alive and makes some.
func (c *Claims) read(f *os.File, makes bool) (former bool, err error) {
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); err != unix.EWOULDBLOCK {
		return false, err // nil if it is dead
	}
	if !makes {
		return true, nil
	}
	data, err := io.ReadAll(f)
	if err != nil {
		return false, err
	}
	c.processes++
	for part := range strings.Lines(string(data)) {
		c.parts[strings.TrimSuffix(part, "\n")] = true
	}
	return false, nil
}

// Has reports whether another process has claimed a part.
func (c Claims) Has(part string) bool { return c.parts[part] }

// HasImage reports whether another process has claimed an image, or its manifest.
func (c Claims) HasImage(d digest.Digest) bool {
	return c.Has(imagePrefix+d.String()) || c.Has(BlobPart(d))
}

// Images are the images that other processes have claimed, by the digests of their
// manifests or indexes.
func (c Claims) Images() []digest.Digest {
	var images []digest.Digest
	for part := range c.parts {
		if d, ok := strings.CutPrefix(part, imagePrefix); ok && digest.Digest(d).Validate() == nil {
			images = append(images, digest.Digest(d))
		}
	}
	return images
}

// RemoveLayer removes a layer with all its forms but the blob.
func (x *Exclusion) RemoveLayer(id layers.ID) error {
	x.s.forget(id)
	return errors.Join(x.Remove(LayerPart(id)), x.s.unmark(id))
}

// RemoveBlob removes a blob.
func (x *Exclusion) RemoveBlob(d digest.Digest) error {
	if err := d.Validate(); err != nil {
		return err
	}
	return errors.Join(x.Remove(BlobPart(d)), x.s.unmark(blobMark(d)))
}

// Remove moves a part away; its room is freed when the exclusion ends. A part that is
// not there is not an error. One that is claimed is.
func (x *Exclusion) Remove(part string) error {
	if x.Has(part) {
		return fmt.Errorf("removing %s: it is in use", part)
	}
	return x.move(part)
}

// move moves what is at a path below the store's root away.
func (x *Exclusion) move(name string) error {
	path := filepath.Join(x.s.root, name)
	if x.dir == "" {
		dir, err := x.s.TempDir("removed-")
		if err != nil {
			return err
		}
		x.dir = dir
	}
	err := os.Rename(path, filepath.Join(x.dir, strings.ReplaceAll(name, "/", ":")))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, unix.EXDEV):
		err = folder.RemoveAll(context.Background(), path)
	}
	if err != nil {
		return fmt.Errorf("removing %s: %w", name, err)
	}
	return nil
}

// RemoveReplaced removes what was found to be damaged and was set aside, unless its
// layer is in use.
func (x *Exclusion) RemoveReplaced() error {
	entries, err := os.ReadDir(filepath.Join(x.s.root, setAsideName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		// Older versions did not say which layer it was.
		id, _, named := strings.Cut(e.Name(), ".")
		if x.Has(LayerPart(layers.ID(id))) || !named && x.processes > 0 {
			continue
		}
		if err := x.move(filepath.Join(setAsideName, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// Release lets others claim again, and then frees the room of what was removed. When
// this process is told to end, the next one goes on with that.
func (x *Exclusion) Release() error {
	x.release()
	if x.dir == "" {
		return nil
	}
	return removeAll(x.s.opt.Context, x.dir)
}

func (x *Exclusion) release() {
	for _, f := range x.files {
		f.Close()
	}
	x.s.needNoClaims(false)
}

// RemoveLocks removes locks of steps, layers, blobs and output directories that nobody
// holds. Whoever waits for one finds out that it is gone.
func (s *Store) RemoveLocks() error {
	dir := filepath.Join(s.root, "locks")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		for _, prefix := range []string{"step-", "layer-", "blob-", "convert-", "output-"} {
			if !strings.HasPrefix(e.Name(), prefix) {
				continue
			}
			if err := removeLock(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

func removeLock(path string) error {
	f, err := hostfile.TryLock(path, hostfile.Exclusive)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if !hostfile.Names(path, f) {
		return nil // somebody else has removed it, and a new one may be held
	}
	return removeIfThere(path)
}
