package redirect

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/sinter-build/sinter/builder/redirect/dnstest"
)

func TestSameOrigin(t *testing.T) {
	tests := []struct {
		a, b string
		same bool
	}{
		{"https://host/a", "https://HOST:443/b", true},
		{"http://host/a", "http://host:80/b", true},
		{"http://host/a", "https://host/a", false},
		{"https://host/a", "http://host/a", false},
		{"https://host/a", "http://host:443/a", false},
		{"https://host/a", "https://host:444/a", false},
		{"https://host/a", "https://sub.host/a", false},
		{"https://[::1]/a", "https://[::1]:443/b", true},
	}
	for _, tt := range tests {
		a, b := mustParse(t, tt.a), mustParse(t, tt.b)
		if SameOrigin(a, b) != tt.same || SameOrigin(b, a) != tt.same {
			t.Errorf("%s, %s: want %v", tt.a, tt.b, tt.same)
		}
	}
}

func mustParse(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestIsLocal(t *testing.T) {
	for addr, want := range map[string]bool{
		"169.254.169.254":        true,
		"169.254.0.1":            true,
		"::ffff:169.254.169.254": true,
		"::169.254.169.254":      true,
		"64:ff9b::a9fe:a9fe":     true,
		"fe80::1":                true,
		"fe80::1%eth0":           true,
		"febf::1":                true,
		"fd00:ec2::254":          true,
		"100.100.100.200":        true,
		"127.0.0.1":              false,
		"::1":                    false,
		"10.0.0.1":               false,
		"169.253.0.1":            false,
		"fec0::1":                false,
		"93.184.216.34":          false,
	} {
		if got := isLocal(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: got %v", addr, got)
		}
	}
}

// client follows redirects as our clients do: the first host is the user's own.
func client(r *net.Resolver, proxy func(*http.Request) (*url.URL, error)) *http.Client {
	d := &net.Dialer{Resolver: r, ControlContext: Control}
	t := &http.Transport{DialContext: d.DialContext, Proxy: proxy}
	return &http.Client{CheckRedirect: Check, Transport: Transport(t, func(r *http.Request) bool {
		return r.URL.Host == First(r).URL.Host
	})}
}

// TestLinkLocal: no redirect leads to a link-local address, by number or by
// name.
func TestLinkLocal(t *testing.T) {
	names := dnstest.Resolver(t, [4]byte{169, 254, 169, 254})
	for _, target := range []string{
		"http://169.254.169.254/latest/", "http://[::ffff:169.254.169.254]/", "http://[fe80::1]/", "http://[fe80::1%25lo]/",
		"http://innocent.example/", "http://innocent.example:8080/",
	} {
		s := httptest.NewServer(http.RedirectHandler(target, http.StatusFound))
		resp, err := client(names, nil).Get(s.URL)
		if err == nil {
			resp.Body.Close()
		}
		var refused *LocalError
		if !errors.As(err, &refused) || !strings.Contains(refused.Error(), mustParse(t, target).Hostname()) || refused.HintText() == "" {
			t.Errorf("%s: got %v", target, err)
		}
		s.Close()
	}
}

// TestKindOfAddress: the error names the kind of address in whatever form it is.
func TestKindOfAddress(t *testing.T) {
	ctx := context.WithValue(t.Context(), guarded{}, "host")
	for addr, kind := range map[string]string{
		"169.254.1.1":              "link-local address",
		"::ffff:169.254.1.1":       "link-local address",
		"fe80::1%lo":               "link-local address",
		"100.100.100.200":          "metadata address",
		"::ffff:100.100.100.200":   "metadata address",
		"64:ff9b::100.100.100.200": "metadata address",
		"fd00:ec2::254%lo":         "metadata address",
	} {
		err := Control(ctx, "tcp", net.JoinHostPort(addr, "80"), nil)
		if err == nil || !strings.Contains(err.Error(), "the "+kind+" ") {
			t.Errorf("%s: %v", addr, err)
		}
	}
}

// TestLinkLocalNamed: what the user asks for is not refused.
func TestLinkLocalNamed(t *testing.T) {
	if err := Control(t.Context(), "tcp4", "169.254.169.254:80", nil); err != nil {
		t.Error(err)
	}
	ctx := context.WithValue(t.Context(), guarded{}, "host")
	if err := Control(ctx, "tcp4", "169.254.169.254:80", nil); err == nil {
		t.Error("a guarded connection was not refused")
	}
	if err := Control(ctx, "tcp6", "[fe80::1%lo]:80", nil); err == nil {
		t.Error("a guarded connection was not refused")
	}
}

// TestLinkLocalProxy: a proxy is the user's own; what it is asked for is not.
func TestLinkLocalProxy(t *testing.T) {
	var asked []string
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.String())
		if r.URL.Host == "first.example" {
			http.Redirect(w, r, r.URL.Query().Get("to"), http.StatusFound)
		}
	}))
	defer proxy.Close()
	c := client(nil, http.ProxyURL(mustParse(t, proxy.URL)))
	resp, err := c.Get("http://first.example/?to=http://second.example/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if len(asked) != 2 {
		t.Errorf("the proxy was asked for %v", asked)
	}
	if resp, err := c.Get("http://first.example/?to=http://169.254.169.254/"); err == nil {
		resp.Body.Close()
		t.Errorf("the proxy was asked for %v", asked)
	}
}

// TestCredentials: they go along to the same scheme, host and port only, and no
// Referer goes anywhere.
func TestCredentials(t *testing.T) {
	var got http.Header
	end := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.Header.Clone() })
	other := httptest.NewServer(end)
	defer other.Close()
	mux := http.NewServeMux()
	first := httptest.NewServer(mux)
	defer first.Close()
	back := httptest.NewServer(http.RedirectHandler(first.URL+"/end", http.StatusFound))
	defer back.Close()
	mux.Handle("/end", end)
	mux.Handle("/same", http.RedirectHandler("/end", http.StatusFound))
	mux.Handle("/port", http.RedirectHandler(other.URL, http.StatusFound))
	mux.Handle("/back", http.RedirectHandler(back.URL, http.StatusFound))
	mux.Handle("/loop", http.RedirectHandler("/loop", http.StatusFound))
	for path, want := range map[string]string{"/same": "secret", "/port": "", "/back": ""} {
		req, err := http.NewRequest(http.MethodGet, first.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "secret")
		resp, err := client(nil, nil).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got.Get("Authorization") != want || got.Get("Referer") != "" {
			t.Errorf("%s: got %v", path, got)
		}
	}
	if _, err := client(nil, nil).Get(first.URL + "/loop"); !errors.Is(err, ErrTooMany) {
		t.Errorf("got %v", err)
	}
}
