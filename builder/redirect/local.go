package redirect

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"syscall"
)

// Transport returns what carries requests by t, whose dialer must have Control.
// Only a request that named reports as the user's own may go to a link-local
// address. Others do not share its connections. No Referer header is sent:
// addresses may be signed.
func Transport(t *http.Transport, named func(*http.Request) bool) http.RoundTripper {
	t.OnProxyConnectResponse = proxyAnswer
	return &guard{own: t, others: t.Clone(), proxy: t.Proxy, named: named}
}

type guard struct {
	own, others *http.Transport
	proxy       func(*http.Request) (*url.URL, error)
	named       func(*http.Request) bool
}

// guarded is the key of contexts for connections that must not be link-local.
// The value is the host.
type guarded struct{}

// RoundTrip implements http.RoundTripper.
func (g *guard) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Header.Get("Referer") != "" {
		r = r.Clone(r.Context())
		r.Header.Del("Referer")
	}
	var proxy *url.URL
	if g.proxy != nil {
		var err error
		if proxy, err = g.proxy(r); err != nil {
			closeBody(r)
			return nil, err
		}
	}
	send := g.own.RoundTrip
	if !g.named(r) {
		host := r.URL.Hostname()
		if addr, err := netip.ParseAddr(host); err == nil && isLocal(addr) {
			closeBody(r)
			return nil, &LocalError{Host: host, Addr: host}
		}
		send = g.others.RoundTrip
		// A connection to a proxy is to where the user says.
		if proxy == nil {
			r = r.WithContext(context.WithValue(r.Context(), guarded{}, host))
		}
	}
	resp, err := send(r)
	if proxy == nil {
		return resp, err
	}
	return byProxy(r, proxy, resp, err)
}

func closeBody(r *http.Request) {
	if r.Body != nil {
		_ = r.Body.Close()
	}
}

// CloseIdleConnections closes the connections that are not in use.
func (g *guard) CloseIdleConnections() {
	g.own.CloseIdleConnections()
	g.others.CloseIdleConnections()
}

// Control is for net.Dialer's ControlContext. It sees what names resolve to.
func Control(ctx context.Context, _, address string, _ syscall.RawConn) error {
	host, ok := ctx.Value(guarded{}).(string)
	if !ok {
		return nil
	}
	name, _, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	addr, err := netip.ParseAddr(name)
	if err != nil {
		return err
	}
	if isLocal(addr) {
		return &LocalError{Host: host, Addr: addr.String()}
	}
	return nil
}

var (
	// metadata are the addresses at which clouds serve credentials that are not
	// link-local: those of Amazon, Google, Alibaba and Azure.
	metadata = []netip.Addr{
		netip.MustParseAddr("fd00:ec2::254"), netip.MustParseAddr("fd20:ce::254"),
		netip.MustParseAddr("100.100.100.200"), netip.MustParseAddr("168.63.129.16"),
	}
	// embedding are the networks whose addresses end in one of IPv4: NAT64 and
	// addresses compatible with IPv4.
	embedding = []netip.Prefix{netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("::/96")}
)

// isLocal reports whether an address, in whatever form, is link-local or one of
// the metadata addresses.
func isLocal(a netip.Addr) bool {
	a = embedded(a)
	return a.IsLinkLocalUnicast() || slices.Contains(metadata, a)
}

// embedded returns the IPv4 address that an IPv6 address embeds, or the address
// itself, without its zone.
func embedded(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	for _, net := range embedding {
		if net.Contains(a) {
			b := a.As16()
			a = netip.AddrFrom4([4]byte(b[12:]))
		}
	}
	return a
}

// First is the request that a chain of redirects began with.
func First(r *http.Request) *http.Request {
	for r.Response != nil && r.Response.Request != nil {
		r = r.Response.Request
	}
	return r
}
