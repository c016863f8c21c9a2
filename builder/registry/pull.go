package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/manifest"
)

// The media types of manifests that are too old to be read.
const (
	mediaTypeSchema1       = "application/vnd.docker.distribution.manifest.v1+json"
	mediaTypeSchema1Signed = "application/vnd.docker.distribution.manifest.v1+prettyjws"
)

// accepted are the manifests that we ask for. Schema 1 is among them so that a
// registry which has nothing else says so.
var accepted = strings.Join([]string{
	ocispec.MediaTypeImageIndex, manifest.DockerIndex, ocispec.MediaTypeImageManifest, manifest.DockerManifest,
	mediaTypeSchema1Signed + ";q=0.1", mediaTypeSchema1 + ";q=0.1",
}, ", ")

// Resolve fetches the manifest or index that ref names. Its bytes are verified
// against ref's digest, or else against the one that the registry reports. The
// error of an image that no registry has is ErrNotFound.
func (c *Client) Resolve(ctx context.Context, ref Ref) (ocispec.Descriptor, []byte, error) {
	return c.ResolveUsable(ctx, ref, nil)
}

// ResolveUsable is Resolve, but asks the next place when usable finds fault with the
// answer of a mirror.
func (c *Client) ResolveUsable(ctx context.Context, ref Ref, usable func(ocispec.Descriptor, []byte) error) (ocispec.Descriptor, []byte, error) {
	a, err := try(ctx, c, ref, func(ctx context.Context, s *session) (a described, err error) {
		err = c.retry.intact(ctx, func() (err error) {
			a.desc, a.data, err = s.manifest(ctx, ref)
			return err
		})
		if err == nil && s.mirror && usable != nil {
			err = usable(a.desc, a.data)
		}
		return a, err
	})
	return a.desc, a.data, err
}

// described is a manifest with its descriptor.
type described struct {
	desc ocispec.Descriptor
	data []byte
}

// Head describes the manifest or index that ref names without fetching it: a
// cheap question, which registries do not count as a pull.
func (c *Client) Head(ctx context.Context, ref Ref) (ocispec.Descriptor, error) {
	return try(ctx, c, ref, func(ctx context.Context, s *session) (ocispec.Descriptor, error) {
		return s.head(ctx, ref)
	})
}

// try calls do with ref's registry and before with its mirrors, until one has
// an answer. Two calls may be under way at once.
func try[T any](ctx context.Context, c *Client, ref Ref, do func(context.Context, *session) (T, error)) (T, error) {
	var none T
	if ref.Digest != "" {
		if err := ref.Digest.Validate(); err != nil {
			return none, fmt.Errorf("%s: %q: %w", ref.Repository(), ref.Digest, err)
		}
	}
	places, err := c.endpoints(ref.Host, ref.Path)
	if err != nil {
		return none, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	val, _, err := first(ctx, c, places, func(ctx context.Context, e endpoint) (T, error) {
		s, err := c.open(ctx, sessionKey{endpoint: e})
		if err != nil {
			return none, err
		}
		return do(ctx, s)
	}, func(T) {})
	return val, err
}

// joinMirrors makes one error of those of all mirrors and, last, of the registry
// itself. What the registry says comes first, it has the better hint.
func joinMirrors(failed []error) error {
	last := failed[len(failed)-1]
	if len(failed) == 1 {
		return last
	}
	return &mirrorsError{last: last, mirrors: failed[:len(failed)-1]}
}

// mirrorsError says that the mirrors failed as well.
type mirrorsError struct {
	last    error
	mirrors []error
}

func (e *mirrorsError) Error() string {
	return fmt.Sprintf("%v (before that: %v)", e.last, errors.Join(e.mirrors...))
}

// Unwrap returns the registry's own answer.
func (e *mirrorsError) Unwrap() error { return e.last }

func (s *session) request(ctx context.Context, method, rest string) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, s.url(rest), nil)
	if err != nil {
		return nil, fmt.Errorf("registry %s: %w", s.host, err)
	}
	return req, nil
}

func (s *session) manifest(ctx context.Context, ref Ref) (ocispec.Descriptor, []byte, error) {
	req, err := s.request(ctx, http.MethodGet, "manifests/"+ref.identifier())
	if err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	req.Header.Set("Accept", accepted)
	resp, err := s.client.Do(req)
	if err != nil {
		return ocispec.Descriptor{}, nil, s.explain(err, &ref)
	}
	defer resp.Body.Close()
	if err := checkStatus(resp, http.StatusOK); err != nil {
		return ocispec.Descriptor{}, nil, s.explain(err, &ref)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, manifest.MaxBytes+1))
	if err != nil {
		return ocispec.Descriptor{}, nil, s.brokenOff(err, &ref)
	}
	if len(data) > manifest.MaxBytes {
		return ocispec.Descriptor{}, nil, fmt.Errorf("%s: the manifest has more than %d bytes", ref, manifest.MaxBytes)
	}
	desc := ocispec.Descriptor{
		MediaType: mediaType(resp.Header.Get("Content-Type")),
		Digest:    digest.FromBytes(data), Size: int64(len(data)),
	}
	if desc.MediaType == mediaTypeSchema1 || desc.MediaType == mediaTypeSchema1Signed {
		return desc, nil, &Error{
			Msg:  fmt.Sprintf("%s: the registry has it only in the old format (docker schema 1), which is not supported", ref),
			Hint: "push the image again with a current tool",
		}
	}
	if isPage(data) {
		return desc, nil, s.notManifest(ref, data)
	}
	if err := s.verify(ctx, ref, resp.Header, data); err != nil {
		return desc, nil, err
	}
	if !json.Valid(data) {
		return desc, nil, s.notManifest(ref, data)
	}
	if ref.Digest != "" {
		desc.Digest = ref.Digest
	}
	return desc, data, nil
}

// errNotRegistry is about servers that answer as no registry does.
var errNotRegistry = errors.New("not the answer of a registry")

func (s *session) notManifest(ref Ref, data []byte) error {
	msg := fmt.Sprintf("%s: the server at %s answers with what is not a manifest", ref, s.host)
	if isPage(data) {
		msg = fmt.Sprintf("%s: the server at %s answers with a web page", ref, s.host)
	}
	if text := quoted(string(data)); text != "" {
		msg += ": " + text
	}
	return &Error{Msg: msg, Hint: notRegistryHint, Err: errNotRegistry}
}

// verify checks a manifest against the digest that was asked for, or against the
// one that the registry reports with it or in answer to HEAD.
func (s *session) verify(ctx context.Context, ref Ref, header http.Header, data []byte) error {
	if ref.Digest != "" {
		if got := ref.Digest.Algorithm().FromBytes(data); got != ref.Digest {
			return &corruptError{fmt.Errorf("%s: the registry %s sent another manifest: %s", ref, s.host, got)}
		}
		return nil
	}
	said := digest.Digest(header.Get(digestHeader))
	if said == "" {
		desc, err := s.head(ctx, ref)
		if tellsNoDigest(err) {
			return nil
		}
		if err != nil {
			return err
		}
		said = desc.Digest
	}
	if err := s.validDigest(ref, said); err != nil {
		return err
	}
	if got := said.Algorithm().FromBytes(data); got != said {
		return &corruptError{&Error{
			Msg:  fmt.Sprintf("%s: the manifest arrived damaged: the registry %s says that it is %s, but it is %s", ref, s.host, said, got),
			Hint: damagedHint,
		}}
	}
	return nil
}

// errNoDigest is about registries that do not report digests.
var errNoDigest = errors.New("the registry did not report the digest of the manifest")

// tellsNoDigest reports whether head failed because the registry does not report
// digests, or does not answer HEAD requests.
func tellsNoDigest(err error) bool {
	var answer *transport.Error
	return errors.Is(err, errNoDigest) ||
		errors.As(err, &answer) && (answer.StatusCode == http.StatusNotFound || slices.Contains(headless[:], answer.StatusCode))
}

// headless are the answers of servers that do not know HEAD.
var headless = [...]int{http.StatusMethodNotAllowed, http.StatusNotImplemented}

// validDigest checks the digest that the registry reported for ref's manifest.
func (s *session) validDigest(ref Ref, said digest.Digest) error {
	if err := said.Validate(); err != nil {
		return &corruptError{&Error{
			Msg: fmt.Sprintf("%s: the registry %s sent %q as the digest of the manifest", ref, s.host, said), Hint: notRegistryHint, Err: err,
		}}
	}
	return nil
}

// digestHeader is where a registry reports the digest of a manifest or blob.
const digestHeader = "Docker-Content-Digest"

const damagedHint = "try again; if it stays so, the registry or a proxy in between damages what it sends"

func mediaType(contentType string) string {
	t, _, _ := strings.Cut(contentType, ";")
	return strings.TrimSpace(t)
}

func (s *session) head(ctx context.Context, ref Ref) (ocispec.Descriptor, error) {
	req, err := s.request(ctx, http.MethodHead, "manifests/"+ref.identifier())
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	req.Header.Set("Accept", accepted)
	resp, err := s.client.Do(req)
	if err != nil {
		return ocispec.Descriptor{}, s.explain(err, &ref)
	}
	defer resp.Body.Close()
	if err := checkStatus(resp, http.StatusOK); err != nil {
		return ocispec.Descriptor{}, s.explain(err, &ref)
	}
	desc := ocispec.Descriptor{
		MediaType: mediaType(resp.Header.Get("Content-Type")),
		Digest:    digest.Digest(resp.Header.Get(digestHeader)), Size: resp.ContentLength,
	}
	if desc.Digest == "" {
		return desc, fmt.Errorf("%s: %w", ref, errNoDigest)
	}
	return desc, s.validDigest(ref, desc.Digest)
}
