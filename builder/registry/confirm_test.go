package registry

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
)

// What answers success to everything, as the login page of a network does, takes
// no image.
func TestPushToWhatTakesEverything(t *testing.T) {
	img := imageSource(t, randomImage(t, 1000, 1))
	for _, tt := range []struct {
		name, text string
		answer     func(w http.ResponseWriter, r *http.Request)
	}{
		{"200", "200 OK", func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write([]byte("<html>please log in"))
		}},
		{"201", `answered "201 Created" to the beginning of an upload`, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				w.WriteHeader(http.StatusCreated)
			}
		}},
		{"200 and where to send blobs", `answered "200 OK" to the upload of the blob`, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "/v2/a/blobs/uploads/1")
			if r.Method == http.MethodPost {
				w.WriteHeader(http.StatusAccepted)
			}
			_, _ = w.Write([]byte("<html>please log in"))
		}},
		{"200 of another digest", `answered "200 OK" to the upload of the blob`, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "/v2/a/blobs/uploads/1")
			w.Header().Set(digestHeader, digest.FromString("").String())
			if r.Method == http.MethodPost {
				w.WriteHeader(http.StatusAccepted)
			}
		}},
		{"201 of blobs, 200 of manifests", `answered "200 OK" to the upload of the manifest`, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "/v2/a/blobs/uploads/1")
			switch {
			case r.Method == http.MethodPost:
				w.WriteHeader(http.StatusAccepted)
			case r.Method == http.MethodPut && !strings.Contains(r.URL.Path, "/manifests/"):
				w.WriteHeader(http.StatusCreated)
			}
		}},
		{"201 of blobs, 204 of manifests, and 404", `answered "204 No Content" to the upload of the manifest`, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "/v2/a/blobs/uploads/1")
			switch {
			case r.Method == http.MethodPost:
				w.WriteHeader(http.StatusAccepted)
			case r.Method != http.MethodPut:
				w.WriteHeader(http.StatusNotFound)
			case strings.Contains(r.URL.Path, "/manifests/"):
				w.WriteHeader(http.StatusNoContent)
			default:
				w.WriteHeader(http.StatusCreated)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(tt.answer))
			defer s.Close()
			err := quick(Config{}).Push(t.Context(), s.Listener.Addr().String()+"/a:1", img, nil)
			wantError(t, err, tt.text, "leads to a registry")
		})
	}
}

// A registry that says little, or says it in other words, is asked again and
// believed.
func TestPushInDoubt(t *testing.T) {
	img := imageSource(t, randomImage(t, 1000, 2))
	for name, change := range map[string]func(r *http.Request, rec *httptest.ResponseRecorder){
		"200 and 204 in place of 201": func(r *http.Request, rec *httptest.ResponseRecorder) {
			if r.Method == http.MethodPut {
				rec.Code = http.StatusOK
				if strings.Contains(r.URL.Path, "/blobs/") {
					rec.Code = http.StatusNoContent
				}
			}
		},
		"204 in place of 201": func(r *http.Request, rec *httptest.ResponseRecorder) {
			if r.Method == http.MethodPut {
				rec.Code = http.StatusNoContent
			}
		},
		"another digest of the manifest": func(r *http.Request, rec *httptest.ResponseRecorder) {
			if r.Method == http.MethodPut {
				rec.Header().Set(digestHeader, digest.FromString("other").String())
			}
		},
		"no digests": func(_ *http.Request, rec *httptest.ResponseRecorder) {
			rec.Header().Del(digestHeader)
		},
	} {
		t.Run(name, func(t *testing.T) {
			reg := newTestRegistry(t)
			reg.change = change
			ref := reg.host + "/a:1"
			for range 2 {
				if err := quick(Config{}).Push(t.Context(), ref, img, nil); err != nil {
					t.Fatal(err)
				}
			}
			if n := reg.count("POST"); n != len(img.blobs)-1 {
				t.Errorf("%d uploads, want %d: what is there is not sent again", n, len(img.blobs)-1)
			}
			reg.change = nil
			checkImage(t, ref)
		})
	}
}

// A blob of another length is not the one, and a claim to have mounted a blob
// does not count.
func TestPushOfBlobThatIsNotThere(t *testing.T) {
	reg := newTestRegistry(t)
	img := imageSource(t, randomImage(t, 1000, 1))
	img.origins = []string{reg.host + "/other"}
	reg.change = func(r *http.Request, rec *httptest.ResponseRecorder) {
		switch {
		case r.Method == http.MethodHead && rec.Code == http.StatusNotFound:
			rec.Code = http.StatusOK
			rec.Header().Set("Content-Length", strconv.Itoa(3))
		case r.Method == http.MethodPost && r.URL.Query().Has("mount"):
			rec.Code = http.StatusCreated
			rec.Header().Set("Location", "/somewhere")
		}
	}
	ref := reg.host + "/a:1"
	if err := quick(Config{}).Push(t.Context(), ref, img, nil); err != nil {
		t.Fatal(err)
	}
	reg.change = nil
	checkImage(t, ref)
}

// A registry whose tags cannot be replaced refuses them also for the image that they
// stand for. That image has been pushed: by an earlier build, or by a request whose
// answer was lost.
func TestPushToFixedTag(t *testing.T) {
	for _, status := range []int{http.StatusBadRequest, http.StatusForbidden, http.StatusConflict, http.StatusPreconditionFailed} {
		for _, lost := range []bool{false, true} {
			t.Run(fmt.Sprint(status, lost), func(t *testing.T) {
				reg := newTestRegistry(t)
				var puts atomic.Int32
				reg.change = func(r *http.Request, rec *httptest.ResponseRecorder) {
					if isManifestPut(r) && puts.Add(1) == 1 && lost {
						panic(http.ErrAbortHandler)
					}
				}
				reg.intercept(func(w http.ResponseWriter, r *http.Request) bool {
					if !isManifestPut(r) || puts.Load() == 0 {
						return false
					}
					refusal(status, "TAG_INVALID")(w, r)
					return true
				})
				img := imageSource(t, randomImage(t, 100, 1))
				for range 2 {
					if err := quick(Config{}).Push(t.Context(), reg.host+"/a:1", img, nil); err != nil {
						t.Error(err)
					}
				}
				other := imageSource(t, randomImage(t, 100, 1))
				if err := quick(Config{}).Push(t.Context(), reg.host+"/a:1", other, nil); err == nil {
					t.Error("the tag was replaced")
				}
			})
		}
	}
}
