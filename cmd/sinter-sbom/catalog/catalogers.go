package catalog

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/anchore/syft/syft/cataloging/pkgcataloging"
	"github.com/anchore/syft/syft/file"
	"github.com/anchore/syft/syft/pkg"
	"github.com/anchore/syft/syft/pkg/cataloger/ai"
	"github.com/anchore/syft/syft/pkg/cataloger/alpine"
	"github.com/anchore/syft/syft/pkg/cataloger/apple"
	"github.com/anchore/syft/syft/pkg/cataloger/arch"
	"github.com/anchore/syft/syft/pkg/cataloger/binary"
	"github.com/anchore/syft/syft/pkg/cataloger/bitnami"
	"github.com/anchore/syft/syft/pkg/cataloger/cpp"
	"github.com/anchore/syft/syft/pkg/cataloger/debian"
	"github.com/anchore/syft/syft/pkg/cataloger/dotnet"
	"github.com/anchore/syft/syft/pkg/cataloger/gentoo"
	"github.com/anchore/syft/syft/pkg/cataloger/golang"
	"github.com/anchore/syft/syft/pkg/cataloger/homebrew"
	"github.com/anchore/syft/syft/pkg/cataloger/java"
	"github.com/anchore/syft/syft/pkg/cataloger/javascript"
	"github.com/anchore/syft/syft/pkg/cataloger/kernel"
	"github.com/anchore/syft/syft/pkg/cataloger/lua"
	"github.com/anchore/syft/syft/pkg/cataloger/nix"
	"github.com/anchore/syft/syft/pkg/cataloger/perl"
	"github.com/anchore/syft/syft/pkg/cataloger/php"
	"github.com/anchore/syft/syft/pkg/cataloger/python"
	"github.com/anchore/syft/syft/pkg/cataloger/r"
	"github.com/anchore/syft/syft/pkg/cataloger/redhat"
	"github.com/anchore/syft/syft/pkg/cataloger/ruby"
	"github.com/anchore/syft/syft/pkg/cataloger/rust"
	"github.com/anchore/syft/syft/pkg/cataloger/snap"
	"github.com/anchore/syft/syft/pkg/cataloger/wordpress"

	_ "modernc.org/sqlite" // syft reads the databases of newer RPM and Nix with it
)

// catalogers returns those that syft uses for images. TestCatalogersAreSyfts holds the
// list against syft's own, which it does not export.
func catalogers() []pkg.Cataloger {
	cfg := pkgcataloging.DefaultConfig()
	return []pkg.Cataloger{
		arch.NewDBCataloger(), alpine.NewDBCataloger(), debian.NewDBCataloger(), gentoo.NewPortageCataloger(),
		redhat.NewDBCataloger(),

		cpp.NewConanInfoCataloger(), javascript.NewPackageCataloger(), php.NewComposerInstalledCataloger(),
		php.NewPearCataloger(), r.NewPackageCataloger(), ruby.NewInstalledGemSpecCataloger(),
		rust.NewAuditBinaryCataloger(), dotnet.NewDotnetDepsBinaryCataloger(cfg.Dotnet),
		dotnet.NewDotnetPackagesLockCataloger(), python.NewInstalledPackageCataloger(),
		golang.NewGoModuleBinaryCataloger(cfg.Golang), java.NewArchiveCataloger(cfg.JavaArchive),
		java.NewNativeImageCataloger(), nix.NewCataloger(cfg.Nix), lua.NewPackageCataloger(),
		perl.NewCpanInstalledCataloger(),

		binary.NewClassifierCataloger(cfg.Binary), binary.NewELFPackageCataloger(), binary.NewPEPackageCataloger(),
		java.NewJvmDistributionCataloger(), kernel.NewLinuxKernelCataloger(cfg.LinuxKernel),
		php.NewInterpreterCataloger(), bitnami.NewCataloger(), wordpress.NewWordpressPluginCataloger(),
		homebrew.NewCataloger(), apple.NewAppBundleCataloger(), snap.NewCataloger(), ai.NewGGUFCataloger(),
		ai.NewSafeTensorsCataloger(),
	}
}

// searching is a cataloger and what it searches an image for.
type searching struct {
	pkg.Cataloger
	patterns map[string]bool
	programs bool
	// store says that it goes through all paths, for those of Nix's store: see inStore. It
	// looks at the image as a whole, since a database in one layer replaces what the paths
	// of others tell.
	store bool
}

// inStore reports whether a path is below a Nix store.
func inStore(path string) bool { return strings.Contains("/"+path, "/nix/store/") }

// searches finds out what a cataloger searches for: what it asks of an empty image.
// Whatever else it asks of a real one depends on what it found there.
func searches(ctx context.Context, c pkg.Cataloger) (searching, error) {
	e := &emptyImage{s: searching{Cataloger: c, patterns: map[string]bool{}}}
	pkgs, _, err := c.Catalog(ctx, e)
	if len(pkgs) > 0 {
		return e.s, fmt.Errorf("%s finds packages in an empty image", c.Name())
	}
	_ = err // some say that they found nothing; a real failure shows in the scan
	return e.s, nil
}

// emptyImage is an image without files that remembers what it was searched for.
type emptyImage struct {
	mu sync.Mutex
	s  searching
}

var _ file.Resolver = (*emptyImage)(nil)

func (e *emptyImage) HasPath(string) bool                                     { return false }
func (e *emptyImage) FilesByPath(...string) ([]file.Location, error)          { return nil, nil }
func (e *emptyImage) RelativeFileByPath(file.Location, string) *file.Location { return nil }
func (e *emptyImage) FileContentsByLocation(file.Location) (io.ReadCloser, error) {
	return nil, errNotFile
}
func (e *emptyImage) FileMetadataByLocation(file.Location) (file.Metadata, error) {
	return file.Metadata{}, errNotFile
}

func (e *emptyImage) FilesByGlob(patterns ...string) ([]file.Location, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, p := range patterns {
		e.s.patterns[p] = true
	}
	return nil, nil
}

func (e *emptyImage) FilesByMIMEType(...string) ([]file.Location, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.s.programs = true
	return nil, nil
}

func (e *emptyImage) AllLocations(context.Context) <-chan file.Location {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.s.store = true
	c := make(chan file.Location)
	close(c)
	return c
}
