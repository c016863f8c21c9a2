package redirect

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"

	"golang.org/x/net/http/httpproxy"
)

// Proxy is for http.Transport. It is http.ProxyFromEnvironment, but fails when a
// variable does not hold the address of a proxy, where that goes without one.
func Proxy(r *http.Request) (*url.URL, error) {
	c := httpproxy.FromEnvironment()
	if isProxy(map[string]string{"http": c.HTTPProxy, "https": c.HTTPSProxy}[r.URL.Scheme]) {
		return c.ProxyFunc()(r.URL)
	}
	c.HTTPProxy, c.HTTPSProxy = "proxy.invalid", "proxy.invalid"
	if needed, err := c.ProxyFunc()(r.URL); needed == nil || err != nil {
		return nil, err
	}
	return nil, &ProxyError{
		text: fmt.Sprintf("the variable %s does not hold the address of a proxy", proxyVariable(r.URL)),
		hint: "write http://HOST:PORT, https://HOST:PORT or socks5://HOST:PORT, with NAME:PASSWORD@ before HOST if the proxy wants that; write # as %23 there, / as %2F, @ as %40 and % as %25",
	}
}

// isProxy reports whether a variable holds the address of a proxy, or nothing.
func isProxy(value string) bool {
	if value != "" && !strings.Contains(value, "://") {
		value = "http://" + value
	}
	u, err := url.Parse(value)
	if err != nil {
		return false
	}
	// http.Transport would speak HTTP with an older SOCKS proxy, and get no answer.
	isOld := strings.HasPrefix(u.Scheme, "socks") && u.Scheme != "socks5" && u.Scheme != "socks5h"
	return value == "" || u.Host != "" && !isOld
}

// proxyVariable is the variable that names the proxy for an address: in capitals, or as
// curl has it.
func proxyVariable(u *url.URL) string {
	name := u.Scheme + "_proxy"
	if os.Getenv(strings.ToUpper(name)) == "" && os.Getenv(name) != "" {
		return name
	}
	return strings.ToUpper(name)
}

// ProxyError is the failure to reach a server by way of a proxy, which is not the
// server's.
type ProxyError struct {
	text, hint string
	// code is the proxy's answer, 0 if it did not answer.
	code int
	err  error
}

func (e *ProxyError) Error() string { return e.text }

// Unwrap returns the cause, if there is another one.
func (e *ProxyError) Unwrap() error { return e.err }

// HintText says what to do.
func (e *ProxyError) HintText() string { return e.hint }

// Passes reports whether the same request may succeed later.
func (e *ProxyError) Passes() bool {
	return e.err != nil || e.code >= 500 || e.code == http.StatusRequestTimeout || e.code == http.StatusTooManyRequests
}

// proxyAnswer is for http.Transport's OnProxyConnectResponse.
func proxyAnswer(_ context.Context, proxy *url.URL, connect *http.Request, resp *http.Response) error {
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	return refusedByProxy(proxy, proxyVariable(&url.URL{Scheme: "https"}), connect.Host, resp.StatusCode, resp.Status)
}

func refusedByProxy(proxy *url.URL, variable, host string, code int, status string) *ProxyError {
	e := &ProxyError{
		code: code,
		text: fmt.Sprintf("the proxy %s does not connect to %s: %s", proxy.Host, host, status),
		hint: fmt.Sprintf("ask who runs the proxy, or leave it out for %s with NO_PROXY", hostOf(host)),
	}
	switch {
	case code == http.StatusProxyAuthRequired && proxy.User == nil:
		e.text = fmt.Sprintf("the proxy %s wants a name and a password", proxy.Host)
		e.hint = fmt.Sprintf("write NAME:PASSWORD@ before the host in %s", variable)
	case code == http.StatusProxyAuthRequired:
		e.text = fmt.Sprintf("the proxy %s does not accept the name and password", proxy.Host)
		e.hint = "check them in " + variable
	}
	return e
}

func hostOf(address string) string {
	if host, _, err := net.SplitHostPort(address); err == nil {
		return host
	}
	return address
}

// byProxy returns what a proxy made of a request, as a ProxyError if it is at fault.
func byProxy(r *http.Request, proxy *url.URL, resp *http.Response, err error) (*http.Response, error) {
	var op *net.OpError
	switch {
	case err == nil && resp.StatusCode == http.StatusProxyAuthRequired:
		_ = resp.Body.Close()
		return nil, refusedByProxy(proxy, proxyVariable(r.URL), r.URL.Host, resp.StatusCode, resp.Status)
	case errors.As(err, &op) && op.Op == "proxyconnect":
		return nil, &ProxyError{
			text: fmt.Sprintf("the proxy %s cannot be reached: %v", proxy.Host, op.Err), err: err,
			hint: fmt.Sprintf("check the proxy's address in %s; hosts that need no proxy belong in NO_PROXY", proxyVariable(r.URL)),
		}
	case errors.As(err, &op) && strings.HasPrefix(op.Op, "socks "):
		return nil, refusedBySOCKS(proxy, proxyVariable(r.URL), op)
	}
	return resp, err
}

// refusedBySOCKS is what a SOCKS proxy made of a request. The errors of http.Transport
// about it have no types.
func refusedBySOCKS(proxy *url.URL, variable string, op *net.OpError) *ProxyError {
	text := strings.TrimPrefix(op.Err.Error(), "unknown error ")
	code := 0
	switch {
	case strings.Contains(text, "authentication"), strings.Contains(text, "username/password"):
		code = http.StatusProxyAuthRequired
	case strings.Contains(text, "not allowed"):
		code = http.StatusForbidden
	}
	e := refusedByProxy(proxy, variable, op.Addr.String(), code, text)
	if code == 0 {
		e.err = op
	}
	return e
}
