package registry

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/opencontainers/go-digest"
)

// tokenRegistry wants a token for each repository, for which user:secret gets one.
type tokenRegistry struct {
	host      string
	anonymous bool   // everybody gets a token
	openPing  bool   // /v2/ wants none
	offers    string // the challenge; "" is Bearer
	life      int    // of a token in seconds, as the registry tells

	mu     sync.Mutex // guards what follows
	issued int
	tokens int // requests for one
	basic  int // requests with a password
}

func (s *tokenRegistry) handle(w http.ResponseWriter, r *http.Request) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	user, password, isBasic := r.BasicAuth()
	if r.URL.Path == "/token" {
		s.tokens++
		if !s.anonymous && (user != "user" || password != "secret") {
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}
		s.issued++
		_ = json.NewEncoder(w).Encode(map[string]any{"token": s.token(r.URL.Query()["scope"]), "expires_in": s.life})
		return true
	}
	if isBasic {
		s.basic++
	}
	path, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/"), "/manifests/")
	path, _, _ = strings.Cut(path, "/blobs/")
	sent := r.Header.Get("Authorization")
	valid := strings.HasPrefix(sent, "Bearer "+s.token(nil)) && (path == "" || strings.Contains(sent, "repository:"+path+":"))
	if path == "" && s.openPing || valid {
		return false
	}
	offers := `Bearer realm="http://HOST/token",service="test",scope="repository:PATH:pull"`
	if s.offers != "" {
		offers = s.offers
	}
	for line := range strings.SplitSeq(strings.NewReplacer("HOST", s.host, "PATH", path).Replace(offers), "\n") {
		w.Header().Add("WWW-Authenticate", line)
	}
	w.WriteHeader(http.StatusUnauthorized)
	return true
}

// token is the token that is valid now, for scopes.
func (s *tokenRegistry) token(scopes []string) string {
	return "t" + string(rune('a'+s.issued)) + " " + strings.Join(scopes, " ")
}

var knownUser = keychain{&authn.Basic{Username: "user", Password: "secret"}}

// The challenge that counts is the one of the request that is refused.
func TestChallenges(t *testing.T) {
	for _, tt := range []struct {
		name string
		*tokenRegistry
	}{
		{"as most", &tokenRegistry{}},
		{"/v2/ is open", &tokenRegistry{openPing: true}},
		{"Basic comes first", &tokenRegistry{offers: "Basic realm=\"x\"\nBearer realm=\"http://HOST/token\",scope=\"repository:PATH:pull\""}},
		{"both in a header", &tokenRegistry{openPing: true, offers: `Negotiate, Basic realm="a, b", bearer Realm="http://HOST/token" , scope="repository:PATH:pull"`}},
		{"no scope", &tokenRegistry{offers: `Bearer realm="http://HOST/token"`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			reg := newTestRegistry(t)
			tokens := tt.tokenRegistry
			tokens.host = reg.host
			reg.intercept(tokens.handle)
			c := quick(Config{Keychain: knownUser})
			img := imageSource(t, randomImage(t, 300, 1))
			if err := c.Push(t.Context(), reg.host+"/team/app:1", img, nil); err != nil {
				t.Fatal(err)
			}
			if _, _, err := c.Resolve(t.Context(), mustRef(t, reg.host+"/team/app:1")); err != nil {
				t.Error(err)
			}
			if tokens.basic > 0 {
				t.Error("the registry got the password where a token would have been enough")
			}
			_, _, err := quick(Config{}).Resolve(t.Context(), mustRef(t, reg.host+"/team/app:1"))
			wantError(t, err, "access denied", "sinter login")
		})
	}
}

// A registry that does not ask for credentials gets none, and is not asked whether
// it wants any.
func TestNoCredentialsUnasked(t *testing.T) {
	reg := newTestRegistry(t)
	if err := quick(Config{}).Push(t.Context(), reg.host+"/a:1", imageSource(t, randomImage(t, 100, 1)), nil); err != nil {
		t.Fatal(err)
	}
	reg.intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if h := r.Header.Get("Authorization"); h != "" {
			t.Errorf("%s %s was sent %q", r.Method, r.URL, h)
		}
		return false
	})
	c := quick(Config{Keychain: knownUser, Mirrors: map[string][]string{"docker.io": {"http://" + reg.host}}})
	if _, _, err := c.Resolve(t.Context(), mustRef(t, "docker.io/a/b:1")); err == nil {
		t.Error("found what is not there")
	}
	if n := reg.count("GET /v2/a/b/manifests/1"); n != 1 || len(reg.requests) != 1 {
		t.Errorf("the requests were %q", reg.requests)
	}
}

// A token that has run out is renewed before it is refused, as what is uploaded with
// it would have to be sent again.
func TestTokenIsRenewed(t *testing.T) {
	reg := newTestRegistry(t)
	tokens := &tokenRegistry{host: reg.host, life: 1000}
	reg.intercept(tokens.handle)
	c := quick(Config{Keychain: knownUser})
	s, err := c.open(t.Context(), sessionKey{endpoint: c.upstream(reg.host, "app")})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []int{1, 1, 2} {
		if i == 2 {
			s.auth.expires = time.Now().Add(-time.Second)
		}
		if _, err := s.head(t.Context(), mustRef(t, reg.host+"/app:1")); !errors.Is(err, ErrNotFound) {
			t.Fatal(err)
		}
		if tokens.tokens != want {
			t.Errorf("request %d: %d tokens, want %d", i, tokens.tokens, want)
		}
	}
	if n := reg.count("HEAD"); n != 4 { // the first was refused
		t.Errorf("%d requests", n)
	}
}

// Where a registry redirects to another one that wants a token, that is one for
// everybody.
func TestRedirectToAnotherRegistry(t *testing.T) {
	data, desc := randomBlob(100)
	far := newTestRegistry(t)
	tokens := &tokenRegistry{host: far.host, anonymous: true}
	far.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if user, _, ok := r.BasicAuth(); ok {
			t.Errorf("the other registry got the password of %s", user)
		}
		if !tokens.handle(w, r) {
			_, _ = w.Write(data)
		}
		return true
	})
	near := newTestRegistry(t)
	near.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/v2/" {
			return false
		}
		if r.Header.Get("Authorization") == "" {
			w.Header().Set("WWW-Authenticate", "Basic")
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}
		http.Redirect(w, r, "http://"+far.host+r.URL.Path, http.StatusTemporaryRedirect)
		return true
	})
	c := quick(Config{Keychain: knownUser})
	got, err := c.ReadBlob(t.Context(), near.host+"/a", desc)
	if err != nil || digest.FromBytes(got) != desc.Digest || tokens.tokens != 1 {
		t.Errorf("got %d bytes, %v, with %d tokens", len(got), err, tokens.tokens)
	}
}

// A server for tokens that does not know what it is asked says nothing about the
// image.
func TestTokenServerFails(t *testing.T) {
	reg := newTestRegistry(t)
	tokens := &tokenRegistry{host: reg.host, offers: `Bearer realm="http://HOST/nowhere"`}
	reg.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/nowhere" {
			w.WriteHeader(http.StatusNotFound)
			return true
		}
		return tokens.handle(w, r)
	})
	_, _, err := quick(Config{}).Resolve(t.Context(), mustRef(t, reg.host+"/a:1"))
	wantError(t, err, "its answer about logins cannot be understood: ", "leads to a registry")
}

func TestLoginIsVerified(t *testing.T) {
	reg := newTestRegistry(t)
	reg.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		// It lets everybody in, but verifies what it is told.
		if _, password, ok := r.BasicAuth(); ok && password != "secret" {
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}
		return false
	})
	if err := quick(Config{}).Check(t.Context(), reg.host, "user", "secret"); err != nil {
		t.Error(err)
	}
	wantError(t, quick(Config{}).Check(t.Context(), reg.host, "user", "wrong"), "does not accept the password of user", "")
}

func TestReadChallenges(t *testing.T) {
	p := func(kv ...string) map[string]string {
		m := map[string]string{}
		for i := 0; i < len(kv); i += 2 {
			m[kv[i]] = kv[i+1]
		}
		return m
	}
	for _, tt := range []struct {
		header string
		want   []challenge
	}{
		{``, nil},
		{`Basic`, []challenge{{"basic", p()}}},
		{`Bearer realm="https://a/t?x=1,2",service=s , scope="repository:a:pull,push"`, []challenge{{"bearer", p("realm", "https://a/t?x=1,2", "service", "s", "scope", "repository:a:pull,push")}}},
		{`Negotiate YII==, Basic realm="a \"b\""`, []challenge{{"negotiate", p("yii", "=")}, {"basic", p("realm", `a "b"`)}}},
		{`Bearer realm="open`, []challenge{{"bearer", p("realm", "open")}}},
		{`realm="x", Basic`, []challenge{{"basic", p()}}},
		{`Bearer realm = "x"`, []challenge{{"bearer", p("realm", "x")}}},
		{`"Basic"`, nil},
	} {
		if got := challenges(http.Header{"Www-Authenticate": {tt.header}}); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: got %q, want %q", tt.header, got, tt.want)
		}
	}
}

// FuzzChallenges: what is read of a header, and written again, is read alike.
func FuzzChallenges(f *testing.F) {
	for _, s := range []string{`Bearer realm="https://a/t",service=s`, `Negotiate a==, Basic realm="\"", x`, `Bearer realm="`, "\x00,=\"\\"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		got := challenges(http.Header{"Www-Authenticate": {line}})
		h := http.Header{}
		for _, c := range got {
			text := c.scheme
			for k, v := range c.parameters {
				text += " " + k + `="` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(v) + `",`
			}
			h.Add("WWW-Authenticate", text)
		}
		if again := challenges(h); !slices.EqualFunc(got, again, func(a, b challenge) bool { return reflect.DeepEqual(a, b) }) {
			t.Errorf("%q: got %q, then %q of %q", line, got, again, h)
		}
	})
}

// Tokens may come from another port of the registry's own machine, whatever address that
// has, and from no other private address.
func TestTokenServerBeside(t *testing.T) {
	tokens := &tokenRegistry{}
	beside := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { tokens.handle(w, r) }))
	defer beside.Close()
	reg := newTestRegistry(t)
	img := imageSource(t, randomImage(t, 100, 1))
	for _, realm := range []string{beside.URL, strings.Replace(beside.URL, "127.0.0.1", "localhost", 1)} {
		tokens.offers = `Bearer realm="` + realm + `/token",service="test",scope="repository:PATH:pull"`
		reg.intercept(tokens.handle)
		if err := quick(Config{Keychain: knownUser}).Push(t.Context(), reg.host+"/app:1", img, nil); err != nil {
			t.Errorf("%s: %v", realm, err)
		}
	}
	for _, tt := range []struct{ host, realm, want string }{
		{"192.168.1.10:5000", "https://192.168.1.10:5001/auth", "192.168.1.10:5001"},
		{"192.168.1.10:5000", "https://192.168.1.11/auth", "192.168.1.10:5000"},
		{"[fd00::1]:5000", "https://[fd00::1]:5001/auth", "[fd00::1]:5001"},
		{"reg.example", "https://127.0.0.1/auth", "reg.example"},
		{"127.0.0.1:5000", "https://192.168.1.10/auth", "127.0.0.1:5000"},
	} {
		r, err := registryName(tt.host, false)
		if err != nil {
			t.Fatal(err)
		}
		if got := besideRealm(r, tt.realm).RegistryStr(); got != tt.want {
			t.Errorf("%s of %s: got %s, want %s", tt.realm, tt.host, got, tt.want)
		}
	}
}
