package fileop

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sinter-build/sinter/builder/source"
	"github.com/sinter-build/sinter/builder/source/local"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/archive"
	"github.com/sinter-build/sinter/layers/store"
	"github.com/sinter-build/sinter/parser"
)

// interrupted is a file system that calls change before it is asked the nth time.
type interrupted struct {
	source.FS
	change func()
	mu     sync.Mutex
	left   int
}

func (f *interrupted) asked() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.left == 0 {
		f.change()
	}
	f.left--
}

func (f *interrupted) Lookup(p string) (layers.Entry, bool, error) {
	f.asked()
	return f.FS.Lookup(p)
}

func (f *interrupted) ReadDir(p string) ([]layers.Entry, error) {
	f.asked()
	return f.FS.ReadDir(p)
}

func (f *interrupted) Resolve(p string, followLast bool) (string, error) {
	f.asked()
	return f.FS.Resolve(p, followLast)
}

func (f *interrupted) Digest(ctx context.Context, e layers.Entry) (digest.Digest, error) {
	f.asked()
	return f.FS.Digest(ctx, e)
}

func (f *interrupted) Open(ctx context.Context, e layers.Entry) (io.ReadCloser, error) {
	f.asked()
	r, err := f.FS.Open(ctx, e)
	return interruptedFile{r, f}, err
}

type interruptedFile struct {
	io.ReadCloser
	fs *interrupted
}

func (f interruptedFile) Read(p []byte) (int, error) {
	f.fs.asked()
	return f.ReadCloser.Read(p)
}

// changes are what can happen to a context, in which there are d/a (with the other
// name d/b), d/c, d/sub/e and the symlink d/l.
var changes = map[string]func(dir string) error{
	"mode":            func(dir string) error { return os.Chmod(filepath.Join(dir, "d/c"), 0o755) },
	"mode of a name":  func(dir string) error { return os.Chmod(filepath.Join(dir, "d/a"), 0o600) },
	"mode of a dir":   func(dir string) error { return os.Chmod(filepath.Join(dir, "d/sub"), 0o700) },
	"content":         func(dir string) error { return os.WriteFile(filepath.Join(dir, "d/c"), []byte("tex2"), 0) },
	"length":          func(dir string) error { return os.WriteFile(filepath.Join(dir, "d/a"), []byte("longer"), 0) },
	"emptied":         func(dir string) error { return os.Truncate(filepath.Join(dir, "d/c"), 0) },
	"removed":         func(dir string) error { return os.Remove(filepath.Join(dir, "d/c")) },
	"a dir removed":   func(dir string) error { return os.RemoveAll(filepath.Join(dir, "d/sub")) },
	"added":           func(dir string) error { return os.WriteFile(filepath.Join(dir, "d/sub/f"), []byte("new"), 0o644) },
	"names parted":    func(dir string) error { return rewritten(filepath.Join(dir, "d/b")) },
	"names joined":    func(dir string) error { return os.Link(filepath.Join(dir, "d/c"), filepath.Join(dir, "d/sub/c")) },
	"replaced":        func(dir string) error { return os.Rename(filepath.Join(dir, "d/c"), filepath.Join(dir, "d/sub/e")) },
	"symlink":         func(dir string) error { return instead(filepath.Join(dir, "d/c"), "link") },
	"dir for a file":  func(dir string) error { return instead(filepath.Join(dir, "d/c"), "dir") },
	"link elsewhere":  func(dir string) error { return instead(filepath.Join(dir, "d/l"), "link") },
	"file for a link": func(dir string) error { return rewritten(filepath.Join(dir, "d/l")) },
	"file for a dir":  func(dir string) error { return rewritten(filepath.Join(dir, "d/sub")) },
}

// rewritten puts a new file in place of what is there.
func rewritten(file string) error {
	return errors.Join(os.RemoveAll(file), os.WriteFile(file, []byte("text"), 0o640))
}

// instead puts a symlink or a directory in place of what is there.
func instead(file, what string) error {
	err := os.RemoveAll(file)
	if what == "dir" {
		return errors.Join(err, os.Mkdir(file, 0o755))
	}
	return errors.Join(err, os.Symlink("sub", file))
}

// TestDigestNamesWhatIsCopied changes a context at each moment of hashing and of
// copying. Either that fails, or the digest that the step's key is made of is the
// digest of what came into the layer.
func TestDigestNamesWhatIsCopied(t *testing.T) {
	s, err := store.Open(t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	mount := parser.Copy{Src: "/d", Dest: "/d", FollowSymlinks: true, CreateDestPath: true}
	for name, what := range map[string]struct {
		copy parser.Copy
		sel  Selection
	}{
		"copy":  {dockerCopy("d", "/d"), Selected(dockerCopy("d", "/d"))},
		"mount": {mount, Subtree("/d")},
	} {
		for changed, change := range changes {
			t.Run(name+"/"+changed, func(t *testing.T) {
				for moment := 0; ; moment++ {
					dir := t.TempDir()
					build(t, dir, "d dir mode=0755\nd/a text mode=0644\nd/b hard:d/a\nd/c text mode=0644\nd/sub dir mode=0755\nd/sub/e text mode=0644\nd/l link:a")
					files := &interrupted{FS: buildContext(t, dir, parser.Local{}), left: moment, change: func() {
						if err := change(dir); err != nil {
							t.Fatal(err)
						}
					}}
					named, stored, err := hashAndCopy(s, files, what.sel, what.copy)
					var during *local.ChangedError
					if err != nil && !errors.As(err, &during) {
						t.Errorf("moment %d: %v", moment, err)
					}
					if err == nil && named != stored {
						t.Errorf("moment %d: the key names %s, the layer holds %s", moment, named, stored)
					}
					if files.left >= 0 {
						break
					}
				}
			})
		}
	}
}

// hashAndCopy returns the digest of what c selects, and that of the same files in
// the layer that it makes.
func hashAndCopy(s *store.Store, files source.FS, sel Selection, c parser.Copy) (named, stored digest.Digest, err error) {
	ctx := context.Background()
	if named, err = Digest(ctx, files, sel); err != nil {
		return "", "", err
	}
	var w *store.Writer
	op := parser.FileOp{Actions: []parser.FileAction{{Input: -1, Action: c}}}
	_, err = Apply(ctx, op, []Input{{FS: files}}, s.Temp(), func(int) (_ Writer, err error) {
		w, err = s.NewWriter(ctx, store.Forms{Blob: true}, archive.Compression{})
		return w, err
	})
	if w == nil {
		return "", "", errors.Join(err, errors.New("layer not found"))
	}
	defer w.Abort()
	if err != nil {
		return "", "", err
	}
	l, err := w.Commit(time.Unix(1, 0))
	if err != nil {
		return "", "", err
	}
	result, err := source.OpenChain(ctx, s, layers.Chain{l})
	if err != nil {
		return "", "", err
	}
	stored, err = Digest(ctx, result, sel)
	return named, stored, err
}
