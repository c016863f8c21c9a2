package fileop

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/builder/source"
	"github.com/sinter-build/sinter/builder/source/local"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/hint"
	"github.com/sinter-build/sinter/parser"
)

// lines describes the entries of a layer: as they are written, not merged.
func (w *recorder) lines() []string {
	var out []string
	for _, e := range w.tree.Entries {
		line := fmt.Sprintf("%s %s %04o %d:%d", e.Path, kinds[e.Kind], e.Mode, e.UID, e.GID)
		switch e.Kind {
		case layers.Whiteout:
			line = e.Path + " whiteout"
		case layers.File:
			line += " " + w.data[e.Path]
		case layers.Symlink:
			line = fmt.Sprintf("%s -> %s %d:%d", e.Path, e.Target, e.UID, e.GID)
		case layers.Hardlink:
			line = fmt.Sprintf("%s = %s", e.Path, e.Link)
		}
		if e.Opaque {
			line += " opaque"
		}
		for name := range e.Xattrs {
			line += " " + name
		}
		if e.Kind != layers.Whiteout {
			if e.ModTime == layers.MadeTime {
				line += " @made"
			} else {
				line += fmt.Sprintf(" @%d", e.ModTime/1e9)
			}
		}
		out = append(out, line)
	}
	return out
}

var kinds = map[layers.Kind]string{
	layers.File: "file", layers.Dir: "dir", layers.Fifo: "fifo", layers.CharDevice: "char", layers.BlockDevice: "block",
}

// context opens a directory as a build context.
func buildContext(t testing.TB, dir string, op parser.Local) source.FS {
	t.Helper()
	l, err := local.Open(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Select(op)
}

// dockerCopy is what COPY src dest asks for.
func dockerCopy(src, dest string) parser.Copy {
	return parser.Copy{
		Src: cleanPath("/" + src), Dest: dest, FollowSymlinks: true, DirContents: true,
		CreateDestPath: true, AllowWildcard: true, AllowEmptyWildcard: true,
	}
}

func num(uid, gid int) *parser.Owner {
	return &parser.Owner{User: &parser.ID{Number: uid}, Group: &parser.ID{Number: gid}}
}

// TestCopy has the behaviours that builders get wrong. Context and base are
// made by build; the layer is given as written.
func TestCopy(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("making files of other owners needs root")
	}
	defer unix.Umask(unix.Umask(0))
	for _, tc := range []struct {
		name, context, base string
		src, dest           string
		change              func(*parser.Copy)
		ignore              []string
		want                string
		err                 string
	}{
		{
			name: "a file, owned by root, with its mode and time", context: "f text mode=4711 owner=5:6 time=77",
			src: "f", dest: "/f", want: "f file 4711 0:0 text @77",
		}, {
			name: "parents are made", context: "f text", src: "f", dest: "/a/b/f",
			want: "a dir 0755 0:0 @made\na/b dir 0755 0:0 @made\na/b/f file 0644 0:0 text @1000000000",
		}, {
			name: "existing parents stay as they are", context: "f text", base: "a dir mode=0711 owner=3:4 time=9",
			src: "f", dest: "/a/b/", want: "a dir 0711 3:4 @9\na/b dir 0755 0:0 @made\na/b/f file 0644 0:0 text @1000000000",
		}, {
			name: "chown and parents", context: "f text", base: "a dir mode=0711 owner=3:4 time=9", src: "f", dest: "/a/b/",
			change: func(c *parser.Copy) { c.Owner = num(7, 8) },
			want:   "a dir 0711 3:4 @9\na/b dir 0755 7:8 @made\na/b/f file 0644 7:8 text @1000000000",
		}, {
			name: "chown leaves an existing destination alone", context: "d/f text\nd/sub/f text", base: "a dir owner=3:4\na/sub dir owner=3:4 mode=0700", src: "d", dest: "/a",
			change: func(c *parser.Copy) { c.Owner = num(7, 8) },
			want:   "a dir 0755 3:4 @1000000000\na/f file 0644 7:8 text @1000000000\na/sub dir 0755 7:8 @1000000000\na/sub/f file 0644 7:8 text @1000000000",
		}, {
			name: "chmod counts for parents and directories too", context: "d/f text mode=0600\nd/sub dir", src: "d", dest: "/x/y/",
			change: func(c *parser.Copy) { c.Mode = "0644" },
			want:   "x dir 0644 0:0 @made\nx/y dir 0644 0:0 @1000000000\nx/y/f file 0644 0:0 text @1000000000\nx/y/sub dir 0644 0:0 @1000000000",
		}, {
			name: "a symbolic chmod keeps directories passable", context: "d/f text mode=0600\nd/x text mode=0700", src: "d", dest: "/d/",
			change: func(c *parser.Copy) { c.Mode = "u=rwX,go=rX" },
			want:   "d dir 0755 0:0 @1000000000\nd/f file 0644 0:0 text @1000000000\nd/x file 0755 0:0 text @1000000000",
		}, {
			name: "a symlink as the source is followed, one inside is not", context: "real/f text\nreal/l link:f\nlink link:real", src: "link", dest: "/d",
			want: "d dir 0755 0:0 @1000000000\nd/f file 0644 0:0 text @1000000000\nd/l -> f 0:0 @1000000000",
		}, {
			name: "links that match a wildcard are followed each", context: "a text\nb text2\nlink1 link:a\nlink2 link:b", src: "link*", dest: "/d/",
			want: "d dir 0755 0:0 @made\nd/link1 file 0644 0:0 text @1000000000\nd/link2 file 0644 0:0 text2 @1000000000",
		}, {
			name: "no match is no error and makes nothing", context: "f text", src: "missing*", dest: "/subdir/", want: "",
		}, {
			name: "what is missing is an error", context: "f text", src: "missing", dest: "/", err: `"/missing": not found`,
		}, {
			name: "everything", context: "f text\nd/g text", src: "", dest: "/baz",
			want: "baz dir 0755 0:0 @1000000000\nbaz/d dir 0755 0:0 @1000000000\nbaz/d/g file 0644 0:0 text @1000000000\nbaz/f file 0644 0:0 text @1000000000",
		}, {
			name: "an escaped bracket", context: "[xyz] text", src: "[[]xyz]", dest: "/f", want: "f file 0644 0:0 text @1000000000",
		}, {
			name: "an escaped question mark", context: "n?pe text\nnope no", src: `n\?pe`, dest: "/f", want: "f file 0644 0:0 text @1000000000",
		}, {
			name: "a name with a backslash", context: `n\?pe text`, src: `n\?pe`, dest: "/f", want: "f file 0644 0:0 text @1000000000",
		}, {
			name: "an escaped question mark with a wildcard", context: "n?pe text\nnope no", src: `n\?p*`, dest: "/f", want: "f file 0644 0:0 text @1000000000",
		}, {
			name: "two stars are one", context: "a/x.go text\na/b/x.go text", src: "**/x.go", dest: "/d/",
			want: "d dir 0755 0:0 @made\nd/x.go file 0644 0:0 text @1000000000",
		}, {
			name: "a symlink cannot replace a directory", context: "d/x link:y", base: "x dir", src: "d", dest: "/", err: "cannot replace to directory /x with file",
		}, {
			name: "a directory cannot replace a symlink", context: "d/x/f text", base: "x link:y\ny dir", src: "d", dest: "/", err: "cannot copy to non-directory: /x",
		}, {
			name: "a file replaces a symlink", context: "d/x text", base: "x link:y\ny old", src: "d", dest: "/", want: "x file 0644 0:0 text @1000000000",
		}, {
			name: "a destination behind symlinks stays inside", context: "f text", base: "in link:../../../out\nout dir", src: "f", dest: "/in/f",
			want: "out dir 0755 0:0 @1000000000\nout/f file 0644 0:0 text @1000000000",
		}, {
			name: "a destination that is a symlink to a directory", context: "f text", base: "l link:/real\nreal dir", src: "f", dest: "/l",
			want: "real dir 0755 0:0 @1000000000\nreal/f file 0644 0:0 text @1000000000",
		}, {
			name: "hard links stay", context: "d/a text\nd/b hard:d/a", src: "d", dest: "/", want: "a file 0644 0:0 text @1000000000\nb = a @1000000000",
		}, {
			name: "special files", context: "d/p fifo mode=0600\nd/s socket", src: "d", dest: "/",
			want: "p fifo 0600 0:0 @1000000000\ns file 0644 0:0  @1000000000",
		}, {
			name: "an excluded directory with an exception", context: "sub/a text\nsub/b text\nf text", ignore: []string{"sub", "!sub/a"}, src: "sub", dest: "/",
			want: "a file 0644 0:0 text @1000000000",
		}, {
			name: "what is ignored is not there", context: "sub/a text", ignore: []string{"sub"}, src: "sub", dest: "/", err: `"/sub": not found`,
		}, {
			name: "parents keep their mode", context: "a/b/f text mode=0600\na/g text", src: "", dest: "/out/",
			change: func(c *parser.Copy) { c.Include = []string{"a/b/f"} },
			want:   "out dir 0755 0:0 @1000000000\nout/a dir 0755 0:0 @1000000000\nout/a/b dir 0755 0:0 @1000000000\nout/a/b/f file 0600 0:0 text @1000000000",
		}, {
			name: "excluded files", context: "d/a.txt text\nd/b.go text\nd/c/d.txt text", src: "d", dest: "/",
			change: func(c *parser.Copy) { c.Exclude = []string{"**/*.txt"} },
			want:   "b.go file 0644 0:0 text @1000000000\nc dir 0755 0:0 @1000000000",
		}, {
			name: "the same directory again is no change", context: "d/sub dir", base: "sub dir", src: "d", dest: "/", want: "",
		}, {
			name: "a file may take the place of a directory", context: "x text", base: "x/old text", src: "x", dest: "/",
			change: func(c *parser.Copy) { c.AlwaysReplace = true },
			want:   "x file 0644 0:0 text @1000000000",
		}, {
			name: "a context has no capabilities", context: "f text mode=0755 cap=1", src: "f", dest: "/f", want: "f file 0755 0:0 text @1000000000",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ctxDir, baseDir := t.TempDir(), t.TempDir()
			build(t, ctxDir, tc.context)
			build(t, baseDir, tc.base)
			for _, p := range []string{ctxDir, baseDir} {
				touch(t, p)
			}
			c := dockerCopy(tc.src, tc.dest)
			if tc.change != nil {
				tc.change(&c)
			}
			files := buildContext(t, ctxDir, parser.Local{Exclude: tc.ignore})
			w := newRecorder(t)
			op := parser.FileOp{Actions: []parser.FileAction{{Input: 0, Secondary: 1, Action: c}}}
			out, err := Apply(context.Background(), op, []Input{{FS: disk(baseDir), Kept: true}, {FS: files}}, "", func(int) (Writer, error) { return w, nil })
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Fatalf("error %v, want %s", err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(w.lines(), "\n"); got != tc.want {
				t.Errorf("got\n%s\nwant\n%s", got, tc.want)
			}
			if out[0].Written != (tc.want != "") {
				t.Errorf("Written is %v", out[0].Written)
			}
		})
	}
}

// touch sets the time of all directories below dir that making files in them
// has changed.
func touch(t *testing.T, dir string) {
	t.Helper()
	root := disk(dir)
	for _, e := range root.tree(t).Entries {
		if e.Kind != layers.Dir || e.ModTime/1e9 <= 1_000_000_000 {
			continue
		}
		ts := []unix.Timespec{{Sec: 1_000_000_000}, {Sec: 1_000_000_000}}
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, dir+"/"+e.Path, ts, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chtimes(dir, time.Unix(1_000_000_000, 0), time.Unix(1_000_000_000, 0)); err != nil {
		t.Fatal(err)
	}
}

// TestActions runs actions other than copies, one after another.
func TestActions(t *testing.T) {
	ns := int64(5_000_000_000)
	for _, tc := range []struct {
		name, base string
		actions    []parser.Action
		want, err  string
	}{
		{"a directory", "", []parser.Action{parser.Mkdir{Path: "/a", Mode: 0o755}}, "a dir 0755 0:0 @made", ""},
		{"with parents", "a dir", []parser.Action{parser.Mkdir{Path: "/a/b/c", Mode: 0o700, MakeParents: true, Owner: num(1, 2), Timestamp: &ns}}, "a dir 0755 0:0 @1000000000\na/b dir 0700 1:2 @5\na/b/c dir 0700 1:2 @5", ""},
		{"one that is there", "a dir mode=0700", []parser.Action{parser.Mkdir{Path: "/a", Mode: 0o755, MakeParents: true}}, "", ""},
		{"without its parent", "", []parser.Action{parser.Mkdir{Path: "/a/b", Mode: 0o755}}, "", "no such file"},
		{"below a file", "a text", []parser.Action{parser.Mkdir{Path: "/a/b", Mode: 0o755, MakeParents: true}}, "", "not a directory"},
		{"a file", "", []parser.Action{parser.Mkfile{Path: "/f", Mode: 0o600, Data: []byte("x"), Timestamp: &ns}}, "f file 0600 0:0 x @5", ""},
		{"a file through a symlink", "l link:d/f\nd dir", []parser.Action{parser.Mkfile{Path: "/l", Mode: 0o600, Data: []byte("x")}}, "d dir 0755 0:0 @1000000000\nd/f file 0600 0:0 x @made", ""},
		{"a file over a directory", "f dir", []parser.Action{parser.Mkfile{Path: "/f"}}, "", "is a directory"},
		{"a file over the root", "", []parser.Action{parser.Mkfile{Path: "/"}}, "", "is a directory"},
		{"a symlink", "", []parser.Action{parser.MkSymlink{Old: "../x", New: "/l", Owner: num(1, 2)}}, "l -> ../x 1:2 @made", ""},
		{"a symlink over a file", "l text", []parser.Action{parser.MkSymlink{Old: "x", New: "/l"}}, "", "exists"},
		{"remove", "a/b text\na/c text", []parser.Action{parser.Remove{Path: "/a/b"}}, "a dir 0755 0:0 @1000000000\na/b whiteout", ""},
		{"remove all", "a/b text\nc text", []parser.Action{parser.Remove{Path: "/*", AllowWildcard: true}}, "a whiteout\nc whiteout", ""},
		{"remove a link, not its target", "l link:d\nd dir", []parser.Action{parser.Remove{Path: "/l"}}, "l whiteout", ""},
		{"remove behind a link", "l link:d\nd/f text", []parser.Action{parser.Remove{Path: "/l/f"}}, "d dir 0755 0:0 @1000000000\nd/f whiteout", ""},
		{"remove nothing", "", []parser.Action{parser.Remove{Path: "/a/b", AllowNotFound: true}}, "", ""},
		{"remove what is missing", "", []parser.Action{parser.Remove{Path: "/a"}}, "", "not found"},
		{"make and remove", "", []parser.Action{parser.Mkfile{Path: "/f"}, parser.Remove{Path: "/f"}}, "", ""},
		{"remove and make again", "d/old text", []parser.Action{parser.Remove{Path: "/d"}, parser.Mkdir{Path: "/d", Mode: 0o755}, parser.Mkfile{Path: "/d/new", Mode: 0o644}}, "d dir 0755 0:0 opaque @made\nd/new file 0644 0:0  @made", ""},
		{"a directory where a file was", "d text", []parser.Action{parser.Remove{Path: "/d"}, parser.Mkdir{Path: "/d", Mode: 0o755}}, "d dir 0755 0:0 @made", ""},
		{"below a setgid directory", "d dir mode=2755 owner=0:9", []parser.Action{parser.Mkdir{Path: "/d/e", Mode: 0o755}}, "d dir 2755 0:9 @1000000000\nd/e dir 2755 0:9 @made", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if strings.Contains(tc.base, "owner=") && os.Getuid() != 0 {
				t.Skip("needs root")
			}
			base := t.TempDir()
			build(t, base, tc.base)
			touch(t, base)
			var op parser.FileOp
			for i, a := range tc.actions {
				fa := parser.FileAction{Input: i, Secondary: -1, Output: -1, Action: a}
				if i == len(tc.actions)-1 {
					fa.Output = 0
				}
				op.Actions = append(op.Actions, fa)
			}
			w := newRecorder(t)
			_, err := Apply(context.Background(), op, []Input{{FS: disk(base), Kept: true}}, "", func(int) (Writer, error) { return w, nil })
			if (err != nil) != (tc.err != "") || err != nil && !strings.Contains(err.Error(), tc.err) {
				t.Fatalf("error %v, want %q", err, tc.err)
			}
			if got := owners(strings.Join(w.lines(), "\n")); err == nil && got != tc.want {
				t.Errorf("got\n%s\nwant\n%s", got, tc.want)
			}
		})
	}
}

// owners makes the files of whoever runs the tests root's.
func owners(s string) string {
	return strings.ReplaceAll(s, fmt.Sprintf(" %d:%d ", os.Getuid(), os.Getgid()), " 0:0 ")
}

// TestOutputs: results can be used again and again, and each stays what it
// was.
func TestOutputs(t *testing.T) {
	file := func(p, text string) parser.Mkfile { return parser.Mkfile{Path: p, Mode: 0o644, Data: []byte(text)} }
	op := parser.FileOp{Actions: []parser.FileAction{
		{Input: -1, Secondary: -1, Output: 0, Action: file("/a", "one")},                                                             // 0
		{Input: 0, Secondary: -1, Output: 2, Action: file("/b", "two")},                                                              // 1
		{Input: 0, Secondary: -1, Output: -1, Action: file("/a", "changed")},                                                         // 2
		{Input: 2, Secondary: 1, Output: 1, Action: parser.Copy{Src: "/", Dest: "/from1/", DirContents: true, CreateDestPath: true}}, // 3
		{Input: 3, Secondary: 3, Output: 3, Action: parser.Copy{Src: "/", Dest: "/self/", DirContents: true, CreateDestPath: true}},  // 4
	}}
	writers := map[int]*recorder{}
	outs, err := Apply(context.Background(), op, nil, "", func(i int) (Writer, error) {
		writers[i] = newRecorder(t)
		return writers[i], nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"a=one", "a=changed from1/a=one from1/b=two", "a=one b=two",
		"a=changed from1/a=one from1/b=two self/a=changed self/from1/a=one self/from1/b=two",
	}
	for i, o := range outs {
		var got []string
		for p, text := range writers[i].data {
			got = append(got, p+"="+text)
		}
		slices.Sort(got)
		if s := strings.Join(got, " "); s != want[i] || !o.Written {
			t.Errorf("output %d: %s, want %s", i, s, want[i])
		}
	}
	for _, bad := range []int{1, 7, -2} {
		op := parser.FileOp{Actions: []parser.FileAction{{Input: bad, Secondary: -1, Action: file("/a", "")}}}
		if _, err := Apply(context.Background(), op, nil, "", nil); err == nil {
			t.Errorf("input %d is no error", bad)
		}
	}
}

func TestOwnerNames(t *testing.T) {
	base, files := t.TempDir(), t.TempDir()
	build(t, base, "etc dir")
	build(t, files, "f text")
	for name, text := range map[string]string{
		"passwd": "root:x:0:0::/:/bin/sh\napp:x:12:34::/:/bin/sh\n", "group": "staff:x:56:app\n",
	} {
		if err := os.WriteFile(base+"/etc/"+name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	name := func(n string) *parser.ID { return &parser.ID{Name: n} }
	for _, tc := range []struct {
		owner parser.Owner
		want  string
	}{
		{parser.Owner{User: name("app")}, "12:34"},
		{parser.Owner{User: name("app"), Group: name("staff")}, "12:56"},
		{parser.Owner{User: &parser.ID{Number: 5}, Group: name("staff")}, "5:56"},
		{parser.Owner{User: &parser.ID{Number: 5}}, "5:5"},
		{parser.Owner{Group: &parser.ID{Number: 5}}, "0:5"},
		{parser.Owner{User: name("nobody")}, `0:0 user "nobody" is not in /etc/passwd`},
		{parser.Owner{Group: name("app")}, `0:0 group "app" is not in /etc/group`},
		{parser.Owner{User: name("app"), Group: name("none")}, `12:34 group "none" is not in /etc/group`},
		{parser.Owner{User: &parser.ID{Name: "app", Input: -1}}, `user "app" cannot be looked up`},
		{parser.Owner{Group: &parser.ID{Name: "app", Input: -1}}, `group "app" cannot be looked up`},
	} {
		c := dockerCopy("f", "/f")
		c.Owner = &tc.owner
		op := parser.FileOp{Actions: []parser.FileAction{{Input: 0, Secondary: 1, Action: c}}}
		w := newRecorder(t)
		out, err := Apply(context.Background(), op, []Input{{FS: disk(base), Kept: true}, {FS: buildContext(t, files, parser.Local{})}}, "", func(int) (Writer, error) { return w, nil })
		if err != nil {
			var hinted *hint.Error
			if !errors.As(err, &hinted) || !strings.HasPrefix(err.Error(), tc.want) {
				t.Errorf("%+v: %v, want %s", tc.owner, err, tc.want)
			}
			continue
		}
		got := fmt.Sprintf("%d:%d", w.tree.Entries[0].UID, w.tree.Entries[0].GID)
		for _, warning := range out[0].Warnings {
			text, _, _ := strings.Cut(warning, ":")
			got += " " + text
		}
		if got != tc.want {
			t.Errorf("%+v: %s, want %s", tc.owner, got, tc.want)
		}
	}
}

// TestDirectoryAsBase: what stands on a directory of the user's begins with a
// copy of it.
func TestDirectoryAsBase(t *testing.T) {
	dir := t.TempDir()
	build(t, dir, "a/f text")
	touch(t, dir)
	op := parser.FileOp{Actions: []parser.FileAction{{Input: 0, Secondary: -1, Action: parser.Mkdir{Path: "/b", Mode: 0o755}}}}
	w := newRecorder(t)
	if _, err := Apply(context.Background(), op, []Input{{FS: buildContext(t, dir, parser.Local{})}}, "", func(int) (Writer, error) { return w, nil }); err != nil {
		t.Fatal(err)
	}
	want := "a dir 0755 0:0 @1000000000\na/f file 0644 0:0 text @1000000000\nb dir 0755 0:0 @made"
	if got := strings.Join(w.lines(), "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestMissingIsHinted(t *testing.T) {
	_, err := Digest(context.Background(), buildContext(t, t.TempDir(), parser.Local{}), Selected(dockerCopy("no", "/")))
	var missing *MissingError
	if !errors.As(err, &missing) || !errors.Is(err, fs.ErrNotExist) || missing.HintText() == "" {
		t.Errorf("%v", err)
	}
}
