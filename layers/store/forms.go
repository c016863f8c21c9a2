package store

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/archive"
	"github.com/sinter-build/sinter/layers/folder"
	"github.com/sinter-build/sinter/layers/hostfile"
)

// Tree returns the table of contents of a layer. That of a layer which was only
// known by name is made by inflating its blob once; the tar is kept beside it.
func (s *Store) Tree(ctx context.Context, l layers.Layer) (*layers.Tree, error) {
	if t, err := s.tree(l.ID); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return t, err
	}
	unlock, err := s.lockLayer(ctx, l.ID)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if t, err := s.tree(l.ID); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return t, err
	}
	if err := s.inflate(ctx, l); err != nil {
		return nil, ofLayer(l, err)
	}
	return s.tree(l.ID)
}

// HasTree reports whether the table of contents of a layer is there, so that Tree neither
// gets nor makes anything.
func (s *Store) HasTree(l layers.Layer) bool {
	_, err := s.tree(l.ID)
	return err == nil
}

// inflate makes tree and tar of a layer from its blob. The caller holds the layer's
// lock.
func (s *Store) inflate(ctx context.Context, l layers.Layer) error {
	return s.withSoundBlob(l, func() error {
		return s.inflating(ctx, l, func(tar io.Reader) error { return s.inflateFrom(ctx, l, tar) })
	})
}

// withSoundBlob calls read, which reads the blob of l. When the blob on disk has gone
// bad and can be got again, it is, and read is called once more.
func (s *Store) withSoundBlob(l layers.Layer, read func() error) error {
	had := s.Blobs.Has(l.Descriptor)
	err := read()
	if err == nil || !had || !errors.Is(err, folder.ErrCorrupt) || len(l.Origins) == 0 || s.opt.Fetch == nil {
		return err
	}
	s.opt.Warn(fmt.Sprintf("the blob of layer %s is damaged and is got again: %v", l.ID, err))
	if err := s.Blobs.Remove(l.Descriptor.Digest); err != nil {
		return err
	}
	return read()
}

// tree reads the table of contents from disk; fs.ErrNotExist when there is no
// usable one.
func (s *Store) tree(id layers.ID) (*layers.Tree, error) {
	s.mu.Lock()
	t, ok := s.trees[id]
	changes := s.views.changes
	s.mu.Unlock()
	if ok {
		return t, nil
	}
	if err := s.Claim(LayerPart(id)); err != nil {
		return nil, err
	}
	data, err := os.ReadFile(s.layerPath(id, treeName))
	if err != nil {
		return nil, err
	}
	if t, err = layers.DecodeTree(data); err != nil {
		s.opt.Warn(fmt.Sprintf("the table of contents of layer %s is damaged and will be made again: %v", id, err))
		return nil, fs.ErrNotExist
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if first, ok := s.trees[id]; ok { // somebody else was faster
		return first, nil
	}
	if s.views.changes == changes { // else it may have been replaced since it was read
		s.keepTree(id, t)
	}
	return t, nil
}

// inflating calls read with the uncompressed tar in the blob of l, and reads what that
// left of the blob.
func (s *Store) inflating(ctx context.Context, l layers.Layer, read func(tar io.Reader) error) error {
	blob, err := s.OpenBlob(ctx, l)
	if err != nil {
		return err
	}
	defer blob.Close()
	plain, _, err := archive.Decompress(blob)
	if err == nil {
		err = errors.Join(read(archive.ContextReader(ctx, plain)), plain.Close())
	}
	// The blob's own digest shows at its end. When it is wrong, it is the
	// reason for whatever else is.
	_, wrong := io.Copy(io.Discard, archive.ContextReader(ctx, blob))
	if errors.Is(wrong, folder.ErrCorrupt) {
		return wrong
	}
	return errors.Join(err, wrong)
}

// inflateFrom makes tree and tar of the tar of a layer.
func (s *Store) inflateFrom(ctx context.Context, l layers.Layer, tar io.Reader) error {
	f, err := os.CreateTemp(s.tmp, "tar-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	holes := archive.NewHoleWriter(f)
	w := bufio.NewWriterSize(holes, 1<<20)
	t, diffID, _, err := archive.Read(ctx, io.TeeReader(tar, w))
	if err != nil {
		return hostfile.Full(err, s.tmp)
	}
	if err := checkDiffID(l, diffID); err != nil {
		return err
	}
	if err := errors.Join(w.Flush(), holes.Finish(), f.Chmod(0o644)); err != nil {
		return hostfile.Full(err, s.tmp)
	}
	if l.ID.IsBase() && !isThere(s.layerPath(l.ID, metaName)) {
		return s.placeInflated(l, f.Name(), t)
	}
	if err := os.MkdirAll(s.layerPath(l.ID, ""), 0o755); err != nil {
		return err
	}
	done, err := s.writing(l.ID)
	if err != nil {
		return err
	}
	defer done()
	if err := os.Rename(f.Name(), s.layerPath(l.ID, tarName)); err != nil {
		return err
	}
	return s.putTree(l.ID, t)
}

// placeInflated makes the folder of an image's layer that has none, or one without a
// description: all that is known of it appears at once.
func (s *Store) placeInflated(l layers.Layer, tar string, t *layers.Tree) error {
	if err := s.replace(l.ID); err != nil {
		return err
	}
	dir, err := s.TempDir("layer-")
	if err != nil {
		return err
	}
	if err := os.Rename(tar, filepath.Join(dir, tarName)); err != nil {
		return err
	}
	return s.placeLayer(dir, meta{Layer: l, Verified: true}, t)
}

func isThere(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// putEncoded makes t the table of contents of a layer. It is decoded when it is next
// wanted.
func (s *Store) putEncoded(id layers.ID, t *layers.EncodedTree) error {
	if err := s.writeFile(s.layerPath(id, treeName), t.Encode()); err != nil {
		return err
	}
	s.mu.Lock()
	s.keepTree(id, nil)
	s.mu.Unlock()
	return nil
}

func (s *Store) putTree(id layers.ID, t *layers.Tree) error {
	if err := s.writeFile(s.layerPath(id, treeName), t.Encode()); err != nil {
		return err
	}
	s.mu.Lock()
	s.keepTree(id, t)
	s.mu.Unlock()
	return nil
}

// Dir returns the directory form of the uppermost layer of c, to be a lower
// directory of an overlay. It is made when it is first wanted.
//
// Some layers of others do not describe the directories that their files are in.
// In an overlay such a directory would hide mode and owner of the one below, so
// there it gets those that it has in the chain; then the form is one for these
// layers below.
func (s *Store) Dir(ctx context.Context, c layers.Chain) (string, error) {
	l := c[len(c)-1]
	if err := s.Claim(LayerPart(l.ID)); err != nil {
		return "", err
	}
	dir := s.layerPath(l.ID, s.dirName())
	if made, err := s.isMade(dir); err != nil || made {
		return dir, err
	}
	t, err := s.Tree(ctx, l)
	if err != nil {
		return "", err
	}
	t, suffix, err := s.withParents(ctx, t, c)
	if err != nil {
		return "", err
	}
	dir += suffix
	if made, err := s.isMade(dir); err != nil || made {
		return dir, err
	}
	unlock, err := s.lockLayer(ctx, l.ID)
	if err != nil {
		return "", err
	}
	defer unlock()
	if made, err := s.isMade(dir); err != nil || made {
		return dir, err
	}
	if err := s.makeDir(ctx, l, t, dir); err != nil {
		return "", fmt.Errorf("unpacking layer %s: %w", l.ID, err)
	}
	return dir, nil
}

// makeDir makes the directory form dir of a layer. The caller holds the layer's
// lock.
func (s *Store) makeDir(ctx context.Context, l layers.Layer, t *layers.Tree, dir string) error {
	if err := s.haveContent(ctx, l, t); err != nil {
		return err
	}
	tmp, err := s.TempDir("fs-")
	if err != nil {
		return err
	}
	open := func(e layers.Entry) (io.ReadCloser, error) { return s.openForm(l.ID, e) }
	if err := s.unpack(ctx, t, open, tmp); err != nil {
		return errors.Join(hostfile.Full(err, tmp), s.RemoveTemp(tmp))
	}
	done, err := s.writing(l.ID)
	if err != nil {
		return err
	}
	defer done()
	return s.keepDir(ctx, l.ID, tmp, dir)
}

// haveContent makes sure that the layer's files can be read from one of its forms:
// when there is none left, the blob is inflated. The caller holds the layer's lock.
func (s *Store) haveContent(ctx context.Context, l layers.Layer, t *layers.Tree) error {
	if _, err := s.openTar(l.ID); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, ok, err := s.dirOf(l.ID); err != nil || ok {
		return err
	}
	if !slices.ContainsFunc(t.Entries, func(e layers.Entry) bool { return e.Kind == layers.File }) {
		return nil
	}
	return s.inflate(ctx, l)
}

// withParents returns the tree t of the uppermost layer of c with the directories
// that it does not describe but has files in, as they are in the chain, and a name
// for these; t itself and "" when it describes all.
func (s *Store) withParents(ctx context.Context, t *layers.Tree, c layers.Chain) (*layers.Tree, string, error) {
	missing := undescribed(t)
	if len(missing) == 0 {
		return t, "", nil
	}
	view, err := s.View(ctx, c)
	if err != nil {
		return nil, "", err
	}
	parents := &layers.Tree{}
	for _, p := range missing {
		e, _, _ := view.Lookup(p)
		e.Opaque = false
		if i, listed := t.Find(p); listed {
			e.Opaque = t.Entries[i].Opaque
		}
		parents.Entries = append(parents.Entries, e)
	}
	parents.Sort()
	sum := sha256.Sum256(parents.Encode())
	all := &layers.Tree{Entries: slices.Clone(parents.Entries)}
	for _, e := range t.Entries {
		if !e.Implied {
			all.Entries = append(all.Entries, e)
		}
	}
	all.Sort()
	return all, "-" + hex.EncodeToString(sum[:8]), nil
}

// undescribed returns the directories of a tree that are implied, or that only
// the paths of others tell of.
func undescribed(t *layers.Tree) []string {
	var missing []string
	last := ""
	for i := range t.Entries {
		e := &t.Entries[i]
		if e.Implied && e.Path != "" {
			missing = append(missing, e.Path)
		}
		for p := layers.Parent(e.Path); p != "" && !layers.Under(last, p); p = layers.Parent(p) {
			missing = append(missing, p)
		}
		last = e.Path
	}
	return missing
}

// unpack writes a layer into the directory dir, which exists and is empty.
func (s *Store) unpack(ctx context.Context, t *layers.Tree, open func(layers.Entry) (io.ReadCloser, error), dir string) error {
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	return archive.Unpack(ctx, t, open, dir, archive.UnpackOptions{
		UserXattr: inUserNamespace(), SingleUser: s.opt.SingleUser,
	})
}

// firstNamespace is how the kernel names the first user namespace
// (PROC_USER_INIT_INO in its include/linux/proc_ns.h).
const firstNamespace = "user:[4026531837]"

// inUserNamespace reports whether this process is in another user namespace than
// the first: overlays there have other attributes.
func inUserNamespace() bool {
	link, err := os.Readlink("/proc/self/ns/user")
	return err == nil && link != firstNamespace
}
