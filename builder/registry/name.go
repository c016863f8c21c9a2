package registry

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/opencontainers/go-digest"
)

// Ref is a full image reference, read as docker reads it: debian is
// docker.io/library/debian:latest.
type Ref struct {
	// Host is the registry ("docker.io", "127.0.0.1:5000"), Path the
	// repository there ("library/debian").
	Host, Path string
	// Tag or Digest name the image; with both, the digest decides.
	Tag    string
	Digest digest.Digest
}

// ParseRef reads a reference. Without tag and digest the tag is "latest".
func ParseRef(s string) (Ref, error) {
	named, err := reference.ParseNormalizedNamed(s)
	if err != nil {
		return Ref{}, badName(s, err)
	}
	r := Ref{Host: reference.Domain(named), Path: reference.Path(named)}
	if t, ok := named.(reference.Tagged); ok {
		r.Tag = t.Tag()
	}
	if d, ok := named.(reference.Digested); ok {
		r.Digest = d.Digest()
		if err := r.Digest.Validate(); err != nil {
			return Ref{}, badName(s, err)
		}
	}
	if r.Tag == "" && r.Digest == "" {
		r.Tag = "latest"
	}
	return r, nil
}

func badName(s string, err error) error {
	hint := "a name is [HOST[:PORT]/]PATH[:TAG][@DIGEST], such as debian:12 or registry.example.com/team/app:1.0"
	if errors.Is(err, reference.ErrNameContainsUppercase) {
		hint = "write the name in lower case: " + strings.ToLower(s)
	}
	return &Error{Msg: fmt.Sprintf("%q is not an image name: %v", s, err), Hint: hint, Err: err}
}

// Repository is host and path: "docker.io/library/debian".
func (r Ref) Repository() string { return r.Host + "/" + r.Path }

// String is the full reference.
func (r Ref) String() string {
	s := r.Repository()
	if r.Tag != "" {
		s += ":" + r.Tag
	}
	if r.Digest != "" {
		s += "@" + r.Digest.String()
	}
	return s
}

// identifier is what the registry's interface calls a reference.
func (r Ref) identifier() string {
	if r.Digest != "" {
		return r.Digest.String()
	}
	return r.Tag
}

// parseRepository reads "docker.io/library/debian".
func parseRepository(s string) (Ref, error) {
	r, err := ParseRef(s)
	if err != nil {
		return Ref{}, err
	}
	r.Tag, r.Digest = "", ""
	return r, nil
}

// dockerHub is what docker.io is called where it serves images.
const dockerHub = "index.docker.io"

// serverName is the host that answers for a registry.
func serverName(host string) string {
	if host == "docker.io" {
		return dockerHub
	}
	return host
}

// CredentialKey is the name under which docker's config file keeps the
// credentials of a registry.
func CredentialKey(host string) string {
	switch host {
	case "", "docker.io", dockerHub, "registry-1.docker.io":
		return "https://" + dockerHub + "/v1/"
	}
	return host
}

func isLoopback(host string) bool {
	h := hostname(host)
	addr, err := netip.ParseAddr(h)
	return h == "localhost" || strings.HasSuffix(h, ".localhost") || err == nil && addr.IsLoopback()
}

// hostname is host without its port.
func hostname(host string) string {
	if h, ok := strings.CutPrefix(host, "["); ok {
		h, _, _ = strings.Cut(h, "]")
		return h
	}
	if strings.Count(host, ":") == 1 {
		host, _, _ = strings.Cut(host, ":")
	}
	return host
}

// registryName is host as go-containerregistry wants it.
func registryName(host string, plain bool) (name.Registry, error) {
	var opts []name.Option
	if plain {
		opts = append(opts, name.Insecure)
	}
	r, err := name.NewRegistry(serverName(host), opts...)
	if err != nil {
		return r, &Error{Msg: fmt.Sprintf("%q is not the name of a registry: %v", host, err), Hint: "write HOST or HOST:PORT", Err: err}
	}
	return r, nil
}
