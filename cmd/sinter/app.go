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

	layers  lazy[*store.Store]
	records lazy[*cache.Store]
	index   lazy[*image.Images]
	config  lazy[*registry.Config]
	client  lazy[*registry.Client]
	sources lazy[*baseimage.Finder]
}

// lazy is a value that is opened when it is first asked for: downloads of layers ask at
// the same time.
type lazy[T comparable] struct {
	mu    sync.Mutex
	value T
}

func (l *lazy[T]) get(open func() (T, error)) (T, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var none T
	if l.value != none {
		return l.value, nil
	}
	v, err := open()
	if err != nil {
		return none, err
	}
	l.value = v
	return v, nil
}

// drop returns the value, which whoever asks for it then opens again; the zero value if
// it was not opened.
func (l *lazy[T]) drop() T {
	l.mu.Lock()
	defer l.mu.Unlock()
	var none T
	v := l.value
	l.value = none
	return v
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
	"downloads", "git", "builds", "listings", "referrers", "sbom", "tmp", "locks", "unsynced", "replaced",
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
	if is[*hostfile.OwnerError](err) {
		return "", fmt.Errorf("the store is not used: %w", err)
	}
	if err == nil {
		err = store.CheckFolder(root)
	}
	a.owned.Store(err == nil)
	return root, storeMistake(err)
}

func (a *app) store() (*store.Store, error) {
	return a.layers.get(func() (*store.Store, error) {
		root, err := a.ownRoot()
		if err != nil {
			return nil, err
		}
		s, err := store.Open(root, store.Options{
			Fetch:      a.fetch,
			SingleUser: userns.Single(),
			IDs:        userns.IDs(),
			Warn:       a.warn,
			Context:    a.ctx,
			Read:       a.reads,
		})
		return s, storeMistake(err)
	})
}

// fetch gets a layer's blob for the store.
func (a *app) fetch(ctx context.Context, l layers.Layer) (io.ReadCloser, error) {
	sources, err := a.imageSources()
	if err != nil {
		return nil, err
	}
	r, err := sources.Fetch(ctx, l)
	if err != nil || a.events == nil {
		return r, err
	}
	return watchDownload(ctx, r, l, a.events), nil
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
	return a.client.get(func() (*registry.Client, error) {
		c, err := a.configuration()
		if err != nil {
			return nil, err
		}
		return registry.New(*c), nil
	})
}

// configuration is what the configuration files and the flags say.
func (a *app) configuration() (*registry.Config, error) {
	return a.config.get(func() (*registry.Config, error) {
		c, faults := registry.LoadConfig()
		for _, err := range faults {
			a.warn(fmt.Sprintf("a configuration file is not used: %v", err))
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
		return &c, c.AddMirrors(a.mirrors)
	})
}

func (a *app) cache() (*cache.Store, error) {
	return a.records.get(func() (*cache.Store, error) {
		root, err := a.ownRoot()
		if err != nil {
			return nil, err
		}
		records, err := cache.Open(root)
		if err != nil {
			return nil, storeMistake(err)
		}
		records.Claim = a.claim
		return records, nil
	})
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
	return a.index.get(func() (*image.Images, error) {
		s, err := a.store()
		if err != nil {
			return nil, err
		}
		images := image.Open(s.Root(), s)
		images.Warn = a.warn
		return images, nil
	})
}

func (a *app) imageSources() (*baseimage.Finder, error) {
	return a.sources.get(func() (*baseimage.Finder, error) {
		s, err := a.store()
		if err != nil {
			return nil, err
		}
		images, err := a.images()
		if err != nil {
			return nil, err
		}
		c, err := a.configuration()
		if err != nil {
			return nil, err
		}
		client, err := a.registry()
		if err != nil {
			return nil, err
		}
		sources := baseimage.NewFinder(s, images, client)
		sources.Warn = a.warn
		if c.Pull != nil {
			sources.Pull = *c.Pull
		}
		return sources, nil
	})
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
	a.sources.drop()
	a.index.drop()
	if s := a.layers.drop(); s != nil {
		return leave(s)
	}
	return nil
}

// reexec is called by commands that handle files of other users (those that commands
// in a build have made). A plain user's process runs itself again inside a user
// namespace; done then says that the work is over.
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
