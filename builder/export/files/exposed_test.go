package files

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/export/assemble"
	"github.com/sinter-build/sinter/builder/export/exporttest"
	"github.com/sinter-build/sinter/layers"
)

// TestLocalWarnsOfRights: one warning of all files that give others rights, and
// none where others cannot reach them.
func TestLocalWarnsOfRights(t *testing.T) {
	s := exporttest.OpenStore(t)
	entry := func(path string, kind layers.Kind, mode uint32) exporttest.File {
		return exporttest.File{Entry: layers.Entry{Path: path, Kind: kind, Mode: mode, ModTime: exporttest.Noon.UnixNano()}}
	}
	null := entry("null", layers.CharDevice, 0o666)
	null.DevMajor, null.DevMinor = 1, 3
	l := exporttest.Layer(t, s, exporttest.Noon,
		entry("data", layers.File, 0o4644), entry("group", layers.File, 0o2755), entry("groups", layers.Dir, 0o2755),
		null, entry("own", layers.File, 0o755), entry("secret", layers.Dir, 0o700),
		entry("secret/su", layers.File, 0o4755), entry("su", layers.File, 0o4755))
	config, err := json.Marshal(ocispec.Image{Platform: exporttest.AMD64})
	if err != nil {
		t.Fatal(err)
	}
	images := []assemble.Part{{Platform: exporttest.AMD64, Config: config, Chain: layers.Chain{l}}}
	var warnings []string
	warn := func(text string) { warnings = append(warnings, text) }
	above := t.TempDir()
	for _, dir := range []string{above, filepath.Dir(above)} {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if !openToOthers(above) {
		t.Skipf("others cannot enter %s", above)
	}
	dest := filepath.Join(above, "out")
	if err := writeTo(t, s, dest, how{warn: warn}, images...); err != nil {
		t.Fatal(err)
	}
	want := ": /group, /su;"
	if os.Geteuid() == 0 {
		if _, err := os.Lstat(filepath.Join(dest, "null")); err == nil {
			want = ": /group, /null, /su;"
		}
	}
	if len(warnings) != 1 || !strings.Contains(warnings[0], want) || !strings.Contains(warnings[0], dest) {
		t.Errorf("got %q", warnings)
	}
	for _, private := range []string{dest, above} {
		warnings = nil
		if err := os.Chmod(private, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := writeTo(t, s, dest, how{warn: warn}, images...); err != nil {
			t.Fatal(err)
		}
		if len(warnings) > 0 {
			t.Errorf("below a private directory: got %q", warnings)
		}
		if err := os.Chmod(private, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}
