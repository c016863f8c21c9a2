package main

import (
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/rogpeppe/go-internal/testscript"
)

// cmdAttest adds an attestation, as BuildKit makes them, of each image of an index
// in a registry: attest IMAGE.
func cmdAttest(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: attest IMAGE")
	}
	ref, err := name.ParseReference(args[0])
	ts.Check(err)
	idx, err := remote.Index(ref)
	ts.Check(err)
	m, err := idx.IndexManifest()
	ts.Check(err)
	for _, d := range m.Manifests {
		statement := static.NewLayer([]byte(`{"subject":"`+d.Digest.String()+`"}`), "application/vnd.in-toto+json")
		about, err := mutate.AppendLayers(mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON), statement)
		ts.Check(err)
		idx = mutate.AppendManifests(idx, mutate.IndexAddendum{Add: about, Descriptor: v1.Descriptor{
			Platform:    &v1.Platform{OS: "unknown", Architecture: "unknown"},
			Annotations: map[string]string{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": d.Digest.String()},
		}})
	}
	ts.Check(remote.WriteIndex(ref, idx))
}
