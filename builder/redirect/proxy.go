package redirect

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/net/http/httpproxy"
)

// Proxy is for http.Transport. It is http.ProxyFromEnvironment, but fails when a
// variable does not hold the address of a proxy, where that goes without one.
func Proxy(r *http.Request) (*url.URL, error) {
	c := httpproxy.FromEnvironment()
	name := proxyVariable(r.URL)
	if isProxy(map[string]string{"HTTP_PROXY": c.HTTPProxy, "HTTPS_PROXY": c.HTTPSProxy}[name]) {
		return c.ProxyFunc()(r.URL)
	}
	c.HTTPProxy, c.HTTPSProxy = "proxy.invalid", "proxy.invalid"
	if needed, err := c.ProxyFunc()(r.URL); needed == nil || err != nil {
		return nil, err
	}
	return nil, &ProxyError{
		text: fmt.Sprintf("the variable %s does not hold the address of a proxy", name),
		hint: "write http://HOST:PORT, with NAME:PASSWORD@ before HOST if the proxy wants that; write # as %23 there, / as %2F, @ as %40 and % as %25",
	}
}

// isProxy reports whether a variable holds the address of a proxy, or nothing.
func isProxy(value string) bool {
	if value != "" && !strings.Contains(value, "://") {
		value = "http://" + value
	}
	u, err := url.Parse(value)
	return err == nil && (value == "" || u.Host != "")
}

// proxyVariable is the variable that names the proxy for an address.
func proxyVariable(u *url.URL) string { return strings.ToUpper(u.Scheme) + "_PROXY" }

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
	return refusedByProxy(proxy, "HTTPS_PROXY", connect.Host, resp)
}

func refusedByProxy(proxy *url.URL, variable, host string, resp *http.Response) *ProxyError {
	e := &ProxyError{
		code: resp.StatusCode,
		text: fmt.Sprintf("the proxy %s does not connect to %s: %s", proxy.Host, host, resp.Status),
		hint: fmt.Sprintf("ask who runs the proxy, or leave it out for %s with NO_PROXY", hostOf(host)),
	}
	switch {
	case resp.StatusCode == http.StatusProxyAuthRequired && proxy.User == nil:
		e.text = fmt.Sprintf("the proxy %s wants a name and a password", proxy.Host)
		e.hint = fmt.Sprintf("write NAME:PASSWORD@ before the host in %s", variable)
	case resp.StatusCode == http.StatusProxyAuthRequired:
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
		return nil, refusedByProxy(proxy, proxyVariable(r.URL), r.URL.Host, resp)
	case errors.As(err, &op) && op.Op == "proxyconnect":
		return nil, &ProxyError{
			text: fmt.Sprintf("the proxy %s cannot be reached: %v", proxy.Host, op.Err), err: err,
			hint: fmt.Sprintf("check the proxy's address in %s; hosts that need no proxy belong into NO_PROXY", proxyVariable(r.URL)),
		}
	}
	return resp, err
}
