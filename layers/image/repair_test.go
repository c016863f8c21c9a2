package image

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// refs lists names with the first digits of what they stand for.
func refs(t *testing.T, s *Images) string {
	t.Helper()
	list, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, img := range list {
		texts = append(texts, img.Ref+"="+img.Desc.Digest.Encoded()[:6])
		if data, err := s.ReadBlob(img.Desc); err != nil || int64(len(data)) != img.Desc.Size || img.Desc.MediaType != ocispec.MediaTypeImageManifest {
			t.Errorf("%+v: %d bytes, %v", img, len(data), err)
		}
	}
	return strings.Join(texts, " ")
}

// damages are what may become of an index.json, given as it was.
var damages = map[string]func(path string, data []byte) error{
	"torn":      func(path string, data []byte) error { return os.WriteFile(path, data[:len(data)*2/3], 0o644) },
	"empty":     func(path string, _ []byte) error { return os.WriteFile(path, nil, 0o644) },
	"zeros":     func(path string, data []byte) error { return os.WriteFile(path, make([]byte, len(data)), 0o644) },
	"no list":   func(path string, _ []byte) error { return os.WriteFile(path, []byte(`{"schemaVersion":2}`), 0o644) },
	"array":     func(path string, _ []byte) error { return os.WriteFile(path, []byte(`[]`), 0o644) },
	"missing":   func(path string, _ []byte) error { return os.Remove(path) },
	"directory": func(path string, _ []byte) error { return joined(os.Remove(path), os.Mkdir(path, 0o755)) },
	"hole": func(path string, data []byte) error {
		return os.WriteFile(path, append(data[:len(data)/2:len(data)/2], data[len(data)/2+40:]...), 0o644)
	},
	"wrong type": func(path string, data []byte) error {
		return os.WriteFile(path, []byte(strings.Replace(string(data), `"size": `, `"size": "many", "x": `, 1)), 0o644)
	},
	"wrong digest": func(path string, data []byte) error {
		return os.WriteFile(path, []byte(strings.Replace(string(data), `"sha256:`, `"sha256:x`, 1)), 0o644)
	},
}

func joined(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// damaged is a store of three names whose list is damaged, what refs said before,
// and what is warned of.
func damaged(t *testing.T, damage func(string, []byte) error, withCopy bool) (s *Images, before string, warned *[]string) {
	t.Helper()
	s = Open(t.TempDir(), nil)
	for _, name := range []string{"a", "b", "c"} {
		if err := s.Put(t.Context(), "host/"+name+":1", putImage(t, s, name)); err != nil {
			t.Fatal(err)
		}
	}
	before = refs(t, s)
	data, err := os.ReadFile(s.indexPath())
	if err != nil {
		t.Fatal(err)
	}
	if !withCopy {
		if err := os.Remove(filepath.Join(s.root, copyName)); err != nil {
			t.Fatal(err)
		}
	}
	if err := damage(s.indexPath(), data); err != nil {
		t.Fatal(err)
	}
	warned = &[]string{}
	s.Warn = func(text string) { *warned = append(*warned, text) }
	return s, before, warned
}

// A damaged list comes back from its copy; what was damaged is set aside.
func TestDamagedIndex(t *testing.T) {
	for name, damage := range damages {
		for _, by := range []string{"list", "put"} {
			s, before, warned := damaged(t, damage, true)
			was, readErr := os.ReadFile(s.indexPath())
			if by == "put" {
				if err := s.Put(t.Context(), "host/d:1", putImage(t, s, "d")); err != nil {
					t.Fatal(err)
				}
			}
			if got := refs(t, s); !strings.HasPrefix(got, before) {
				t.Errorf("%s: %s, not %s", name, got, before)
			}
			if s.Lost() {
				t.Errorf("%s: something is said to be lost", name)
			}
			if len(*warned) != 1 || !strings.Contains((*warned)[0], "index.json is damaged") || !strings.Contains((*warned)[0], "nothing is lost") {
				t.Errorf("%s: warned of %q", name, *warned)
			}
			if got := refs(t, Open(s.root, nil)); !strings.HasPrefix(got, before) {
				t.Errorf("%s: later %s, not %s", name, got, before)
			}
			aside, err := os.ReadFile(s.indexPath() + ".damaged")
			if readErr == nil && (err != nil || !slices.Equal(aside, was)) {
				t.Errorf("%s: set aside is %q, %v, not %q", name, aside, err, was)
			}
		}
	}
}

// Without a copy the list gets the names that can be made out in the file, and the
// images that nothing names.
func TestDamagedIndexWithoutCopy(t *testing.T) {
	for name, damage := range damages {
		s, before, warned := damaged(t, damage, false)
		got := strings.Fields(refs(t, s))
		for _, want := range strings.Fields(before) {
			_, id, _ := strings.Cut(want, "=")
			if !slices.Contains(got, want) && !slices.Contains(got, "="+id) {
				t.Errorf("%s: %s is lost: %s", name, want, got)
			}
		}
		named := slices.DeleteFunc(slices.Clone(got), func(text string) bool { return strings.HasPrefix(text, "=") })
		least := map[string]int{"torn": 1, "hole": 2, "wrong type": 3, "wrong digest": 2}[name]
		if len(got) != 3 || len(named) < least {
			t.Errorf("%s: left are %s, with fewer than %d names", name, got, least)
		}
		if !s.Lost() {
			t.Errorf("%s: nothing is said to be lost", name)
		}
		if len(*warned) != 1 || !strings.Contains((*warned)[0], fmt.Sprintf("could be read: %d, others are lost", len(named))) {
			t.Errorf("%s: warned of %q", name, *warned)
		}
	}
}

// Not even the second file that was damaged is deleted.
func TestDamagedAgain(t *testing.T) {
	s, before, _ := damaged(t, damages["empty"], true)
	for _, text := range []string{"1", "2"} {
		if err := os.WriteFile(s.indexPath(), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := refs(t, s); got != before {
			t.Errorf("%s, not %s", got, before)
		}
	}
	for name, want := range map[string]string{".damaged": "1", ".damaged-2": "2"} {
		if got, err := os.ReadFile(s.indexPath() + name); err != nil || string(got) != want {
			t.Errorf("%s has %q, %v", name, got, err)
		}
	}
}

// Of what the file says more than its copy nothing is lost, and an image that is
// there wins against one that is not.
func TestDamagedIndexIsNewer(t *testing.T) {
	s, _, warned := damaged(t, damages["empty"], true)
	d := toDescriptor(Image{Ref: "host/d:1", Desc: putImage(t, s, "d")})
	gone := toDescriptor(Image{Ref: "host/a:1", Desc: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("gone"), Size: 4}})
	data, err := json.Marshal(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: []ocispec.Descriptor{gone, d}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.indexPath(), data[:len(data)-1], 0o644); err != nil {
		t.Fatal(err)
	}
	got := refs(t, s)
	if strings.Count(got, "=") != 4 || !strings.Contains(got, "host/d:1=") || strings.Contains(got, digest.FromString("gone").Encoded()[:6]) {
		t.Errorf("there are %s", got)
	}
	if len(*warned) != 1 || !strings.Contains((*warned)[0], "only the damaged file had: 1") {
		t.Errorf("warned of %q", *warned)
	}
}

// A store in which nothing was named has no list, and that is no damage.
func TestNoIndex(t *testing.T) {
	s := Open(t.TempDir(), nil)
	s.Warn = func(text string) { t.Error(text) }
	putImage(t, s, "a")
	if got := refs(t, s); got != "" {
		t.Errorf("there are %s", got)
	}
}

// Many who come upon a damaged list, and name images meanwhile, repair it once.
func TestRepairedOnce(t *testing.T) {
	for name, damage := range damages {
		s, before, _ := damaged(t, damage, true)
		desc := putImage(t, s, "d")
		var mu sync.Mutex
		repaired := 0
		var wg sync.WaitGroup
		for w := range 4 {
			wg.Go(func() {
				s := Open(s.root, nil) // another process
				s.Warn = func(string) {
					mu.Lock()
					defer mu.Unlock()
					repaired++
				}
				for i := range 2 {
					if list, err := s.List(); err != nil || len(list) < 3 {
						t.Errorf("%s: %d images, %v", name, len(list), err)
					}
					if err := s.Put(t.Context(), fmt.Sprintf("host/w%d:%d", w, i), desc); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if got := refs(t, s); !strings.HasPrefix(got, before) || strings.Count(got, "=") != 3+4*2 || repaired != 1 {
			t.Errorf("%s: repaired %d times, and there are %s", name, repaired, got)
		}
		if again, err := filepath.Glob(s.indexPath() + ".damaged-*"); err != nil || len(again) > 0 {
			t.Errorf("%s: set aside again: %s, %v", name, again, err)
		}
	}
}

func FuzzIndex(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"manifests":[{"digest":"sha256:` + strings.Repeat("0", 64) + `","annotations":{"org.opencontainers.image.ref.name":"a"}}]}`))
	f.Add([]byte(`{"manifests":[{}]}`))
	f.Add([]byte(`[{"size":"x","digest":"sha256:` + strings.Repeat("0", 64) + `"},{"digest":"sha256:` + strings.Repeat("1", 64) + `"`))
	s := Open(f.TempDir(), nil)
	desc := putImage(f, s, "a")
	if err := s.Put(f.Context(), "host/a:1", desc); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		idx, err := decodeIndex(data)
		if err != nil {
			idx = s.salvage(&damagedError{data: data, err: err}).index
			if !slices.ContainsFunc(idx.Manifests, func(d ocispec.Descriptor) bool { return fromDescriptor(d).Ref == "host/a:1" }) {
				t.Errorf("the image is lost: %+v", idx)
			}
		}
		for _, d := range idx.Manifests {
			img := fromDescriptor(d)
			if again := fromDescriptor(toDescriptor(img)); again.Ref != img.Ref || again.Pulled != img.Pulled || again.Desc.Digest != img.Desc.Digest {
				t.Errorf("%+v was read back as %+v", img, again)
			}
		}
		data, err = json.Marshal(idx)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := decodeIndex(data); err != nil || len(again.Manifests) != len(idx.Manifests) {
			t.Errorf("%s is read back as %+v, %v", data, again, err)
		}
	})
}
