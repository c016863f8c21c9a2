package catalog

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func testCache(t *testing.T) *Cache {
	t.Helper()
	return &Cache{Folder: filepath.Join(t.TempDir(), "sbom"), Known: func(string) bool { return true }}
}

// with returns files with more, or other ones.
func with(l files, more files) files {
	l = maps.Clone(l)
	maps.Copy(l, more)
	return l
}

func npm(name, version string) files {
	return files{"/app/node_modules/" + name + "/package.json": fmt.Sprintf(`{"name":%q,"version":%q}`, name, version)}
}

// TestLayers: what an image shows counts, whichever layers it comes from.
func TestLayers(t *testing.T) {
	dpkg := ecosystems(t)["dpkg"].files
	upgraded := files{"/var/lib/dpkg/status": strings.Replace(dpkgHello, "2.10-3", "2.12-1", 1)}
	for name, c := range map[string]struct {
		layers []files
		want   []string
	}{
		"two kinds":   {[]files{dpkg, npm("x", "1.0.0")}, []string{"deb hello 2.10-3 0", "deb world 1.0 0", "npm x 1.0.0 1"}},
		"last status": {[]files{dpkg, npm("x", "1.0.0"), upgraded}, []string{"deb hello 2.12-1 2", "npm x 1.0.0 1"}},
		"removed":     {[]files{dpkg, npm("x", "1.0.0"), {"/app/node_modules": "gone"}}, []string{"deb hello 2.10-3 0", "deb world 1.0 0"}},
		"opaque": {[]files{with(npm("x", "1.0.0"), files{"/app/": "", "/app/node_modules/": ""}),
			with(npm("y", "1.0.0"), files{"/app/node_modules/": "opaque"})}, []string{"npm y 1.0.0 1"}},
		"replaced by a file":    {[]files{npm("x", "1.0.0"), {"/app": "x"}}, nil},
		"replaced by a symlink": {[]files{npm("x", "1.0.0"), {"/app/node_modules/x": "-> /opt/x", "/opt/x/package.json": `{"name":"x","version":"3.0.0"}`}}, []string{"npm x 3.0.0 1"}},
		"below a linked directory": {[]files{{"/opt/node_modules/x/package.json": `{"name":"x","version":"1.0.0"}`}, {"/app": "-> /opt", "/opt/loop": "-> ."}},
			[]string{"npm x 1.0.0 0"}},
		"status removed": {[]files{dpkg, {"/var/lib/dpkg/status": "gone"}}, nil},
		"replaced":       {[]files{npm("x", "1.0.0"), npm("x", "2.0.0")}, []string{"npm x 2.0.0 1"}},
		"same twice":     {[]files{npm("x", "1.0.0"), npm("x", "1.0.0")}, []string{"npm x 1.0.0 1"}},
		"two copies": {[]files{npm("x", "1.0.0"), {"/b/node_modules/x/package.json": `{"name":"x","version":"1.0.0"}`}},
			[]string{"npm x 1.0.0 0", "npm x 1.0.0 1"}},
		"by a link": {[]files{{"/store/pkg": "", "/opt/real.txt": `{"name":"x","version":"1.0.0"}`}, {"/app/node_modules/x/package.json": "-> /opt/real.txt"}},
			[]string{"npm x 1.0.0 0"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := names(scanned(t, nil, c.layers...)); !slices.Equal(got, c.want) {
				t.Errorf("found %q, want %q", got, c.want)
			}
		})
	}
}

// TestNixStore: what a store in several layers has is found once, and is looked for again
// when a layer hides some of it.
func TestNixStore(t *testing.T) {
	const glibc, bash = "/nix/store/h0cnbmfcn93xm5dg2x27ixhag1cwndga-glibc-2.34-210", "/nix/store/a0cnbmfcn93xm5dg2x27ixhag1cwndga-bash-5.2"
	lower, upper := files{glibc + "/": "", glibc + "/lib/libc.so": "x"}, files{bash + "/": "", bash + "/bin/sh*": "x"}
	cache := testCache(t)
	for _, c := range []struct {
		layers []files
		scans  int
		want   []string
	}{
		{[]files{lower, upper}, 1, []string{"nix bash 5.2 1", "nix glibc 2.34-210 0"}},
		{[]files{lower, upper}, 0, []string{"nix bash 5.2 1", "nix glibc 2.34-210 0"}},
		{[]files{lower, upper, {"/srv/data": "x"}}, 0, []string{"nix bash 5.2 1", "nix glibc 2.34-210 0"}},
		{[]files{lower, upper, {glibc: "gone"}}, 1, []string{"nix bash 5.2 1"}},
		{[]files{lower}, 1, []string{"nix glibc 2.34-210 0"}},
	} {
		found := scanned(t, cache, c.layers...)
		if got := names(found); !slices.Equal(got, c.want) || found.Scanned != c.scans {
			t.Errorf("found %q in %d scans, want %q in %d", got, found.Scanned, c.want, c.scans)
		}
	}
}

// TestPathsThatAreNotUTF8: a package is not hidden by the name of its directory, whether
// its layer is scanned or was before.
func TestPathsThatAreNotUTF8(t *testing.T) {
	cache := testCache(t)
	for _, when := range []string{"first", "again"} {
		found := scanned(t, cache, npm("x", "1.0.0"), files{"/app/node_modules/\xffy/package.json": `{"name":"y","version":"2.0.0"}`})
		if got, want := names(found), []string{"npm x 1.0.0 0", "npm y 2.0.0 1"}; !slices.Equal(got, want) {
			t.Errorf("%s: found %q, want %q", when, got, want)
		}
	}
}

// TestOwnedByDistribution: a program that a package of the distribution owns is not one
// of its own, also if the package's database is in a higher layer.
func TestOwnedByDistribution(t *testing.T) {
	busybox := files{"/bin/busybox*": elfHeader(2, "") + "BusyBox v1.36.1 (2024-01-01 00:00:00 UTC)\x00"}
	if got, want := names(scanned(t, nil, busybox)), []string{"binary busybox 1.36.1 0"}; !slices.Equal(got, want) {
		t.Fatalf("found %q, want %q", got, want)
	}
	status := files{
		"/etc/os-release": osRelease, "/var/lib/dpkg/status": strings.Replace(dpkgHello, "hello", "busybox", 1),
		"/var/lib/dpkg/info/busybox.list": "/bin/busybox\n", "/var/lib/dpkg/info/busybox.md5sums": "d41d8cd98f00b204e9800998ecf8427e  bin/busybox\n",
	}
	for _, list := range [][]files{{busybox, status}, {status, busybox}, {with(busybox, status)}} {
		if got := names(scanned(t, nil, list...)); len(got) != 1 || !strings.HasPrefix(got[0], "deb busybox 2.10-3") {
			t.Errorf("found %q", got)
		}
	}
}

// TestCacheOfLayers: of an image that changes in one layer, one layer is scanned, and
// what comes out is the same as without a cache.
func TestCacheOfLayers(t *testing.T) {
	eco := ecosystems(t)
	dpkg, program := eco["dpkg"].files, eco["go"].files
	cache := testCache(t)
	check := func(what string, scans int, list ...files) {
		t.Helper()
		found, fresh := scanned(t, cache, list...), scanned(t, nil, list...)
		if found.Scanned != scans {
			t.Errorf("%s: %d scans, want %d", what, found.Scanned, scans)
		}
		if !bytes.Equal(found.Document, fresh.Document) || !slices.Equal(found.Packages, fresh.Packages) {
			t.Errorf("%s: the result is another one than without a cache: %q, %q", what, purls(found), purls(fresh))
		}
	}
	all := scanned(t, nil, dpkg, program, npm("x", "1.0.0")).Scanned
	check("first", all, dpkg, program, npm("x", "1.0.0"))
	check("again", 0, dpkg, program, npm("x", "1.0.0"))
	check("without a layer", 0, dpkg, program)
	check("a layer without packages", 0, dpkg, program, npm("x", "1.0.0"), files{"/srv/data": "1"})

	// Only dpkg looks up files of other layers.
	undocumented := files{"/usr/share/doc": "gone"}
	check("without copyright", 1, dpkg, program, npm("x", "1.0.0"), undocumented)
	check("the same again", 0, dpkg, program, npm("x", "1.0.0"), undocumented)
	check("with copyright again", 0, dpkg, program, npm("x", "1.0.0"))

	hidden := files{"/var/lib/dpkg/status": strings.Replace(dpkgHello, "2.10-3", "2.12-1", 1)}
	check("another status", 1, dpkg, program, npm("x", "1.0.0"), hidden)
	check("and back", 0, dpkg, program, npm("x", "1.0.0"))
}

// TestLayerIDs: the layer that changes has another ID, as in a store.
func TestLayerIDs(t *testing.T) {
	cache := testCache(t)
	scan := func(id string, top files) Found {
		im := testImage(t, ecosystems(t)["dpkg"].files, top)
		im.Layers[1].ID = id
		found, err := scanner.Scan(t.Context(), im, cache, options)
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	scan("one", npm("x", "1.0.0"))
	found := scan("two", npm("y", "2.0.0"))
	if want := []string{"deb hello 2.10-3 0", "deb world 1.0 0", "npm y 2.0.0 1"}; found.Scanned != 1 || !slices.Equal(names(found), want) {
		t.Errorf("%d scans found %q, want %q", found.Scanned, names(found), want)
	}
	// IDs of layers, which may be random, are not in the document.
	if same := scan("three", npm("y", "2.0.0")); !bytes.Equal(found.Document, same.Document) {
		t.Error("the document depends on the IDs of layers")
	}
}

// TestVariantsAreBounded: a layer that is in many images does not grow for ever.
func TestVariantsAreBounded(t *testing.T) {
	k := kept{Found: map[string][]result{}}
	for i := range 3 * maxVariants {
		if !k.use("c", result{Listed: fmt.Sprint(i)}) {
			t.Error("a new result changes nothing")
		}
	}
	if len(k.Found["c"]) != maxVariants || k.Found["c"][0].Listed != fmt.Sprint(3*maxVariants-1) {
		t.Errorf("kept %v", k.Found["c"])
	}
	last := k.Found["c"][maxVariants-1]
	if !k.use("c", last) || k.Found["c"][0].Listed != last.Listed || len(k.Found["c"]) != maxVariants {
		t.Errorf("kept %v", k.Found["c"])
	}
	if k.use("c", last) {
		t.Error("using the first result again changes something")
	}
}

// TestDamagedCache: a file of the cache that is torn or of another version counts as
// missing.
func TestDamagedCache(t *testing.T) {
	cache := testCache(t)
	want := scanned(t, cache, npm("x", "1.0.0"))
	path := filepath.Join(cache.Folder, layersFolder, "layer-a")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"torn": good[:len(good)/2], "empty": nil, "altered": bytes.Replace(good, []byte("1.0.0"), []byte("9.0.0"), 1),
	} {
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		if found := scanned(t, cache, npm("x", "1.0.0")); found.Scanned != want.Scanned || !bytes.Equal(found.Document, want.Document) {
			t.Errorf("%s: %d scans, %q", name, found.Scanned, names(found))
		}
		if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, good) {
			t.Errorf("%s: it was not written again: %v", name, err)
		}
	}
	if err := save(cache, layersFolder, "../escape", kept{}); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(filepath.Join(cache.Folder, "escape")); err == nil {
		t.Error("an ID led out of the folder")
	}
}

// TestAnswers: an answer is kept for a while, and what is of layers that are gone is
// removed.
func TestAnswers(t *testing.T) {
	cache := testCache(t)
	found := scanned(t, cache, npm("x", "1.0.0"), npm("y", "1.0.0"))
	if _, ok := cache.Answer("key"); ok {
		t.Error("there is an answer before it was kept")
	}
	cache.Known = func(layer string) bool { return layer == "layer-a" }
	if err := cache.Keep("key", found); err != nil {
		t.Fatal(err)
	}
	got, ok := cache.Answer("key")
	if !ok || !bytes.Equal(got.Document, found.Document) || !slices.Equal(got.Packages, found.Packages) {
		t.Errorf("%v, %v", got, ok)
	}
	for _, dir := range []string{layersFolder, digestsFolder} {
		entries, err := os.ReadDir(filepath.Join(cache.Folder, dir))
		if err != nil || len(entries) != 1 || entries[0].Name() != "layer-a" {
			t.Errorf("%s has %v, %v", dir, entries, err)
		}
	}
	old := time.Now().Add(-2 * answerAge)
	if err := os.Chtimes(filepath.Join(cache.Folder, answersFolder, "key"), old, old); err != nil {
		t.Fatal(err)
	}
	if err := cache.Keep("other", found); err != nil {
		t.Fatal(err)
	}
	if _, ok := cache.Answer("key"); ok {
		t.Error("an old answer stays")
	}
}

// TestProblemsAreTold: what a cataloger could not read is told, also from the cache.
func TestProblemsAreTold(t *testing.T) {
	cache := testCache(t)
	broken := files{"/app/node_modules/broken/package.json": `{"name":`}
	for range 2 {
		found := scanned(t, cache, broken)
		if said := strings.Join(found.Warnings, "\n"); !strings.Contains(said, "/app/node_modules/broken/package.json") || strings.Contains(said, "layer-a") {
			t.Errorf("said %q", said)
		}
	}
}

// FuzzKept: whatever is in the cache, a scan ends and finds what is there.
func FuzzKept(f *testing.F) {
	good, err := json.Marshal(kept{Types: map[string]string{"a": "application/x-executable"}, Found: map[string][]result{
		"javascript-package-cataloger": {{Listed: "x", Lookups: []lookup{{Kind: leads, Query: "/a"}}, Packages: json.RawMessage(`{}`)}},
	}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"found":{"x":[{"lookups":[{"k":"globs","q":"[","a":""}]}]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var k kept
		if json.Unmarshal(data, &k) != nil {
			return
		}
		im := testImage(t, files{"/a": "-> b", "/b*": "x"})
		for _, list := range k.Found {
			for _, r := range list {
				im.answers(r.Lookups)
			}
		}
		for path := range k.Types {
			im.at("/" + path)
		}
	})
}

// TestAgreesWithSyft: of images of random layers, the packages are those that syft
// finds in what the layers come to, with and without a cache.
func TestAgreesWithSyft(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	eco := ecosystems(t)
	kinds := slices.Sorted(maps.Keys(eco))
	cache := testCache(t)
	ids := map[string]string{} // of layers with the same files
	for range 25 {
		var list []files
		squashed := files{}
		for range 1 + random.IntN(4) {
			layer := maps.Clone(eco[kinds[random.IntN(len(kinds))]].files)
			for _, path := range slices.Sorted(maps.Keys(layer)) {
				if random.IntN(5) == 0 {
					delete(layer, path)
				}
			}
			for _, path := range slices.Sorted(maps.Keys(squashed)) {
				if _, ok := layer[path]; !ok && random.IntN(6) == 0 {
					layer[strings.TrimSuffix(path, "*")] = "gone"
					delete(squashed, path)
				}
			}
			for path, content := range layer {
				if content != "gone" {
					squashed[path] = content
				}
			}
			list = append(list, layer)
		}
		im := testImage(t, list...)
		for i, l := range list {
			text := fmt.Sprint(l)
			if ids[text] == "" {
				ids[text] = fmt.Sprintf("layer-%d", len(ids))
			}
			im.Layers[i].ID = ids[text]
		}
		found, err := scanner.Scan(t.Context(), im, cache, options)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := purls(found), syfts(t, squashed); !slices.Equal(got, want) {
			t.Errorf("of %v\nfound %q,\nsyft  %q", slices.Sorted(maps.Keys(squashed)), got, want)
		}
		fresh := scanned(t, nil, list...)
		if !bytes.Equal(found.Document, fresh.Document) {
			t.Error("a cache changes the document")
		}
	}
}
