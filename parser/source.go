package parser

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"path"
	"strconv"
	"strings"

	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/gitutil"
	"github.com/moby/buildkit/util/sshutil"
	"github.com/opencontainers/go-digest"
)

// source translates a source operation. Its meaning is in the scheme of its
// identifier and in attributes (client/llb/source.go of BuildKit writes them).
func source(s *pb.SourceOp) (Op, error) {
	scheme, ref, ok := strings.Cut(s.Identifier, "://")
	if !ok {
		return nil, fmt.Errorf("a source without a scheme: %q", s.Identifier)
	}
	a := attributes{values: maps.Clone(s.Attrs)}
	var op Op
	switch scheme {
	case "docker-image":
		op = imageSource(ref, &a)
	case "oci-layout":
		op = layoutSource(ref, &a)
	case "local":
		op = localSource(ref, &a)
	case "git":
		op = gitSource(ref, &a)
	case "http", "https":
		op = httpSource(s.Identifier, &a)
	default:
		return nil, fmt.Errorf("a source of unknown kind: %q", s.Identifier)
	}
	if a.err != nil {
		return nil, fmt.Errorf("source %s: %w", s.Identifier, a.err)
	}
	return op, nil
}

func imageSource(ref string, a *attributes) Image {
	return Image{
		Ref:        ref,
		LayerLimit: a.number(pb.AttrImageLayerLimit),
		Checksum:   digest.Digest(a.take(pb.AttrImageChecksum)),
	}
}

func layoutSource(ref string, a *attributes) OCILayout {
	return OCILayout{
		StoreID:    a.take(pb.AttrOCILayoutStoreID),
		Ref:        ref,
		LayerLimit: a.number(pb.AttrOCILayoutLayerLimit),
	}
}

func localSource(name string, a *attributes) Local {
	return Local{
		Name:        name,
		Include:     a.list(pb.AttrIncludePatterns),
		Exclude:     a.list(pb.AttrExcludePatterns),
		FollowPaths: a.list(pb.AttrFollowPaths),
	}
}

// gitSource translates host/path#ref:subdir.
func gitSource(ref string, a *attributes) Git {
	remote, fragment, _ := strings.Cut(ref, "#")
	rev, subdir, _ := strings.Cut(fragment, ":")
	g := Git{
		Remote:           remote,
		Ref:              rev,
		Subdir:           subdir,
		FullURL:          fullURL(a.take(pb.AttrFullRemoteURL), remote),
		KeepGitDir:       a.bool(pb.AttrKeepGitDir),
		SkipSubmodules:   a.bool(pb.AttrGitSkipSubmodules),
		Checksum:         a.take(pb.AttrGitChecksum),
		AuthTokenSecret:  a.take(pb.AttrAuthTokenSecret),
		AuthHeaderSecret: a.take(pb.AttrAuthHeaderSecret),
		KnownSSHHosts:    a.take(pb.AttrKnownSSHHosts),
		MountSSHSock:     a.take(pb.AttrMountSSHSock),
	}
	g.Attrs = a.rest()
	return g
}

// fullURL returns an address with the path of the repository that the identifier names,
// as BuildKit does: a policy knows no more than that. A server might read another
// spelling of the path, such as /evil.git/..%2fgood.git, as another repository.
func fullURL(address, repository string) string {
	u, err := gitutil.ParseURL(address)
	if err != nil {
		return address
	}
	host, place, _ := strings.Cut(repository, "/")
	if !strings.EqualFold(host, u.Host) {
		return address
	}
	place = path.Join("/", place)
	if strings.HasPrefix(strings.ToLower(u.Remote), u.Scheme+"://") {
		return (&url.URL{Scheme: u.Scheme, User: u.User, Host: u.Host, Path: place}).String()
	}
	if !strings.HasPrefix(u.Path, "/") {
		place = strings.TrimPrefix(place, "/")
	}
	return (&sshutil.SCPStyleURL{User: u.User, Host: u.Host, Path: place}).String()
}

func httpSource(address string, a *attributes) HTTP {
	h := HTTP{
		URL:              address,
		Checksum:         digest.Digest(a.take(pb.AttrHTTPChecksum)),
		Filename:         a.take(pb.AttrHTTPFilename),
		UID:              a.optional(pb.AttrHTTPUID),
		GID:              a.optional(pb.AttrHTTPGID),
		AuthHeaderSecret: a.take(pb.AttrHTTPAuthHeaderSecret),
	}
	if perm := a.take(pb.AttrHTTPPerm); perm != "" {
		n, err := strconv.ParseUint(perm, 0, 32)
		a.note(pb.AttrHTTPPerm, err)
		mode := uint32(n)
		h.Perm = &mode
	}
	h.Attrs = a.rest()
	return h
}

// attributes are taken one by one; the first that cannot be read is kept as
// the error.
type attributes struct {
	values map[string]string
	err    error
}

func (a *attributes) note(key string, err error) {
	if err != nil && a.err == nil {
		a.err = fmt.Errorf("attribute %s: %w", key, err)
	}
}

func (a *attributes) take(key string) string {
	v := a.values[key]
	delete(a.values, key)
	return v
}

func (a *attributes) bool(key string) bool { return a.take(key) == "true" }

func (a *attributes) optional(key string) *int {
	v := a.take(key)
	if v == "" {
		return nil
	}
	n, err := strconv.Atoi(v)
	a.note(key, err)
	return &n
}

func (a *attributes) number(key string) int {
	if n := a.optional(key); n != nil {
		return *n
	}
	return 0
}

func (a *attributes) list(key string) []string {
	v := a.take(key)
	if v == "" {
		return nil
	}
	var l []string
	a.note(key, json.Unmarshal([]byte(v), &l))
	return l
}

// rest is what nobody took; nil when there is nothing.
func (a *attributes) rest() map[string]string {
	if len(a.values) == 0 {
		return nil
	}
	return a.values
}
