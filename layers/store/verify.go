package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/archive"
)

// Problem is something in the store that is not as it must be.
type Problem struct {
	// Path of what is wrong, below the store's folder.
	Path string
	// Text says what is wrong with it.
	Text string
	// Blob or Layer is what has to go; of a layer only this form of it, if
	// there is one named.
	Blob  digest.Digest
	Layer layers.ID
	Form  string
	// Lost says that nothing is left to make the layer of.
	Lost bool

	// seen is what would have to go, as it was when it was looked at.
	seen fs.FileInfo
}

func (p Problem) String() string { return p.Path + ": " + p.Text }

// part is what claims call what is wrong.
func (p Problem) part() string {
	if p.Blob != "" {
		return BlobPart(p.Blob)
	}
	return LayerPart(p.Layer)
}

// goes is what has to go, by its path below the store's folder.
func (p Problem) goes() string {
	if p.Blob != "" || p.Form == "" || p.Lost {
		return p.part()
	}
	return p.part() + "/" + p.Form
}

// Repair removes what is wrong, so that it is made or got again when it is needed. It
// returns what stays, since another process uses it or has changed it since it was
// looked at.
func (s *Store) Repair(ctx context.Context, problems []Problem) (left []Problem, err error) {
	x, err := s.Exclude(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range problems {
		removed, err := x.repair(p)
		if err != nil {
			return nil, errors.Join(err, x.Release())
		}
		if !removed {
			left = append(left, p)
		}
	}
	return left, errors.Join(x.RemoveReplaced(), x.Release())
}

// repair removes what is wrong. It reports false, and does nothing, when it is not as
// it was, or is in use.
func (x *Exclusion) repair(p Problem) (removed bool, err error) {
	now, err := os.Lstat(filepath.Join(x.s.root, p.goes()))
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	if x.Has(p.part()) || p.seen == nil || !os.SameFile(p.seen, now) || !p.seen.ModTime().Equal(now.ModTime()) {
		return false, nil
	}
	switch {
	case p.Blob != "":
		return true, x.RemoveBlob(p.Blob)
	case p.goes() == p.part():
		return true, x.RemoveLayer(p.Layer)
	}
	x.s.forget(p.Layer)
	if err := removeIfThere(filepath.Join(x.s.root, p.goes()) + madeSuffix); err != nil {
		return false, err
	}
	return true, x.move(p.goes())
}

// verification is one reading of everything.
type verification struct {
	*Store
	problems []Problem
	bad      map[digest.Digest]bool // blobs
}

// Verify reads everything and reports what does not match its digest, is torn, or
// is a directory that was not made here or was changed since.
func (s *Store) Verify(ctx context.Context) ([]Problem, error) {
	v := &verification{Store: s, bad: map[digest.Digest]bool{}}
	blobs, err := s.Blobs.All()
	if err != nil {
		return nil, err
	}
	for _, b := range blobs {
		err := v.blob(ctx, b)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err != nil {
			return nil, fmt.Errorf("reading blob %s: %w", b.Digest, err)
		}
	}
	ids, err := s.IDs()
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		err := v.twice(LayerPart(id), func() error { return v.layer(ctx, id) })
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err != nil {
			return nil, fmt.Errorf("reading layer %s: %w", id, err)
		}
	}
	return v.problems, nil
}

// blob reports what is wrong with a blob. An error says nothing about it.
func (v *verification) blob(ctx context.Context, b BlobUsage) error {
	path := v.blobPath(b.Digest)
	return v.twice(BlobPart(b.Digest), func() error {
		err := verifyFile(ctx, path, ocispec.Descriptor{Digest: b.Digest, Size: b.Size})
		if err == nil || !isDamage(err) {
			return err
		}
		v.report(Problem{Path: path, Text: err.Error(), Blob: b.Digest})
		return nil
	})
}

// twice calls look, which reports what is wrong with a part. When it found something,
// the part may just be removed by another process: so it is claimed and looked at once
// more, if it is still there.
func (v *verification) twice(part string, look func() error) error {
	known := len(v.problems)
	err := look()
	if err == nil && len(v.problems) == known {
		return nil
	}
	v.problems = v.problems[:known]
	if err := v.Claim(part); err != nil {
		return err
	}
	if _, err := os.Lstat(filepath.Join(v.root, part)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	err = look()
	for _, p := range v.problems[known:] {
		if p.Blob != "" {
			v.bad[p.Blob] = true
		}
	}
	return err
}

func (v *verification) report(p Problem) {
	// What is gone when it shall be removed needs no comparison.
	p.seen, _ = os.Lstat(filepath.Join(v.root, p.goes()))
	if rel, err := filepath.Rel(v.root, p.Path); err == nil {
		p.Path = rel
	}
	v.problems = append(v.problems, p)
}

// layer reports what is wrong with a layer. An error says nothing about the layer.
func (v *verification) layer(ctx context.Context, id layers.ID) error {
	if former, err := v.decodeMeta(id); err == nil && former.isFormerClaim() {
		return nil // nobody uses it
	}
	l, t, err := v.described(id)
	if err != nil && !isDamage(err) {
		return err
	}
	if err != nil {
		v.report(Problem{Path: v.layerPath(id, ""), Text: err.Error(), Layer: id, Lost: true})
		return nil
	}
	blob := l.Descriptor.Digest != "" && (v.Blobs.isWhole(l.Descriptor) && !v.bad[l.Descriptor.Digest] || len(l.Origins) > 0)
	if t == nil {
		// Nobody has wanted it yet: it can be rebuilt from the blob.
		if !blob {
			v.report(Problem{Path: v.layerPath(id, ""), Text: "it has no table of contents", Layer: id, Lost: true})
		}
		return nil
	}
	wrong, sound, err := v.forms(ctx, l, t)
	if err != nil {
		return err
	}
	if !blob && !sound && len(wrong) == 0 {
		wrong = append(wrong, Problem{Path: v.layerPath(id, ""), Text: "it has no content: no blob, no tar, no directory", Layer: id})
	}
	for _, p := range wrong {
		p.Lost = !blob && !sound
		v.report(p)
	}
	return nil
}

// described returns a layer's description and its table of contents, which is nil
// if there is none yet.
func (v *verification) described(id layers.ID) (layers.Layer, *layers.Tree, error) {
	m, err := v.readMeta(id)
	if v.isLost(id) {
		err = damage("it was not on disk when the machine went down; it will be made again when it is needed")
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = damage("its description is missing or damaged; it will be made again when it is needed")
	}
	if err != nil {
		return layers.Layer{}, nil, err
	}
	data, err := os.ReadFile(v.layerPath(id, treeName))
	if errors.Is(err, fs.ErrNotExist) {
		return m.Layer, nil, nil
	}
	if err != nil {
		return layers.Layer{}, nil, err
	}
	t, err := layers.DecodeTree(data)
	return m.Layer, t, err
}

// forms looks at the tar and the directories of a layer. sound says that one of
// them is as it was made.
func (v *verification) forms(ctx context.Context, l layers.Layer, t *layers.Tree) (wrong []Problem, sound bool, err error) {
	entries, err := os.ReadDir(v.layerPath(l.ID, ""))
	if err != nil {
		return nil, false, err
	}
	for _, e := range entries {
		p := Problem{Path: v.layerPath(l.ID, e.Name()), Layer: l.ID, Form: e.Name()}
		var err error
		switch {
		case e.Name() == tarName && l.DiffID != "":
			var info fs.FileInfo
			if info, err = e.Info(); err == nil {
				err = verifyFile(ctx, p.Path, ocispec.Descriptor{Digest: l.DiffID, Size: info.Size()})
			}
		case e.IsDir():
			err = v.dir(ctx, p.Path, t)
		default:
			continue
		}
		switch {
		case err == nil:
			sound = true
		case isDamage(err):
			p.Text = err.Error()
			wrong = append(wrong, p)
		default:
			return nil, false, err
		}
	}
	if sound {
		// A process was killed before it had marked the directory.
		wrong = slices.DeleteFunc(wrong, func(p Problem) bool { return v.isLeftover(p.Path) })
	}
	return wrong, sound, nil
}

// isLeftover reports whether a directory form has no mark at all, as a copy has one.
func (v *verification) isLeftover(dir string) bool {
	_, err := os.Lstat(dir + madeSuffix)
	return errors.Is(err, fs.ErrNotExist) && filepath.Base(dir) != tarName
}

// dir says what is wrong with a directory form. Those of processes with other
// user IDs cannot be compared here.
func (v *verification) dir(ctx context.Context, dir string, t *layers.Tree) error {
	k, err := v.knownDir(dir)
	if err != nil {
		return err
	}
	if k == nil {
		if m, err := readMark(dir); err == nil && !v.hasIDs(dir, m) {
			return nil
		}
		return damage("it is not the directory that was made here: the store was copied, or the directory was changed")
	}
	if isOneUsers(dir) != v.opt.SingleUser {
		return nil
	}
	same, err := k.Unchanged(ctx, dir)
	if err != nil {
		return err
	}
	if !same {
		return fmt.Errorf("it was changed: %w", v.difference(dir))
	}
	return verifyDir(ctx, dir, t)
}

// verifyDir compares the files of a directory with the digests that the tree
// has.
func verifyDir(ctx context.Context, dir string, t *layers.Tree) error {
	for _, e := range t.Entries {
		if e.Kind != layers.File {
			continue
		}
		f, err := openBelow(dir, e.Path)
		if err != nil {
			return fmt.Errorf("file %q: %w", e.Path, err)
		}
		_, err = io.Copy(io.Discard, archive.ContextReader(ctx, archive.Verify(f, archive.ContentOf(e))))
		if err := errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("file %q: %w", e.Path, err)
		}
	}
	return nil
}
