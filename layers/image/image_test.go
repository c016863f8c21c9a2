package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// putBlob writes a blob.
func putBlob(s *Images, data []byte, mediaType string) (ocispec.Descriptor, error) {
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	return desc, errors.Join(s.makeFolders(), os.WriteFile(s.blobPath(desc.Digest), data, 0o644))
}

// putImage keeps an image without layers whose config says what.
func putImage(t testing.TB, s *Images, what string) ocispec.Descriptor {
	t.Helper()
	put := func(v any, mediaType string) ocispec.Descriptor {
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		desc, err := putBlob(s, data, mediaType)
		if err != nil {
			t.Fatal(err)
		}
		return desc
	}
	config := put(ocispec.Image{
		Author: what, Platform: ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH},
		RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{}},
	}, ocispec.MediaTypeImageConfig)
	return put(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: config, Layers: []ocispec.Descriptor{},
	}, ocispec.MediaTypeImageManifest)
}

func TestImages(t *testing.T) {
	s := Open(t.TempDir(), nil)
	if list, err := s.List(); err != nil || len(list) != 0 {
		t.Errorf("a new store has %v, %v", list, err)
	}
	a, b := putImage(t, s, "a"), putImage(t, s, "b")
	began := time.Now().Add(-time.Second)
	for _, err := range []error{
		s.Put(t.Context(), "docker.io/library/z:1", a),
		s.PutPulled(t.Context(), "docker.io/library/base:1", b),
		s.Put(t.Context(), "docker.io/library/a:1", b),
		s.Put(t.Context(), "docker.io/library/z:1", b),
		s.Put(t.Context(), "", a),
		s.Put(t.Context(), "", a),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	list, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, i := range list {
		lines = append(lines, fmt.Sprintf("%s %t %t", i.Ref, i.Desc.Digest == b.Digest, i.Pulled))
		if i.Updated.Before(began) || len(i.Desc.Annotations) != 0 {
			t.Errorf("%+v", i)
		}
	}
	want := " false false|docker.io/library/a:1 true false|docker.io/library/base:1 true true|docker.io/library/z:1 true false"
	if got := strings.Join(lines, "|"); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}

	got, err := s.Get("docker.io/library/base:1")
	if err != nil || got.Digest != b.Digest || got.Size != b.Size || got.MediaType != b.MediaType {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := s.Get("docker.io/library/none:1"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an image that is not there: %v", err)
	}
	list, err = s.List()
	if err != nil {
		t.Fatal(err)
	}
	nameless, a1, rest := list[0], list[1], list[2:]
	if err := s.Remove(t.Context(), a1); err != nil {
		t.Error(err)
	}
	if err := s.Remove(t.Context(), a1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("removed twice: %v", err)
	}
	if err := s.Remove(t.Context(), rest...); err != nil {
		t.Error(err)
	}
	if list, err := s.List(); err != nil || len(list) != 1 || list[0].Ref != "" {
		t.Errorf("left are %v, %v", list, err)
	}
	if err := s.Remove(t.Context(), nameless); err != nil {
		t.Error(err)
	}
}

// What was named anew since it was listed keeps its new name.
func TestRemoveMoved(t *testing.T) {
	s := Open(t.TempDir(), nil)
	a, b := putImage(t, s, "a"), putImage(t, s, "b")
	put := func(ref string, desc ocispec.Descriptor) {
		if err := s.Put(t.Context(), ref, desc); err != nil {
			t.Fatal(err)
		}
	}
	put("host/moved:1", a)
	put("host/other:1", a)
	put("", a)
	listed, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	put("host/moved:1", b) // another process
	put("host/named:1", a)
	if err := s.Remove(t.Context(), listed[1:]...); !errors.Is(err, ErrMoved) || !strings.Contains(err.Error(), "host/moved:1") {
		t.Errorf("removed with a name that was moved: %v", err)
	}
	if err := s.Remove(t.Context(), listed[0]); err != nil {
		t.Errorf("the nameless entry: %v", err)
	}
	for ref, want := range map[string]digest.Digest{"host/moved:1": b.Digest, "host/other:1": a.Digest, "host/named:1": a.Digest} {
		if desc, err := s.Get(ref); err != nil || desc.Digest != want {
			t.Errorf("%s is %s, %v", ref, desc.Digest, err)
		}
	}
	put("", b)
	if err := s.Remove(t.Context(), Image{Ref: "host/moved:1", Desc: b}); err != nil {
		t.Error(err)
	}
	if list, err := s.List(); err != nil || len(list) != 2 {
		t.Errorf("without its last name the image is still there: %v, %v", list, err)
	}
}

func TestBlobs(t *testing.T) {
	s := Open(t.TempDir(), nil)
	desc := putImage(t, s, "a")
	if again := putImage(t, s, "a"); again.Digest != desc.Digest {
		t.Errorf("the same image is %s and %s", desc.Digest, again.Digest)
	}
	if _, err := s.ReadBlob(desc); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(s.blobPath(desc.Digest), []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ReadBlob(desc); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("a damaged blob: %v", err)
	}
	putImage(t, s, "a")
	if _, err := s.ReadBlob(desc); err != nil {
		t.Errorf("put again: %v", err)
	}
	for name, d := range map[string]ocispec.Descriptor{
		"absent": {Digest: digest.FromString("absent")}, "bad": {Digest: "sha256:../../index.json"}, "large": {Digest: desc.Digest, Size: maxBlob + 1},
	} {
		if _, err := s.ReadBlob(d); err == nil {
			t.Errorf("%s could be read", name)
		}
	}
}

// Many processes may tag images in one store. Here they are many values, which
// share nothing but the folder.
func TestConcurrentWriters(t *testing.T) {
	root := t.TempDir()
	desc := putImage(t, Open(root, nil), "a")
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			s := Open(root, nil)
			for i := range 10 {
				if err := s.Put(t.Context(), fmt.Sprintf("docker.io/library/w%d:%d", w, i), desc); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	list, err := Open(root, nil).List()
	if err != nil || len(list) != 80 {
		t.Errorf("%d images, %v, want 80", len(list), err)
	}
	left, err := filepath.Glob(filepath.Join(root, "tmp", ".*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
}

func TestOtherToolsReadIt(t *testing.T) {
	s := Open(t.TempDir(), nil)
	desc := putImage(t, s, "a")
	ref := "docker.io/library/app:1"
	if err := s.Put(t.Context(), ref, desc); err != nil {
		t.Fatal(err)
	}
	idx, err := layout.ImageIndexFromPath(s.root)
	if err == nil {
		err = validate.Index(idx)
	}
	if err != nil {
		t.Error(err)
	}
	if _, err := exec.LookPath("skopeo"); err != nil {
		t.Skip("skopeo is not installed")
	}
	out, err := exec.Command("skopeo", "inspect", "--raw", "oci:"+s.root+":"+ref).CombinedOutput()
	if err != nil || digest.FromBytes(out) != desc.Digest {
		t.Errorf("skopeo: %v\n%s", err, out)
	}
}

// disk records what the list of images was when it had to be synced.
type disk struct {
	t      *testing.T
	images *Images
	seen   []int
	err    error
}

func (d *disk) Sync() error {
	list, err := d.images.List()
	if err != nil {
		d.t.Error(err)
	}
	d.seen = append(d.seen, len(list))
	return d.err
}

// An image is on disk before it gets its name, and has none where that fails.
// Giving the same name again changes nothing.
func TestSyncedBeforeNamed(t *testing.T) {
	root := t.TempDir()
	d := &disk{t: t}
	d.images = Open(root, d)
	desc := putImage(t, d.images, "a")
	if err := d.images.Put(t.Context(), "host/a:1", desc); err != nil || !slices.Equal(d.seen, []int{0}) {
		t.Errorf("the list had %d images, %v", d.seen, err)
	}
	before, err := os.Stat(d.images.indexPath())
	if err != nil {
		t.Fatal(err)
	}
	if err := d.images.Put(t.Context(), "host/a:1", desc); err != nil || len(d.seen) != 1 {
		t.Errorf("named again: synced for %d, %v", d.seen, err)
	}
	if after, err := os.Stat(d.images.indexPath()); err != nil || !os.SameFile(before, after) {
		t.Errorf("named again: the list was written, %v", err)
	}
	d.err = errors.New("the disk is broken")
	if err := d.images.Put(t.Context(), "host/b:1", desc); !errors.Is(err, d.err) {
		t.Errorf("on a broken disk: %v", err)
	}
	if list, err := d.images.List(); err != nil || len(list) != 1 {
		t.Errorf("on a broken disk: %+v, %v", list, err)
	}
}
