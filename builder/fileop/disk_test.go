package fileop

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/layers"
)

// disk is a directory as a root file system, with owners: what a chain of
// layers is in the real world.
type disk string

func (d disk) entry(p string) (layers.Entry, bool, error) {
	var st unix.Stat_t
	full := filepath.Join(string(d), p)
	if err := unix.Lstat(full, &st); err != nil {
		if missing(err) {
			err = nil
		}
		return layers.Entry{}, false, err
	}
	e := layers.Entry{
		Path: p, Mode: st.Mode & 0o7777, UID: int(st.Uid), GID: int(st.Gid),
		ModTime: st.Mtim.Nano(),
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		e.Kind = layers.Dir
	case unix.S_IFLNK:
		e.Kind = layers.Symlink
		e.Target, _ = os.Readlink(full)
	case unix.S_IFIFO:
		e.Kind = layers.Fifo
	case unix.S_IFCHR:
		e.Kind = layers.CharDevice
		e.DevMajor, e.DevMinor = unix.Major(st.Rdev), unix.Minor(st.Rdev)
	case unix.S_IFREG:
		e.Size = st.Size
		e.Inode = layers.Inode(st.Ino)
		data, err := os.ReadFile(full)
		if err != nil {
			return e, false, err
		}
		e.Sum = layers.SumOf(digest.FromBytes(data))
	}
	if e.Kind != layers.Symlink {
		var buf [64]byte
		for _, name := range []string{capability, "user.one", "user.two"} {
			if n, err := unix.Lgetxattr(full, name, buf[:]); err == nil {
				if e.Xattrs == nil {
					e.Xattrs = map[string]string{}
				}
				e.Xattrs[name] = string(buf[:n])
			}
		}
	}
	return e, true, nil
}

// Lookup sees nothing through a symlink: as in layers.View.
func (d disk) Lookup(p string) (layers.Entry, bool, error) {
	for up := layers.Parent(p); up != ""; up = layers.Parent(up) {
		if e, ok, err := d.entry(up); err != nil || !ok || e.Kind != layers.Dir {
			return layers.Entry{}, false, err
		}
	}
	return d.entry(p)
}

func (d disk) ReadDir(p string) ([]layers.Entry, error) {
	found, err := os.ReadDir(filepath.Join(string(d), p))
	var entries []layers.Entry
	for _, f := range found {
		e, _, err := d.entry(path.Join(p, f.Name()))
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	return entries, err
}

func (d disk) Resolve(p string, last bool) (string, error) { return layers.Resolve(d.Lookup, p, last) }

func (d disk) Open(_ context.Context, e layers.Entry) (io.ReadCloser, error) {
	return os.Open(filepath.Join(string(d), e.Path))
}

func (d disk) Digest(_ context.Context, e layers.Entry) (digest.Digest, error) {
	return e.Sum.Digest(), nil
}

// tree returns the directory as the tree of a layer.
func (d disk) tree(t testing.TB) *layers.Tree {
	t.Helper()
	var list layers.Tree
	names := layers.Names{}
	var walk func(dir string)
	walk = func(dir string) {
		entries, err := d.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		slices.SortFunc(entries, func(a, b layers.Entry) int { return layers.ComparePaths(a.Path, b.Path) })
		for _, e := range entries {
			names.Join(&e)
			list.Entries = append(list.Entries, e)
			if e.Kind == layers.Dir {
				walk(e.Path)
			}
		}
	}
	walk("")
	return &list
}

// recorder is a Writer that keeps the entries, and checks what every writer
// relies on.
type recorder struct {
	t    testing.TB
	tree layers.Tree
	data map[string]string
}

func (w *recorder) Add(e layers.Entry, content io.Reader) error {
	n := len(w.tree.Entries)
	if n > 0 && layers.ComparePaths(w.tree.Entries[n-1].Path, e.Path) >= 0 {
		w.t.Errorf("%q comes after %q", e.Path, w.tree.Entries[n-1].Path)
	}
	if e.Kind == layers.Hardlink && layers.ComparePaths(e.Link, e.Path) >= 0 {
		w.t.Errorf("hard link %q points to %q, which is not before it", e.Path, e.Link)
	}
	if e.Kind == layers.File {
		data, err := io.ReadAll(content)
		if err != nil {
			return err
		}
		if int64(len(data)) != e.Size {
			w.t.Errorf("%q has %d bytes, not %d", e.Path, len(data), e.Size)
		}
		sum := layers.Sum(sha(data))
		if e.Sum.Known() && e.Sum != sum {
			w.t.Errorf("%q has the wrong digest", e.Path)
		}
		e.Sum = sum
		w.data[e.Path] = string(data)
	}
	w.tree.Entries = append(w.tree.Entries, e)
	return nil
}

func sha(b []byte) []byte {
	s := sha256.Sum256(b)
	return s[:]
}

func newRecorder(t testing.TB) *recorder { return &recorder{t: t, data: map[string]string{}} }

// describe tells everything of a merged view, one line for a path.
func describe(v *layers.View, times bool) []string {
	var lines []string
	groups := map[string]string{}
	_ = v.Walk(func(e layers.Entry, layer int) error {
		if e.Path == "" {
			return nil
		}
		line := fmt.Sprintf("%s kind=%d mode=%04o owner=%d:%d", e.Path, e.Kind, e.Mode, e.UID, e.GID)
		if e.Kind == layers.Symlink {
			line = fmt.Sprintf("%s kind=%d owner=%d:%d -> %s", e.Path, e.Kind, e.UID, e.GID, e.Target)
		}
		if e.Kind == layers.File {
			key := strconv.Itoa(layer) + "/" + e.Path
			if e.Inode != 0 {
				key = fmt.Sprint(e.Inode)
			}
			if groups[key] == "" {
				groups[key] = e.Path
			}
			line += fmt.Sprintf(" %s first=%s", e.Sum.Digest().Encoded()[:8], groups[key])
		}
		if e.Kind == layers.CharDevice {
			line += fmt.Sprintf(" %d:%d", e.DevMajor, e.DevMinor)
		}
		if x := e.Xattrs[capability]; x != "" {
			line += " cap=" + strconv.Quote(x)
		}
		if times {
			line += " time=" + time.Unix(0, e.ModTime).UTC().Format(time.RFC3339)
		}
		lines = append(lines, line)
		return nil
	})
	return lines
}

// build makes files below dir. Each line is "path what", what being dir,
// link:TARGET, hard:PATH, fifo, or the content of a file; options follow:
// mode=0644 owner=1:2 time=UNIX cap=1 user.one=VALUE user.two=VALUE.
func build(t testing.TB, dir, spec string) {
	t.Helper()
	type times struct {
		path string
		unix int64
	}
	var later []times
	for line := range strings.SplitSeq(spec, "\n") {
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		full := filepath.Join(dir, fields[0])
		what := "dir"
		if len(fields) > 1 {
			what = fields[1]
		}
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		kind, arg, _ := strings.Cut(what, ":")
		var err error
		mode := uint32(0o644)
		switch kind {
		case "dir":
			mode = 0o755
			err = os.Mkdir(full, 0o755)
		case "link":
			err = os.Symlink(arg, full)
		case "hard":
			err = os.Link(filepath.Join(dir, arg), full)
		case "fifo":
			err = unix.Mkfifo(full, 0o644)
		case "socket":
			err = unix.Mknod(full, unix.S_IFSOCK|0o644, 0)
		default:
			err = os.WriteFile(full, []byte(what), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
		when := int64(1_000_000_000)
		for _, o := range fields[min(2, len(fields)):] {
			name, value, _ := strings.Cut(o, "=")
			switch name {
			case "mode":
				m, _ := strconv.ParseUint(value, 8, 32)
				mode = uint32(m)
			case "owner":
				var uid, gid int
				fmt.Sscanf(value, "%d:%d", &uid, &gid)
				if err := os.Lchown(full, uid, gid); err != nil {
					t.Fatal(err)
				}
			case "time":
				when, _ = strconv.ParseInt(value, 10, 64)
			case "user.one", "user.two":
				if err := unix.Setxattr(full, name, []byte(value), 0); err != nil {
					t.Fatal(err)
				}
			case "cap":
				if err := unix.Setxattr(full, capability, []byte("\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), 0); err != nil {
					t.Fatal(err)
				}
			}
		}
		if kind != "link" && kind != "hard" {
			if err := unix.Chmod(full, mode); err != nil {
				t.Fatal(err)
			}
		}
		later = append(later, times{full, when})
	}
	slices.Reverse(later)
	for _, l := range later {
		ts := []unix.Timespec{{Sec: l.unix}, {Sec: l.unix}}
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, l.path, ts, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			t.Fatal(err)
		}
	}
}
