package registry

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// origin is another repository of the registry that has the blob, or "".
func (p *push) origin(d digest.Digest) string {
	for _, repository := range p.img.Origins(d) {
		o, err := parseRepository(repository)
		if err == nil && o.Host == p.ref.Host && o.Path != p.ref.Path {
			return o.Path
		}
	}
	return ""
}

// mount asks the registry to take a blob from another of its repositories. A
// refusal of whatever kind is not an error: the blob is sent then, to location if
// the registry has begun an upload instead.
func (p *push) mount(ctx context.Context, desc ocispec.Descriptor, from string) (ok bool, location string) {
	// A token for both repositories is needed.
	both := sessionKey{endpoint: p.session.endpoint, push: true, from: from}
	s, err := p.client.open(ctx, both)
	if err != nil {
		return false, ""
	}
	rest := "blobs/uploads/?mount=" + desc.Digest.String() + "&from=" + strings.ReplaceAll(from, "/", "%2F")
	req, err := s.request(once(ctx), http.MethodPost, rest)
	if err != nil {
		return false, ""
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return false, ""
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusCreated:
		ok, err := p.mounted(ctx, resp, desc)
		return ok && err == nil, ""
	case http.StatusAccepted:
		if u, err := resp.Location(); err == nil {
			return false, u.String()
		}
	}
	return false, ""
}

// begin starts an upload and returns where to send it.
func (p *push) begin(ctx context.Context) (location string, err error) {
	req, err := p.session.request(ctx, http.MethodPost, "blobs/uploads/")
	if err != nil {
		return "", err
	}
	resp, err := p.session.client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if err := checkStatus(resp, http.StatusCreated, http.StatusAccepted); err != nil {
		return "", err
	}
	if resp.StatusCode == http.StatusCreated {
		return "", &Error{
			Msg:  fmt.Sprintf("the registry %s answered %q to the beginning of an upload, but does not have the blob", p.session.host, resp.Status),
			Hint: notRegistryHint,
		}
	}
	u, err := resp.Location()
	if err != nil {
		return "", fmt.Errorf("the registry did not say where to send a blob: %w", err)
	}
	return u.String(), nil
}
