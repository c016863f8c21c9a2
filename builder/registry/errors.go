package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"syscall"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/sinter-build/sinter/builder/redirect"
)

// Error is a failure with the way out of it, where there is one.
type Error struct {
	Msg, Hint string
	Err       error
}

func (e *Error) Error() string { return e.Msg }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// HintText returns the way out, or "".
func (e *Error) HintText() string { return e.Hint }

// ErrNotFound is in the errors of references and blobs that a registry does not
// have. It is fs.ErrNotExist as well.
var ErrNotFound = fmt.Errorf("not in the registry: %w", fs.ErrNotExist)

// explain says what went wrong with a registry, and what to do about it. ref is
// what was asked for; nil when the registry itself is the matter.
func (s *session) explain(err error, ref *Ref) error {
	var known *Error
	var local *localError
	if err == nil || errors.As(err, &known) || errors.As(err, &local) || errors.Is(err, context.Canceled) {
		return err
	}
	// Of TLS that failed and plain HTTP that was answered nevertheless, TLS is
	// the matter.
	var certificate *tls.CertificateVerificationError
	var answer *transport.Error
	if !errors.As(err, &certificate) && errors.As(err, &answer) {
		return s.explainAnswer(err, answer, ref)
	}
	return s.explainNetwork(err)
}

// brokenOff is the error of a body that could not be read to its end.
func (s *session) brokenOff(err error, ref *Ref) error {
	if passing(err) {
		return &corruptError{s.explain(err, ref)}
	}
	return s.explain(err, ref)
}

// explainAnswer is for registries that say no.
func (s *session) explainAnswer(err error, answer *transport.Error, ref *Ref) error {
	what := s.host + "/" + s.path
	if ref != nil && !s.mirror {
		what = ref.String()
	}
	used, fault := s.auth.credentials()
	e := &Error{Err: err}
	var login *loginError
	switch code := answer.StatusCode; {
	case errors.As(err, &login) && code < 500 && code != http.StatusUnauthorized && code != http.StatusForbidden && code != http.StatusTooManyRequests:
		e.Msg = fmt.Sprintf("registry %s: its answer about logins cannot be understood: %s", s.host, brief(err))
		e.Hint = notRegistryHint
	case fault != nil && (code == http.StatusUnauthorized || code == http.StatusForbidden):
		e.Msg = fmt.Sprintf("%s: access denied%s, and %v", what, said(answer), fault)
		var reason *Error
		if errors.As(fault, &reason) {
			e.Hint = reason.Hint
		}
	case code == http.StatusUnauthorized && used:
		e.Msg = fmt.Sprintf("%s: the registry %s does not accept the stored credentials%s", what, s.host, said(answer))
		e.Hint = "sinter login " + s.host
	case code == http.StatusUnauthorized, code == http.StatusForbidden && !used:
		e.Msg = fmt.Sprintf("%s: access denied: the repository does not exist, or needs a login%s", what, said(answer))
		e.Hint = fmt.Sprintf("check the name; for a private repository: sinter login %s", s.host)
	case code == http.StatusForbidden:
		e.Msg = fmt.Sprintf("%s: access denied with the stored credentials%s", what, said(answer))
		e.Hint = fmt.Sprintf("ask for access to the repository, or log in as another user: sinter login %s", s.host)
	case code == http.StatusNotFound && ref != nil:
		return notFound(err, answer, what, *ref)
	case code == http.StatusNotFound:
		e.Msg = fmt.Sprintf("%s: the registry does not have it: %s", what, brief(err))
		e.Hint = "check the name; some registries want a repository to be made before the first push"
		if answer.Request != nil && answer.Request.Method == http.MethodGet {
			e.Hint = "the image lacks a part in the registry: have it pushed again, or choose another tag"
		}
		e.Err = errors.Join(err, ErrNotFound)
	case code == http.StatusTooManyRequests:
		e.Msg = fmt.Sprintf("%s: the registry %s allows no more requests for now%s", what, s.host, said(answer))
		e.Hint = fmt.Sprintf("wait, log in for a higher limit (sinter login %s), or use a mirror (--registry-mirror %s=HOST)", s.host, s.host)
	case code == http.StatusRequestEntityTooLarge:
		e.Msg = fmt.Sprintf("%s: the registry %s refuses what is this large: %s", what, s.host, brief(err))
		e.Hint = "raise the limit of the registry, or of the proxy before it; smaller layers may pass"
	case code == http.StatusInsufficientStorage:
		e.Msg = fmt.Sprintf("%s: the registry %s is full: %s", what, s.host, brief(err))
		e.Hint = "make room in the registry"
	case code >= 500:
		e.Msg = fmt.Sprintf("%s: the registry %s fails: %s", what, s.host, brief(err))
		e.Hint = "try again later; the log of the registry may tell more"
	default:
		e.Msg = fmt.Sprintf("%s: the registry %s answered: %s", what, s.host, brief(err))
		e.Hint = notRegistryHint
	}
	return e
}

const notRegistryHint = "check that the name leads to a registry, and not to another server or a proxy"

// said are a registry's own words about a refusal.
func said(answer *transport.Error) string {
	for _, d := range answer.Errors {
		if d.Message != "" {
			return fmt.Sprintf(" (the registry says: %s)", brief(errors.New(d.Message)))
		}
	}
	return ""
}

// longestAnswer is how much of an answer is shown, in characters: a server may
// send a whole page.
const longestAnswer = 300

func brief(err error) string {
	text := []rune(strings.Join(strings.Fields(err.Error()), " "))
	if len(text) > longestAnswer {
		return string(text[:longestAnswer]) + "…"
	}
	return string(text)
}

func notFound(err error, answer *transport.Error, what string, ref Ref) error {
	e := &Error{Err: errors.Join(err, ErrNotFound)}
	for _, d := range answer.Errors {
		if d.Code == transport.NameUnknownErrorCode {
			e.Msg = what + ": not found: the registry has no such repository"
			e.Hint = "check the name " + ref.Repository()
			return e
		}
	}
	if ref.Digest != "" {
		e.Msg = what + ": not found: the repository has no image with this digest"
		e.Hint = "check the digest, or leave it out to use the tag"
		return e
	}
	e.Msg = what + ": not found: the repository does not exist or has no such tag"
	e.Hint = fmt.Sprintf("check the name %s and the tag %q", ref.Repository(), ref.Tag)
	return e
}

// explainNetwork is for registries that cannot be talked to.
func (s *session) explainNetwork(err error) error {
	e := &Error{Err: err}
	var authority x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var dns *net.DNSError
	var syntax *json.SyntaxError
	var refused *redirect.LocalError
	switch {
	case errors.As(err, &authority):
		e.Msg = fmt.Sprintf("registry %s: its certificate is signed by an unknown authority", s.host)
		e.Hint = fmt.Sprintf("put the authority's certificate into /etc/docker/certs.d/%[1]s/ca.crt or give it with --registry-ca FILE; to trust any certificate: --registry-insecure %[1]s", s.host)
	case errors.As(err, &name):
		e.Msg = fmt.Sprintf("registry %s: its certificate is for another host: %v", s.host, name)
		e.Hint = "use the name in the certificate, or --registry-insecure " + s.host
	case errors.As(err, &invalid):
		e.Msg = fmt.Sprintf("registry %s: its certificate is not valid: %v", s.host, invalid)
		e.Hint = "check the clock of this machine; to trust any certificate: --registry-insecure " + s.host
	case errors.Is(err, errStalled), isSilence(err):
		e.Msg = fmt.Sprintf("registry %s does not answer: %v", s.host, err)
		e.Hint = "check the network and the proxy settings (HTTPS_PROXY, NO_PROXY)"
	case errors.Is(err, http.ErrSchemeMismatch), strings.Contains(err.Error(), "server gave HTTP response"):
		e.Msg = fmt.Sprintf("registry %s speaks plain HTTP", s.host)
		e.Hint = "to allow it: --registry-insecure " + s.host
	case errors.Is(err, syscall.ECONNREFUSED):
		e.Msg = fmt.Sprintf("registry %s: connection refused", s.host)
		e.Hint = fmt.Sprintf("is a registry running at %s? is the port right?", s.host)
	case errors.As(err, &dns) && dns.IsNotFound:
		e.Msg = fmt.Sprintf("registry %s: there is no host of this name", s.host)
		e.Hint = "check the name, and the network of this machine"
	case errors.As(err, &dns):
		e.Msg = fmt.Sprintf("registry %s: its address could not be looked up: %v", s.host, dns)
		e.Hint = "check the network of this machine"
	case strings.Contains(err.Error(), "realm host"):
		e.Msg = fmt.Sprintf("registry %s: it sends logins to another address: %s", s.host, brief(err))
		e.Hint = "the registry's configuration is wrong, or it is hostile: its realm must be a host name or the registry's own address; do not log in before its operator has explained this"
	case strings.Contains(err.Error(), "bearer"), strings.Contains(err.Error(), "www-authenticate"), errors.As(err, &syntax):
		e.Msg = fmt.Sprintf("registry %s: its answer about logins cannot be understood: %s", s.host, brief(err))
		e.Hint = notRegistryHint
	case errors.As(err, &refused):
		e.Msg = fmt.Sprintf("registry %s: %s", s.host, refused)
	case errors.Is(err, redirect.ErrTooMany):
		e.Msg = fmt.Sprintf("registry %s: %s", s.host, brief(err))
		e.Hint = notRegistryHint
	default:
		e.Msg = fmt.Sprintf("registry %s: %s", s.host, brief(err))
		e.Hint = "try again; if it stays so, look at the log of the registry, or at the network between"
	}
	return e
}

// isDenied reports whether a registry refused the credentials.
func isDenied(err error) bool {
	var answer *transport.Error
	return errors.As(err, &answer) && (answer.StatusCode == http.StatusUnauthorized || answer.StatusCode == http.StatusForbidden)
}
