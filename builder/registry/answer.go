package registry

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// checkStatus fails unless the status of resp is one of codes. The error is a
// transport.Error also when the rest of the refusal cannot be read, or is too long.
func checkStatus(resp *http.Response, codes ...int) error {
	err := transport.CheckError(resp, codes...)
	var answer *transport.Error
	if err != nil && !errors.As(err, &answer) {
		return errors.Join(&transport.Error{StatusCode: resp.StatusCode, Request: resp.Request}, err)
	}
	return err
}

// explainAnswer is for registries that say no.
func (s *session) explainAnswer(err error, answer *transport.Error, ref *Ref) error {
	what := s.host + "/" + s.path
	if ref != nil && !s.mirror {
		what = ref.String()
	}
	var login *loginError
	e := &Error{Err: err}
	switch code := statusOf(answer); {
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		s.explainDenied(e, what, code, answer)
	case code == http.StatusTooManyRequests:
		e.Msg = fmt.Sprintf("%s: the registry %s allows no more requests for now%s", what, s.host, said(answer))
		e.Hint = fmt.Sprintf("wait, log in for a higher limit (sinter login %s), or use a mirror (--registry-mirror %s=HOST)", s.host, s.host)
	case errors.As(err, &login) && code < 500:
		e.Msg = fmt.Sprintf("registry %s: its answer about logins cannot be understood: %s", s.host, reason(err))
		e.Hint = notRegistryHint
	case refusalHint(answer) != "":
		e.Msg = fmt.Sprintf("%s: the registry %s refuses it: %s", what, s.host, reason(err))
		e.Hint = refusalHint(answer)
	case code == http.StatusNotFound && ref != nil:
		return notFound(err, answer, what, *ref)
	case code == http.StatusNotFound:
		e.Msg = fmt.Sprintf("%s: the registry does not have it: %s", what, reason(err))
		e.Hint = "check the name; some registries want a repository to be made before the first push"
		if answer.Request != nil && answer.Request.Method == http.MethodGet {
			e.Hint = "the image lacks a part in the registry: have it pushed again, or choose another tag"
		}
		e.Err = errors.Join(err, ErrNotFound)
	case code == http.StatusRequestEntityTooLarge:
		e.Msg = fmt.Sprintf("%s: the registry %s refuses what is this large: %s", what, s.host, reason(err))
		e.Hint = "raise the limit of the registry, or of the proxy before it; smaller layers may pass"
	case code == http.StatusInsufficientStorage:
		e.Msg = fmt.Sprintf("%s: the registry %s is full: %s", what, s.host, reason(err))
		e.Hint = "make room in the registry"
	case code >= 500:
		e.Msg = fmt.Sprintf("%s: the registry %s fails: %s", what, s.host, reason(err))
		e.Hint = "try again later; the log of the registry may tell more"
	default:
		e.Msg = fmt.Sprintf("%s: the registry %s answered: %s", what, s.host, reason(err))
		if diagnostics(answer) == "" {
			e.Hint = notRegistryHint
		}
	}
	return e
}

const notRegistryHint = "check that the name leads to a registry, and not to another server or a proxy"

// statusOf is the status that fits what a registry says. Some send the right code
// with another one.
func statusOf(answer *transport.Error) int {
	for _, d := range answer.Errors {
		switch d.Code {
		case transport.TooManyRequestsErrorCode:
			return http.StatusTooManyRequests
		case transport.UnauthorizedErrorCode:
			return http.StatusUnauthorized
		case transport.DeniedErrorCode:
			if answer.StatusCode != http.StatusUnauthorized {
				return http.StatusForbidden
			}
		case transport.NameUnknownErrorCode, transport.ManifestUnknownErrorCode:
			return http.StatusNotFound
		case transport.UnavailableErrorCode:
			return http.StatusServiceUnavailable
		}
	}
	return answer.StatusCode
}

// refusalHint says what to do about a registry that refuses what it is sent, by its
// code; "" about other answers.
func refusalHint(answer *transport.Error) string {
	if answer.Request == nil || answer.Request.Method == http.MethodGet || answer.Request.Method == http.MethodHead {
		return ""
	}
	for _, d := range answer.Errors {
		switch d.Code {
		case transport.ManifestInvalidErrorCode, transport.ManifestUnverifiedErrorCode:
			return "the registry may be too old for what is in the image: try docker's media types (-o type=registry,oci-mediatypes=false) and gzip"
		case transport.ManifestBlobUnknownErrorCode, transport.BlobUnknownErrorCode:
			return "the registry does not have a layer that it has accepted: push again; if it stays so, look at the log of the registry"
		case transport.NameInvalidErrorCode:
			return "the registry does not allow this name: check it"
		case transport.TagInvalidErrorCode:
			return "the registry does not allow this tag, or does not allow it to be replaced: choose another"
		case transport.UnsupportedErrorCode:
			return "the registry does not do this: it may be read-only, or the cache of another one"
		case transport.DigestInvalidErrorCode, transport.SizeInvalidErrorCode, transport.BlobUploadInvalidErrorCode:
			return "what was sent did not arrive as it was: push again; if it stays so, a proxy in between may damage it"
		}
	}
	return ""
}

// explainDenied completes e for a registry that wants other credentials.
func (s *session) explainDenied(e *Error, what string, code int, answer *transport.Error) {
	used, fault := s.auth.credentials()
	var known *Error
	switch {
	case code == http.StatusForbidden && isPage([]byte(bodyText(answer))):
		e.Msg = fmt.Sprintf("%s: access denied%s", what, said(answer))
		e.Hint = "a registry would not answer with a web page: a proxy or firewall in between may have refused this"
	case errors.As(fault, &known):
		e.Msg = fmt.Sprintf("%s: access denied%s, and %v", what, said(answer), fault)
		e.Hint = known.Hint
	case !used:
		e.Msg = fmt.Sprintf("%s: access denied: the repository does not exist, or needs a login%s", what, said(answer))
		e.Hint = fmt.Sprintf("check the name; for a private repository: sinter login %s", s.host)
	case code == http.StatusUnauthorized:
		e.Msg = fmt.Sprintf("%s: the registry %s does not accept the stored credentials%s", what, s.host, said(answer))
		e.Hint = "sinter login " + s.host
	default:
		e.Msg = fmt.Sprintf("%s: access denied with the stored credentials%s", what, said(answer))
		e.Hint = fmt.Sprintf("ask for access to the repository, or log in as another user: sinter login %s", s.host)
	}
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
	switch {
	case isPage([]byte(bodyText(answer))):
		e.Msg = what + ": not found" + said(answer)
		e.Hint = notRegistryHint
	case ref.Digest != "":
		e.Msg = what + ": not found: the repository has no image with this digest"
		e.Hint = "check the digest, or leave it out to use the tag"
	default:
		e.Msg = what + ": not found: the repository does not exist or has no such tag"
		e.Hint = fmt.Sprintf("check the name %s and the tag %q", ref.Repository(), ref.Tag)
	}
	return e
}
