package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sinter-build/sinter/builder/progress"
	"github.com/sinter-build/sinter/builder/registry"
	"github.com/sinter-build/sinter/builder/sandbox/userns"
	baseimage "github.com/sinter-build/sinter/builder/source/image"
	"github.com/sinter-build/sinter/cache"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/hostfile"
	"github.com/sinter-build/sinter/layers/image"
	"github.com/sinter-build/sinter/layers/store"
)

// app is what all commands share: the streams, the store and the registries,
// each opened when it is first asked for.
type app struct {
	args           []string
	stdin          io.Reader
	stdout, stderr io.Writer
	// ctx ends when the program is to end; nil is never. It is here for
	// store.Options.Context alone; all else is given its context.
	ctx context.Context

	// hides hides the secrets of a build; nil until they are known.
	hides    func(string) string
	rootFlag string
	// dockerConfig is the folder of docker's configuration, when it was given.
	dockerConfig string
	// reads is set by commands that only read: a store that cannot be written
	// to will do.
	reads bool
	// owned says that the store was found to be this user's.
	owned                      atomic.Bool
	mirrors, insecure, caFiles []string
	// retries is -1, and retryDelay 0, when they were not given.
	retries    int
	retryDelay time.Duration
	// policy is for base images that are known; nil leaves it to the configuration.
	policy *registry.Policy

	// silent says that no display shows what commands print.
	silent bool
	// rawJSON says that standard error is JSON, one value in a line, which screen
	// writes while it is on.
	rawJSON bool
	screen  *screen
	// events gets what happens while layers are downloaded; may be nil.
	events progress.Func

	warned saidWarnings

	// mu guards what is opened when it is first asked for: downloads of layers
	// ask at the same time.
	mu      sync.Mutex
	layers  *store.Store
	records *cache.Store
	index   *image.Images
	config  *registry.Config
	client  *registry.Client
	sources *baseimage.Finder
}

// root is the folder that holds everything.
func (a *app) root() (string, error) {
	for _, dir := range []string{a.rootFlag, os.Getenv("SINTER_ROOT")} {
		if dir != "" {
			return filepath.Abs(dir)
		}
	}
	if userns.Root() {
		return "/var/lib/sinter", nil
	}
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "sinter"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", storeMistake(fmt.Errorf("finding a place for images and cache: %w", err))
	}
	return filepath.Join(home, ".local", "share", "sinter"), nil
}

// storeEntries are what stands in a store's folder.
var storeEntries = []string{
	"oci-layout", "index.json", "index.copy", "blobs", "blobs/sha256", "layers", "steps", "content", "contexts", "mounts",
	"downloads", "git", "builds", "listings", "tmp", "locks", "unsynced", "replaced",
}

// ownRoot is root, refused when it is not this user's: whoever can write to a store
// decides what its images and its cached steps hold. The process in a user namespace
// does not know whose a folder of the machine's root is, so the one that starts it
// has asked before.
func (a *app) ownRoot() (string, error) {
	root, err := a.root()
	if err != nil || a.owned.Load() {
		return root, err
	}
	err = hostfile.CheckOwner(root, storeEntries, os.Args[0] == userns.Name)
	var foreign *hostfile.OwnerError
	if errors.As(err, &foreign) {
		return "", fmt.Errorf("the store is not used: %w", err)
	}
	a.owned.Store(err == nil)
	return root, storeMistake(err)
}

func (a *app) store() (*store.Store, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.openStore()
}

func (a *app) openStore() (*store.Store, error) {
	if a.layers != nil {
		return a.layers, nil
	}
	root, err := a.ownRoot()
	if err != nil {
		return nil, err
	}
	a.layers, err = store.Open(root, store.Options{
		Fetch: func(ctx context.Context, l layers.Layer) (io.ReadCloser, error) {
			sources, err := a.imageSources()
			if err != nil {
				return nil, err
			}
			r, err := sources.Fetch(ctx, l)
			if err != nil || a.events == nil {
				return r, err
			}
			return watchDownload(ctx, r, l, a.events), nil
		},
		SingleUser: userns.Single(),
		IDs:        userns.IDs(),
		Warn:       a.warn,
		Context:    a.ctx,
		Read:       a.reads,
	})
	return a.layers, storeMistake(err)
}

// checkRegistryFlags finds what is wrong with the flags about registries, also
// when no registry is going to be asked.
func (a *app) checkRegistryFlags() error {
	err := (&registry.Config{}).AddMirrors(a.mirrors)
	switch {
	case err != nil:
	case a.retries < -1 || a.retryDelay < 0:
		err = errors.New("--retry and --retry-delay must not be negative")
	case slices.Contains(a.insecure, ""):
		err = errors.New("--registry-insecure needs the HOST or HOST:PORT of a registry")
	}
	for _, file := range a.caFiles {
		if err == nil {
			err = registry.CheckAuthority(file)
		}
	}
	if err != nil {
		return usage(err)
	}
	return nil
}

func (a *app) registry() (*registry.Client, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.openRegistry()
}

func (a *app) openRegistry() (*registry.Client, error) {
	if a.client != nil {
		return a.client, nil
	}
	c, err := a.openConfig()
	if err != nil {
		return nil, err
	}
	a.client = registry.New(*c)
	return a.client, nil
}

// openConfig returns what the configuration files and the flags say.
func (a *app) openConfig() (*registry.Config, error) {
	if a.config != nil {
		return a.config, nil
	}
	c, faults := registry.LoadConfig()
	for _, err := range faults {
		a.warn(fmt.Sprintf("a configuration file is not used: %v", err))
	}
	if err := c.AddMirrors(a.mirrors); err != nil {
		return nil, err
	}
	c.Insecure = append(c.Insecure, a.insecure...)
	c.CAFiles = append(c.CAFiles, a.caFiles...)
	c.UserAgent = "sinter/" + version()
	c.Warn = a.warn
	c.HelperProcess = userns.AsUser
	c.Attempts, c.RetryDelay = a.retries+1, a.retryDelay
	if a.policy != nil {
		c.Pull = a.policy
	}
	a.config = &c
	return a.config, nil
}

func (a *app) cache() (*cache.Store, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.records != nil {
		return a.records, nil
	}
	root, err := a.ownRoot()
	if err != nil {
		return nil, err
	}
	if a.records, err = cache.Open(root); err != nil {
		return nil, storeMistake(err)
	}
	a.records.Claim = a.claim
	return a.records, nil
}

// claim says that a folder of the store is in use; see store.Store.
func (a *app) claim(folder string) error {
	s, err := a.store()
	if err != nil {
		return err
	}
	return s.Claim(folder)
}

func (a *app) images() (*image.Images, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.openImages()
}

func (a *app) openImages() (*image.Images, error) {
	if a.index != nil {
		return a.index, nil
	}
	s, err := a.openStore()
	if err != nil {
		return nil, err
	}
	a.index = image.Open(s.Root(), s)
	a.index.Warn = a.warn
	return a.index, nil
}

// maxParallelism is how many commands a build runs at once, as the configuration says.
func (a *app) maxParallelism() (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	c, err := a.openConfig()
	if err != nil {
		return 0, err
	}
	return c.MaxParallelism, nil
}

func (a *app) imageSources() (*baseimage.Finder, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.sources != nil {
		return a.sources, nil
	}
	s, err := a.openStore()
	if err != nil {
		return nil, err
	}
	images, err := a.openImages()
	if err != nil {
		return nil, err
	}
	c, err := a.openConfig()
	if err != nil {
		return nil, err
	}
	client, err := a.openRegistry()
	if err != nil {
		return nil, err
	}
	a.sources = baseimage.NewFinder(s, images, client)
	a.sources.Warn = a.warn
	if c.Pull != nil {
		a.sources.Pull = *c.Pull
	}
	return a.sources, nil
}

// close makes durable what is new in the store, unless a signal has come: writing
// gigabytes to disk takes longer than one may wait then.
func (a *app) close(ctx context.Context) error {
	leave := (*store.Store).Close
	if ctx.Err() != nil {
		leave = (*store.Store).Leave
	}
	if err := a.closeStore(leave); err != nil {
		return fmt.Errorf("closing the store: %w", err)
	}
	return nil
}

// closeStore closes the store, which whoever asks for it then opens again.
func (a *app) closeStore(leave func(*store.Store) error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.layers
	a.layers, a.sources, a.index = nil, nil, nil
	if s == nil {
		return nil
	}
	return leave(s)
}

// needPrivileges is called by commands that handle files of other users (those
// that commands in a build have made). A plain user's process runs itself again
// inside a user namespace; done then says that the work is over.
func (a *app) needPrivileges(ctx context.Context) (done bool, err error) {
	return a.reexec(ctx, nil)
}

func (a *app) reexec(ctx context.Context, stdin *os.File) (done bool, err error) {
	if !userns.Needed() {
		return false, nil
	}
	if _, err := a.ownRoot(); err != nil {
		return false, err
	}
	// The child opens the store for itself.
	if err := a.closeStore((*store.Store).Close); err != nil {
		return false, err
	}
	if err := a.handWarningsOver(); err != nil {
		return false, err
	}
	code, err := userns.Reexec(ctx, a.args, stdin)
	if err != nil {
		return false, err
	}
	if code != 0 {
		return true, &exitError{code: code}
	}
	return true, nil
}
