package export

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/sinter-build/sinter/builder/export/assemble"
	"github.com/sinter-build/sinter/builder/export/exporttest"
	"github.com/sinter-build/sinter/builder/export/output"
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
