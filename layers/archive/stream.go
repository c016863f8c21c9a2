package archive

import (
	"archive/tar"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"
	"path"
	"strings"
	"time"

	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/folder"
)

// The names that stand for deletions in a layer's tar (OCI image spec,
// "Layer Filesystem Changeset").
const (
	whiteoutPrefix = ".wh."
	opaqueMarker   = ".wh..wh..opq"
	blockSize      = 512
	copyBufferSize = 256 << 10
)

// stream writes entries as a deterministic tar: what Writer and Packer have
// in common.
type stream struct {
	tw    *tar.Writer
	out   counter
	epoch *layers.Epoch // what becomes of times
	cut   *chunker      // told where entries and contents begin; nil without compression
	buf   []byte
	head  []byte // an extended header
	sum   hash.Hash
	tree  layers.EncodedTree // the entries so far, as they are in the tar
}

// counter counts what is written through it.
type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

func newStream(w io.Writer, epoch *layers.Epoch, cut *chunker) *stream {
	s := &stream{out: counter{w: w}, epoch: epoch, cut: cut, sum: sha256.New()}
	s.tw = tar.NewWriter(&s.out)
	return s
}

// add writes one entry and appends it to the tree, with its Place, Sum and
// ModTime as they are in the tar. The Place of an entry without content is where its
// header ends, so that the borders between entries can be found again.
func (s *stream) add(e layers.Entry, content io.Reader) error {
	e, err := s.write(e, content)
	if err == nil {
		s.tree.Append(e)
	}
	return err
}

func (s *stream) write(e layers.Entry, content io.Reader) (layers.Entry, error) {
	if err := s.check(e); err != nil {
		return e, err
	}
	e.ModTime = s.modTime(e)
	if e.Kind == layers.Hardlink {
		// Other tools set the metadata of a hardlink when they unpack it,
		// and with it that of the file.
		f, ok := s.file(e.Link)
		if !ok {
			return e, fmt.Errorf("hardlink to %q, which is not a file before it", e.Link)
		}
		e.Mode, e.UID, e.GID, e.ModTime, e.Xattrs, e.Size = f.Mode, f.UID, f.GID, f.ModTime, f.Xattrs, 0
	}
	if err := s.header(e); err != nil {
		return e, err
	}
	e.Place = layers.At(s.out.n)
	if e.Kind != layers.File {
		return e, nil
	}
	var err error
	e.Sum, err = s.content(e, content)
	return e, err
}

// file returns the entry at path if it is there already and can have other names.
func (s *stream) file(path string) (layers.Entry, bool) {
	e, ok := s.tree.Find(path)
	return e, ok && e.Kind.Linkable()
}

func (s *stream) check(e layers.Entry) error {
	base, last, unknown, below := path.Base(e.Path), s.tree.Last(), e.Path, false
	// What is below the entry before it comes after that, and begins with a clean path.
	if below = last != "" && len(e.Path) > len(last)+1 && layers.Under(e.Path, last); below {
		unknown = e.Path[len(last)+1:]
	}
	switch {
	case e.Path == "" && e.Kind != layers.Dir:
		return errors.New("the root is not a directory")
	case !layers.IsClean(unknown):
		return errors.New("path is not clean")
	case s.tree.Len() > 0 && !below && layers.ComparePaths(last, e.Path) >= 0:
		return fmt.Errorf("out of order after %q", last)
	case strings.HasPrefix(base, whiteoutPrefix):
		return &reservedNameError{e.Path}
	case e.Kind == layers.File && e.Size < 0:
		return fmt.Errorf("size %d", e.Size)
	}
	return nil
}

// modTime is the entry's time as it goes into the tar: whole seconds, as the
// epoch wants them. Deletions have no time.
func (s *stream) modTime(e layers.Entry) int64 {
	if e.Kind == layers.Whiteout {
		return 0
	}
	return s.epoch.Apply(e.ModTime)
}

func floorSeconds(ns int64) int64 {
	return time.Unix(0, ns).Unix()
}

// header writes what comes before the content of e.
func (s *stream) header(e layers.Entry) error {
	if err := s.tw.Flush(); err != nil { // the padding of the entry before
		return err
	}
	if s.cut != nil {
		s.cut.begin(e.Path, contentSize(e))
	}
	h, err := tarHeader(e)
	if err != nil {
		return err
	}
	if !e.Implied {
		if err := s.writeHeader(h); err != nil {
			return err
		}
	}
	if e.Kind != layers.Dir || !e.Opaque {
		return nil
	}
	return s.writeHeader(&tar.Header{Typeflag: tar.TypeReg, Name: layers.Child(e.Path, opaqueMarker)})
}

func contentSize(e layers.Entry) int64 {
	if e.Kind == layers.File {
		return e.Size
	}
	return 0
}

// content copies exactly e.Size bytes and returns their digest. More or
// fewer mean that the file was changed while it was being read. If e already has a
// digest, everything else is folder.ErrCorrupt.
func (s *stream) content(e layers.Entry, content io.Reader) (layers.Sum, error) {
	if s.buf == nil {
		s.buf = make([]byte, copyBufferSize)
	}
	if content == nil {
		content = strings.NewReader("")
	}
	if s.cut != nil {
		s.cut.content(e.Size)
	}
	s.sum.Reset()
	for left := e.Size; ; {
		n, err := content.Read(s.buf)
		if int64(n) > left {
			if e.Sum.Known() {
				return layers.Sum{}, fmt.Errorf("%w %s: more than its %d bytes", folder.ErrCorrupt, e.Sum, e.Size)
			}
			return layers.Sum{}, errors.New("the file grew while it was being read")
		}
		left -= int64(n)
		s.sum.Write(s.buf[:n])
		if _, err := s.tw.Write(s.buf[:n]); err != nil {
			return layers.Sum{}, err
		}
		if err == io.EOF {
			if left > 0 && e.Sum.Known() {
				return layers.Sum{}, fmt.Errorf("%w %s: %d of its %d bytes are missing: %w", folder.ErrCorrupt, e.Sum, left, e.Size, io.ErrUnexpectedEOF)
			}
			if left > 0 {
				return layers.Sum{}, fmt.Errorf("the content ends %d bytes early: %w", left, io.ErrUnexpectedEOF)
			}
			break
		}
		if err != nil {
			return layers.Sum{}, err
		}
	}
	sum := layers.Sum(s.sum.Sum(nil))
	if e.Sum.Known() && sum != e.Sum {
		return layers.Sum{}, fmt.Errorf("%w %s", folder.ErrCorrupt, e.Sum)
	}
	return sum, nil
}

// close writes the end of the tar.
func (s *stream) close() error {
	if err := s.tw.Flush(); err != nil {
		return err
	}
	return s.tw.Close()
}

// tarHeader is the header of e: USTAR where it fits, PAX where it does not,
// nothing in it that is not in the entry.
func tarHeader(e layers.Entry) (*tar.Header, error) {
	h := &tar.Header{
		Name:    e.Path,
		Mode:    int64(e.Mode & 0o7777),
		Uid:     e.UID,
		Gid:     e.GID,
		ModTime: time.Unix(floorSeconds(e.ModTime), 0),
	}
	for name, value := range e.Xattrs {
		if h.PAXRecords == nil {
			h.PAXRecords = make(map[string]string)
		}
		h.PAXRecords[xattrRecord+encodeXattrName(name)] = value
	}
	switch e.Kind {
	case layers.File:
		h.Typeflag, h.Size = tar.TypeReg, e.Size
	case layers.Dir:
		h.Typeflag, h.Name = tar.TypeDir, e.Path+"/"
		if e.Path == "" {
			h.Name = "./"
		}
	case layers.Symlink:
		h.Typeflag, h.Linkname = tar.TypeSymlink, e.Target
	case layers.Hardlink:
		h.Typeflag, h.Linkname = tar.TypeLink, e.Link
	case layers.CharDevice:
		h.Typeflag, h.Devmajor, h.Devminor = tar.TypeChar, int64(e.DevMajor), int64(e.DevMinor)
	case layers.BlockDevice:
		h.Typeflag, h.Devmajor, h.Devminor = tar.TypeBlock, int64(e.DevMajor), int64(e.DevMinor)
	case layers.Fifo:
		h.Typeflag = tar.TypeFifo
	case layers.Whiteout:
		dir, base := path.Split(e.Path)
		return &tar.Header{Typeflag: tar.TypeReg, Name: dir + whiteoutPrefix + base}, nil
	default:
		return nil, fmt.Errorf("kind %d is not known", e.Kind)
	}
	return h, nil
}

// xattrRecord begins the PAX records that hold extended attributes.
const xattrRecord = "SCHILY.xattr."

// encodeXattrName spells a name that has a = so that it can be a PAX keyword,
// as GNU tar does. All other names stay as they are, since most tools know
// nothing of this.
func encodeXattrName(name string) string {
	if !strings.Contains(name, "=") {
		return name
	}
	return strings.NewReplacer("%", "%25", "=", "%3D").Replace(name)
}

func decodeXattrName(name string) string {
	if !strings.Contains(name, "%3D") {
		return name
	}
	return strings.NewReplacer("%25", "%", "%3D", "=").Replace(name)
}

const capability = "security.capability"

// KeepXattr says whether an extended attribute belongs into an image:
// capabilities and the user's own, but nothing that an overlay or the host's
// security modules put there.
func KeepXattr(name string) bool {
	return name == capability ||
		strings.HasPrefix(name, "user.") && !strings.HasPrefix(name, "user.overlay.")
}

// reservedNameError is a file whose name means a deletion in a layer.
type reservedNameError struct{ path string }

func (e *reservedNameError) Error() string {
	return fmt.Sprintf("%q cannot be in an image: names that begin with .wh. stand for deleted files", e.path)
}

// HintText says what to do about it.
func (e *reservedNameError) HintText() string {
	return "rename the file, delete it in the same step, or list it in .dockerignore"
}

// roundUp is n rounded up to whole tar blocks.
func roundUp(n int64) int64 {
	if n > math.MaxInt64-blockSize {
		return math.MaxInt64
	}
	return (n + blockSize - 1) / blockSize * blockSize
}
