package redirect

import (
	"errors"
	"fmt"
	"io"
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
		{"socks5://user:pass@proxy:1080", "", "https://host.example/", "socks5://user:pass@proxy:1080", ""},
		{"socks5h://proxy:1080", "", "http://host.example/", "socks5h://proxy:1080", ""},
		{"socks4://user@proxy:1080", "", "https://host.example/", "", "HTTPS_PROXY does not hold the address of a proxy"},
		{"socks4://user@proxy:1080", "host.example", "https://host.example/", "", ""},
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

// A variable in small letters counts, and is named as it was written.
func TestProxyVariable(t *testing.T) {
	setProxies(t, "", "")
	t.Setenv("https_proxy", "http://user:pa%ss@proxy:3128")
	_, err := Proxy(httptest.NewRequest(http.MethodGet, "https://host.example/", nil))
	if err == nil || !strings.Contains(err.Error(), "the variable https_proxy does not hold") {
		t.Errorf("got %v", err)
	}
}

// What a SOCKS proxy does not do is told as the proxy's fault too.
func TestSOCKSRefuses(t *testing.T) {
	for _, tt := range []struct {
		method, reply byte
		user          string
		text, hint    string
		passes        bool
	}{
		{0xff, 0, "", "wants a name and a password", "write NAME:PASSWORD@ before the host in HTTPS_PROXY", false},
		{0xff, 0, "me:wrong@", "does not accept the name and password", "check them in HTTPS_PROXY", false},
		{0, 2, "", "does not connect to host.example:443: connection not allowed by ruleset", "leave it out for host.example with NO_PROXY", false},
		{0, 5, "", "does not connect to host.example:443: connection refused", "leave it out for host.example with NO_PROXY", true},
	} {
		t.Run(fmt.Sprint(tt.method, tt.reply, tt.user), func(t *testing.T) {
			address := serveSOCKS(t, tt.method, tt.reply)
			setProxies(t, "socks5://"+tt.user+address, "")
			client := &http.Client{Transport: Transport(&http.Transport{Proxy: Proxy}, func(*http.Request) bool { return false })}
			_, err := client.Get("https://host.example/")
			var fault *ProxyError
			if !errors.As(err, &fault) {
				t.Fatalf("got %v", err)
			}
			if !strings.Contains(err.Error(), "the proxy "+address+" "+tt.text) || !strings.Contains(fault.HintText(), tt.hint) || fault.Passes() != tt.passes {
				t.Errorf("got %v, hint %q, passes: %v", err, fault.HintText(), fault.Passes())
			}
		})
	}
}

// serveSOCKS answers one client with a method of authentication, and its request with a
// reply.
func serveSOCKS(t *testing.T, method, reply byte) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		buf := make([]byte, 512)
		for _, answer := range [][]byte{{5, method}, {5, reply, 0, 1, 0, 0, 0, 0, 0, 0}} {
			if _, err := c.Read(buf); err != nil {
				return
			}
			if _, err := c.Write(answer); err != nil {
				return
			}
		}
		_, _ = io.Copy(io.Discard, c)
	}()
	return l.Addr().String()
}
