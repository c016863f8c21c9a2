package imagetools

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestLayoutWithInvalidConfigDigest(t *testing.T) {
	for config, want := range map[string]error{
		"":                    digest.ErrDigestInvalidFormat,
		"nonsense":            digest.ErrDigestInvalidFormat,
		"sha256:../../secret": digest.ErrDigestInvalidLength,
		"sha256:12":           digest.ErrDigestInvalidLength,
	} {
		dir := layoutWithConfig(t, config)
		if _, err := Join(t.Context(), nil, []Source{{Place: Place{Layout: dir}}}, Options{}); !errors.Is(err, want) {
			t.Errorf("Join, config %q: %v", config, err)
		}
		img, err := Find(t.Context(), nil, Place{Layout: dir})
		if err != nil {
			t.Fatal(err)
		}
		desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: digest.Digest(config)}
		if _, err := img.Blob(t.Context(), desc); !errors.Is(err, want) {
			t.Errorf("Blob, config %q: %v", config, err)
		}
	}
}

// layoutWithConfig is an OCI layout of one image, whose manifest gives this digest for
// its config.
func layoutWithConfig(t *testing.T, config string) string {
	t.Helper()
	dir := t.TempDir()
	manifest := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"digest":%q,"size":3},"layers":[]}`,
		ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig, config)
	d := digest.FromString(manifest)
	for name, text := range map[string]string{
		"oci-layout":                  `{"imageLayoutVersion":"1.0.0"}`,
		"index.json":                  fmt.Sprintf(`{"schemaVersion":2,"manifests":[{"mediaType":%q,"digest":%q}]}`, ocispec.MediaTypeImageManifest, d),
		"blobs/sha256/" + d.Encoded(): manifest,
	} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
