package layers

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"syscall"
	"testing"
)

// tree makes a Tree of lines such as "d a", "f a/b", "w x", "o dir",
// "l link target", "h link target".
func tree(t testing.TB, lines ...string) *Tree {
	t.Helper()
	tr := &Tree{}
	for _, line := range lines {
		f := strings.Fields(line + " .")
		e := Entry{Path: f[1], Mode: 0o644}
		if e.Path == "/" {
			e.Path = ""
		}
		switch f[0] {
		case "d", "o":
			e.Kind, e.Mode, e.Opaque = Dir, 0o700, f[0] == "o"
		case "f":
			e.Size = int64(len(line))
		case "l":
			e.Kind, e.Target = Symlink, f[2]
		case "h":
			e.Kind, e.Link = Hardlink, f[2]
		case "w":
			e.Kind = Whiteout
		default:
			t.Fatalf("bad line %q", line)
		}
		tr.Entries = append(tr.Entries, e)
	}
	tr.Sort()
	if err := tr.Validate(); err != nil {
		t.Fatal(err)
	}
	return tr
}

// listing is what Walk sees, one "path kind layer" a line.
func listing(t *testing.T, v *View) []string {
	t.Helper()
	var got []string
	last := ""
	err := v.Walk(func(e Entry, layer int) error {
		if e.Path != "" && ComparePaths(last, e.Path) >= 0 {
			t.Errorf("%q after %q", e.Path, last)
		}
		last = e.Path
		got = append(got, fmt.Sprintf("/%s %d %d", e.Path, e.Kind, layer))
		// All ways to look must agree.
		l, n, ok := v.Lookup(e.Path)
		if !ok || n != layer || !reflect.DeepEqual(l, e) {
			t.Errorf("Lookup(%q) = %+v, %d, %v; Walk has %+v, %d", e.Path, l, n, ok, e, layer)
		}
		for _, c := range v.ReadDir(e.Path) {
			if e.Kind != Dir || Parent(c.Path) != e.Path {
				t.Errorf("%q is in %q?", c.Path, e.Path)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestView(t *testing.T) {
	tests := []struct {
		name  string
		trees [][]string
		want  string
	}{
		{"nothing", nil, "/ 1 0"},
		{"empty layers", [][]string{{}, {}}, "/ 1 0"},
		{"own root", [][]string{{"d /", "f a"}}, "/ 1 0, /a 0 0"},
		{"override", [][]string{{"d a", "f a/b", "f a/c"}, {"d a", "f a/b"}}, "/ 1 1, /a 1 1, /a/b 0 1, /a/c 0 0"},
		{"whiteout", [][]string{{"d a", "f a/b", "f a/c"}, {"d a", "w a/b"}}, "/ 1 1, /a 1 1, /a/c 0 0"},
		{"whiteout of a tree", [][]string{{"d a", "f a/b"}, {"w a"}}, "/ 1 1"},
		{"whiteout, then again", [][]string{{"d a", "f a/b"}, {"w a"}, {"d a", "f a/c"}}, "/ 1 2, /a 1 2, /a/c 0 2"},
		{"opaque", [][]string{{"d a", "f a/b"}, {"o a", "f a/c"}}, "/ 1 1, /a 1 1, /a/c 0 1"},
		{"opaque root counts as little as in an overlay", [][]string{{"f a"}, {"o /", "f b"}}, "/ 1 1, /a 0 0, /b 0 1"},
		{"opaque between", [][]string{{"f a/b"}, {"o a"}, {"f a/c"}}, "/ 1 2, /a 1 1, /a/c 0 2"},
		{"file hides tree", [][]string{{"d a", "f a/b"}, {"f a"}}, "/ 1 1, /a 0 1"},
		{"tree hides file", [][]string{{"f a"}, {"f a/b"}}, "/ 1 1, /a 1 1, /a/b 0 1"},
		{"file stops what is below it", [][]string{{"d a", "f a/x"}, {"f a"}, {"d a", "f a/b"}}, "/ 1 2, /a 1 2, /a/b 0 2"},
		{"implied keeps metadata of below", [][]string{{"d a"}, {"f a/b"}}, "/ 1 1, /a 1 0, /a/b 0 1"},
		{"implied twice", [][]string{{"f a/b/c"}, {"f a/b/d"}}, "/ 1 1, /a 1 1, /a/b 1 1, /a/b/c 0 0, /a/b/d 0 1"},
		{"order", [][]string{{"f a/b", "f a-b", "f a.b", "f ab"}}, "/ 1 0, /a 1 0, /a/b 0 0, /a-b 0 0, /a.b 0 0, /ab 0 0"},
		{"whiteout of nothing", [][]string{{"w a"}}, "/ 1 0"},
		{"only whiteouts below", [][]string{{"w a/b"}}, "/ 1 0, /a 1 0"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var trees []*Tree
			for _, lines := range test.trees {
				trees = append(trees, tree(t, lines...))
			}
			if got := strings.Join(listing(t, NewView(trees)), ", "); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

// TestViewUndescribed: what a directory is like that its layer does not describe
// (as BuildKit leaves it when it unpacks the layers, one on top of the other).
func TestViewUndescribed(t *testing.T) {
	dir := func(p string, mode uint32, id int) Entry {
		return Entry{Path: p, Kind: Dir, Mode: mode, UID: id, GID: id}
	}
	opaque := func(e Entry) Entry { e.Opaque = true; return e }
	implied := func(p string, gid int) Entry {
		return Entry{Path: p, Kind: Dir, Mode: 0o755, GID: gid, Implied: true}
	}
	file := func(p string) Entry { return Entry{Path: p} }
	gone := func(p string) Entry { return Entry{Path: p, Kind: Whiteout} }
	private, setgid := dir("d", 0o700, 5), dir("s", 0o2750, 7)
	tests := []struct {
		name   string
		layers [][]Entry
		path   string
		want   string
	}{
		{"nowhere", [][]Entry{{file("d/x")}}, "d", "755 0:0"},
		{"below", [][]Entry{{private}, {file("d/x")}}, "d", "700 5:5"},
		{"below twice", [][]Entry{{private}, {file("d/x")}, {file("d/y")}}, "d", "700 5:5"},
		{"opaque", [][]Entry{{private, file("d/a")}, {opaque(implied("d", 0)), file("d/x")}}, "d", "700 5:5"},
		{"opaque in the middle", [][]Entry{{private}, {opaque(implied("d", 0))}, {file("d/x")}}, "d", "700 5:5"},
		{"below an opaque one", [][]Entry{{dir("o", 0o755, 0), dir("o/d", 0o700, 5)}, {opaque(implied("o", 0)), file("o/d/x")}}, "o/d", "700 5:5"},
		{"hidden by an opaque one", [][]Entry{{dir("o", 0o755, 0), dir("o/d", 0o700, 5)}, {opaque(dir("o", 0o711, 0))}, {file("o/d/x")}}, "o/d", "700 5:5"},
		{"deleted meanwhile", [][]Entry{{private}, {gone("d")}, {file("d/x")}}, "d", "755 0:0"},
		{"deleted with its parent", [][]Entry{{dir("o/d", 0o700, 5)}, {gone("o")}, {file("o/d/x")}}, "o/d", "755 0:0"},
		{"a file meanwhile", [][]Entry{{private}, {file("d")}, {file("d/x")}}, "d", "755 0:0"},
		{"setgid", [][]Entry{{setgid, file("s/i/x")}}, "s/i", "755 0:7"},
		{"setgid is not handed on", [][]Entry{{setgid, file("s/i/i/x")}}, "s/i/i", "755 0:0"},
		{"setgid below", [][]Entry{{setgid}, {file("s/i/x")}}, "s/i", "755 0:7"},
		{"setgid below, opaque", [][]Entry{{setgid}, {opaque(implied("s/i", 0))}}, "s/i", "755 0:7"},
		{"setgid came later", [][]Entry{{setgid, implied("s/i", 0), file("s/i/x")}}, "s/i", "755 0:0"},
		{"setgid changed later", [][]Entry{{setgid, implied("s/i", 9), file("s/i/x")}}, "s/i", "755 0:9"},
		{"setgid above does not matter", [][]Entry{{dir("s", 0o755, 0), file("s/i/x")}, {setgid, file("s/i/y")}}, "s/i", "755 0:0"},
		{"root", [][]Entry{{dir("", 0o2700, 5), file("i/x")}}, "", "755 0:0"},
		{"below the root", [][]Entry{{dir("", 0o2700, 5), file("i/x")}}, "i", "755 0:0"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var trees []*Tree
			for _, entries := range test.layers {
				tr := &Tree{Entries: entries}
				if err := tr.Validate(); err != nil {
					t.Fatal(err)
				}
				trees = append(trees, tr)
			}
			v := NewView(trees)
			listing(t, v) // where all ways to look must agree
			e, layer, ok := v.Lookup(test.path)
			if got := fmt.Sprintf("%o %d:%d", e.Mode, e.UID, e.GID); !ok || got != test.want || e.Implied {
				t.Errorf("got %s (%+v, layer %d, %v), want %s", got, e, layer, ok, test.want)
			}
		})
	}
}

func TestLookupMisses(t *testing.T) {
	v := NewView([]*Tree{tree(t, "d a", "f a/b", "l a/l b", "f x"), tree(t, "w x", "f a/c")})
	for _, p := range []string{"x", "a/b/c", "a/bb", "aa", "a/l/b", "A", "x/y"} {
		if e, _, ok := v.Lookup(p); ok {
			t.Errorf("Lookup(%q) = %+v", p, e)
		}
	}
	for _, p := range []string{"/a/b", "a//b/", "./a/b", "../a/b"} {
		if _, _, ok := v.Lookup(p); !ok {
			t.Errorf("Lookup(%q) found nothing", p)
		}
	}
}

func TestLookupHardlink(t *testing.T) {
	v := NewView([]*Tree{tree(t, "f a", "h b a"), tree(t, "f a other")})
	e, layer, ok := v.Lookup("b")
	if !ok || layer != 0 || e.Kind != File || e.Inode == 0 || e.Link != "" || e.Path != "b" || e.Size != int64(len("f a")) {
		t.Errorf("got %+v, %d, %v", e, layer, ok)
	}
	if other, _, _ := v.Lookup("a"); other.Inode == e.Inode {
		t.Errorf("a and b are one file: %+v", e.Inode)
	}
	v = NewView([]*Tree{tree(t, "f a", "h b a", "f c", "d d", "h d/e a")})
	inode := func(p string) Inode {
		e, _, _ := v.Lookup(p)
		return e.Inode
	}
	if a := inode("a"); a == 0 || inode("b") != a || inode("d/e") != a || inode("c") != 0 {
		t.Errorf("inodes are %v, %v, %v and %v", a, inode("b"), inode("d/e"), inode("c"))
	}
	v = NewView([]*Tree{tree(t, "d d", "f d/f", "l s d", "h t s")})
	if e, _, ok := v.Lookup("t"); !ok || e.Kind != Symlink || e.Target != "d" || e.Path != "t" {
		t.Errorf("another name of a symlink: %+v, %v", e, ok)
	}
	if p, err := v.Resolve("t/f", true); err != nil || p != "d/f" {
		t.Errorf("through another name of a symlink: %q, %v", p, err)
	}
}

func TestResolve(t *testing.T) {
	v := NewView([]*Tree{tree(t,
		"d usr", "d usr/lib", "f usr/lib/x", "l lib usr/lib", "l abs /usr/lib", "l up ../../../usr",
		"l loop loop", "l a b", "l b a", "l dangling nowhere/x", "d d", "l d/rel ../lib", "l root /", "l dot ./usr/./lib/", "l slash usr/lib/x/",
	)})
	tests := []struct {
		path   string
		follow bool
		want   string
	}{
		{"", true, ""}, {"/", true, ""}, {"..", true, ""}, {"../../x", true, "x"},
		{"lib", true, "usr/lib"}, {"lib", false, "lib"}, {"lib/", false, "lib"}, {"lib/x", false, "usr/lib/x"},
		{"abs/x", true, "usr/lib/x"}, {"up/lib/x", true, "usr/lib/x"}, {"d/rel/x", true, "usr/lib/x"},
		{"lib/..", true, "usr"}, {"dangling", true, "nowhere/x"}, {"dangling/y", true, "nowhere/x/y"},
		{"no/such/../thing", true, "no/thing"}, {"root/lib/x", true, "usr/lib/x"}, {"dot/x", true, "usr/lib/x"},
	}
	for _, test := range tests {
		if got, err := v.Resolve(test.path, test.follow); got != test.want || err != nil {
			t.Errorf("Resolve(%q, %v) = %q, %v; want %q", test.path, test.follow, got, err, test.want)
		}
	}
	for p, want := range map[string]error{
		"loop": syscall.ELOOP, "a": syscall.ELOOP, "loop/x": syscall.ELOOP,
		"usr/lib/x/y": syscall.ENOTDIR, "usr/lib/x/..": syscall.ENOTDIR, "slash": syscall.ENOTDIR, "lib/x/y": syscall.ENOTDIR,
	} {
		if got, err := v.Resolve(p, true); !errors.Is(err, want) {
			t.Errorf("Resolve(%q) = %q, %v; want %v", p, got, err, want)
		}
	}
}

// model answers what is at a path by looking at every entry of every layer:
// slow, and plainly what the rules say.
func model(trees []*Tree, p string) (kind Kind, layer int, ok bool) {
	implied := -1
	for i := len(trees) - 1; i >= 0; i-- {
		if p == "" && len(trees[i].Entries) > 0 {
			return Dir, i, true
		}
		stop := false
		for _, e := range trees[i].Entries {
			switch {
			case e.Path == p && e.Kind == Dir:
				switch {
				case e.Implied && implied < 0:
					implied = i
				case !e.Implied && !ok:
					kind, layer, ok = Dir, i, true
				}
				stop = stop || e.Opaque
			case e.Path == p:
				if e.Kind != Whiteout && !ok && implied < 0 {
					return e.Kind, i, true
				}
				stop = true
			case Under(e.Path, p) && implied < 0:
				implied = i
			case e.Path != "" && Under(p, e.Path) && (e.Kind != Dir || e.Opaque):
				stop = true
			}
		}
		if stop {
			break
		}
	}
	if !ok && implied >= 0 {
		return Dir, implied, true
	}
	return kind, layer, ok
}

// FuzzView builds layers out of the input and compares every way of looking
// with the model.
func FuzzView(f *testing.F) {
	f.Add([]byte("f\x01w\x01|d\x01f\x12"))
	f.Add([]byte("f\x12|o\x01|f\x13|w\x12"))
	f.Add([]byte("00C008")) // what was known is hidden by an opaque directory that nobody describes
	f.Add([]byte{1, 1, 4, 0, 5, 0, 0, 1, 4, 0, 6, 0, 2, 8})
	f.Fuzz(func(t *testing.T, data []byte) {
		names := []string{"a", "a/a", "a/b", "a/b/a", "a-", "b", "b/a", "b/b", ""}
		trees := []*Tree{{}}
		for i := 0; i+1 < len(data) && i < 60; i += 2 {
			cur := trees[len(trees)-1]
			e := Entry{Path: names[int(data[i+1])%len(names)]}
			switch data[i] % 7 {
			case 0:
				e.Kind = File
			case 1:
				e.Kind = Dir
			case 2:
				e.Kind, e.Opaque = Dir, true
			case 3:
				e.Kind = Whiteout
			case 5:
				e.Kind, e.Implied = Dir, true
			case 6:
				e.Kind, e.Implied, e.Opaque = Dir, true, true
			case 4:
				trees = append(trees, &Tree{})
				continue
			}
			before := cur.Entries
			cur.Entries = append(before[:len(before):len(before)], e)
			cur.Sort()
			if cur.Validate() != nil {
				cur.Entries = before
			}
		}
		v := NewView(trees)
		seen := map[string]bool{}
		if err := v.Walk(func(e Entry, layer int) error { seen[e.Path] = true; return nil }); err != nil {
			t.Fatal(err)
		}
		for _, p := range names {
			kind, layer, ok := model(trees, p)
			e, l, found := v.Lookup(p)
			if p == "" && !ok {
				kind, ok = Dir, true
			}
			if found != ok || ok && (e.Kind != kind || l != layer) {
				t.Errorf("Lookup(%q) = %v in %d, %v; want %v in %d, %v", p, e.Kind, l, found, kind, layer, ok)
			}
			if seen[p] != ok {
				t.Errorf("Walk saw %q: %v, want %v", p, seen[p], ok)
			}
		}
		// Views that stand on one another, each with a trail of its own, see the same.
		for _, last := range names {
			grown := NewView(nil)
			for _, tr := range trees {
				grown.Lookup(last)
				grown = grown.With(tr)
			}
			for _, p := range names {
				same(t, grown, NewView(trees), p)
				same(t, v, NewView(trees), p)
			}
		}
	})
}

// same fails unless two views have the same at a path, and in it.
func same(t *testing.T, got, want *View, p string) {
	t.Helper()
	e, layer, ok := got.Lookup(p)
	we, wl, wok := want.Lookup(p)
	if ok != wok || ok && (layer != wl || !reflect.DeepEqual(e, we)) {
		t.Errorf("Lookup(%q) = %+v in %d, %v; want %+v in %d, %v", p, e, layer, ok, we, wl, wok)
	}
	if list, wanted := got.ReadDir(p), want.ReadDir(p); !reflect.DeepEqual(list, wanted) {
		t.Errorf("ReadDir(%q) = %+v; want %+v", p, list, wanted)
	}
}

// TestLookupDeep: what is looked up again and again in a deep directory of many layers
// does not begin at the root each time. One merge of a directory is one allocation.
func TestLookupDeep(t *testing.T) {
	const depth = 100
	var trees []*Tree
	var listed []string
	dir := ""
	for range depth {
		dir = Child(dir, "d")
		listed = append(listed, "d "+dir)
		trees = append(trees, tree(t, listed...))
	}
	v := NewView(trees)
	for _, p := range []string{dir, dir + "/missing"} {
		if n := testing.AllocsPerRun(1, func() { v.Lookup(p) }); n > depth/10 {
			t.Errorf("%d levels down, a look-up of %s takes %.0f allocations", depth, p[len(p)-9:], n)
		}
	}
}

// TestViewGrows: where a layer is put on top, no directory of the trail is merged again,
// neither by With nor when it is looked up. What each layer adds is one span.
func TestViewGrows(t *testing.T) {
	const depth = 50
	v, dir := NewView(nil), ""
	var listed []string
	for n := range depth {
		missing := Child(dir, "d")
		if _, _, ok := v.Lookup(missing); ok {
			t.Fatalf("%s is there", missing)
		}
		dir = missing
		listed = append(listed, "d "+dir)
		lower := *v.last.Load()
		v = v.With(tree(t, listed...))
		known := *v.last.Load()
		if len(lower) != n+1 || len(known) != n+1 {
			t.Fatalf("%d levels are known, and %d with one more layer; want %d", len(lower), len(known), n+1)
		}
		for i, d := range known[1:] {
			if d.below.next != lower[i+1].below || len(d.below.list) != 1 {
				t.Errorf("/%s was merged again", d.Path)
			}
		}
		before := v.last.Load()
		for p := Parent(dir); p != ""; p = Parent(p) {
			if _, layer, ok := v.Lookup(p); !ok || layer != n {
				t.Errorf("Lookup(%q): layer %d, %v; want %d", p, layer, ok, n)
			}
		}
		if v.last.Load() != before {
			t.Errorf("with %d layers, a known directory was looked for again", n+1)
		}
		v.Lookup(dir)
	}
}
