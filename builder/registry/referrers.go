package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/sinter-build/sinter/builder/manifest"
)

// maxPages is how many pages a list of referrers may have.
const maxPages = 1000

// Referrers returns what refers to the manifest or index subject in ref's repository: of
// one artifact type, or of all if that is "". A registry that does not know of referrers
// (distribution-spec 1.1) is asked for the index under the fallback tag. A list may name
// manifests that do not refer to subject: whoever reads one calls manifest.Referrer.Check.
func (c *Client) Referrers(ctx context.Context, ref Ref, subject digest.Digest, artifactType string) ([]ocispec.Descriptor, error) {
	ref.Tag, ref.Digest = "", subject
	list, err := try(ctx, c, ref, func(ctx context.Context, s *session) (list []ocispec.Descriptor, err error) {
		err = c.retry.intact(ctx, func() (err error) {
			list, err = s.referrers(ctx, ref, artifactType)
			return err
		})
		if err == nil && len(list) == 0 && s.mirror {
			err = ErrNotFound // another place may have some
		}
		return list, err
	})
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	return list, err
}

// parallelQuestions is how many manifests are asked about at once.
const parallelQuestions = 8

// ReferrersOf is Referrers for each of subjects, which are named by digest: a list for each.
// With an error, the first in the order of subjects, it also returns what could be had, but
// nothing when ctx is done.
func (c *Client) ReferrersOf(ctx context.Context, subjects []Ref) ([][]ocispec.Descriptor, error) {
	lists, failed := make([][]ocispec.Descriptor, len(subjects)), make([]error, len(subjects))
	var group errgroup.Group
	group.SetLimit(parallelQuestions)
	for i, subject := range subjects {
		group.Go(func() error {
			lists[i], failed[i] = c.Referrers(ctx, subject, subject.Digest, "")
			return nil
		})
	}
	_ = group.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return lists, cmp.Or(failed...)
}

// referrers lists what refers to the manifest that ref names.
func (s *session) referrers(ctx context.Context, ref Ref, artifactType string) ([]ocispec.Descriptor, error) {
	list, err := s.listReferrers(ctx, ref, artifactType)
	if errors.Is(err, errNoReferrers) {
		var index *manifest.Document
		if index, err = s.fallback(ctx, ref); index != nil {
			list = index.Manifests
		}
	}
	if err != nil {
		return nil, err
	}
	// Whether or not the registry has chosen, and said so: the same in all cases.
	seen := map[digest.Digest]bool{}
	return slices.DeleteFunc(list, func(d ocispec.Descriptor) bool {
		twice := seen[d.Digest]
		seen[d.Digest] = true
		return twice || !manifest.IsManifest(d.MediaType) || manifest.CheckSmall(d) != nil ||
			artifactType != "" && d.ArtifactType != artifactType
	}), nil
}

// errNoReferrers is about registries that do not have the API for referrers.
var errNoReferrers = errors.New("the registry does not list referrers")

// listReferrers asks the API for all pages of the list.
func (s *session) listReferrers(ctx context.Context, ref Ref, artifactType string) (list []ocispec.Descriptor, err error) {
	next := s.url("referrers/" + ref.Digest.String())
	if artifactType != "" {
		next += "?artifactType=" + url.QueryEscape(artifactType)
	}
	size := 0
	for range maxPages {
		page, following, err := s.referrersPage(ctx, ref, next)
		if err != nil {
			return nil, err
		}
		list, size = append(list, page.Manifests...), size+len(page.Data)
		if len(list) > manifest.MaxEntries || size > manifest.MaxBytes {
			return nil, fmt.Errorf("%s: the registry lists more than %d referrers, or sends more than %d bytes", ref, manifest.MaxEntries, manifest.MaxBytes)
		}
		if following == "" {
			return list, nil
		}
		next = following
	}
	return nil, fmt.Errorf("%s: the list of referrers has more than %d pages", ref, maxPages)
}

// referrersPage gets one page, and the address of the next one or "".
func (s *session) referrersPage(ctx context.Context, ref Ref, address string) (page *manifest.Document, next string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, "", fmt.Errorf("registry %s: %w", s.host, err)
	}
	req.Header.Set("Accept", ocispec.MediaTypeImageIndex)
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, "", s.explain(err, &ref)
	}
	defer resp.Body.Close()
	if err := checkStatus(resp, http.StatusOK); err != nil {
		var answer *transport.Error
		if errors.As(err, &answer) && lacksReferrers(answer) {
			return nil, "", errNoReferrers
		}
		return nil, "", s.explain(err, &ref)
	}
	// A server that answers to every address with something else.
	if mediaType(resp.Header.Get("Content-Type")) != ocispec.MediaTypeImageIndex {
		return nil, "", errNoReferrers
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, manifest.MaxBytes+1))
	if err != nil {
		return nil, "", s.brokenOff(err, &ref)
	}
	if len(data) > manifest.MaxBytes {
		return nil, "", fmt.Errorf("%s: the list of referrers has more than %d bytes", ref, manifest.MaxBytes)
	}
	page, err = parseReferrers(data)
	if err != nil {
		return nil, "", fmt.Errorf("%s: the list of referrers: %w", ref, err)
	}
	next, err = nextPage(resp)
	return page, next, err
}

// lacksReferrers reports whether a refusal is that of a registry without the API: each
// says it in its own way.
func lacksReferrers(answer *transport.Error) bool {
	switch answer.StatusCode {
	case http.StatusNotFound, http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusNotAcceptable, http.StatusNotImplemented:
		return true
	}
	return false
}

// parseReferrers reads an index of referrers.
func parseReferrers(data []byte) (*manifest.Document, error) {
	return manifest.Parse(ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: digest.FromBytes(data)}, data)
}

// nextPage is the address of the page after an answer, or "". It must be of the same
// server, since credentials go along.
func nextPage(resp *http.Response) (string, error) {
	for _, link := range resp.Header.Values("Link") {
		target, params, ok := strings.Cut(link, ">")
		target, begins := strings.CutPrefix(strings.TrimSpace(target), "<")
		rel := strings.ReplaceAll(strings.ReplaceAll(params, " ", ""), `"`, "")
		if !ok || !begins || !slices.Contains(strings.Split(rel, ";"), "rel=next") {
			continue
		}
		u, err := resp.Request.URL.Parse(target)
		if err != nil {
			return "", fmt.Errorf("the address of the next page of referrers: %w", err)
		}
		if u.Scheme != resp.Request.URL.Scheme || u.Host != resp.Request.URL.Host {
			return "", fmt.Errorf("the next page of referrers is at another server, %s", u.Host)
		}
		return u.String(), nil
	}
	return "", nil
}

// fallback is the index under the tag that stands for the referrers of the manifest that
// ref names; nil if there is none.
func (s *session) fallback(ctx context.Context, ref Ref) (*manifest.Document, error) {
	ref.Tag, ref.Digest = manifest.FallbackTag(ref.Digest), ""
	desc, data, err := s.manifest(ctx, ref)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !manifest.IsIndex(desc.MediaType) {
		return nil, fmt.Errorf("%s should be a list of referrers, but has the media type %q", ref, desc.MediaType)
	}
	return parseReferrers(data)
}
