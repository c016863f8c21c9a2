package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/rogpeppe/go-internal/testscript"
)

// serveReferrers runs a registry that lists referrers, and says of each manifest with a
// subject that it does. (go-containerregistry's says nothing.) In repositories below
// refused/ it takes no manifest with a subject.
func serveReferrers(t *testing.T) string {
	t.Helper()
	inner := ggcr.New(ggcr.Logger(quietLog()), ggcr.WithReferrersSupport(true))
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/") {
			data, err := io.ReadAll(r.Body)
			var m ocispec.Manifest
			if err == nil && json.Unmarshal(data, &m) == nil && m.Subject != nil {
				if strings.HasPrefix(r.URL.Path, "/v2/refused/") {
					http.Error(w, `{"errors":[{"code":"MANIFEST_INVALID"}]}`, http.StatusBadRequest)
					return
				}
				w.Header().Set("OCI-Subject", m.Subject.Digest.String())
			}
			r.Body = io.NopCloser(strings.NewReader(string(data)))
		}
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// rawManifest is what remote.Put pushes.
type rawManifest []byte

func (m rawManifest) RawManifest() ([]byte, error)      { return m, nil }
func (rawManifest) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }

// cmdRefer pushes, with go-containerregistry, a manifest that refers to an image or a
// part of it: refer IMAGE ARTIFACT-TYPE LAYER-TYPE FILE [ANNOTATION=VALUE…]. The
// annotations are the layer's. With PLATFORM among the last ones as -p=ARCHITECTURE it is
// about that manifest of an index.
func cmdRefer(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 4 {
		ts.Fatalf("usage: refer IMAGE ARTIFACT-TYPE LAYER-TYPE FILE [-p=ARCHITECTURE] [ANNOTATION=VALUE…]")
	}
	ref := must(ts)(name.ParseReference(args[0])).(name.Reference)
	subject, annotations := subjectOf(ts, ref, args[4:])
	content, err := os.ReadFile(ts.MkAbs(args[3]))
	ts.Check(err)
	push := func(mediaType string, data []byte) ocispec.Descriptor {
		ts.Check(remote.WriteLayer(ref.Context(), static.NewLayer(data, types.MediaType(mediaType))))
		return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	}
	layer := push(args[2], content)
	layer.Annotations = annotations
	data, err := json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: args[1],
		Config: push(ocispec.MediaTypeEmptyJSON, []byte("{}")), Layers: []ocispec.Descriptor{layer}, Subject: &subject,
	})
	ts.Check(err)
	ts.Check(remote.Put(ref.Context().Digest(digest.FromBytes(data).String()), rawManifest(data)))
}

// subjectOf is what refer's manifest is about, and its layer's annotations.
func subjectOf(ts *testscript.TestScript, ref name.Reference, args []string) (subject ocispec.Descriptor, annotations map[string]string) {
	got := must(ts)(remote.Get(ref)).(*remote.Descriptor)
	subject = ocispec.Descriptor{MediaType: string(got.MediaType), Digest: digest.Digest(got.Digest.String()), Size: got.Size}
	annotations = map[string]string{}
	for _, arg := range args {
		key, value, _ := strings.Cut(arg, "=")
		if key != "-p" {
			annotations[key] = value
			continue
		}
		var index ocispec.Index
		ts.Check(json.Unmarshal(got.Manifest, &index))
		at := slices.IndexFunc(index.Manifests, func(d ocispec.Descriptor) bool { return d.Platform.Architecture == value })
		if at < 0 {
			ts.Fatalf("%s is not for %s", ref, value)
		}
		d := index.Manifests[at]
		subject = ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}
	}
	return subject, annotations
}
