package registry

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/manifest"
	"github.com/sinter-build/sinter/builder/transfer"
)

// referrerSource is a manifest with one blob that says what, about subject. Its config has
// its type too, which go-containerregistry's registry lists in place of artifactType.
func referrerSource(t *testing.T, subject ocispec.Descriptor, artifactType, what string) *source {
	t.Helper()
	s := &source{blobs: map[digest.Digest][]byte{}}
	put := func(mediaType string, data []byte, err error) ocispec.Descriptor {
		s.put(t, data, err)
		return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	}
	empty := put(artifactType, []byte("{}"), nil)
	layer := put("text/plain", []byte(what), nil)
	data, err := json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: artifactType,
		Config: empty, Layers: []ocispec.Descriptor{layer}, Subject: &subject, Annotations: map[string]string{"what": what},
	})
	s.root = put(ocispec.MediaTypeImageManifest, data, err)
	return s
}

// listing is a registry with the API for referrers, which says so in its answers.
func listing(t *testing.T) *testRegistry {
	t.Helper()
	reg := newTestRegistry(t, ggcr.WithReferrersSupport(true))
	reg.change = func(r *http.Request, rec *httptest.ResponseRecorder) {
		if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/sha256:") {
			rec.Header().Set(subjectHeader, "noted")
		}
	}
	return reg
}

// whats are the annotations of referrers, in alphabetical order.
func whats(list []ocispec.Descriptor) string {
	var names []string
	for _, d := range list {
		names = append(names, d.Annotations["what"])
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

func testPushReferrers(t *testing.T, c *Client, repository string) {
	t.Helper()
	img := imageSource(t, randomImage(t, 100, 1))
	if err := c.Push(t.Context(), repository+":1", img, nil); err != nil {
		t.Fatal(err)
	}
	ref := mustRef(t, repository)
	want := func(artifactType, names string) {
		t.Helper()
		list, err := c.Referrers(t.Context(), ref, img.root.Digest, artifactType)
		if err != nil || whats(list) != names {
			t.Errorf("%q: got %q, %v; want %q", artifactType, whats(list), err, names)
		}
	}
	want("", "")
	for _, r := range [][2]string{{"application/x-sbom", "one"}, {"application/x-sbom", "two"}, {"application/x-sig", "three"}, {"application/x-sbom", "one"}} {
		if err := c.PushReferrer(t.Context(), repository, referrerSource(t, img.root, r[0], r[1]), nil); err != nil {
			t.Fatal(err)
		}
	}
	want("", "one three two")
	want("application/x-sbom", "one two")
	want("application/x-none", "")
	list, err := c.Referrers(t.Context(), ref, img.root.Digest, "application/x-sig")
	if err != nil || len(list) != 1 {
		t.Fatalf("got %v, %v", list, err)
	}
	one := ref
	one.Tag, one.Digest = "", list[0].Digest
	desc, data, err := c.Resolve(t.Context(), one)
	if err != nil {
		t.Fatal(err)
	}
	if d, err := manifest.Parse(desc, data); err != nil || d.Subject == nil || d.Subject.Digest != img.root.Digest {
		t.Errorf("got %+v, %v", d, err)
	}
	if err := c.PushReferrer(t.Context(), repository, img, nil); err == nil || !strings.Contains(err.Error(), "no subject") {
		t.Errorf("an image without a subject: %v", err)
	}
	var group sync.WaitGroup
	for i := range 6 {
		group.Go(func() {
			if err := c.PushReferrer(t.Context(), repository, referrerSource(t, img.root, "application/x-many", fmt.Sprint(i)), nil); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	want("application/x-many", "0 1 2 3 4 5")
	want("application/x-sbom", "one two")
}

// With the API no tag is made.
func TestReferrersAPI(t *testing.T) {
	reg := listing(t)
	testPushReferrers(t, quick(Config{}), reg.host+"/team/app")
	if n := reg.count("PUT /v2/team/app/manifests/sha256-"); n > 0 {
		t.Errorf("the fallback tag was written %d times", n)
	}
}

// With the API no tag is made either when the registry does not say that it has noted the
// subject; only what the API does not list goes there.
func TestReferrersAPIWithoutHeader(t *testing.T) {
	reg := newTestRegistry(t, ggcr.WithReferrersSupport(true))
	c := quick(Config{})
	testPushReferrers(t, c, reg.host+"/team/app")
	if n := reg.count("PUT /v2/team/app/manifests/sha256-"); n > 0 {
		t.Errorf("the fallback tag was written %d times", n)
	}
	img := imageSource(t, randomImage(t, 100, 1))
	for _, answer := range []struct {
		status int
		text   string
	}{
		{http.StatusOK, `{"manifests":[{"mediaType":"` + ocispec.MediaTypeImageManifest + `","digest":"` + digest.FromString("x").String() + `"}]}`},
		{http.StatusOK, `<html>`},
		{http.StatusForbidden, ""},
		{http.StatusNotFound, ""},
	} {
		answerWith(reg, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(answer.status)
			fmt.Fprint(w, answer.text)
		})
		if err := c.PushReferrer(t.Context(), reg.host+"/team/app", referrerSource(t, img.root, "application/x", fmt.Sprint(answer)), nil); err != nil {
			t.Errorf("%v: %v", answer, err)
		}
		if n := reg.count("PUT /v2/team/app/manifests/" + manifest.FallbackTag(img.root.Digest)); n != 1 {
			t.Errorf("%v: the fallback tag was written %d times", answer, n)
		}
	}
}

// Each subject has a list of its own, also where the lists of others cannot be had.
func TestReferrersOfMany(t *testing.T) {
	reg := newTestRegistry(t)
	c, ref := quick(Config{}), mustRef(t, reg.host+"/team/app")
	var subjects []Ref
	for i := range 2 * parallelQuestions {
		d := digest.FromString(fmt.Sprint(i))
		subjects = append(subjects, Ref{Host: ref.Host, Path: ref.Path, Digest: d})
		if i%2 == 0 {
			continue
		}
		r := referrerSource(t, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: d, Size: 1}, "application/x", fmt.Sprint(i))
		if err := c.PushReferrer(t.Context(), ref.Repository(), r, nil); err != nil {
			t.Fatal(err)
		}
	}
	check := func(lists [][]ocispec.Descriptor, lost int) {
		t.Helper()
		if len(lists) != len(subjects) {
			t.Fatalf("%d lists", len(lists))
		}
		for i, list := range lists {
			want := ""
			if i%2 != 0 && i != lost {
				want = fmt.Sprint(i)
			}
			if whats(list) != want {
				t.Errorf("%d: got %q, want %q", i, whats(list), want)
			}
		}
	}
	lists, err := c.ReferrersOf(t.Context(), subjects)
	if err != nil {
		t.Error(err)
	}
	check(lists, -1)
	lost := subjects[3].Digest.String()
	reg.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, lost) {
			w.WriteHeader(http.StatusForbidden)
			return true
		}
		return false
	})
	lists, err = c.ReferrersOf(t.Context(), subjects)
	if err == nil || !strings.Contains(err.Error(), lost) {
		t.Errorf("got %v", err)
	}
	check(lists, 3)
	stopped := errors.New("stopped")
	ctx, stop := context.WithCancelCause(t.Context())
	reg.intercept(func(http.ResponseWriter, *http.Request) bool {
		stop(stopped)
		return false
	})
	if lists, err := c.ReferrersOf(ctx, subjects); !errors.Is(err, stopped) || lists != nil {
		t.Errorf("got %v, %v", lists, err)
	}
}

// An error ends the pushing of a list, unless it is forgiven.
func TestPushReferrers(t *testing.T) {
	reg := newTestRegistry(t)
	c, repository := quick(Config{}), reg.host+"/team/app"
	img := imageSource(t, randomImage(t, 100, 1))
	one, three := referrerSource(t, img.root, "application/x", "one"), referrerSource(t, img.root, "application/x", "three")
	list := []*source{one, img, three}
	pushed, err := PushReferrers(t.Context(), c, repository, list, nil, nil)
	if !slices.Equal(pushed, list[:1]) || err == nil || !strings.Contains(err.Error(), "no subject") {
		t.Errorf("pushed %d, %v", len(pushed), err)
	}
	forgive := func(of *source, _ error) bool { return of == img }
	if pushed, err := PushReferrers(t.Context(), c, repository, list, nil, forgive); !slices.Equal(pushed, []*source{one, three}) || err != nil {
		t.Errorf("pushed %d, %v", len(pushed), err)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	all := func(*source, error) bool { return true }
	if pushed, err := PushReferrers(ctx, c, repository, list, nil, all); len(pushed) > 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("pushed %d, %v", len(pushed), err)
	}
}

// Without the API the fallback tag has them, each once.
func TestReferrersFallback(t *testing.T) {
	reg := newTestRegistry(t)
	testPushReferrers(t, quick(Config{}), reg.host+"/team/app")
	if n := reg.count("PUT /v2/team/app/manifests/sha256-"); n != 9 {
		t.Errorf("the fallback tag was written %d times for 9 referrers", n)
	}
}

// A mirror that has none does not hide those of the registry; one that has some is
// believed.
func TestReferrersOfMirrors(t *testing.T) {
	reg, mirror := newTestRegistry(t), newTestRegistry(t)
	img := imageSource(t, randomImage(t, 100, 1))
	c := quick(Config{Mirrors: map[string][]string{reg.host: {"http://" + mirror.host}}})
	ref := mustRef(t, reg.host+"/team/app")
	if err := c.PushReferrer(t.Context(), ref.Repository(), referrerSource(t, img.root, "application/x", "registry"), nil); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"registry", "mirror"} {
		list, err := c.Referrers(t.Context(), ref, img.root.Digest, "")
		if err != nil || whats(list) != want {
			t.Errorf("got %q, %v; want %q", whats(list), err, want)
		}
		if err := c.PushReferrer(t.Context(), mirror.host+"/team/app", referrerSource(t, img.root, "application/x", "mirror"), nil); err != nil {
			t.Fatal(err)
		}
	}
	if mirror.count("GET /v2/team/app/") == 0 {
		t.Error("the mirror was not asked")
	}
}

func TestDebianRegistryReferrers(t *testing.T) {
	reg := startDebianRegistry(t)
	c := quick(Config{CAFiles: []string{reg.ca}, Keychain: keychain{&authn.Basic{Username: "user", Password: "secret"}}})
	testPushReferrers(t, c, reg.host+"/team/app")
}

// What the index of the fallback tag says stays, also what we do not know, and so does
// what another client adds between our reading and writing.
func TestFallbackKeepsWhatWasThere(t *testing.T) {
	reg := newTestRegistry(t)
	c := quick(Config{})
	repository := reg.host + "/team/app"
	img := imageSource(t, randomImage(t, 100, 1))
	tag := manifest.FallbackTag(img.root.Digest)
	old := fmt.Sprintf(`{"schemaVersion":2,"x-other":{"a":1},"mediaType":%q,"manifests":[{"mediaType":%q,"digest":%q,"size":2,"x-entry":true}]}`,
		ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageManifest, digest.FromString("{}"))
	putRaw(t, reg, "/v2/team/app/manifests/"+digest.FromString("{}").String(), ocispec.MediaTypeImageManifest, "{}")
	putRaw(t, reg, "/v2/team/app/manifests/"+tag, ocispec.MediaTypeImageIndex, old)
	overwritten := 0
	reg.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, tag) && overwritten < 2 {
			// Another client writes last: what it had read lacks ours.
			overwritten++
			w.Header().Set(digestHeader, r.Header.Get("x"))
			w.WriteHeader(http.StatusCreated)
			return true
		}
		return false
	})
	if err := c.PushReferrer(t.Context(), repository, referrerSource(t, img.root, "application/x", "ours"), nil); err != nil {
		t.Fatal(err)
	}
	_, data, err := c.Resolve(t.Context(), Ref{Host: reg.host, Path: "team/app", Tag: tag})
	if err != nil || overwritten != 2 {
		t.Fatalf("%v after %d lost writes", err, overwritten)
	}
	for _, part := range []string{`"x-other":{"a":1}`, `"x-entry":true`, `"what":"ours"`} {
		if strings.Count(string(data), part) != 1 {
			t.Errorf("%s is not once in %s", part, data)
		}
	}
	// A registry on which others always win is an error in the end.
	reg.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, tag) {
			w.WriteHeader(http.StatusCreated)
			return true
		}
		return false
	})
	err = c.PushReferrer(t.Context(), repository, referrerSource(t, img.root, "application/x", "more"), nil)
	wantError(t, err, "other clients change", "push again")
	// A tag that is something else is not replaced.
	reg.intercept(nil)
	putRaw(t, reg, "/v2/team/app/manifests/"+tag, ocispec.MediaTypeImageManifest, "{}")
	err = c.PushReferrer(t.Context(), repository, referrerSource(t, img.root, "application/x", "more"), nil)
	if err == nil || !strings.Contains(err.Error(), "should be a list of referrers") {
		t.Errorf("got %v", err)
	}
	// A tag that may not be written is an error, although the manifest itself is there.
	reg.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, tag) {
			http.Error(w, `{"errors":[{"code":"DENIED"}]}`, http.StatusForbidden)
			return true
		}
		return false
	})
	putRaw(t, reg, "/v2/team/app/manifests/other", ocispec.MediaTypeImageManifest, "{}")
	other := referrerSource(t, ocispec.Descriptor{MediaType: img.root.MediaType, Digest: digest.FromString("other"), Size: 5}, "application/x", "more")
	tag = manifest.FallbackTag(digest.FromString("other"))
	if err := c.PushReferrer(t.Context(), repository, other, nil); err == nil || !strings.Contains(err.Error(), tag) {
		t.Errorf("got %v", err)
	}
}

func putRaw(t *testing.T, reg *testRegistry, path, mediaType, data string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodPut, "http://"+reg.host+path, strings.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", mediaType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		t.Fatalf("PUT %s: %s", path, resp.Status)
	}
}

// answerWith makes a registry answer what it is asked about referrers with this.
func answerWith(reg *testRegistry, answer func(w http.ResponseWriter, r *http.Request)) {
	reg.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/referrers/") {
			return false
		}
		w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
		answer(w, r)
		return true
	})
}

// A list comes in pages, which may not lead elsewhere or on without an end.
func TestReferrersPages(t *testing.T) {
	reg := newTestRegistry(t)
	c, ref, subject := quick(Config{}), mustRef(t, reg.host+"/team/app"), digest.FromString("subject")
	page := func(name string) string {
		return fmt.Sprintf(`{"manifests":[{"mediaType":%q,"digest":%q,"annotations":{"what":%q}}]}`, ocispec.MediaTypeImageManifest, digest.FromString(name), name)
	}
	answerWith(reg, func(w http.ResponseWriter, r *http.Request) {
		switch n := r.URL.Query().Get("n"); n {
		case "":
			w.Header().Add("Link", `</v2/elsewhere>; rel="prev"`)
			w.Header().Add("Link", `<?n=2>; rel="next"`)
			fmt.Fprint(w, page("one"))
		case "2":
			w.Header().Set("Link", `</v2/team/app/referrers/`+subject.String()+`?n=3>; rel=next`)
			fmt.Fprint(w, page("two"))
		default:
			fmt.Fprint(w, page("two"))
		}
	})
	if list, err := c.Referrers(t.Context(), ref, subject, ""); err != nil || whats(list) != "one two" {
		t.Errorf("got %q, %v", whats(list), err)
	}
	answerWith(reg, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", `<?n=1>; rel="next"`)
		fmt.Fprint(w, `{}`)
	})
	if _, err := c.Referrers(t.Context(), ref, subject, ""); err == nil || !strings.Contains(err.Error(), "pages") {
		t.Errorf("pages without an end: %v", err)
	}
	answerWith(reg, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", `<http://elsewhere.invalid/>; rel="next"`)
		fmt.Fprint(w, `{}`)
	})
	if _, err := c.Referrers(t.Context(), ref, subject, ""); err == nil || !strings.Contains(err.Error(), "another server") {
		t.Errorf("a page elsewhere: %v", err)
	}
}

// Servers that do not know the API answer in many ways; what is wrong with a list is an
// error, and what is wrong with an entry leaves that out.
func TestReferrersAnswers(t *testing.T) {
	reg := newTestRegistry(t)
	c, ref := quick(Config{}), mustRef(t, reg.host+"/team/app")
	img := imageSource(t, randomImage(t, 100, 1))
	if err := c.PushReferrer(t.Context(), ref.Repository(), referrerSource(t, img.root, "application/x", "fallback"), nil); err != nil {
		t.Fatal(err)
	}
	entry := `{"mediaType":"` + ocispec.MediaTypeImageManifest + `","digest":"` + digest.FromString("x").String() + `","annotations":{"what":"api"}%s}`
	for _, x := range []struct {
		status       int
		kind, answer string
		want, wrong  string
	}{
		{404, "", "404 page not found", "fallback", ""},
		{405, "", "", "fallback", ""},
		{406, "", "", "fallback", ""},
		{501, "", "", "fallback", ""},
		{400, "", `{"errors":[{"code":"UNSUPPORTED"}]}`, "fallback", ""},
		{200, "text/html", "<html>", "fallback", ""},
		{200, "", `{"manifests":[` + fmt.Sprintf(entry, "") + `]}`, "api", ""},
		{200, "", `{"manifests":[` + fmt.Sprintf(entry, "") + `,` + fmt.Sprintf(entry, "") + `]}`, "api", ""},
		{200, "", `{"manifests":[` + fmt.Sprintf(entry, `,"size":999999999999`) + `]}`, "", ""},
		{200, "", strings.ReplaceAll(`{"manifests":[`+fmt.Sprintf(entry, "")+`]}`, ocispec.MediaTypeImageManifest, "text/html"), "", ""},
		{200, "", `{"manifests":[` + fmt.Sprintf(entry, `,"size":-1`) + `]}`, "", "negative size"},
		{200, "", `{"manifests":[{"digest":"sha256:.."}]}`, "", "checksum"},
		{200, "", `<html>`, "", "invalid character"},
		{200, "", strings.Repeat(" ", manifest.MaxBytes+1), "", "bytes"},
		{401, "", "", "", "access denied"},
	} {
		answerWith(reg, func(w http.ResponseWriter, _ *http.Request) {
			if x.kind != "" {
				w.Header().Set("Content-Type", x.kind)
			}
			w.WriteHeader(x.status)
			fmt.Fprint(w, x.answer)
		})
		list, err := c.Referrers(t.Context(), ref, img.root.Digest, "")
		if whats(list) != x.want || (err == nil) != (x.wrong == "") || err != nil && !strings.Contains(err.Error(), x.wrong) {
			t.Errorf("%d %.60q: got %q, %v; want %q, %q", x.status, x.answer, whats(list), err, x.want, x.wrong)
		}
	}
	if _, err := c.Referrers(t.Context(), ref, "sha256:..", ""); !errors.Is(err, digest.ErrDigestInvalidLength) {
		t.Errorf("got %v", err)
	}
}

// FuzzReferrers: whatever a registry answers when it is asked for referrers, pages and
// the fallback tag: an error, or a list that keeps the limits. What is added to a list
// takes nothing from it.
func FuzzReferrers(f *testing.F) {
	header := "HTTP/1.1 200 OK\r\nContent-Type: " + ocispec.MediaTypeImageIndex + "\r\n"
	entry := `{"manifests":[{"mediaType":"` + ocispec.MediaTypeImageManifest + `","digest":"` + digest.FromString("x").String() + `","size":3}]}`
	f.Add([]byte(header+"\r\n"+entry), []byte("x"))
	f.Add([]byte(header+"Link: <?n=1>; rel=\"next\"\r\n\r\n"+entry), []byte("x"))
	f.Add([]byte("HTTP/1.1 404 No\r\n\r\n404 page not found"), []byte(header+"\r\n"+entry))
	f.Fuzz(func(t *testing.T, answer, tag []byte) {
		c := New(Config{Keychain: authn.NewMultiKeychain()})
		c.retry = retryPolicy{attempts: 1, Backoff: transfer.Backoff{First: time.Microsecond, Wait: transfer.Wait}, stall: time.Second}
		e := c.upstream("registry.invalid", "a/b")
		c.transports[transportKey{host: e.host, schemes: e.schemes}] = roundTrip(func(r *http.Request) (*http.Response, error) {
			data := tag
			if strings.Contains(r.URL.Path, "/referrers/") {
				data = answer
			}
			return http.ReadResponse(bufio.NewReader(bytes.NewReader(data)), r)
		})
		list, err := c.Referrers(t.Context(), Ref{Host: "registry.invalid", Path: "a/b"}, digest.FromString("subject"), "")
		seen := map[digest.Digest]bool{}
		for _, d := range list {
			if manifest.CheckSmall(d) != nil || !manifest.IsManifest(d.MediaType) || seen[d.Digest] {
				t.Errorf("listed %v", d)
			}
			seen[d.Digest] = true
		}
		if err != nil && len(list) > 0 || len(list) > manifest.MaxEntries {
			t.Errorf("%d referrers, %v", len(list), err)
		}
		old, err := parseReferrers(answer)
		if err != nil {
			return
		}
		add := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("new"), Size: 1}
		merged, err := addToIndex(old, add)
		if err == nil && (len(merged.Manifests) != len(old.Manifests)+1 || !reflect.DeepEqual(merged.Manifests[:len(old.Manifests)], old.Manifests)) {
			t.Errorf("%v became %v", old.Manifests, merged.Manifests)
		}
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
