package web

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/sinter-build/sinter/builder/redirect"
	"github.com/sinter-build/sinter/builder/source/remote"
	"github.com/sinter-build/sinter/builder/transfer"
	"github.com/sinter-build/sinter/layers/hint"
)

// BuildKit's names of secrets for hosts.
const (
	headerSecret = "HTTP_AUTH_HEADER_"
	tokenSecret  = "HTTP_AUTH_TOKEN_"
)

// maxTries is how often a request is made that fails for reasons which may pass.
const maxTries = 4

// shown is the address for people.
func (q *request) shown() string { return remote.WithoutUser(q.url.String()) }

// ask downloads the file, unless the server says that old is what it has.
func (f *Fetcher) ask(ctx context.Context, dir string, q request, old *download) (download, error) {
	authorization, err := f.authorization(q)
	if err != nil {
		return download{}, err
	}
	var d download
	err = f.backoff.Retry(ctx, func(n int) (again bool, wait time.Duration, err error) {
		d, err = f.askOnce(ctx, dir, q, authorization, old)
		switch {
		case err == nil:
			d.fresh = true
			return false, 0, nil
		case ctx.Err() != nil:
			return false, 0, context.Cause(ctx)
		}
		wait, again = passing(err)
		again = again && n < maxTries && wait <= f.backoff.Longest
		return again, wait, q.explain(err)
	})
	return d, err
}

func (f *Fetcher) askOnce(ctx context.Context, dir string, q request, authorization string, old *download) (download, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, q.url.String(), nil)
	if err != nil {
		return download{}, err
	}
	req.Header.Set("User-Agent", "sinter")
	for name, values := range q.headers {
		req.Header[name] = values
	}
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	if old != nil && old.identified() {
		req.Header.Set("If-None-Match", old.ETag)
	}
	resp, err := f.client.Do(req)
	if err != nil {
		return download{}, err
	}
	// What is left of the body is of no interest.
	defer resp.Body.Close()
	if old != nil && old.stillIs(resp) {
		return *old, nil
	}
	if old != nil && resp.StatusCode == http.StatusNotModified {
		// What the server has may be equal to what we have only by a weak tag.
		return f.askOnce(ctx, dir, q, authorization, nil)
	}
	if resp.StatusCode < 200 || resp.StatusCode >= 300 {
		return download{}, &statusError{code: resp.StatusCode, retryAfter: transfer.RetryAfter(resp.Header.Get("Retry-After"), time.Now())}
	}
	body := transfer.Watch(resp.Body, transfer.StallTime, cancel)
	defer body.Close()
	d, err := keep(dir, recordOf(q, resp), &bodyReader{body})
	if err != nil && errors.Is(context.Cause(ctx), transfer.ErrStalled) {
		err = errStalled
	}
	return d, err
}

// recordOf is what is to be remembered of an answer, but for the body's.
func recordOf(q request, resp *http.Response) downloadRecord {
	return downloadRecord{
		URL:          q.shown(),
		ETag:         resp.Header.Get("ETag"),
		LastModified: resp.Header.Get("Last-Modified"),
		Disposition:  resp.Header.Get("Content-Disposition"),
	}
}

// stillIs reports whether an answer tells that the file is the one we have: the
// server says that it is not modified, or sends it with the same strong entity tag,
// as many do that have tags but do not compare them. Nothing else is believed: files
// that differ may have the same weak tag, and the same length and time where times
// are clamped, so the body that comes with the answer decides.
func (rec *downloadRecord) stillIs(resp *http.Response) bool {
	tag := resp.Header.Get("ETag")
	switch {
	case !rec.identified():
		return false
	case resp.StatusCode == http.StatusNotModified:
		return tag == "" || tag == rec.ETag
	}
	return resp.StatusCode == http.StatusOK && tag == rec.ETag
}

// identified reports whether the file has a strong entity tag.
func (rec *downloadRecord) identified() bool {
	return rec.ETag != "" && !strings.HasPrefix(rec.ETag, weak)
}

// weak marks entity tags that files may share which do not have the same bytes
// (RFC 9110, 8.8.1).
const weak = "W/"

// authorization is the header that secrets give: the one named for this
// download, or that of the host.
func (f *Fetcher) authorization(q request) (string, error) {
	if q.secret != "" {
		v, ok, err := f.Secret(q.secret)
		if err == nil && !ok {
			err = hint.Add(fmt.Errorf("failed to retrieve HTTP auth secret %s: not found", q.secret),
				fmt.Sprintf("give it with --secret id=%s,src=FILE or --secret id=%s,env=VARIABLE", q.secret, q.secret))
		}
		return v, err
	}
	host := q.url.Hostname()
	if v, ok, err := f.Secret(tokenSecret + host); ok || err != nil {
		return "Bearer " + v, err
	}
	v, _, err := f.Secret(headerSecret + host)
	return v, err
}

// statusError is an answer without the file.
type statusError struct {
	code       int
	retryAfter time.Duration // what the server asks for
}

func (e *statusError) Error() string {
	return strings.TrimSpace(fmt.Sprintf("%d %s", e.code, http.StatusText(e.code)))
}

var errStalled = fmt.Errorf("the server sent nothing for %s", transfer.StallTime)

// bodyReader tells failures of the connection from those of writing the file.
type bodyReader struct{ r io.Reader }

func (p *bodyReader) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	if err != nil && err != io.EOF {
		err = &brokenError{err}
	}
	return n, err
}

// brokenError is the end of a body before its time.
type brokenError struct{ error }

func (e *brokenError) Unwrap() error { return e.error }

// passing reports whether the same request may succeed later, and how long the
// server asks us to wait.
func passing(err error) (wait time.Duration, again bool) {
	var status *statusError
	if errors.As(err, &status) {
		return status.retryAfter, transfer.TransientStatus(status.code)
	}
	var request *url.Error
	var broken *brokenError
	return 0, errors.Is(err, errStalled) || (errors.As(err, &request) || errors.As(err, &broken)) && transfer.Transient(err)
}

// explain says what went wrong and what to do about it.
func (q *request) explain(err error) error {
	// It names the address again, perhaps with credentials.
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	var help string
	host := q.url.Hostname()
	var status *statusError
	var certificate *tls.CertificateVerificationError
	var name *net.DNSError
	var network net.Error
	var broken *brokenError
	var refused *redirect.LocalError
	var proxy *redirect.ProxyError
	switch {
	case errors.As(err, &proxy):
		err, help = proxy, proxy.HintText()
	case errors.As(err, &refused):
		err, help = refused, refused.HintText()+"; if you want the file from there, write its own address"
	case errors.As(err, &status):
		help = q.statusHint(status.code)
	case errors.As(err, &certificate):
		help = certificateHint(host, certificate)
	case transfer.WantsCertificate(err):
		help = fmt.Sprintf("%s lets in only who has a certificate of its own, which downloads cannot show: get the file with another program, such as curl --cert, and COPY it", host)
	case errors.As(err, &name):
		help = fmt.Sprintf("check the name %s, the network and the variables HTTP_PROXY, HTTPS_PROXY, NO_PROXY", name.Name)
	case errors.As(err, &network), errors.As(err, &broken), errors.Is(err, io.EOF):
		help = fmt.Sprintf("check that %s is up, the network and the variables HTTP_PROXY, HTTPS_PROXY, NO_PROXY", host)
	}
	return hint.Add(fmt.Errorf("downloading %s: %w", q.shown(), err), help)
}

// certificateHint says what to do about a certificate that cannot be verified.
func certificateHint(host string, err error) string {
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &name):
		return fmt.Sprintf("the certificate is for other names than %s: write one of those, or have it made for this one", host)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fmt.Sprintf("check the clock of this machine; if it is right, whoever runs %s has to renew the certificate", host)
	}
	return fmt.Sprintf("add the authority that signed the certificate of %s to those of this machine, or name it in SSL_CERT_FILE", host)
}

func (q *request) statusHint(code int) string {
	host := q.url.Hostname()
	switch {
	case code == http.StatusUnauthorized || code == http.StatusForbidden:
		return fmt.Sprintf("give a token with --secret id=%s%s,src=FILE, or a whole Authorization header as %s%s", tokenSecret, host, headerSecret, host)
	case code == http.StatusNotFound || code == http.StatusGone:
		return "check the address"
	case code == http.StatusTooManyRequests || code >= 500:
		return fmt.Sprintf("%s cannot answer now: build again later", host)
	}
	return "check the address: open it with another program, such as curl"
}
