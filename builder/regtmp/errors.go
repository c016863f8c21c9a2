package registry

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// Error is a registry's refusal, or a failure to reach it, with the way out.
type Error struct {
	text, hint string
	err        error
}

func (e *Error) Error() string { return e.text }

// Unwrap returns what the protocol said.
func (e *Error) Unwrap() error { return e.err }

// HintText is the way out.
func (e *Error) HintText() string { return e.hint }

// IsNotFound reports whether a registry said that there is no such thing.
func IsNotFound(err error) bool {
	var t *transport.Error
	return errors.As(err, &t) && t.StatusCode == http.StatusNotFound
}

// describe says in a line what went wrong with what (an image's name) at repo's
// host.
func describe(err error, repo name.Repository, what string) error {
	host := repo.RegistryStr()
	e := &Error{err: err, text: fmt.Sprintf("%s: %s: %v", what, host, err)}
	var t *transport.Error
	var certificate *tls.CertificateVerificationError
	var dns *net.DNSError
	switch {
	case errors.As(err, &t):
		e.explain(t, host, what)
	case errors.As(err, &certificate):
		e.text = fmt.Sprintf("%s: the certificate of %s is not trusted: %v", what, host, certificate.Err)
		e.hint = fmt.Sprintf("give its CA with --registry-ca FILE or put it at /etc/docker/certs.d/%s/ca.crt", host)
	case errors.As(err, &dns):
		e.text = fmt.Sprintf("%s: there is no host %s: %v", what, host, dns.Err)
		e.hint = "look at the registry's name; a mirror can be given with --registry-mirror"
	case errors.Is(err, syscall.ECONNREFUSED):
		e.text = fmt.Sprintf("%s: nobody answers at %s: connection refused", what, host)
		e.hint = "is the registry running, and is the port right?"
	case strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		e.text = fmt.Sprintf("%s: %s speaks plain HTTP", what, host)
		e.hint = "allow it with --registry-insecure " + host
	}
	return e
}

func (e *Error) explain(t *transport.Error, host, what string) {
	said := ""
	if len(t.Errors) > 0 {
		said = t.Errors[0].Message
		if said == "" {
			said = string(t.Errors[0].Code)
		}
	}
	if said != "" {
		said = ": " + said
	}
	switch t.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		e.text = fmt.Sprintf("%s: %s refuses access (HTTP %d)%s", what, host, t.StatusCode, said)
		e.hint = "log in with: sinter login " + host
	case http.StatusNotFound:
		e.text = fmt.Sprintf("%s: not found at %s%s", what, host, said)
		e.hint = "look at the name and the tag"
	case http.StatusTooManyRequests:
		e.text = fmt.Sprintf("%s: %s allows no more requests for now%s", what, host, said)
		e.hint = "wait, log in, or use a mirror with --registry-mirror"
	default:
		e.text = fmt.Sprintf("%s: %s answered with HTTP %d%s", what, host, t.StatusCode, said)
	}
}
