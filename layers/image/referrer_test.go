package image

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/manifest"
)

func referrer(name string) ocispec.Descriptor {
	return ocispec.Descriptor{
		MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString(name), Size: int64(len(name)),
		ArtifactType: manifest.AttestationType, Annotations: map[string]string{"same": "of all"},
	}
}

// wantReferrers checks whose digests the list of a subject has, in order.
func wantReferrers(t *testing.T, s *Images, subject digest.Digest, names ...string) {
	t.Helper()
	list, err := s.Referrers(subject)
	if err != nil {
		t.Fatal(err)
	}
	var want []ocispec.Descriptor
	for _, n := range names {
		want = append(want, referrer(n))
	}
	if !slices.EqualFunc(list, want, sameReferrer) {
		t.Errorf("got %v, want %v", list, want)
	}
}

func TestReferrers(t *testing.T) {
	root := t.TempDir()
	s := Open(root, nil)
	a, b := digest.FromString("a"), digest.FromString("b")
	wantReferrers(t, s, a)
	for _, name := range []string{"one", "two", "one"} {
		if err := s.AddReferrers(t.Context(), manifest.Referrer{Subject: a, Desc: referrer(name)}); err != nil {
			t.Fatal(err)
		}
	}
	wantReferrers(t, s, a, "one", "two")
	wantReferrers(t, s, b)
	if list, err := s.Subjects(); err != nil || !slices.Equal(list, []digest.Digest{a}) {
		t.Errorf("subjects: %v, %v", list, err)
	}
	if err := s.RemoveReferrers(t.Context(), a, referrer("one").Digest); err != nil {
		t.Fatal(err)
	}
	wantReferrers(t, s, a, "two")
	for range 2 { // the second time there is nothing to remove
		if err := s.RemoveReferrers(t.Context(), a, referrer("two").Digest); err != nil {
			t.Fatal(err)
		}
	}
	if list, err := s.Subjects(); err != nil || len(list) > 0 {
		t.Errorf("subjects: %v, %v", list, err)
	}
	if err := s.AddReferrers(t.Context(), manifest.Referrer{Subject: "sha256:../../index.json", Desc: referrer("one")}); err == nil {
		t.Error("a subject that is a path was taken")
	}
	if err := s.AddReferrers(t.Context(), manifest.Referrer{Subject: a, Desc: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: "sha256:x"}}); err == nil {
		t.Error("a referrer without a digest was taken")
	}
}

// A list that has what is added, and not what is removed, is not written.
func TestReferrersAreReplaced(t *testing.T) {
	s, subject := Open(t.TempDir(), nil), digest.FromString("subject")
	replace := func(add []string, remove ...string) {
		t.Helper()
		var own []Own
		for _, name := range add {
			own = append(own, Own{Desc: referrer(name)})
		}
		var gone []digest.Digest
		for _, name := range remove {
			gone = append(gone, referrer(name).Digest)
		}
		if err := s.ReplaceOwnReferrers(t.Context(), subject, own, gone); err != nil {
			t.Fatal(err)
		}
	}
	names := func() (list []digest.Digest) {
		t.Helper()
		found, err := s.Referrers(subject)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range found {
			if !IsOwn(d) {
				t.Errorf("%v is not ours", d)
			}
			list = append(list, d.Digest)
		}
		return list
	}
	replace([]string{"one", "two", "one", "three"}, "two", "never")
	want := []digest.Digest{referrer("one").Digest, referrer("three").Digest}
	if got := names(); !slices.Equal(got, want) {
		t.Errorf("referrers are %v, want %v", got, want)
	}
	path, err := s.referrersPath(subject)
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	replace([]string{"three", "one"}, "two")
	after, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if !os.SameFile(before, after) {
		t.Error("a list that stays as it is was written again")
	}
	if replace(nil, "one", "three"); len(names()) > 0 {
		t.Errorf("left are %v", names())
	}
}

// A list is not made longer than lists that are read.
func TestReferrersAreLimited(t *testing.T) {
	s, subject := Open(t.TempDir(), nil), digest.FromString("subject")
	var add []manifest.Referrer
	for i := range manifest.MaxReferrers {
		add = append(add, manifest.Referrer{Subject: subject, Desc: referrer(fmt.Sprint(i))})
	}
	if err := s.AddReferrers(t.Context(), add...); err != nil {
		t.Fatal(err)
	}
	if err := s.AddReferrers(t.Context(), manifest.Referrer{Subject: subject, Desc: referrer("more")}); err == nil {
		t.Error("one more was added")
	}
	if list, err := s.Referrers(subject); err != nil || len(list) != manifest.MaxReferrers {
		t.Errorf("%d referrers are left, %v", len(list), err)
	}
}

// Several processes that add to one list lose nothing.
func TestReferrersAreMerged(t *testing.T) {
	root, subject := t.TempDir(), digest.FromString("subject")
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			if err := Open(root, nil).AddReferrers(t.Context(), manifest.Referrer{Subject: subject, Desc: referrer(fmt.Sprint(i))}); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if list, err := Open(root, nil).Referrers(subject); err != nil || len(list) != 8 {
		t.Errorf("%d referrers are left, %v", len(list), err)
	}
}

// A list that is damaged is an error for those who read it, and begins anew for those who
// add to it.
func TestDamagedReferrers(t *testing.T) {
	subject := digest.FromString("subject")
	for _, data := range []string{
		"", "{", "[]", `{"manifests":[{"digest":"sha256:.."}]}`, `{"manifests":[],"layers":[{"digest":"` + subject.String() + `"}]}`,
		`{"manifests":[{"mediaType":"text/html","digest":"` + subject.String() + `"}]}`,
		strings.Repeat(" ", manifest.MaxBytes+1),
	} {
		var warned []string
		s := Open(t.TempDir(), nil)
		s.Warn = func(text string) { warned = append(warned, text) }
		path, err := s.referrersPath(subject)
		if err := errors.Join(err, os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(data), 0o644)); err != nil {
			t.Fatal(err)
		}
		if list, err := s.Referrers(subject); !errors.Is(err, ErrDamaged) {
			t.Errorf("%.50q: got %v, %v", data, list, err)
		}
		if err := s.AddReferrers(t.Context(), manifest.Referrer{Subject: subject, Desc: referrer("one")}); err != nil || len(warned) != 1 {
			t.Errorf("%.50q: %v, warnings %q", data, err, warned)
		}
		wantReferrers(t, s, subject, "one")
	}
}

// FuzzReferrers: a list that can be read has valid digests and sizes, and is the same
// when it is written and read again.
func FuzzReferrers(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"manifests":[{"mediaType":"` + ocispec.MediaTypeImageManifest + `","digest":"` + digest.FromString("x").String() + `","size":3}]}`))
	f.Add([]byte(`{"manifests":[{"digest":"sha256:..","size":-1}]}`))
	f.Add([]byte(`null`))
	s, subject := Open(f.TempDir(), nil), digest.FromString("subject")
	path, err := s.referrersPath(subject)
	if err := errors.Join(err, s.makeFolders()); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := decodeReferrers(data)
		if err != nil {
			return
		}
		for _, d := range list {
			if d.Digest.Validate() != nil || d.Size < 0 || d.Size > manifest.MaxBytes {
				t.Errorf("got %v", d)
			}
		}
		if err := s.writeReferrers(path, list); err != nil {
			t.Fatal(err)
		}
		if again, err := s.Referrers(subject); err != nil || !slices.EqualFunc(again, list, sameReferrer) {
			t.Errorf("got %v, %v, not %v", again, err, list)
		}
	})
}

// Only this store says what was made here, and it does not forget that when a pull brings
// the same manifest back.
func TestOwnReferrers(t *testing.T) {
	s := Open(t.TempDir(), nil)
	subject := digest.FromString("subject")
	claims, made := referrer("claims"), referrer("made")
	claims.Annotations = map[string]string{ownKey: "true"}
	for _, err := range []error{
		s.AddReferrers(t.Context(), manifest.Referrer{Subject: subject, Desc: claims}),
		s.ReplaceOwnReferrers(t.Context(), subject, []Own{{Desc: made, Asked: true}}, nil),
		s.AddReferrers(t.Context(), manifest.Referrer{Subject: subject, Desc: made}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	list, err := s.Referrers(subject)
	if err != nil || len(list) != 2 || IsOwn(list[0]) || !IsOwn(list[1]) || !IsAsked(list[1]) {
		t.Errorf("referrers are %+v, %v; want the second one alone to be ours", list, err)
	}
	if notes := WithoutOwn(list[1].Annotations); notes[ownKey] != "" || list[1].Annotations[ownKey] == "" {
		t.Errorf("for others its annotations are %v", notes)
	}
}
