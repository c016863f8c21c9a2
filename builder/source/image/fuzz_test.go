package image

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// FuzzLayout: whatever lies in an OCI layout, finding an image in it reads
// nothing outside of it.
func FuzzLayout(f *testing.F) {
	config := `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}`
	sum := digest.FromString(config)
	manifest := `{"schemaVersion":2,"config":{"digest":"` + sum.String() + `","size":1},"layers":[]}`
	for _, d := range []string{digest.FromString(manifest).String(), "sha256:../../../outside", ""} {
		f.Add([]byte(`{"manifests":[{"digest":"`+d+`","annotations":{"org.opencontainers.image.ref.name":"v1"}}]}`), []byte(manifest), []byte(config), "ctx:v1")
	}
	f.Fuzz(func(t *testing.T, index, manifest, config []byte, ref string) {
		dir := filepath.Join(t.TempDir(), "layout")
		blobs := filepath.Join(dir, "blobs", "sha256")
		if err := os.MkdirAll(blobs, 0o755); err != nil {
			t.Fatal(err)
		}
		for name, data := range map[string][]byte{
			filepath.Join(dir, ocispec.ImageIndexFile):                 index,
			filepath.Join(blobs, digest.FromBytes(manifest).Encoded()): manifest,
			filepath.Join(blobs, digest.FromBytes(config).Encoded()):   config,
		} {
			if err := os.WriteFile(name, data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		amd := platforms.MustParse("linux/amd64")
		desc, m, err := Layout{Dir: dir}.load(ref, &amd)
		if err != nil {
			return
		}
		if desc.Digest != digest.FromBytes(manifest) && desc.Digest != digest.FromBytes(config) || m == nil {
			t.Errorf("%+v", desc)
		}
	})
}
