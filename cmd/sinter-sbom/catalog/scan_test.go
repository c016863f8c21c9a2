package catalog

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anchore/syft/syft"
	"github.com/anchore/syft/syft/cataloging"
	"github.com/anchore/syft/syft/cataloging/pkgcataloging"
	"github.com/anchore/syft/syft/file"
	"github.com/anchore/syft/syft/format/cyclonedxjson"
	"github.com/anchore/syft/syft/format/spdxjson"
	"github.com/anchore/syft/syft/source/directorysource"

	"github.com/sinter-build/sinter/builder/sbom"
)

var options = Options{Name: "image", Architecture: "amd64", Format: sbom.SPDX, Created: time.Unix(1700000000, 0), Version: "v1"}

// scanner is one for all tests: it takes a second to make.
var scanner = NewScanner()

func scanned(t *testing.T, cache *Cache, list ...files) Found {
	t.Helper()
	found, err := scanner.Scan(context.Background(), testImage(t, list...), cache, options)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func licenses(t *testing.T) context.Context {
	t.Helper()
	ctx, err := scanner.licenses()
	if err != nil {
		t.Fatal(err)
	}
	return ctx
}

// names lists packages as "type name version layer".
func names(found Found) []string {
	var list []string
	for _, p := range found.Packages {
		list = append(list, fmt.Sprintf("%s %s %s %d", p.Type, p.Name, p.Version, p.Layer))
	}
	slices.Sort(list)
	return list
}

// TestEcosystems holds what is found of each ecosystem, and that it is what syft finds
// in a directory with the same files.
func TestEcosystems(t *testing.T) {
	for name, l := range ecosystems(t) {
		t.Run(name, func(t *testing.T) {
			found := scanned(t, nil, l.files)
			if got := names(found); !slices.Equal(got, l.want) {
				t.Errorf("found %q, want %q", got, l.want)
			}
			if want := syfts(t, l.files); !slices.Equal(purls(found), want) {
				t.Errorf("found %q, syft %q", purls(found), want)
			}
		})
	}
}

// purls lists packages as syft names them.
func purls(found Found) []string {
	var list []string
	for _, p := range found.Packages {
		list = append(list, strings.Join([]string{p.Type, p.Name, p.Version, p.PURL, p.Path}, " "))
	}
	slices.Sort(list)
	return list
}

// syfts returns what syft itself finds in a directory with files.
func syfts(t *testing.T, l files) []string {
	t.Helper()
	dir := t.TempDir()
	for path, content := range l {
		mode := os.FileMode(0o644)
		if strings.HasSuffix(path, "*") {
			mode = 0o755
		}
		isDir := strings.HasSuffix(path, "/")
		path = filepath.Join(dir, strings.TrimSuffix(path, "*"))
		if isDir {
			if err := os.MkdirAll(path, 0o755); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
	src, err := directorysource.New(directorysource.Config{Path: dir, Base: dir})
	if err != nil {
		t.Fatal(err)
	}
	cfg := syft.DefaultCreateSBOMConfig().WithCatalogerSelection(cataloging.NewSelectionRequest().WithDefaults(pkgcataloging.ImageTag))
	s, err := syft.CreateSBOM(licenses(t), src, cfg)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, p := range s.Artifacts.Packages.Sorted() {
		list = append(list, strings.Join([]string{string(p.Type), p.Name, p.Version, p.PURL, evidence(p).FullNestedPath()}, " "))
	}
	slices.Sort(list)
	return list
}

// TestCatalogersAreSyfts: the list of catalogers is that of syft for images.
func TestCatalogersAreSyfts(t *testing.T) {
	src := &imageSource{context.Background(), testImage(t), options}
	cfg := syft.DefaultCreateSBOMConfig()
	cfg.Files.Selection = file.NoFilesSelection
	s, err := syft.CreateSBOM(licenses(t), src, cfg)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(s.Descriptor.Configuration)
	if err != nil {
		t.Fatal(err)
	}
	var said struct{ Catalogers struct{ Used []string } }
	if err := json.Unmarshal(text, &said); err != nil {
		t.Fatal(err)
	}
	want := slices.DeleteFunc(said.Catalogers.Used, func(name string) bool { return strings.HasPrefix(name, "file-") })
	var got []string
	for _, c := range catalogers() {
		got = append(got, c.Name())
	}
	slices.Sort(got)
	if len(want) < 20 || !slices.Equal(got, want) {
		t.Errorf("catalogers are %q; syft's are %q", got, want)
	}
}

// TestDocuments: documents are valid, say when and by what they were made, and have the
// same bytes for the same image.
func TestDocuments(t *testing.T) {
	eco := ecosystems(t)
	list := []files{eco["dpkg"].files, eco["npm"].files, eco["python"].files}
	for format, decode := range map[sbom.Format]func([]byte) (int, error){
		sbom.SPDX: func(doc []byte) (int, error) {
			s, _, _, err := spdxjson.NewFormatDecoder().Decode(bytes.NewReader(doc))
			if err != nil {
				return 0, err
			}
			return s.Artifacts.Packages.PackageCount(), nil
		},
		sbom.CycloneDX: func(doc []byte) (int, error) {
			s, _, _, err := cyclonedxjson.NewFormatDecoder().Decode(bytes.NewReader(doc))
			if err != nil {
				return 0, err
			}
			return s.Artifacts.Packages.PackageCount(), nil
		},
	} {
		opt := options
		opt.Format = format
		var first Found
		for i := range 3 {
			found, err := scanner.Scan(context.Background(), testImage(t, list...), nil, opt)
			if err != nil {
				t.Fatal(err)
			}
			if i == 0 {
				first = found
			}
			if !bytes.Equal(found.Document, first.Document) {
				t.Errorf("%s: the same image has two documents", format)
			}
		}
		if n, err := decode(first.Document); err != nil || n != len(first.Packages) {
			t.Errorf("%s: %d packages of %d, %v", format, n, len(first.Packages), err)
		}
		text := string(first.Document)
		for _, want := range []string{"2023-11-14T22:13:20Z", "sinter-sbom", "v1"} {
			if !strings.Contains(text, want) {
				t.Errorf("%s: without %q", format, want)
			}
		}
		if strings.Contains(text, noID) || strings.Contains(text, "layer-a") {
			t.Errorf("%s: it has what stands for something else", format)
		}
		opt.Created = opt.Created.Add(time.Second)
		other, err := scanner.Scan(context.Background(), testImage(t, list...), nil, opt)
		if err != nil || strings.Count(string(other.Document), "22:13:21Z") != 1 {
			t.Errorf("%s: the time is not in it, %v", format, err)
		}
		if strings.Replace(string(other.Document), "22:13:21Z", "22:13:20Z", 1) != text {
			t.Errorf("%s: another time changes more than the time", format)
		}
	}
}

// TestDependenciesOfTwins: of two packages of one name in one place, the same one is what
// others depend on each time.
func TestDependenciesOfTwins(t *testing.T) {
	list := files{"/usr/lib/python3/dist-packages/needs-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: needs\nVersion: 1.0\nRequires-Dist: twin\n"}
	for i := range 30 {
		list[fmt.Sprintf("/usr/lib/python3/dist-packages/twin-%02d.dist-info/METADATA", i)] = fmt.Sprintf("Metadata-Version: 2.1\nName: twin\nVersion: %d.0\n", i)
	}
	first := scanned(t, nil, list)
	if !strings.Contains(string(first.Document), "DEPENDENCY_OF") {
		t.Error("nothing depends on anything")
	}
	for range 10 {
		if !bytes.Equal(scanned(t, nil, list).Document, first.Document) {
			t.Fatal("the same image has two documents")
		}
	}
}

// TestSPDXNamesLayers: files have their layer's digest in the comment that BuildKit
// writes, and their own digests.
func TestSPDXNamesLayers(t *testing.T) {
	list := []files{ecosystems(t)["dpkg"].files, {"/app/node_modules/x/package.json": `{"name":"x","version":"1.0.0"}`}}
	im := testImage(t, list...)
	found, err := scanner.Scan(context.Background(), im, nil, options)
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		CreationInfo struct{ Creators []string }
		Files        []struct {
			FileName, Comment string
			Checksums         []struct{ Algorithm, ChecksumValue string }
		}
	}
	if err := json.Unmarshal(found.Document, &doc); err != nil {
		t.Fatal(err)
	}
	if got, want := doc.CreationInfo.Creators, []string{"Tool: syft-" + SyftVersion(), "Tool: sinter-sbom-v1"}; !slices.Equal(got, want) {
		t.Errorf("creators are %q, want %q", got, want)
	}
	want := map[string]string{
		"var/lib/dpkg/status": "layerID: " + im.Layers[0].Digest, "usr/bin/hello": "layerID: " + im.Layers[0].Digest,
		"app/node_modules/x/package.json": "layerID: " + im.Layers[1].Digest,
	}
	for _, f := range doc.Files {
		if c, ok := want[f.FileName]; ok && f.Comment != c {
			t.Errorf("%s has %q, want %q", f.FileName, f.Comment, c)
		}
		delete(want, f.FileName)
		if len(f.Checksums) != 2 || f.Checksums[0].Algorithm != "SHA1" || strings.Trim(f.Checksums[0].ChecksumValue, "0") == "" {
			t.Errorf("%s has the digests %v", f.FileName, f.Checksums)
		}
	}
	if len(want) > 0 {
		t.Errorf("the document lacks %v", want)
	}
}

func TestScanEnds(t *testing.T) {
	ctx, end := context.WithCancel(context.Background())
	end()
	if found, err := scanner.Scan(ctx, testImage(t, ecosystems(t)["npm"].files), nil, options); err == nil {
		t.Errorf("found %v", found.Packages)
	}
}
