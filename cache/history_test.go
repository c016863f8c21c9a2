package cache

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/layers/folder"
)

// built writes down a build that began at a time.
func built(t *testing.T, s *Store, at time.Time, of Subject, steps ...BuildStep) string {
	t.Helper()
	if steps == nil {
		steps = []BuildStep{{Name: "RUN y"}}
	}
	b := &Build{ID: NewBuildID(at, of), Of: of, Started: at, Result: Succeeded, Steps: steps}
	if err := s.PutBuild(b, ""); err != nil {
		t.Fatal(err)
	}
	return b.ID
}

func TestBuildsComeBack(t *testing.T) {
	s, now := open(t), time.Now()
	if list, err := s.Builds(); len(list) != 0 || err != nil {
		t.Fatalf("before: %v, %v", list, err)
	}
	one, other := Subject{Context: "/a", Platforms: []string{"linux/amd64"}}, Subject{Context: "/b"}
	first := built(t, s, now, one, BuildStep{Name: "RUN x", Verdict: Ran, Why: []Reason{{Kind: FirstTime}}})
	second := built(t, s, now, one) // in the same millisecond
	third := built(t, s, now.Add(time.Second), other)
	list, err := s.Builds()
	if err != nil || len(list) != 3 || list[0].ID != third || list[1].ID != second || list[2].ID != first {
		t.Fatalf("got %+v, %v", list, err)
	}
	if step := list[2].Steps[0]; Text(step.Why) != "first build of this step here" || step.Verdict != Ran {
		t.Errorf("the step came back as %+v", step)
	}
	if b := s.LastBuild(one); b == nil || b.ID != second {
		t.Errorf("the last build is %+v", b)
	}
	built(t, s, now.Add(2*time.Second), one, []BuildStep{}...)
	if b := s.LastBuild(one); b == nil || b.ID != second {
		t.Errorf("the last build with steps is %+v", b)
	}
	if b := s.LastBuild(Subject{Context: "/c"}); b != nil {
		t.Errorf("the last build of another thing is %+v", b)
	}
}

// TestDamagedBuildIsLeftOut: what other builds did is still known.
func TestDamagedBuildIsLeftOut(t *testing.T) {
	s, now, of := open(t), time.Now(), Subject{Context: "/a"}
	good, bad := built(t, s, now, of), built(t, s, now.Add(time.Second), of)
	if err := os.WriteFile(s.buildPath(bad, buildRecord), []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	if list, err := s.Builds(); err != nil || len(list) != 1 || list[0].ID != good {
		t.Errorf("got %v, %v", list, err)
	}
	if b := s.LastBuild(of); b == nil || b.ID != good {
		t.Errorf("the last build is %+v", b)
	}
	for name, put := range map[string]func(path string) error{
		"torn":        func(path string) error { return os.WriteFile(path, []byte("torn"), 0o600) },
		"a pipe":      func(path string) error { return unix.Mkfifo(path, 0o600) },
		"a directory": func(path string) error { return os.Mkdir(path, 0o700) },
		"a device":    func(path string) error { return os.Symlink("/dev/zero", path) },
		"too long": func(path string) error {
			return errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, longestBuild+1))
		},
	} {
		path := s.buildPath(bad, buildRecord)
		if err := errors.Join(os.Remove(path), put(path)); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Build(bad); !errors.Is(err, folder.ErrCorrupt) {
			t.Errorf("%s: got %v", name, err)
		}
		if list, err := s.Builds(); err != nil || len(list) != 1 {
			t.Errorf("%s: got %v, %v", name, list, err)
		}
	}
}

// TestOldBuildsGo: a hundred stay, none for longer than thirty days, and with them the
// listings that they refer to.
func TestOldBuildsGo(t *testing.T) {
	s, now, of := open(t), time.Now(), Subject{Context: "/a"}
	old := built(t, s, now.Add(-keptFor-time.Hour), of)
	content := "sha256:" + strings.Repeat("a", 64)
	list := func(content string) {
		t.Helper()
		err := s.PutListing(content, func(add func(File) error) (string, error) { return content, add(File{Path: "a", Type: "file"}) })
		if err != nil {
			t.Fatal(err)
		}
	}
	list(content)
	gone := "sha256:" + strings.Repeat("b", 64)
	list(gone)
	long := now.Add(-keptFor - time.Minute)
	if err := os.Chtimes(s.listingPath(gone), long, long); err != nil {
		t.Fatal(err)
	}
	reads := BuildStep{Parts: []Part{{Name: "files", Kind: Content, Value: content + "\n"}}}
	for i := range keptBuilds + 5 {
		built(t, s, now.Add(time.Duration(i-keptBuilds-5)*time.Second), of, reads)
	}
	builds, err := s.Builds()
	if err != nil || len(builds) != keptBuilds {
		t.Errorf("%d builds, %v", len(builds), err)
	}
	if _, err := s.Build(old); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the old build: %v", err)
	}
	if !s.HasListing(content) || s.HasListing(gone) {
		t.Errorf("listings: %t, %t", s.HasListing(content), s.HasListing(gone))
	}
}

func TestListingsComeBack(t *testing.T) {
	s, content := open(t), "sha256:"+strings.Repeat("a", 64)
	want := Listing{
		"a b\"\n":  {Path: "a b\"\n", Type: "file", Mode: 0o4755, Owner: "1:2", Content: "ab", Rest: "\xff"},
		"dir/link": {Path: "dir/link", Type: "symlink", Content: "../a b"},
	}
	put := func(digest string) error {
		return s.PutListing(content, func(add func(File) error) (string, error) {
			for _, f := range want {
				if err := add(f); err != nil {
					return "", err
				}
			}
			return digest, nil
		})
	}
	if err := put("sha256:other"); err != nil || s.HasListing(content) {
		t.Errorf("files of another digest were kept: %v", err)
	}
	if err := put(content); err != nil || !s.HasListing(content) {
		t.Fatal(err)
	}
	got := s.Listing(content)
	if changes := got.Changes(want); got == nil || len(changes) != 0 || len(got) != len(want) {
		t.Errorf("got %+v", got)
	}
	if err := os.WriteFile(s.listingPath(content), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := s.Listing(content); got != nil {
		t.Errorf("a damaged listing is %+v", got)
	}
	for _, bad := range []string{"", "x", "sha256:../../steps"} {
		if path := s.listingPath(bad); filepath.Dir(path) != filepath.Join(s.root, listingsDir) && path != filepath.Join(s.root, listingsDir) {
			t.Errorf("the listing of %q is at %s", bad, path)
		}
	}
}

func TestLogsComeBack(t *testing.T) {
	s := open(t)
	dir := filepath.Join(s.root, "tmp", "logs")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(dir, "2"))
	if err != nil {
		t.Fatal(err)
	}
	zip := gzip.NewWriter(f)
	fmt.Fprint(zip, "printed\n")
	if err := errors.Join(zip.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	b := &Build{ID: NewBuildID(time.Now(), Subject{})}
	if err := s.PutBuild(b, dir); err != nil {
		t.Fatal(err)
	}
	log, err := s.OpenLog(b.ID, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	if text, err := io.ReadAll(log); err != nil || string(text) != "printed\n" {
		t.Errorf("got %q, %v", text, err)
	}
	if _, err := s.OpenLog(b.ID, 1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a step without a log: %v", err)
	}
}

func FuzzDecodeBuild(f *testing.F) {
	f.Add([]byte(`{"of":{"context":"/a"},"steps":[{"name":"RUN x","why":[{"kind":"files","files":[{"path":"a","what":"added"}],"changed":9}]}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := decodeBuild("id", folder.Seal(data))
		if err != nil {
			return
		}
		for _, s := range b.Steps {
			_ = Text(s.Why)
			_ = Text(Explain(s, b.Steps[0], func(string) Listing { return nil }))
		}
		_ = Matching(b.Steps[:min(len(b.Steps), 50)], b.Steps[:min(len(b.Steps), 50)])
	})
}

func FuzzParseFile(f *testing.F) {
	f.Add(`"a" "file" 644 "" "ab" ""`)
	f.Add(`"\xff" "" 777777 "1:1" "" "x"`)
	f.Fuzz(func(t *testing.T, line string) {
		got, err := parseFile(line)
		if err != nil {
			return
		}
		again, err := parseFile(strings.TrimSuffix(string(got.appendLine(nil)), "\n"))
		if err != nil || again != got {
			t.Errorf("%q is %+v, and then %+v, %v", line, got, again, err)
		}
	})
}
