package redirect

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// setProxies sets all variables of proxies: to an address, or nothing.
func setProxies(t *testing.T, address, no string) {
	t.Helper()
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"} {
		t.Setenv(name, address)
	}
	t.Setenv("NO_PROXY", no)
	t.Setenv("no_proxy", no)
}

// A variable that does not hold an address is not left out, but for hosts that need
// no proxy.
func TestProxy(t *testing.T) {
	for _, tt := range []struct{ variable, no, url, proxy, fault string }{
		{"", "", "https://host.example/", "", ""},
		{"http://proxy:3128", "", "https://host.example/", "http://proxy:3128", ""},
		{"proxy:3128", "", "http://host.example/", "http://proxy:3128", ""},
		{"http://proxy:3128", "example", "https://host.example/", "", ""},
		{"http://proxy:3128", "10.0.0.0/8,host.example:8443", "https://10.1.2.3/", "", ""},
		{"http://proxy:3128", "10.0.0.0/8,host.example:8443", "https://host.example:8443/", "", ""},
		{"http://proxy:3128", "10.0.0.0/8,host.example:8443", "https://host.example/", "http://proxy:3128", ""},
		{"http://user:pa#ss@proxy:3128", "", "https://host.example/", "", "HTTPS_PROXY does not hold the address of a proxy"},
		{"http://user:pa%ss@proxy:3128", "", "http://host.example/", "", "HTTP_PROXY does not hold the address of a proxy"},
		{"http://user:pa%ss@proxy:3128", "host.example", "https://host.example/", "", ""},
		{"http://user:pa%ss@proxy:3128", "", "https://127.0.0.1/", "", ""},
		{"http://user:pa%ss@proxy:3128", "", "http://localhost:80/", "", ""},
	} {
		t.Run(fmt.Sprint(tt.variable, tt.no, tt.url), func(t *testing.T) {
			setProxies(t, tt.variable, tt.no)
			got, err := Proxy(httptest.NewRequest(http.MethodGet, tt.url, nil))
			if tt.fault != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fault) || strings.Contains(err.Error(), "user") {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil || got != nil && got.String() != tt.proxy || got == nil && tt.proxy != "" {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}

// What a proxy does not do is told as the proxy's fault, also for plain HTTP.
func TestProxyRefuses(t *testing.T) {
	closed := httptest.NewServer(nil)
	closed.Close()
	for _, tt := range []struct {
		status     int
		user       string
		text, hint string
		passes     bool
	}{
		{http.StatusProxyAuthRequired, "", "wants a name and a password", "write NAME:PASSWORD@ before the host in HTTP", false},
		{http.StatusProxyAuthRequired, "me:wrong@", "does not accept the name and password", "check them in HTTP", false},
		{http.StatusForbidden, "", "does not connect to host.example:443: 403 Forbidden", "leave it out for host.example with NO_PROXY", false},
		{http.StatusBadGateway, "", "does not connect to host.example:443: 502 Bad Gateway", "NO_PROXY", true},
		{0, "", "cannot be reached: dial tcp", "check the proxy's address in HTTP", true},
	} {
		t.Run(fmt.Sprint(tt.status, tt.user), func(t *testing.T) {
			proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(tt.status) }))
			defer proxy.Close()
			address := proxy.Listener.Addr().String()
			if tt.status == 0 {
				address = closed.Listener.Addr().String()
			}
			setProxies(t, "http://"+tt.user+address, "")
			d := &net.Dialer{ControlContext: Control}
			client := &http.Client{Transport: Transport(&http.Transport{Proxy: Proxy, DialContext: d.DialContext}, func(*http.Request) bool { return false })}
			for _, scheme := range []string{"https", "http"} {
				resp, err := client.Get(scheme + "://host.example/")
				if scheme == "http" && tt.status != 0 && tt.status != http.StatusProxyAuthRequired {
					if err != nil || resp.StatusCode != tt.status {
						t.Errorf("%v, %v", resp, err)
					}
					continue // it may be the server's answer
				}
				var fault *ProxyError
				if !errors.As(err, &fault) {
					t.Fatalf("%s: got %v", scheme, err)
				}
				if !strings.Contains(err.Error(), "the proxy "+address+" "+tt.text) || !strings.Contains(fault.HintText(), tt.hint) || fault.Passes() != tt.passes || strings.Contains(err.Error(), "wrong") {
					t.Errorf("%s: got %v, hint %q, passes: %v", scheme, err, fault.HintText(), fault.Passes())
				}
			}
		})
	}
}
