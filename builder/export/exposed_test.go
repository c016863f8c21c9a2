package export

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/progress"
	"github.com/sinter-build/sinter/layers"
)

// TestLocalWarnsOfRights: one warning of all files that give others rights, and
// none where others cannot reach them.
func TestLocalWarnsOfRights(t *testing.T) {
	s := openStore(t)
	entry := func(path string, kind layers.Kind, mode uint32) file {
		return file{layers.Entry{Path: path, Kind: kind, Mode: mode, ModTime: noon.UnixNano()}, ""}
	}
	null := entry("null", layers.CharDevice, 0o666)
	null.DevMajor, null.DevMinor = 1, 3
	l := layer(t, s, noon,
		entry("data", layers.File, 0o4644), entry("group", layers.File, 0o2755), entry("groups", layers.Dir, 0o2755),
		null, entry("own", layers.File, 0o755), entry("secret", layers.Dir, 0o700),
		entry("secret/su", layers.File, 0o4755), entry("su", layers.File, 0o4755))
	config, err := json.Marshal(ocispec.Image{Platform: amd64})
	if err != nil {
		t.Fatal(err)
	}
	images := []Image{{Platform: amd64, Config: config, Chain: layers.Chain{l}}}
	var mu sync.Mutex
	var warnings []string
	w := &writing{Env: Env{Store: s, Events: func(e progress.Event) {
		mu.Lock()
		defer mu.Unlock()
		if warned, ok := e.(progress.Warned); ok {
			warnings = append(warnings, warned.Warning.Short)
		}
	}}}
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
	if err := writeTo(t, dest, images, w, "type=local"); err != nil {
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
		if err := writeTo(t, dest, images, w, "type=local"); err != nil {
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
