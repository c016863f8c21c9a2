package fileop

import (
	"context"
	"errors"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/containerd/continuity/fs"
	reference "github.com/tonistiigi/fsutil/copy"
	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/parser"
)

// referenceCopy does what BuildKit's file backend does for a copy, with the
// library that it uses.
func referenceCopy(src, dest string, a parser.Copy) error {
	if !a.CreateDestPath {
		p, err := fs.RootPath(dest, filepath.Join("/", a.Dest))
		if err != nil {
			return err
		}
		if _, err := os.Lstat(filepath.Dir(p)); err != nil {
			return err
		}
	}
	info := reference.CopyInfo{
		IncludePatterns: a.Include, ExcludePatterns: a.Exclude,
		CopyDirContents: a.DirContents, FollowLinks: a.FollowSymlinks,
		AlwaysReplaceExistingDestPaths: a.AlwaysReplace,
		XAttrErrorHandler:              func(_, _, _ string, _ error) error { return nil },
	}
	info.Chown = func(old *reference.User) (*reference.User, error) { return old, nil }
	if a.Owner != nil {
		info.Chown = func(*reference.User) (*reference.User, error) {
			return &reference.User{UID: a.Owner.User.Number, GID: a.Owner.Group.Number}, nil
		}
	}
	if a.Timestamp != nil {
		tm := time.Unix(0, *a.Timestamp)
		info.Utime = &tm
	}
	if m, err := strconv.ParseUint(a.Mode, 8, 32); err == nil {
		v := int(m)
		info.Mode = &v
	} else {
		info.ModeStr = a.Mode
	}
	sources := []string{cleanPath(a.Src)}
	if a.AllowWildcard {
		var err error
		if sources, err = reference.ResolveWildcards(src, cleanPath(a.Src), a.FollowSymlinks); err != nil {
			return err
		}
		if len(sources) == 0 && !a.AllowEmptyWildcard {
			return errors.New("not found")
		}
	}
	for _, s := range sources {
		if err := reference.Copy(context.Background(), src, s, dest, cleanPath(a.Dest), reference.WithCopyInfo(info)); err != nil {
			return err
		}
	}
	return nil
}

// TestSameAsReference compares copies between random trees with those that
// BuildKit makes on disk.
func TestSameAsReference(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("making files of other owners needs root")
	}
	defer unix.Umask(unix.Umask(0))
	defer func(was bool) { reference.UmaskIsZero = was }(reference.UmaskIsZero)
	reference.UmaskIsZero = true
	rounds, seed := 150, int64(1)
	if s := os.Getenv("SINTER_COPY_ROUNDS"); s != "" {
		rounds, _ = strconv.Atoi(s)
		seed = time.Now().UnixNano()
	}
	both := 0
	for i := range rounds {
		ok := t.Run(strconv.FormatInt(seed+int64(i), 10), func(t *testing.T) {
			if compareOnce(t, rand.New(rand.NewSource(seed+int64(i)))) {
				both++
			}
		})
		if !ok {
			return
		}
	}
	if both < rounds/3 {
		t.Errorf("only %d of %d copies succeeded: the cases are no good", both, rounds)
	}
}

// compareOnce reports whether the copy was one that succeeds.
func compareOnce(t *testing.T, rng *rand.Rand) bool {
	src, base, dest := t.TempDir(), t.TempDir(), t.TempDir()
	srcSpec, baseSpec := randomTree(rng), randomTree(rng)
	build(t, src, srcSpec)
	build(t, base, baseSpec)
	build(t, dest, baseSpec)
	c := randomCopy(rng)
	began := time.Now().Add(-time.Minute)
	said := func() string {
		return fmt.Sprintf("copy: %+v\nsource:\n%s\nbase:\n%s", c, srcSpec, baseSpec)
	}
	wantErr := referenceCopy(src, dest, c)
	w := newRecorder(t)
	op := parser.FileOp{Actions: []parser.FileAction{{Input: 0, Secondary: 1, Action: c}}}
	ins := []Input{{FS: disk(base), Kept: true}, {FS: disk(src), Kept: true}}
	_, err := Apply(context.Background(), op, ins, "", func(int) (Writer, error) { return w, nil })
	if fi, statErr := os.Lstat(dest); statErr != nil || !fi.IsDir() {
		if err == nil {
			t.Fatalf("the root was replaced\n%s", said())
		}
		return false
	}
	if err == nil && errors.Is(wantErr, unix.ENOTDIR) && strings.Contains(wantErr.Error(), "failed to stat") {
		// The reference looks at destinations of files that it is not
		// going to copy, and fails when a file is on the way there.
		return false
	}
	if (err != nil) != (wantErr != nil) {
		t.Fatalf("error %v, reference %v\n%s", err, wantErr, said())
	}
	if err != nil {
		return false
	}
	below := disk(base).tree(t)
	got := describe(layers.NewView([]*layers.Tree{below, &w.tree}), true)
	want := describe(layers.NewView([]*layers.Tree{disk(dest).tree(t)}), true)
	if diff := difference(got, want, began, &w.tree); diff != "" {
		t.Fatalf("%s\n%s", diff, said())
	}
	return true
}

// difference lists the lines that differ, but for times that BuildKit
// took from the clock, and those of directories that the layer does not list:
// a directory whose time alone has changed is no change in an image.
func difference(got, want []string, began time.Time, layer *layers.Tree) string {
	strip := func(line string) (string, string) {
		what, at, _ := strings.Cut(line, " time=")
		return what, at
	}
	var out []string
	for i := 0; i < max(len(got), len(want)); i++ {
		if i >= len(got) || i >= len(want) {
			break
		}
		g, gt := strip(got[i])
		w, wt := strip(want[i])
		when, _ := time.Parse(time.RFC3339, wt)
		name, _, _ := strings.Cut(g, " ")
		_, listed := layer.Find(name)
		if g != w || gt != wt && when.Before(began) && listed {
			out = append(out, "got  "+got[i], "want "+want[i])
		}
	}
	if len(got) != len(want) {
		out = append(out, "got:\n"+strings.Join(got, "\n"), "want:\n"+strings.Join(want, "\n"))
	}
	return strings.Join(out, "\n")
}

// randomTree returns a tree as build takes it, of few and similar names so
// that copies meet what is there.
func randomTree(rng *rand.Rand) string {
	var lines, dirs, files []string
	dirs = append(dirs, "")
	used := map[string]bool{}
	for range 2 + rng.Intn(12) {
		p := filepath.Join(dirs[rng.Intn(len(dirs))], string(rune('a'+rng.Intn(4))))
		if used[p] {
			continue
		}
		used[p] = true
		attrs := fmt.Sprintf("owner=%d:%d time=%d", rng.Intn(3), rng.Intn(3), 1000+rng.Intn(5)*1000)
		mode := []string{"0644", "0755", "0600", "4755", "2755", "0711", "1777"}[rng.Intn(7)]
		switch k := rng.Intn(12); {
		case k < 5:
			dirs = append(dirs, p)
			if rng.Intn(3) > 0 {
				mode = "0755"
			}
			lines = append(lines, fmt.Sprintf("%s dir %s mode=%s", p, attrs, mode))
		case k < 9:
			files = append(files, p)
			if rng.Intn(6) == 0 {
				attrs += " cap=1"
			}
			lines = append(lines, fmt.Sprintf("%s text%d %s mode=%s", p, rng.Intn(4), attrs, mode))
		case k < 11:
			target := []string{"a", "b", "../a", "/a", "/b/a", "../../c", ".", "/", "nowhere/x", "b/c"}[rng.Intn(10)]
			lines = append(lines, fmt.Sprintf("%s link:%s owner=%d:%d time=2000", p, target, rng.Intn(3), rng.Intn(3)))
		default:
			if len(files) == 0 {
				lines = append(lines, fmt.Sprintf("%s fifo %s mode=%s", p, attrs, mode))
				continue
			}
			lines = append(lines, fmt.Sprintf("%s hard:%s", p, files[rng.Intn(len(files))]))
		}
	}
	return strings.Join(lines, "\n")
}

func randomCopy(rng *rand.Rand) parser.Copy {
	pick := func(from ...string) string { return from[rng.Intn(len(from))] }
	c := parser.Copy{
		Src:            pick("/", "/a", "/b", "/c", "/a/b", "/b/c", "/a/", "/*", "/a*", "/a/*", "/*/b", "/[ab]", "/[a-c]/?", "/b/../a", "/d", "/*/*", "/a/."),
		Dest:           pick("/", "/a", "/b/", "/c", "/a/b", "/b/c/", "/new", "/new/", "/new/deep", "/a/new/", "/d", "/a/.", "/x/../b"),
		FollowSymlinks: rng.Intn(4) > 0, DirContents: rng.Intn(3) > 0,
		CreateDestPath: rng.Intn(5) > 0, AllowWildcard: rng.Intn(5) > 0, AllowEmptyWildcard: rng.Intn(3) > 0,
		AlwaysReplace: rng.Intn(5) == 0,
	}
	if rng.Intn(3) == 0 {
		c.Mode = pick("0644", "0755", "4711", "u=rwX,go=rX", "a+x", "go-w", "g+s", "o=u")
	}
	if rng.Intn(3) == 0 {
		c.Owner = &parser.Owner{User: &parser.ID{Number: 7}, Group: &parser.ID{Number: 8}}
	}
	if rng.Intn(4) == 0 {
		ns := int64(5_000_000_000)
		c.Timestamp = &ns
	}
	if rng.Intn(4) == 0 {
		c.Include = []string{pick("a", "a/b", "*/b", "**/c", "a/**", "b", "a/b/c", "?", "**")}
		if rng.Intn(3) == 0 {
			c.Include = append(c.Include, pick("!a/c", "c", "!b"))
		}
	}
	if rng.Intn(4) == 0 {
		c.Exclude = []string{pick("a", "a/b", "*/b", "**/c", "a/**", "b/*")}
		if rng.Intn(2) == 0 {
			c.Exclude = append(c.Exclude, pick("!a/b/c", "!**/a", "!b/c", "!a/c"))
		}
	}
	c.Exclude = slices.Clip(c.Exclude)
	return c
}
