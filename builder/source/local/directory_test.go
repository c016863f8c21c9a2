package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/tonistiigi/fsutil"
	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/builder/source"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/parser"
)

// open returns the directory, with its index in a folder of its own.
func open(t *testing.T, dir, indexDir string) *Directory {
	t.Helper()
	l, err := Open(dir, indexDir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.root.Close() })
	return l
}

// write makes files: names that end in a slash are directories, "a -> b" are
// symlinks.
func write(t *testing.T, dir string, names ...string) {
	t.Helper()
	for _, n := range names {
		n, target, isLink := strings.Cut(n, " -> ")
		p := filepath.Join(dir, n)
		err := os.MkdirAll(filepath.Dir(p), 0o755)
		switch {
		case err != nil:
		case isLink:
			err = os.Symlink(target, p)
		case strings.HasSuffix(n, "/"):
			err = os.MkdirAll(p, 0o755)
		default:
			err = os.WriteFile(p, []byte(n), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// all lists what can be seen.
func all(t *testing.T, f source.FS) []string {
	t.Helper()
	var names []string
	var walk func(dir string)
	walk = func(dir string) {
		entries, err := f.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			names = append(names, e.Path)
			if found, ok, err := f.Lookup(e.Path); err != nil || !ok || found.Kind != e.Kind {
				t.Errorf("%s is listed, but Lookup says %v %v", e.Path, ok, err)
			}
			if e.Kind == layers.Dir {
				walk(e.Path)
			}
		}
	}
	walk("")
	slices.Sort(names)
	return names
}

func TestSelect(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a/x", "a/y", "a/b/x", "a/b/y", "c/y", "d/", "e.txt", "l -> a/b", "up -> ../../a", "m -> /c", "loop -> loop")
	for _, tc := range []struct {
		name string
		op   parser.Local
		want string
	}{
		{"everything", parser.Local{}, "a a/b a/b/x a/b/y a/x a/y c c/y d e.txt l loop m up"},
		{"a child of an excluded directory", parser.Local{Exclude: []string{"a", "!a/b/y"}}, "a a/b a/b/y c c/y d e.txt l loop m up"},
		{"everywhere, with an exception everywhere", parser.Local{Exclude: []string{"**", "!**/y"}}, "a a/b a/b/y a/y c c/y"},
		{"all but a name", parser.Local{Exclude: []string{"*", "!e.txt"}}, "e.txt"},
		{"included", parser.Local{Include: []string{"a/b", "e*"}}, "a a/b a/b/x a/b/y e.txt"},
		{"included and excluded", parser.Local{Include: []string{"a"}, Exclude: []string{"**/x"}}, "a a/b a/b/y a/y"},
		{"a followed link", parser.Local{FollowPaths: []string{"l"}}, "a a/b a/b/x a/b/y l"},
		{"a followed absolute link", parser.Local{FollowPaths: []string{"m/y"}}, "c c/y m"},
		{"a link that climbs out ends at the root", parser.Local{FollowPaths: []string{"up/x"}}, "a a/x up"},
		{"a circle", parser.Local{FollowPaths: []string{"loop"}}, "loop"},
		{"a pattern", parser.Local{FollowPaths: []string{"e*"}}, "e.txt"},
		{"what is not there", parser.Local{FollowPaths: []string{"nothing"}}, ""},
		{"the root", parser.Local{FollowPaths: []string{"/"}, Exclude: []string{"a", "[c-u]*"}}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := strings.Join(all(t, open(t, dir, "").Select(tc.op)), " ")
			if got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}

// TestSelectAsReference compares what random rules leave of random trees with
// what BuildKit sends for them.
func TestSelectAsReference(t *testing.T) {
	rounds := 150
	if s := os.Getenv("SINTER_COPY_ROUNDS"); s != "" {
		rounds, _ = strconv.Atoi(s)
	}
	for seed := range rounds {
		rng := rand.New(rand.NewSource(int64(seed)))
		pick := func(from ...string) string { return from[rng.Intn(len(from))] }
		dir := t.TempDir()
		for range 12 {
			p := pick("a", "b", "c")
			for range rng.Intn(3) {
				p += "/" + pick("a", "b", "c")
			}
			if os.MkdirAll(filepath.Dir(filepath.Join(dir, p)), 0o755) != nil {
				continue
			}
			switch rng.Intn(4) {
			case 0:
				_ = os.Symlink(pick("a", "../b", "/c", "b/c", "/", "../../a/b"), filepath.Join(dir, p))
			case 1:
				_ = os.MkdirAll(filepath.Join(dir, p), 0o755)
			default:
				if f, err := os.OpenFile(filepath.Join(dir, p), os.O_CREATE|os.O_EXCL, 0o644); err == nil {
					f.Close()
				}
			}
		}
		rule := func() string {
			return pick("", "", "!") + pick("a", "b/c", "*", "**", "*/b", "**/c", "a/**", "a/*", "?/a", "a/b/c", "[ab]", "**/a/*")
		}
		var op parser.Local
		for range rng.Intn(4) {
			op.Exclude = append(op.Exclude, rule())
		}
		for range rng.Intn(2) {
			op.Include = append(op.Include, strings.TrimPrefix(rule(), "!"))
		}
		for range rng.Intn(3) {
			op.FollowPaths = append(op.FollowPaths, pick("a", "b/c", "/", "*", "a/*", "c/a/b", "nothing", "a*"))
		}
		var want []string
		err := fsutil.Walk(context.Background(), dir, &fsutil.FilterOpt{
			IncludePatterns: op.Include, ExcludePatterns: op.Exclude, FollowPaths: op.FollowPaths,
		}, func(p string, _ fs.FileInfo, err error) error {
			want = append(want, p)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(want)
		if got := all(t, open(t, dir, "").Select(op)); !slices.Equal(got, want) {
			t.Fatalf("seed %d: %+v\ngot  %q\nwant %q\nof   %q", seed, op, got, want, all(t, open(t, dir, "").Select(parser.Local{})))
		}
	}
}

func TestSelectLooksAtNothingElse(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a/x", "node_modules/m/x", "b/x", "secret")
	l := open(t, dir, "")
	f := l.Select(parser.Local{Exclude: []string{"node_modules", "secret"}})
	if _, ok, err := f.Lookup("node_modules/m/x"); ok || err != nil {
		t.Errorf("a hidden file is seen: %v", err)
	}
	if _, err := f.ReadDir(""); err != nil {
		t.Fatal(err)
	}
	if _, err := f.ReadDir("a"); err != nil {
		t.Fatal(err)
	}
	for p := range l.seen {
		if strings.HasPrefix(p, "node_modules") || p == "secret" || strings.HasPrefix(p, "b/") {
			t.Errorf("%s was looked at", p)
		}
	}
	for p := range l.lists {
		if p != "" && p != "a" {
			t.Errorf("%s was listed", p)
		}
	}
}

func TestSelectBadPattern(t *testing.T) {
	f := open(t, t.TempDir(), "").Select(parser.Local{Exclude: []string{"[a"}})
	if _, err := f.ReadDir(""); err == nil {
		t.Error("a pattern that makes no sense is no error")
	}
	if _, _, err := f.Lookup("a"); err == nil {
		t.Error("a pattern that makes no sense is no error")
	}
}

func TestLocalEntries(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "file", "sub/", "link -> file", "weird\xff")
	if err := os.Chmod(filepath.Join(dir, "file"), os.ModeSetuid|0o711); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(filepath.Join(dir, "file"), filepath.Join(dir, "hard")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mknod(filepath.Join(dir, "socket"), unix.S_IFSOCK|0o644, 0); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(dir, "fifo"), 0o644); err != nil {
		t.Fatal(err)
	}
	_ = unix.Setxattr(filepath.Join(dir, "file"), "user.note", []byte("x"), 0)
	if os.Getuid() == 0 {
		if err := os.Lchown(filepath.Join(dir, "sub"), 5, 6); err != nil {
			t.Fatal(err)
		}
		// cap_net_raw, permitted and effective.
		netRaw := []byte("\x01\x00\x00\x02\x00 \x00\x00\x00 \x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")
		_ = unix.Setxattr(filepath.Join(dir, "file"), "security.capability", netRaw, 0)
	}
	f := open(t, dir, "").Select(parser.Local{})
	get := func(p string) layers.Entry {
		e, ok, err := f.Lookup(p)
		if err != nil || !ok {
			t.Fatalf("%s: %v %v", p, ok, err)
		}
		if e.UID != 0 || e.GID != 0 {
			t.Errorf("%s belongs to %d:%d", p, e.UID, e.GID)
		}
		return e
	}
	if e := get("file"); e.Kind != layers.File || e.Mode != 0o4711 || e.Size != 4 || e.Inode == 0 || e.Inode != get("hard").Inode || e.Xattrs != nil {
		t.Errorf("file is %+v", e)
	}
	if e := get("sub"); e.Kind != layers.Dir {
		t.Errorf("sub is %+v", e)
	}
	if e := get("link"); e.Kind != layers.Symlink || e.Target != "file" {
		t.Errorf("link is %+v", e)
	}
	if e := get("fifo"); e.Kind != layers.Fifo {
		t.Errorf("fifo is %+v", e)
	}
	get("weird\xff")
	e := get("socket")
	if e.Kind != layers.File || e.Size != 0 {
		t.Errorf("socket is %+v", e)
	}
	r, err := f.Open(context.Background(), e)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(r); err != nil || len(b) != 0 {
		t.Errorf("socket holds %q, %v", b, err)
	}
	if d, err := f.Digest(context.Background(), e); err != nil || d != digest.FromString("") {
		t.Errorf("socket's digest is %s, %v", d, err)
	}
	if _, ok, err := f.Lookup("link/x"); ok || err != nil {
		t.Errorf("a path through a symlink: %v %v", ok, err)
	}
	if _, ok, err := f.Lookup("file/x"); ok || err != nil {
		t.Errorf("a path through a file: %v %v", ok, err)
	}
}

func TestChangedFiles(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a", "b", "c")
	l := open(t, dir, "")
	f := l.Select(parser.Local{})
	ctx := context.Background()
	entry := func(p string) layers.Entry {
		e, ok, err := f.Lookup(p)
		if err != nil || !ok {
			t.Fatalf("%s: %v %v", p, ok, err)
		}
		return e
	}
	change := func(p, to string) {
		// Its time is another one, however seldom the clock of the file system ticks.
		at := filepath.Join(dir, p)
		if err := errors.Join(os.WriteFile(at, []byte(to), 0o644), os.Chtimes(at, time.Time{}, time.Unix(1, 0))); err != nil {
			t.Fatal(err)
		}
	}
	var changed *ChangedError
	a := entry("a")
	change("a", "X")
	if _, err := f.Open(ctx, a); !errors.As(err, &changed) {
		t.Errorf("opening a file that has changed: %v", err)
	}
	b := entry("b")
	r, err := f.Open(ctx, b)
	if err != nil {
		t.Fatal(err)
	}
	change("b", "X")
	if _, err := io.ReadAll(r); !errors.As(err, &changed) {
		t.Errorf("reading a file that changes: %v", err)
	}
	c := entry("c")
	change("c", "longer than before")
	d, err := f.Digest(ctx, c)
	if err != nil || d != digest.FromString("longer than before") {
		t.Errorf("digest of a file that changed before it was hashed: %s, %v", d, err)
	}
	if now := entry("c"); now.Size != int64(len("longer than before")) {
		t.Errorf("its entry still says %d bytes", now.Size)
	}
}

// Times that nanoseconds cannot tell are the nearest, not others.
func TestFarTimes(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "late/", "early/")
	for name, seconds := range map[string]int64{"late": 1e10, "early": -1e10} {
		at := unix.Timespec{Sec: seconds}
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(dir, name), []unix.Timespec{at, at}, 0); err != nil {
			t.Fatal(err)
		}
	}
	f := open(t, dir, "").Select(parser.Local{})
	for _, name := range []string{"late", "early"} {
		if e, ok, err := f.Lookup(name); err != nil || !ok || (e.ModTime > 0) != (name == "late") {
			t.Errorf("%s: %d, %v, %v", name, e.ModTime, ok, err)
		}
	}
}

// TestHashedAsListed: a digest is of the file that was listed, with its mode and
// names, or there is none.
func TestHashedAsListed(t *testing.T) {
	for name, change := range map[string]func(file string) error{
		"mode": func(file string) error { return os.Chmod(file, 0o755) },
		"mode and content": func(file string) error {
			return errors.Join(os.WriteFile(file, []byte("more"), 0o644), os.Chmod(file, 0o600))
		},
		"another name": func(file string) error { return os.Link(file, file+"2") },
		"gone":         os.Remove,
		"symlink":      func(file string) error { return errors.Join(os.Remove(file), os.Symlink("b", file)) },
		"directory":    func(file string) error { return errors.Join(os.Remove(file), os.Mkdir(file, 0o755)) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, "a", "b")
			f := open(t, dir, "").Select(parser.Local{})
			e, _, err := f.Lookup("a")
			if err != nil {
				t.Fatal(err)
			}
			if err := change(filepath.Join(dir, "a")); err != nil {
				t.Fatal(err)
			}
			var changed *ChangedError
			if d, err := f.Digest(t.Context(), e); !errors.As(err, &changed) {
				t.Errorf("a file that is not what was listed has the digest %s, %v", d, err)
			}
		})
	}
}

// TestHashedOnce: who finds that a file has changed, after another goroutine has
// hashed it, changes nothing of what that one was told.
func TestHashedOnce(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a")
	l := open(t, dir, "")
	s, err := l.lookup("a")
	if err != nil {
		t.Fatal(err)
	}
	before, err := l.digest(t.Context(), s.entry())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "a"), []byte("another"), 0o755); err != nil {
		t.Fatal(err)
	}
	if again, err := l.lookAgain("a"); again != s {
		t.Errorf("what counts is now %+v, %v", again, err)
	}
	if err := l.record("a", record{}); err != nil {
		t.Error(err)
	}
	if after, err := l.digest(t.Context(), s.entry()); after != before {
		t.Errorf("the digest was %s and is %s, %v", before, after, err)
	}
	var changed *ChangedError
	if _, err := l.openFile(s.entry()); !errors.As(err, &changed) {
		t.Errorf("opening it: %v", err)
	}
}

// TestHashedOfOldState: a digest of a state that another goroutine found to be out
// of date does not count.
func TestHashedOfOldState(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a")
	l := open(t, dir, "")
	if _, err := l.lookup("a"); err != nil {
		t.Fatal(err)
	}
	var changed *ChangedError
	if err := l.record("a", record{}); !errors.As(err, &changed) {
		t.Errorf("an old digest counts: %v", err)
	}
}

func TestReading(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "d/Dockerfile", "link -> d/Dockerfile", "out -> ../../../etc/hostname", "abs -> /d/Dockerfile")
	l := open(t, dir, "")
	for _, name := range []string{"d/Dockerfile", "link", "abs", "/d/../link"} {
		if b, err := l.ReadFile(name); err != nil || string(b) != "d/Dockerfile" {
			t.Errorf("%s: %q, %v", name, b, err)
		}
		if fi, err := l.Stat(name); err != nil || fi.Size() != 12 {
			t.Errorf("%s: %v, %v", name, fi, err)
		}
	}
	for _, name := range []string{"out", "nothing", "d/Dockerfile/x"} {
		if b, err := l.ReadFile(name); err == nil {
			t.Errorf("%s: %q", name, b)
		}
	}
	if _, err := l.ReadFile("out"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a link that leads out: %v", err)
	}
	infos, err := l.ReadDir("", "*k")
	if err != nil || len(infos) != 1 || infos[0].Name() != "link" {
		t.Errorf("ReadDir: %v, %v", infos, err)
	}
	if _, err := Open(filepath.Join(dir, "none"), ""); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a directory that is not there: %v", err)
	}
	if _, err := Open(filepath.Join(dir, "d/Dockerfile"), ""); err == nil {
		t.Error("a file is no directory")
	}
}

func TestResolve(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a/b/f", "l -> a", "abs -> /a/b", "up -> ../../../a", "a/rel -> ../l/b", "loop -> loop", "dangling -> no/such", "dangling2 -> no/../l")
	f := open(t, dir, "").Select(parser.Local{})
	for _, tc := range []struct {
		path string
		last bool
		want string
	}{
		{"", true, ""}, {"a/b/f", true, "a/b/f"}, {"l", true, "a"}, {"l", false, "l"}, {"l/b", false, "a/b"},
		{"abs/f", true, "a/b/f"}, {"up/b", true, "a/b"}, {"a/rel/f", true, "a/b/f"}, {"../../l/b", true, "a/b"},
		{"dangling", true, "no/such"}, {"dangling/x", true, "no/such/x"}, {"dangling2/b", true, "a/b"}, {"new/x/y", true, "new/x/y"},
	} {
		got, err := f.Resolve(tc.path, tc.last)
		if err != nil || got != tc.want {
			t.Errorf("%s (%v): %q, %v; want %q", tc.path, tc.last, got, err, tc.want)
		}
	}
	if _, err := f.Resolve("loop", true); !errors.Is(err, unix.ELOOP) {
		t.Errorf("a circle: %v", err)
	}
	if _, err := f.Resolve("a/b/f/x", true); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("through a file: %v", err)
	}
}

func ExampleDirectory_Select() {
	dir, err := os.MkdirTemp("", "context-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	for _, name := range []string{"main.go", "notes.md"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			panic(err)
		}
	}
	l, err := Open(dir, "")
	if err != nil {
		panic(err)
	}
	defer l.Close()
	entries, err := l.Select(parser.Local{Exclude: []string{"*.md"}}).ReadDir("")
	for _, e := range entries {
		fmt.Println(e.Path, err)
	}
	// Output: main.go <nil>
}

// TestReadFileHasALimit: what is read at once cannot fill the memory.
func TestReadFileHasALimit(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "Dockerfile")
	l := open(t, dir, "")
	if _, err := l.ReadFile("Dockerfile"); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(dir, "Dockerfile"), maxReadFile+1); err != nil {
		t.Fatal(err)
	}
	if data, err := l.ReadFile("Dockerfile"); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("read %d bytes, %v", len(data), err)
	}
}
