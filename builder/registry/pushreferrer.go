package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/manifest"
	"github.com/sinter-build/sinter/builder/progress"
)

// subjectHeader is how a registry with the API for referrers answers that it has noted
// what a manifest refers to. Some say so only of manifests that are new, or not at all.
const subjectHeader = "OCI-Subject"

// PushReferrers is PushReferrer for each of list, and returns those that are pushed. The
// first error ends it, unless forgive, which may be nil, takes the error.
func PushReferrers[S Source](ctx context.Context, c *Client, name string, list []S, report func(progress.Update), forgive func(S, error) bool) (pushed []S, err error) {
	for _, r := range list {
		err := c.PushReferrer(ctx, name, r, report)
		switch {
		case err == nil:
			pushed = append(pushed, r)
		case forgive == nil || ctx.Err() != nil || !forgive(r, err):
			return pushed, err
		}
	}
	return pushed, nil
}

// PushReferrer pushes a manifest that says in its subject what it is about, with its
// blobs, into the repository of name (HOST/PATH, with a tag or digest or without), where
// it has no tag. Where the registry does not list referrers itself, the index under the
// fallback tag of the subject is completed. The subject need not be there.
func (c *Client) PushReferrer(ctx context.Context, name string, img Source, report func(progress.Update)) error {
	ref, err := ParseRef(name)
	if err != nil {
		return err
	}
	root := img.Root()
	data, err := readManifest(ctx, img, root)
	if err != nil {
		return fmt.Errorf("pushing to %s: %w", ref.Repository(), err)
	}
	d, err := manifest.Parse(root, data)
	if err != nil {
		return fmt.Errorf("pushing to %s: %w", ref.Repository(), err)
	}
	if d.Subject == nil {
		return fmt.Errorf("pushing to %s: manifest %s has no subject, and so refers to nothing", ref.Repository(), root.Digest)
	}
	return c.Push(ctx, ref.Repository()+"@"+root.Digest.String(), img, report)
}

// fallbackRounds is how often a list of referrers is completed again that others have
// changed meanwhile.
const fallbackRounds = 5

// noteReferrer adds m to the index of its subject's referrers, as clients must where the
// registry does not. Others may do the same at the same time, and registries know no
// lock: so it is looked at again after each change. Clients in this process take turns.
func (p *push) noteReferrer(ctx context.Context, m *manifest.Document) error {
	if p.lists(ctx, m) {
		return nil
	}
	turn := p.client.turn(p.session.host + "/" + p.session.path + "@" + m.Subject.Digest.String())
	turn.Lock()
	defer turn.Unlock()
	tag := manifest.FallbackTag(m.Subject.Digest)
	for range fallbackRounds {
		if listed, err := p.addReferrer(ctx, tag, m); err != nil {
			return fmt.Errorf("the list of referrers under the tag %s: %w", tag, err)
		} else if listed {
			return nil
		}
	}
	return &Error{
		Msg:  fmt.Sprintf("%s: other clients change the list of referrers under the tag %s again and again", p.ref.Repository(), tag),
		Hint: "push again",
	}
}

// lists reports whether the registry has the API for referrers, and lists m among those of
// its subject: then nobody looks at the fallback tag. A registry that cannot be asked does
// not; where the API has a list without m, the tag is written as the specification says.
func (p *push) lists(ctx context.Context, m *manifest.Document) bool {
	list, err := p.session.listReferrers(ctx, Ref{Host: p.ref.Host, Path: p.ref.Path, Digest: m.Subject.Digest}, "")
	return err == nil && slices.ContainsFunc(list, func(d ocispec.Descriptor) bool { return d.Digest == m.Desc.Digest })
}

// addReferrer adds m to the index under the fallback tag, unless it is listed there.
func (p *push) addReferrer(ctx context.Context, tag string, m *manifest.Document) (listed bool, err error) {
	index, err := p.session.fallback(ctx, Ref{Host: p.ref.Host, Path: p.ref.Path, Digest: m.Subject.Digest})
	if err != nil {
		return false, err
	}
	if index != nil && slices.ContainsFunc(index.Manifests, func(d ocispec.Descriptor) bool { return d.Digest == m.Desc.Digest }) {
		return true, nil
	}
	merged, err := addToIndex(index, m.Referrer())
	if err != nil {
		return false, err
	}
	return false, p.manifest(ctx, tag, merged)
}

// addToIndex is an index with one more entry; nil is an empty one. What else it says
// stays, also what we do not know.
func addToIndex(index *manifest.Document, add ocispec.Descriptor) (*manifest.Document, error) {
	fields := map[string]json.RawMessage{
		"schemaVersion": json.RawMessage("2"), "mediaType": json.RawMessage(`"` + ocispec.MediaTypeImageIndex + `"`),
	}
	var entries []json.RawMessage
	if index != nil {
		var old map[string]json.RawMessage
		if err := json.Unmarshal(index.Data, &old); err != nil {
			return nil, err
		}
		if list, ok := old["manifests"]; ok {
			if err := json.Unmarshal(list, &entries); err != nil {
				return nil, err
			}
		}
		// JSON of Go takes "Manifests" for the same, and other clients do not.
		if len(entries) != len(index.Manifests) {
			return nil, errors.New("it has the field manifests in another spelling")
		}
		maps.Copy(fields, old)
	}
	entry, err := json.Marshal(add)
	if err != nil {
		return nil, err
	}
	if fields["manifests"], err = json.Marshal(append(entries, entry)); err != nil {
		return nil, err
	}
	data, err := json.Marshal(fields)
	if err != nil {
		return nil, err
	}
	if len(data) > manifest.MaxBytes {
		return nil, fmt.Errorf("with one more entry it would have more than %d bytes", manifest.MaxBytes)
	}
	return manifest.Parse(ocispec.Descriptor{
		MediaType: ocispec.MediaTypeImageIndex, Digest: digest.FromBytes(data), Size: int64(len(data)),
	}, data)
}

// turn is the lock of those who change one list of referrers.
func (c *Client) turn(of string) *sync.Mutex {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.turns[of] == nil {
		c.turns[of] = &sync.Mutex{}
	}
	return c.turns[of]
}
