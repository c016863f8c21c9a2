// Package redirect decides where a server may send an HTTP client, and what
// goes along. It does not decide what users may ask for themselves.
package redirect

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

const most = 10

// ErrTooMany is the refusal to follow a long chain of redirects.
var ErrTooMany = errors.New("the server redirects too often")

// Check is for http.Client's CheckRedirect. Credentials go along only while
// every address has the same scheme, host and port.
func Check(r *http.Request, via []*http.Request) error {
	if len(via) >= most {
		return ErrTooMany
	}
	for _, v := range via {
		if !SameOrigin(v.URL, r.URL) {
			r.Header.Del("Authorization")
			r.Header.Del("Cookie")
		}
	}
	return nil
}

// SameOrigin reports whether two addresses have the same scheme, host and port.
func SameOrigin(a, b *url.URL) bool {
	return strings.EqualFold(a.Scheme, b.Scheme) && strings.EqualFold(a.Hostname(), b.Hostname()) && port(a) == port(b)
}

func port(u *url.URL) string {
	switch p := u.Port(); {
	case p != "":
		return p
	case strings.EqualFold(u.Scheme, "http"):
		return "80"
	case strings.EqualFold(u.Scheme, "https"):
		return "443"
	}
	return ""
}

// LocalError is the refusal to go to an address that only this machine should
// see, where clouds serve credentials.
type LocalError struct{ Host, Addr string }

func (e *LocalError) Error() string {
	kind := "link-local address"
	if a, err := netip.ParseAddr(e.Addr); err == nil && slices.Contains(metadata, embedded(a)) {
		kind = "metadata address"
	}
	if e.Host == e.Addr {
		return fmt.Sprintf("the server sends us to the %s %s", kind, e.Addr)
	}
	return fmt.Sprintf("the server sends us to %s, which has the %s %s", e.Host, kind, e.Addr)
}

// HintText says what to do.
func (e *LocalError) HintText() string {
	return "no server may send sinter to link-local and metadata addresses, where clouds serve credentials: do not trust this one, or have it name another address"
}
