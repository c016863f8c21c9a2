package parser_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"sync"
	"testing/fstest"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/parser"
)

// memory is a Resolver over images and directories in memory. It counts what
// it is asked.
type memory struct {
	// images by full reference; each has a config for every platform.
	images map[string]ocispec.Image
	// layouts by store ID.
	layouts map[string]ocispec.Image
	locals  map[string]fstest.MapFS
	// nodes are the files of sources that are not local, by URL.
	nodes map[string]fstest.MapFS
	// commit is of every repository, modified of every download.
	commit   []byte
	modified *time.Time

	mu    sync.Mutex
	asked map[string]int
}

func (m *memory) ask(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.asked == nil {
		m.asked = map[string]int{}
	}
	m.asked[fmt.Sprintf(format, args...)]++
}

func (m *memory) ResolveImage(_ context.Context, ref string, p *ocispec.Platform, pull bool) (parser.ImageMeta, error) {
	m.ask("image %s %s/%s pull=%t", ref, p.OS, p.Architecture, pull)
	img, ok := m.images[ref]
	if !ok {
		return parser.ImageMeta{}, fmt.Errorf("%s: not found", ref)
	}
	return meta(ref, img, p)
}

func (m *memory) ResolveLayout(_ context.Context, storeID, ref string, p *ocispec.Platform) (parser.ImageMeta, error) {
	m.ask("layout %s %s", storeID, ref)
	img, ok := m.layouts[storeID]
	if !ok {
		return parser.ImageMeta{}, fmt.Errorf("store %s: not found", storeID)
	}
	return meta(ref, img, p)
}

func meta(ref string, img ocispec.Image, p *ocispec.Platform) (parser.ImageMeta, error) {
	img.Platform = *p
	config, err := json.Marshal(img)
	return parser.ImageMeta{Ref: ref, Digest: digest.FromString(ref), Config: config}, err
}

func (m *memory) ReadLocal(_ context.Context, name, file string) ([]byte, error) {
	m.ask("read %s %s", name, file)
	return fs.ReadFile(m.locals[name], file)
}

func (m *memory) IgnoreFile(_, file string) string { return file }

func (m *memory) StatLocal(_ context.Context, name, file string) (fs.FileInfo, error) {
	return fs.Stat(m.locals[name], file)
}

func (m *memory) ReadDirLocal(_ context.Context, name, dir, pattern string) ([]fs.FileInfo, error) {
	entries, err := fs.ReadDir(m.locals[name], dir)
	if err != nil {
		return nil, err
	}
	var infos []fs.FileInfo
	for _, e := range entries {
		if ok, err := path.Match(pattern, e.Name()); err != nil || (pattern != "" && !ok) {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return nil, err
		}
		infos = append(infos, info)
	}
	return infos, nil
}

func (m *memory) OpenNode(_ context.Context, g *parser.Graph, in parser.Input) (fs.FS, error) {
	if len(g.Nodes) == 0 || in.Node == nil {
		return nil, errors.New("no node to open")
	}
	var url string
	for _, n := range g.Nodes {
		switch op := n.Op.(type) {
		case parser.Git:
			url = op.FullURL
		case parser.HTTP:
			url = op.URL
		}
	}
	m.ask("node %s", url)
	return m.nodes[url], nil
}

func (m *memory) ResolveGit(_ context.Context, name string, op parser.Git) (parser.GitMeta, error) {
	m.ask("commit %s: %s#%s", name, op.FullURL, op.Ref)
	return parser.GitMeta{Commit: m.commit}, nil
}

func (m *memory) ResolveHTTP(_ context.Context, name string, op parser.HTTP) (parser.HTTPMeta, error) {
	m.ask("download %s: %s", name, op.URL)
	return parser.HTTPMeta{LastModified: m.modified}, nil
}

// debian is an image of one layer with an environment.
func debian() ocispec.Image {
	return ocispec.Image{
		Config: ocispec.ImageConfig{Env: []string{"PATH=/usr/bin:/bin"}, Cmd: []string{"bash"}},
		RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromString("layer")}},
		History: []ocispec.History{
			{CreatedBy: "ADD rootfs"},
		},
	}
}

// withDockerfile is a resolver that knows some images and one Dockerfile.
func withDockerfile(text string) *memory {
	return &memory{
		images: map[string]ocispec.Image{
			"docker.io/library/debian:12":     debian(),
			"docker.io/library/debian:latest": debian(),
			"docker.io/library/golang:1.26":   debian(),
			"docker.io/library/alpine:latest": debian(),
		},
		layouts: map[string]ocispec.Image{"mystore": debian()},
		locals: map[string]fstest.MapFS{
			"dockerfile": {"Dockerfile": {Data: []byte(text)}},
			"context":    {},
		},
	}
}
