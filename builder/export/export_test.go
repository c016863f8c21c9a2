package export

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/sinter-build/sinter/builder/attest"
	"github.com/sinter-build/sinter/builder/export/assemble"
	"github.com/sinter-build/sinter/builder/export/exporttest"
	"github.com/sinter-build/sinter/builder/export/output"
	"github.com/sinter-build/sinter/builder/manifest"
	"github.com/sinter-build/sinter/builder/progress"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/image"
)

func TestWriteSeveralOutputs(t *testing.T) {
	s, dir := exporttest.OpenStore(t), t.TempDir()
	var outputs []output.Spec
	for _, text := range []string{
		"type=oci,dest=" + dir + "/oci.tar", "type=oci,tar=false,dest=" + dir + "/layout", "type=docker,dest=" + dir + "/docker.tar",
		"type=tar,dest=" + dir + "/root.tar", "type=local,dest=" + dir + "/root", "type=image", "type=cacheonly", "type=oci",
	} {
		o, err := output.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		outputs = append(outputs, o)
	}
	var stdout bytes.Buffer
	images := image.Open(s.Root(), s)
	env := Env{Store: s, Images: images, Stdout: &stdout}
	name := "docker.io/library/app:1"
	config, chain := exporttest.Sample(t, s, exporttest.AMD64)
	w, err := Write(context.Background(), env, []assemble.Part{{Platform: exporttest.AMD64, Config: config, Chain: chain}}, assemble.Options{}, outputs, []string{name})
	if err != nil {
		t.Fatal(err)
	}
	if len(w.Places) != 5 || w.Image == nil {
		t.Errorf("written: %+v", w)
	}
	if d, err := images.Get(name); err != nil || d.Digest != w.Image.Digest() {
		t.Errorf("the store has %v, %v", d, err)
	}
	exporttest.ValidateLayout(t, filepath.Join(dir, "layout"))
	archived, err := os.ReadFile(filepath.Join(dir, "oci.tar"))
	if err != nil || !bytes.Equal(archived, stdout.Bytes()) {
		t.Errorf("the same output twice is not the same: %v", err)
	}
	for _, name := range []string{"oci.tar", "docker.tar"} {
		to := filepath.Join(dir, "unpacked-"+name)
		exporttest.UnpackTar(t, filepath.Join(dir, name), to)
		exporttest.ValidateLayout(t, to)
	}
	left, err := filepath.Glob(filepath.Join(dir, ".*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}

// Outputs with names of their own share the image, unless attestations in its index name it.
func TestImageOfSeveralNames(t *testing.T) {
	for name, c := range map[string]struct {
		provenance attest.Attestation
		want       int
	}{
		"beside":   {attest.Attestation{Default: true}, 1},
		"in index": {attest.Attestation{}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			s := exporttest.OpenStore(t)
			images := image.Open(s.Root(), s)
			var outputs []output.Spec
			for _, text := range []string{"type=image,name=a", "type=image,name=b"} {
				o, err := output.Parse(text)
				if err != nil {
					t.Fatal(err)
				}
				outputs = append(outputs, o)
			}
			assembled := 0
			env := Env{Store: s, Images: images, Events: func(e progress.Event) {
				if u, ok := e.(progress.Update); ok && u.ID == "exporting layers" && u.Done.IsZero() {
					assembled++
				}
			}}
			c.provenance.Type, c.provenance.Predicate = manifest.PredicateSLSA+"v1", []byte("{}")
			config, chain := exporttest.Sample(t, s, exporttest.AMD64)
			part := assemble.Part{Platform: exporttest.AMD64, Config: config, Chain: chain}
			part.Attest = func(context.Context, layers.Chain) ([]attest.Attestation, error) {
				return []attest.Attestation{c.provenance}, nil
			}
			opts := assemble.Options{Attest: assemble.Attest{Asked: []attest.Attestation{c.provenance}}}
			if _, err := Write(t.Context(), env, []assemble.Part{part}, opts, outputs, nil); err != nil {
				t.Fatal(err)
			}
			a, errA := images.Get("docker.io/library/a:latest")
			b, errB := images.Get("docker.io/library/b:latest")
			if assembled != c.want || errA != nil || errB != nil || (a.Digest == b.Digest) != (c.want == 1) {
				t.Errorf("assembled %d times, want %d; %v, %v; %v, %v", assembled, c.want, a.Digest, errA, b.Digest, errB)
			}
			list, err := images.Referrers(a.Digest)
			if err != nil || c.provenance.Default != (len(list) == 1) {
				t.Errorf("referrers: %v, %v", list, err)
			}
		})
	}
}
