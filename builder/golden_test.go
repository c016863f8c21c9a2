package builder

import (
	"reflect"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/fileop"
	"github.com/sinter-build/sinter/cache"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/parser"
)

// TestKeysArePinned: a change of how keys are made, on purpose or not, throws away every
// cache that there is. It shows here. Whoever makes one on purpose raises the version
// in cache/key.go.
func TestKeysArePinned(t *testing.T) {
	f := &told{bases: map[string][]string{"base": {"layer one", "layer two"}}, files: map[string]string{"context": "files"}}
	base, local := node("base", parser.Image{Ref: "docker.io/library/debian:12"}), contextNode()
	at, owner := int64(0), &parser.Owner{User: &parser.ID{Number: 0}, Group: &parser.ID{Name: "staff", Input: 0}}
	command := parser.Exec{
		Args: []string{"/bin/sh", "-c", "make"}, Env: []string{"PATH=/bin", "EMPTY="}, Cwd: "/src", User: "1000:1000", Hostname: "h",
		ExtraHosts: []parser.Host{{Name: "mirror", IP: "10.0.0.1"}}, Ulimits: []parser.Ulimit{{Name: "nofile", Soft: 1, Hard: 2}},
		CgroupParent: "group", Network: parser.NetNone, Insecure: true,
		SecretEnv: []parser.SecretEnv{{ID: "token", Name: "TOKEN", Optional: true}}, ValidExitCodes: []int{0, 3},
		Devices: []parser.Device{{Name: "vendor.com/gpu=0"}},
		Mounts: []parser.Mount{
			{Type: parser.MountBind, Dest: "/", Input: 0},
			{Type: parser.MountBind, Dest: "/src", Input: 1, Selector: "/dir", Output: -1, ReadOnly: true},
			{Type: parser.MountCache, Dest: "/cache", Input: 0, Output: -1, CacheID: "id", Sharing: "locked", Mode: 0o755},
			{Type: parser.MountTmpfs, Dest: "/tmp", Input: -1, Output: -1, TmpfsSize: 1 << 20},
			{Type: parser.MountSecret, Dest: "/run/secrets/s", Input: -1, Output: -1, SecretID: "s", UID: 1, GID: 2, Mode: 0o400, Optional: true},
		},
	}
	run := node("run", command, base, local)
	run.Platform = ocispec.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}
	action := func(input, secondary int, a parser.Action) parser.FileAction {
		return parser.FileAction{Input: input, Secondary: secondary, Output: 0, Action: a}
	}
	for _, tt := range []struct {
		node *parser.Node
		want string
	}{
		{base, "0e4c8d7161064a5e"},
		{run, "fe66cb3590072529"},
		{node("copy", actions(action(0, 1, parser.Copy{
			Src: "/a*", Dest: "/b/", Owner: owner, Mode: "u=rwX", FollowSymlinks: true, DirContents: true, Unpack: true, CreateDestPath: true,
			AllowWildcard: true, AllowEmptyWildcard: true, AlwaysReplace: true, Include: []string{"i"}, Exclude: []string{"x"},
			RequiredPaths: []string{"/r"}, Timestamp: &at,
		})), base, local), "8fb10b63f89b41f9"},
		{node("plain copy", actions(action(-1, 0, parser.Copy{Src: "/a", Dest: "/b"})), local), "95afa90937f14461"},
		{node("mkdir", actions(action(0, -1, parser.Mkdir{Path: "/d", Mode: 0o755, MakeParents: true, Owner: owner, Timestamp: &at})), base), "266e1c07755f5cac"},
		{node("mkfile", actions(action(0, -1, parser.Mkfile{Path: "/f", Mode: 0o644, Data: []byte("text\xff"), Owner: owner, Timestamp: &at})), base), "66f4cfcd2104e60a"},
		{node("symlink", actions(action(0, -1, parser.MkSymlink{Old: "/o", New: "/n", Owner: owner, Timestamp: &at})), base), "70654d1e268f4aa9"},
		{node("remove", actions(action(0, -1, parser.Remove{Path: "/f", AllowNotFound: true, AllowWildcard: true})), base), "f4aac287bc71f486"},
		{node("two actions", actions(action(0, -1, parser.Mkdir{Path: "/d"}), action(1, -1, parser.Mkdir{Path: "/e"})), base), "bbd20ba62c2cd285"},
		{node("merge", parser.Merge{}, base, run), "69f5b72d24dc7b41"},
		{node("diff", parser.Diff{HasLower: true, HasUpper: true}, base, run), "81c234679c7cf86a"},
	} {
		t.Run(tt.node.Name, func(t *testing.T) {
			g := graphOf(base, local, run, tt.node)
			id, err := f.planner(t, g).expected(t.Context(), tt.node)
			if err != nil || len(id.until) > 0 {
				t.Fatalf("no key: %v %v", id.until, err)
			}
			if got := id.key.String()[:16]; got != tt.want {
				t.Errorf("the key begins with %s, want %s, of the recipe\n%+v", got, tt.want, id.recipe)
			}
		})
	}
}

// TestOtherKeysArePinned: those that no operation has.
func TestOtherKeysArePinned(t *testing.T) {
	chain := layers.Chain{{ID: "one"}, {ID: "two"}}
	if got, want := squashIdentity(chain, 1).key.String()[:16], "1dc81d434227751f"; got != want {
		t.Errorf("of a squash: %s, want %s", got, want)
	}
	sel := fileop.Selection{
		Source: "/a", Wildcard: true, Follow: true, Include: []string{"i"}, Exclude: []string{"x"}, Required: []string{"/r"},
		Contents: true, Owners: true, Xattrs: true, Times: true,
	}
	want := "source \"/a\"\nwildcard\nfollow\ninclude \"i\"\nexclude \"x\"\nrequired \"/r\"\ncontents\nowners\nxattrs\ntimes\n"
	if got := sel.String(); got != want {
		t.Errorf("a selection is %q", got)
	}
}

// TestFileKeysHaveEveryField: what is added to a file action counts.
func TestFileKeysHaveEveryField(t *testing.T) {
	key := func(a parser.FileAction) cache.Key {
		var r cache.Recipe
		fileOp{&parser.Node{}, actions(a)}.describe(&r)
		return r.Key()
	}
	for _, empty := range []parser.Action{parser.Copy{}, parser.Mkdir{}, parser.Mkfile{}, parser.MkSymlink{}, parser.Remove{}} {
		before := key(parser.FileAction{Action: empty})
		for i := range reflect.TypeOf(empty).NumField() {
			after := reflect.New(reflect.TypeOf(empty)).Elem()
			change(t, after.Field(i))
			if key(parser.FileAction{Action: after.Interface().(parser.Action)}) == before {
				t.Errorf("%s of a %T does not count", after.Type().Field(i).Name, empty)
			}
		}
		for name, a := range map[string]parser.FileAction{
			"Input": {Input: 1, Action: empty}, "Secondary": {Secondary: 1, Action: empty}, "Output": {Output: 1, Action: empty},
		} {
			if key(a) == before {
				t.Errorf("%s of a %T does not count", name, empty)
			}
		}
	}
	for i := range reflect.TypeFor[parser.ID]().NumField() {
		id := parser.ID{Name: "name"}
		if f := reflect.TypeFor[parser.ID]().Field(i); f.Name != "Number" {
			change(t, reflect.ValueOf(&id).Elem().Field(i))
		} else {
			id = parser.ID{Number: 7}
		}
		before := parser.FileAction{Action: parser.Mkdir{Owner: &parser.Owner{User: &parser.ID{Name: "name"}}}}
		user := parser.FileAction{Action: parser.Mkdir{Owner: &parser.Owner{User: &id}}}
		group := parser.FileAction{Action: parser.Mkdir{Owner: &parser.Owner{Group: &id}}}
		if key(before) == key(user) || key(user) == key(group) {
			t.Errorf("%s of an owner does not count", reflect.TypeFor[parser.ID]().Field(i).Name)
		}
	}
}
