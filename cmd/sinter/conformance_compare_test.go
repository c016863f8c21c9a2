package main

import (
	"archive/tar"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"path"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

var typeNames = map[byte]string{
	tar.TypeReg: "file", tar.TypeDir: "dir", tar.TypeSymlink: "symlink", tar.TypeFifo: "fifo",
	tar.TypeChar: "char", tar.TypeBlock: "block",
}

// baseImage is an image that cases build on. What an image has of its base is
// not listed in a case.
type baseImage struct {
	diffIDs []string
	config  map[string]any
	tree    imageTree
}

// The users of the base, which are those of the reference cases' base.
const (
	conformancePasswd = `root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
bin:x:2:2:bin:/bin:/bin/false
sys:x:3:3:sys:/dev:/bin/false
sync:x:4:100:sync:/bin:/bin/sync
mail:x:8:8:mail:/var/spool/mail:/bin/false
www-data:x:33:33:www-data:/var/www:/bin/false
operator:x:37:37:Operator:/var:/bin/false
nobody:x:65534:65534:nobody:/home:/bin/false
`
	conformanceGroup = `root:x:0:
daemon:x:1:
bin:x:2:
sys:x:3:
adm:x:4:
tty:x:5:
disk:x:6:
lp:x:7:
mail:x:8:
kmem:x:9:
wheel:x:10:root
cdrom:x:11:
dialout:x:18:
floppy:x:19:
video:x:28:
audio:x:29:
tape:x:32:
www-data:x:33:
operator:x:37:
utmp:x:43:
plugdev:x:46:
staff:x:50:
lock:x:54:
netdev:x:82:
users:x:100:
nobody:x:65534:
`
)

// conformanceBases fills the registry with the bases that it lacks, and reads
// all of them.
func conformanceBases(t *testing.T, registry string) []*baseImage {
	t.Helper()
	ref, err := name.ParseReference(registry + "/library/busybox:latest")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := remote.Head(ref); err != nil {
		img, err := busyboxImage(conformancePasswd, conformanceGroup)
		if err != nil {
			t.Fatal(err)
		}
		if err := remote.Write(ref, img); err != nil {
			t.Fatal(err)
		}
	}
	base, err := readBase(ref)
	if err != nil {
		t.Fatal(err)
	}
	return []*baseImage{base}
}

func readBase(ref name.Reference) (*baseImage, error) {
	img, err := remote.Image(ref)
	if err != nil {
		return nil, err
	}
	raw, err := img.RawConfigFile()
	if err != nil {
		return nil, err
	}
	b := &baseImage{tree: imageTree{}}
	if err := json.Unmarshal(raw, &b.config); err != nil {
		return nil, err
	}
	layers, err := img.Layers()
	if err != nil {
		return nil, err
	}
	for _, l := range layers {
		id, err := l.DiffID()
		if err != nil {
			return nil, err
		}
		r, err := l.Uncompressed()
		if err != nil {
			return nil, err
		}
		data, err := io.ReadAll(r)
		if err != nil {
			return nil, err
		}
		if err := b.tree.apply(data); err != nil {
			return nil, err
		}
		b.diffIDs = append(b.diffIDs, id.String())
	}
	return b, nil
}

// scratch is the base of images that have none: what FROM scratch begins with.
func scratch() *baseImage {
	return &baseImage{
		config: map[string]any{
			"architecture": runtime.GOARCH, "os": "linux",
			"config": map[string]any{"Env": []any{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}},
		},
		tree: imageTree{},
	}
}

// compared are the parts of the image that are compared with a case, as it has
// them: what is not the base's.
func (img *archivedImage) compared(t *testing.T, bases []*baseImage, c *testCase) map[string]string {
	t.Helper()
	base := scratch()
	for _, b := range bases {
		if len(img.diffIDs) >= len(b.diffIDs) && slices.Equal(b.diffIDs, img.diffIDs[:len(b.diffIDs)]) {
			base = b
		}
	}
	tree := maps.Clone(base.tree)
	for _, layer := range img.layers[len(base.diffIDs):] {
		if err := tree.apply(layer); err != nil {
			t.Fatal(err)
		}
	}
	return map[string]string{
		"config":  configLines(base.config, img.config),
		"tree":    strings.Join(tree.lines(base.tree, c.Times), ""),
		"history": historyLines(img.config, len(base.diffIDs)),
	}
}

// lines describe the files that are not as in base, in the order of their paths.
func (t imageTree) lines(base imageTree, times []string) []string {
	first, firstBefore := t.firstNames(), base.firstNames()
	var out []string
	for _, p := range slices.Sorted(maps.Keys(t)) {
		before, was := base[p]
		timed := slices.Contains(times, p)
		line := t[p].line(p, first[t[p].inode], timed)
		if !was || before.line(p, firstBefore[before.inode], timed) != line {
			out = append(out, line+"\n")
		}
	}
	for _, p := range slices.Sorted(maps.Keys(base)) {
		_, stays := t[p]
		_, parentStays := t[path.Dir(p)]
		if !stays && (parentStays || path.Dir(p) == "/") {
			out = append(out, quotePath(p)+" gone\n")
		}
	}
	return slices.DeleteFunc(out, func(line string) bool { return line == "/ dir 0755 0:0\n" })
}

// configLines are the fields that are not as in base, one on each line; those
// of the config's own part begin with a capital letter. null is a field that
// only base has.
func configLines(base, config map[string]any) string {
	before, after := configFields(base), configFields(config)
	var lines []string
	for _, k := range slices.Sorted(maps.Keys(merged(before, after))) {
		if reflect.DeepEqual(before[k], after[k]) {
			continue
		}
		var value strings.Builder
		enc := json.NewEncoder(&value)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(after[k]); err != nil {
			value.WriteString(err.Error() + "\n")
		}
		lines = append(lines, k+": "+value.String())
	}
	return strings.Join(lines, "")
}

func merged(a, b map[string]any) map[string]any {
	m := maps.Clone(a)
	maps.Copy(m, b)
	return m
}

// configFields are the fields that have a value, but for those that differ from
// build to build. No working directory is the root.
func configFields(config map[string]any) map[string]any {
	fields := map[string]any{}
	for _, k := range []string{"architecture", "os", "variant", "author"} {
		fields[k] = config[k]
	}
	if inner, ok := config["config"].(map[string]any); ok {
		maps.Copy(fields, inner)
	}
	delete(fields, "ArgsEscaped")
	if fields["WorkingDir"] == "/" {
		delete(fields, "WorkingDir")
	}
	maps.DeleteFunc(fields, func(_ string, v any) bool {
		if v == nil {
			return true
		}
		r := reflect.ValueOf(v)
		return r.IsZero() || (r.Kind() == reflect.Map || r.Kind() == reflect.Slice) && r.Len() == 0
	})
	return fields
}

// historyLines are the entries that follow those of the base's layers.
func historyLines(config map[string]any, skip int) string {
	entries, _ := config["history"].([]any)
	var out strings.Builder
	for _, e := range entries[min(skip, len(entries)):] {
		entry, _ := e.(map[string]any)
		kind := "layer"
		if entry["empty_layer"] == true {
			kind = "empty"
		}
		fmt.Fprintf(&out, "%s %v\n", kind, entry["created_by"])
	}
	return out.String()
}

// quotePath quotes a path that could be misread.
func quotePath(p string) string {
	if printable(p) && !strings.ContainsAny(p, " \"\\\n\t") {
		return p
	}
	return strconv.Quote(p)
}

func printable(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool {
		return !unicode.IsPrint(r) && r != '\n' && r != '\t'
	}) < 0
}
