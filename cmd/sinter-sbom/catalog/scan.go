package catalog

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/anchore/syft/syft"
	"github.com/anchore/syft/syft/artifact"
	"github.com/anchore/syft/syft/cataloging"
	"github.com/anchore/syft/syft/cataloging/pkgcataloging"
	"github.com/anchore/syft/syft/file"
	"github.com/anchore/syft/syft/pkg"
	syftsbom "github.com/anchore/syft/syft/sbom"
	"github.com/anchore/syft/syft/source"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/sinter-build/sinter/builder/sbom"
	"github.com/sinter-build/sinter/layers"
)

// Options say what a document is like.
type Options struct {
	// Name is what the document is about.
	Name string
	// Architecture is the one of the image; it may be empty.
	Architecture string
	Format       sbom.Format
	Created      time.Time
	// Version is that of this program.
	Version string
}

// Found is what was found in an image.
type Found struct {
	Document json.RawMessage `json:"document"`
	Packages []sbom.Package  `json:"packages"`
	Warnings []string        `json:"warnings,omitempty"`
	// Unkept says why something could not be kept for the next time, if so.
	Unkept error `json:"-"`
	// Scanned is how many times a cataloger had to look at a layer, since nothing was
	// known of it.
	Scanned int `json:"-"`
}

// Scanner finds packages. It is safe for concurrent use.
type Scanner struct {
	// licenses returns a context with syft's scanner of licenses. That takes a second of
	// processor time to make, and all images share it.
	licenses func() (context.Context, error)
}

// NewScanner returns a scanner.
func NewScanner() *Scanner {
	return &Scanner{sync.OnceValues(func() (context.Context, error) {
		return syft.SetContextLicenseScanner(context.Background(), cataloging.DefaultLicenseConfig())
	})}
}

// withValues is a context with the values of another one.
type withValues struct {
	context.Context
	values context.Context
}

func (c withValues) Value(key any) any {
	if v := c.values.Value(key); v != nil {
		return v
	}
	return c.Context.Value(key)
}

// Scan finds the packages in an image.
func (s *Scanner) Scan(ctx context.Context, im *Image, cache *Cache, opt Options) (Found, error) {
	c := &layered{im: im, cache: cache}
	var licenses context.Context
	group, within := errgroup.WithContext(ctx)
	group.Go(func() (err error) { licenses, err = s.licenses(); return err })
	group.Go(func() error { return c.look(within) })
	if err := group.Wait(); err != nil {
		return Found{}, fmt.Errorf("looking for packages in %s: %w", opt.Name, err)
	}
	// With syft's own parallelism catalogers get packages in the order in which files are read,
	// and of two packages of one name some take the last: parts run concurrently instead.
	cfg := syft.DefaultCreateSBOMConfig().WithTool(c.Name(), opt.Version).WithParallelism(1).
		WithoutCatalogers().WithCatalogers(pkgcataloging.NewCatalogerReference(c, []string{pkgcataloging.ImageTag}))
	// syft would read the files of packages each time, and each program once more for how
	// it is linked: see addDigests.
	cfg.Files.Selection = file.NoFilesSelection
	made, err := syft.CreateSBOM(withValues{ctx, licenses}, &imageSource{ctx, im, opt}, cfg)
	// A scan that was told to end may just have found less.
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	if err != nil {
		return Found{}, fmt.Errorf("finding packages in %s: %w", opt.Name, err)
	}
	if err := c.addDigests(ctx, made, opt.Format); err != nil {
		return Found{}, fmt.Errorf("reading the files of packages in %s: %w", opt.Name, err)
	}
	found := Found{Packages: im.packages(made), Warnings: c.problems, Unkept: c.unkept, Scanned: c.scanned}
	found.Document, err = document(made, opt)
	if err != nil {
		return Found{}, fmt.Errorf("writing the document of %s: %w", opt.Name, err)
	}
	return found, nil
}

// imageSource is an image as syft's source.
type imageSource struct {
	ctx context.Context // syft's interface has none
	im  *Image
	opt Options
}

var _ source.Source = (*imageSource)(nil)

// ID returns the same for the same layers.
func (s *imageSource) ID() artifact.ID { return artifact.ID(s.Describe().ID) }

// Close does nothing.
func (*imageSource) Close() error { return nil }

// FileResolver shows the image as a whole.
func (s *imageSource) FileResolver(source.Scope) (file.Resolver, error) {
	return &resolver{ctx: s.ctx, im: s.im, layer: -1}, nil
}

// Describe says what the document is about.
func (s *imageSource) Describe() source.Description {
	m := source.ImageMetadata{UserInput: s.opt.Name, Architecture: s.opt.Architecture}
	h := digest.Canonical.Digester()
	for _, l := range s.im.Layers {
		m.Layers = append(m.Layers, source.LayerMetadata{Digest: l.Digest})
		fmt.Fprintln(h.Hash(), l.Digest)
	}
	return source.Description{ID: h.Digest().Encoded(), Name: s.opt.Name, Metadata: m}
}

// packages lists what was found, and which layer it is from.
func (im *Image) packages(s *syftsbom.SBOM) []sbom.Package {
	var list []sbom.Package
	for _, p := range s.Artifacts.Packages.Sorted() {
		at := evidence(p)
		layer, ok := im.layerOf(at.RealPath)
		if !ok {
			continue
		}
		list = append(list, sbom.Package{
			Name: p.Name, Version: p.Version, Type: string(p.Type), PURL: p.PURL, Layer: layer, Path: at.FullNestedPath(),
		})
	}
	return list
}

// layerOf returns the layer that a file is from. What is kept of layers is JSON, in which
// U+FFFD stands for each byte of a path that is not UTF-8.
func (im *Image) layerOf(path string) (layer int, ok bool) {
	if _, layer, ok = im.view.Lookup(path); ok || !strings.ContainsRune(path, utf8.RuneError) {
		return layer, ok
	}
	path = strings.TrimPrefix(path, "/")
	err := im.view.Walk(func(e layers.Entry, at int) error {
		if string([]rune(e.Path)) == path {
			layer, ok = at, true
		}
		return nil
	})
	return layer, ok && err == nil
}

// evidence returns the file that tells of a package.
func evidence(p pkg.Package) file.Location {
	all := p.Locations.ToSlice()
	i := slices.IndexFunc(all, func(l file.Location) bool {
		return l.Annotations[pkg.EvidenceAnnotationKey] == pkg.PrimaryEvidenceAnnotation
	})
	if len(all) == 0 {
		return file.Location{}
	}
	return all[max(i, 0)]
}
