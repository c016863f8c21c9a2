package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/folder"
	"github.com/sinter-build/sinter/layers/hostfile"
)

// unsyncedName is the folder of marks: unsynced/<boot>.<writer>/<layer or blob>. A mark
// appears before anything of the layer is under its final name, and goes when all
// of it is on disk; the name is all there is to it, so it is never half there.
const unsyncedName = "unsynced"

// failedBoot stands for the boot where a file system failed to write: what those
// marks are about is lost, as if the machine had gone down.
const failedBoot = "failed"

// durability knows what would be lost if the machine went down now, and what was
// lost when it did.
type durability struct {
	// fs is the store's folder, opened before anything was written: so syncfs
	// tells once of each error since.
	fs *os.File
	// boot and own name this process's marks.
	boot, own string

	mu    sync.Mutex
	marks map[layers.ID]bool
	// lost are the marks of machines that went down.
	lost map[layers.ID][]string
	// writes counts what was begun and what was ended; synced is how many there
	// were when the last syncfs began.
	writes, synced int
}

// A SyncError is a store whose file system failed to write.
type SyncError struct{ Err error }

func (e *SyncError) Error() string {
	return fmt.Sprintf("the store could not be written to disk: %v", e.Err)
}

// Unwrap returns the reason.
func (e *SyncError) Unwrap() error { return e.Err }

// HintText says what follows from it.
func (e *SyncError) HintText() string {
	return "the kernel's log (dmesg) tells more; what was new in the store counts as lost: run the command again"
}

func (s *shelf) openDurability() error {
	f, err := os.Open(s.root)
	if err != nil {
		return err
	}
	s.disk = durability{
		fs: f, boot: bootID(), own: filepath.Base(s.tmp), // no writer is called tmp
		marks: map[layers.ID]bool{}, lost: map[layers.ID][]string{},
	}
	writers, err := s.writers()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	for _, w := range writers {
		if w.boot == s.disk.boot || w.boot != failedBoot && s.isAlive(w.name) {
			continue
		}
		marks, err := os.ReadDir(w.path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return errors.Join(err, f.Close())
		}
		for _, m := range marks {
			id, path := layers.ID(m.Name()), filepath.Join(w.path, m.Name())
			if s.isGone(id) {
				_ = os.Remove(path) // the next process tries again
				continue
			}
			s.disk.lost[id] = append(s.disk.lost[id], path)
		}
		_ = os.Remove(w.path) // when nothing is left in it
	}
	return nil
}

// blobMark is what a blob is called among the marks.
func blobMark(d digest.Digest) layers.ID { return layers.ID("blob-" + d.Encoded()) }

// isGone reports whether nothing is there that a mark could be about.
func (s *shelf) isGone(id layers.ID) bool {
	path := s.layerPath(id, "")
	if blob, ok := strings.CutPrefix(string(id), "blob-"); ok {
		path = s.blobPath(digest.NewDigestFromEncoded(digest.SHA256, blob))
	}
	_, err := os.Lstat(path)
	return errors.Is(err, fs.ErrNotExist)
}

// writer is a process that has, or had, layers that are not on disk.
type writer struct{ path, boot, name string }

func (s *shelf) writers() ([]writer, error) {
	dir := filepath.Join(s.root, unsyncedName)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var list []writer
	for _, e := range entries {
		if boot, name, ok := strings.Cut(e.Name(), "."); ok {
			list = append(list, writer{path: filepath.Join(dir, e.Name()), boot: boot, name: name})
		}
	}
	return list, err
}

// isAlive reports whether the process with that temporary folder still runs, maybe
// on another machine that shares the volume.
func (s *shelf) isAlive(name string) bool {
	dir := filepath.Join(s.root, "tmp", name)
	_, err := os.Stat(dir)
	return err == nil && !isDead(dir)
}

// isLost reports whether a layer was not on disk yet when its machine went down,
// and was not made again since.
func (s *shelf) isLost(id layers.ID) bool {
	s.disk.mu.Lock()
	marks := s.disk.lost[id]
	s.disk.mu.Unlock()
	for _, mark := range marks {
		if _, err := os.Lstat(mark); !errors.Is(err, fs.ErrNotExist) {
			return true
		}
	}
	return false
}

// writingBlob claims a blob and notes that it is being written; see note.
func (s *shelf) writingBlob(d digest.Digest) (done func(), err error) {
	if err := s.Claim(BlobPart(d)); err != nil {
		return nil, err
	}
	return s.note(blobMark(d))
}

// writing claims a layer and notes that it is being written; see note.
func (s *shelf) writing(id layers.ID) (done func(), err error) {
	if err := s.Claim(LayerPart(id)); err != nil {
		return nil, err
	}
	return s.note(id)
}

// note notes that a layer, or a blob, is being written: until it was synced, it
// must not be believed after the machine has gone down. done must be called when all
// of it is in its place.
func (s *shelf) note(id layers.ID) (done func(), err error) {
	d := &s.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.marks[id] {
		if err := s.mark(id); err != nil {
			return nil, fmt.Errorf("noting that %s is not on disk yet: %w", id, err)
		}
		d.marks[id] = true
	}
	d.writes++
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.writes++
	}, nil
}

func (s *shelf) ownMarks() string {
	return filepath.Join(s.root, unsyncedName, s.disk.boot+"."+s.disk.own)
}

func (s *shelf) mark(id layers.ID) error {
	path := filepath.Join(s.ownMarks(), string(id))
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		if err := hostfile.Private(filepath.Join(s.root, unsyncedName)); err != nil {
			return err
		}
		if err := os.MkdirAll(s.ownMarks(), 0o700); err != nil {
			return err
		}
		f, err = os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	}
	if err != nil {
		return err
	}
	return f.Close()
}

// unmark says that nothing is there any more of a layer that was lost.
func (s *shelf) unmark(id layers.ID) error {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	for _, mark := range s.disk.lost[id] {
		if err := removeIfThere(mark); err != nil {
			return err
		}
		_ = os.Remove(filepath.Dir(mark)) // when it was the last
	}
	delete(s.disk.lost, id)
	return nil
}

// Sync makes durable what is in the store, before something is named that may be
// new: with one syncfs for all of it, if this process has written since the last, or
// another has something that is not on disk.
func (s *shelf) Sync() error {
	writers, err := s.writers()
	if err != nil {
		return fmt.Errorf("looking for what is not on disk: %w", err)
	}
	others := slices.ContainsFunc(writers, func(w writer) bool { return w.name != s.disk.own })
	s.disk.mu.Lock()
	clean := s.disk.writes == s.disk.synced
	s.disk.mu.Unlock()
	if clean && !others {
		return nil
	}
	return s.syncfs()
}

func (s *shelf) syncfs() error {
	s.disk.mu.Lock()
	writes := s.disk.writes
	s.disk.mu.Unlock()
	if err := unix.Syncfs(int(s.disk.fs.Fd())); err != nil {
		return &SyncError{Err: errors.Join(err, s.failed())}
	}
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	s.disk.synced = max(s.disk.synced, writes)
	return nil
}

// failed has what this process wrote count as lost, and what dead processes left: the
// file system could not write something, and does not tell what.
func (s *shelf) failed() error {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	dirs, err := s.left()
	if len(s.disk.marks) > 0 {
		dirs = append(dirs, s.ownMarks())
	}
	clear(s.disk.marks)
	for _, dir := range dirs {
		_, name, _ := strings.Cut(filepath.Base(dir), ".")
		to := fmt.Sprintf("%s.%s.%d", failedBoot, name, time.Now().UnixNano())
		err = errors.Join(err, os.Rename(dir, filepath.Join(s.root, unsyncedName, to)))
	}
	return err
}

// closeDurability makes the layers of this process durable, and those that dead
// processes of this boot left: until then they count only until the machine is
// started again.
func (s *shelf) closeDurability() error {
	d := &s.disk
	if len(d.marks) == 0 && d.writes == d.synced {
		return d.fs.Close()
	}
	// What is written after a syncfs began is not on disk: only what was there
	// before it loses its mark.
	left, err := s.left()
	if err == nil && (d.writes != d.synced || len(left) > 0) {
		err = s.syncfs()
	}
	if err == nil && len(d.marks) > 0 {
		left = append(left, s.ownMarks())
	}
	for _, dir := range left {
		if err == nil {
			err = folder.RemoveAll(context.Background(), dir)
		}
	}
	return errors.Join(err, d.fs.Close())
}

// left returns the marks of dead processes of this boot.
func (s *shelf) left() ([]string, error) {
	writers, err := s.writers()
	var dirs []string
	for _, w := range writers {
		if w.boot == s.disk.boot && w.name != s.disk.own && !s.isAlive(w.name) {
			dirs = append(dirs, w.path)
		}
	}
	return dirs, err
}
