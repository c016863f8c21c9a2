package transfer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"syscall"

	"github.com/sinter-build/sinter/builder/redirect"
)

// TransientStatus reports whether the same request may succeed later.
func TransientStatus(code int) bool {
	switch code {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// Transient reports whether a request that failed with err may succeed later, if its
// context has not ended. Of what is not known to last it is assumed: connections
// break in many ways. The errors of timeouts are context.DeadlineExceeded as well.
func Transient(err error) bool {
	var authority x509.UnknownAuthorityError
	var hostErr x509.HostnameError
	var invalid x509.CertificateInvalidError
	var record tls.RecordHeaderError
	var verification *tls.CertificateVerificationError
	var alert tls.AlertError
	var dns *net.DNSError
	var refused *redirect.LocalError
	var proxy *redirect.ProxyError
	switch {
	case errors.As(err, &proxy) && !proxy.Passes():
		return false
	case errors.Is(err, context.Canceled), errors.Is(err, redirect.ErrTooMany),
		errors.As(err, &authority), errors.As(err, &hostErr), errors.As(err, &invalid),
		errors.As(err, &record), errors.As(err, &refused), errors.As(err, &verification), errors.As(err, &alert),
		errors.Is(err, http.ErrSchemeMismatch), WantsCertificate(err),
		errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return false
	case errors.As(err, &dns):
		return !dns.IsNotFound
	}
	return true
}

// WantsCertificate reports whether a server ended a connection because the client's
// certificate is missing, or not one that it trusts.
func WantsCertificate(err error) bool {
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "remote error" {
		return false
	}
	// The alerts of TLS have no exported type.
	switch op.Err.Error() {
	case "tls: certificate required", "tls: bad certificate", "tls: unknown certificate authority", "tls: expired certificate":
		return true
	}
	return false
}
