package builder

import (
	"reflect"
	"slices"
	"testing"

	"github.com/sinter-build/sinter/cache"
	"github.com/sinter-build/sinter/parser"
)

// TestCommandKeyHasEveryField: what is added to parser.Exec counts, unless it is
// said here that it decides nothing.
func TestCommandKeyHasEveryField(t *testing.T) {
	decidesNothing := []string{"Proxy", "Resources"}
	key := func(op parser.Exec) cache.Key {
		var r cache.Recipe
		execOp{node: &parser.Node{}, op: op}.describe(&r)
		return r.Key()
	}
	for i := range reflect.TypeFor[parser.Exec]().NumField() {
		var op parser.Exec
		change(t, reflect.ValueOf(&op).Elem().Field(i))
		name := reflect.TypeFor[parser.Exec]().Field(i).Name
		if counts := key(op) != key(parser.Exec{}); counts == slices.Contains(decidesNothing, name) {
			t.Errorf("%s counts: %t", name, counts)
		}
	}
	mount := func(m parser.Mount) cache.Key { return key(parser.Exec{Mounts: []parser.Mount{m}}) }
	for i := range reflect.TypeFor[parser.Mount]().NumField() {
		before := parser.Mount{Type: parser.MountBind, Input: -1}
		after := before
		change(t, reflect.ValueOf(&after).Elem().Field(i))
		if mount(before) == mount(after) {
			t.Errorf("%s of a mount does not count", reflect.TypeFor[parser.Mount]().Field(i).Name)
		}
	}
	if sharing := func(how string) cache.Key {
		return mount(parser.Mount{Type: parser.MountCache, Dest: "/c", CacheID: "c", Sharing: how})
	}; sharing("shared") != sharing("locked") {
		t.Error("how a cache mount is shared counts")
	}
}

// TestResultsOfOtherIDs: where a command lacks user IDs, its files have other owners,
// and its result does not count for builds with more.
func TestResultsOfOtherIDs(t *testing.T) {
	keys := map[cache.Key]bool{}
	configs := []Config{{}, {SingleUser: true}, {UnusualIDs: "0-10 0-10"}, {UnusualIDs: "0-10 0-65536"}}
	for _, c := range configs {
		var r cache.Recipe
		execOp{&parser.Node{}, parser.Exec{}, c.users()}.describe(&r)
		keys[r.Key()] = true
	}
	if len(keys) != len(configs) {
		t.Errorf("there are %d keys", len(keys))
	}
}

// change gives a field another value.
func change(t *testing.T, v reflect.Value) {
	t.Helper()
	switch v.Kind() {
	case reflect.String:
		v.SetString("other")
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Int, reflect.Int64:
		v.SetInt(v.Int() + 7)
	case reflect.Uint32, reflect.Uint64:
		v.SetUint(v.Uint() + 7)
	case reflect.Uint8:
		v.SetUint(v.Uint() + 7)
	case reflect.Struct:
		change(t, v.Field(0))
	case reflect.Pointer:
		one := reflect.New(v.Type().Elem())
		change(t, one.Elem())
		v.Set(one)
	case reflect.Slice:
		one := reflect.New(v.Type().Elem()).Elem()
		change(t, one)
		v.Set(reflect.Append(v, one))
	default:
		t.Fatalf("a field of kind %s", v.Kind())
	}
}

// TestKeysTellBytesApart: names need not be UTF-8.
func TestKeysTellBytesApart(t *testing.T) {
	b := newBench(t)
	b.write("a", "text")
	graph := func(dest string) *parser.Graph {
		ctx := contextNode()
		return graphOf(ctx, copyFrom("step", "/a", dest, ctx))
	}
	b.build(graph("/\xff"))
	o := b.build(graph("/\xfe"))
	o.want(t, "step", "")
	if got := o.file(t, "\xfe"); got != "text" {
		t.Errorf("the result holds %q", got)
	}
}

func TestDiff(t *testing.T) {
	b := newBench(t)
	lower := mkfile("step lower", "/lower", "1")
	upper := mkfile("step upper", "/upper", "2", lower)
	diff := node("diff", parser.Diff{HasLower: true, HasUpper: true}, lower, upper)
	o := b.build(graphOf(lower, upper, diff))
	if n := len(o.Targets[0].Chain); n != 1 {
		t.Errorf("what is above has %d layers", n)
	}
	all := node("diff", parser.Diff{HasUpper: true})
	all.Inputs = []parser.Input{{}, {Node: upper}}
	o = b.build(graphOf(lower, upper, all))
	if n := len(o.Targets[0].Chain); n != 2 {
		t.Errorf("over nothing it has %d layers", n)
	}
}

// TestEpochPacksOnce: with an epoch a layer is compressed as it is wanted, and not
// before as nobody wants it.
func TestEpochPacksOnce(t *testing.T) {
	b := newBench(t)
	b.write("a", "text")
	config, epoch := b.config(), int64(1)
	config.Blobs, config.Epoch = true, &epoch
	graph := func() *parser.Graph {
		ctx := contextNode()
		return graphOf(ctx, copyFrom("step", "/a", "/a", ctx))
	}
	if Planned(t.Context(), graph(), config) {
		t.Error("planned in an empty store")
	}
	for range 2 {
		if _, err := Build(t.Context(), graph(), config); err != nil {
			t.Fatal(err)
		}
		blobs, err := config.Layers.Blobs.All()
		if err != nil || len(blobs) != 1 {
			t.Errorf("there are %d blobs, %v", len(blobs), err)
		}
		if !Planned(t.Context(), graph(), config) {
			t.Error("not planned after a build")
		}
	}
}
