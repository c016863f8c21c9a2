// Package runner does all of a RUN that is outside its sandbox: it makes the root, the
// mounts and the environment of a command, holds what the command uses while it
// runs (cache mounts, agents), and makes a layer of what the command changed.
//
// The caller resolves what the command reads; the package does not know steps, keys
// or records.
package runner

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/builder/cdi"
	"github.com/sinter-build/sinter/builder/sandbox"
	"github.com/sinter-build/sinter/cache"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/store"
	"github.com/sinter-build/sinter/parser"
)

// Given is what the person who builds gives to commands.
type Given struct {
	// Secrets returns a secret's content by its ID; fs.ErrNotExist when nobody gave
	// one.
	Secrets func(id string) ([]byte, error)
	// SSH serves an agent for an ssh mount on a new socket at path, owned and moded
	// as the mount says; fs.ErrNotExist when nobody gave one of this ID.
	SSH func(ctx context.Context, id, path string, m parser.Mount) (stop func(), err error)
	// Devices are those that RUN --device may ask for.
	Devices cdi.Specs
	// Volumes are seen by every command.
	Volumes []Volume
}

// Volume is a file or directory of this machine that every command sees. It is
// no part of any layer and, as in Buildah, of no key: whoever mounts it knows
// that what it holds decides nothing.
type Volume struct {
	// Host is where it is on this machine, Path where commands see it; both
	// are absolute.
	Host, Path string
	ReadOnly   bool
}

// Runner runs commands.
type Runner struct {
	Given
	Layers *store.Store
	Caches *cache.Store
	// SingleUser says that commands can only make files that belong to one user.
	SingleUser bool
	// Warn tells the person who builds of something.
	Warn func(text string)
	// Sandbox runs a command whose world is ready, as sandbox.Run does.
	Sandbox func(context.Context, sandbox.Spec) (sandbox.Result, error)

	// foreign are, by layer ID, the entries ([]layers.Entry) whose owners do not
	// exist here.
	foreign sync.Map
}

// Command is a RUN whose inputs are resolved.
type Command struct {
	parser.Exec
	// Name is the step's, for people.
	Name string
	Root layers.Chain
	// Below has the layers of those mounts that show some, by their places in
	// Mounts.
	Below map[int]Below
	// Output takes what the command prints: on standard output (1) and standard
	// error (2), concurrently.
	Output func(stream int, data []byte)
}

// Below is what a bind mount shows, or what a new cache mount begins with.
type Below struct {
	Chain layers.Chain
	// Name identifies it: a cache mount that begins with something else is another
	// one.
	Name string
}

// Result is what a command leaves.
type Result struct {
	// Layer is what it changed, if Changed is set.
	Layer   layers.Layer
	Changed bool
	// MaxRSS is the memory of its largest process, in bytes. It counts for a command
	// that failed, too.
	MaxRSS int64
}

// Run runs a command on its root. The error of a command that failed is a
// *CommandError.
func (r *Runner) Run(ctx context.Context, c Command) (Result, error) {
	dir, err := r.Layers.TempDir("run-")
	if err != nil {
		return Result{}, err
	}
	// What cannot be removed now goes with this process.
	defer func() { _ = r.Layers.RemoveTemp(dir) }()
	held := &held{}
	defer held.release()
	spec, err := r.spec(ctx, c, dir, held)
	if err != nil {
		return Result{}, err
	}
	before, err := ownerOf(spec.Upper)
	if err != nil {
		return Result{}, err
	}
	if err := sandbox.Exposed(spec); err != nil {
		r.Warn(fmt.Sprintf("RUN and other programs of this machine can reach each other through abstract Unix sockets: %s; "+
			"RUN --network=none and --network none have no such sockets", err))
	}
	memory, err := r.execute(ctx, c, spec)
	if err != nil {
		return Result{MaxRSS: memory}, err
	}
	l, changed, err := r.adopt(ctx, c, spec.Upper, before)
	return Result{Layer: l, Changed: changed, MaxRSS: memory}, err
}

// adopt makes the directory that a command wrote a layer. before is who owned it
// when the command began.
func (r *Runner) adopt(ctx context.Context, c Command, upper string, before layers.Owner) (l layers.Layer, changed bool, err error) {
	owner, err := ownerOf(upper)
	if err != nil {
		return l, false, err
	}
	given := &owner
	if owner == before {
		given = nil
	}
	if l, changed, err = r.Layers.CommitUpper(ctx, upper, c.Root, given, time.Now().UTC()); err != nil {
		return l, false, fmt.Errorf("keeping what the command wrote: %w", err)
	}
	if changed {
		if err := r.tellOwners(ctx, c, l); err != nil {
			return l, false, fmt.Errorf("looking at the owners of what the command wrote: %w", err)
		}
	}
	return l, changed, nil
}

// spec describes the command to the sandbox. dir is the command's own temporary
// folder; held gets what is to be freed when it has ended.
func (r *Runner) spec(ctx context.Context, c Command, dir string, held *held) (s sandbox.Spec, err error) {
	s = sandbox.Spec{
		Upper: filepath.Join(dir, "upper"), Work: filepath.Join(dir, "work"), TempDir: dir,
		Args: c.Args, Cwd: c.Cwd, User: c.User, Hostname: c.Hostname,
		Network: network(c.Network), Insecure: c.Insecure, CgroupParent: c.CgroupParent,
		Resources: sandbox.Resources(c.Resources),
	}
	for _, h := range c.ExtraHosts {
		s.Hosts = append(s.Hosts, sandbox.Host(h))
	}
	for _, u := range c.Ulimits {
		s.Ulimits = append(s.Ulimits, sandbox.Ulimit(u))
	}
	if err := r.makeUpper(ctx, c.Root, s.Upper); err != nil {
		return s, err
	}
	if err := os.Mkdir(s.Work, 0o755); err != nil {
		return s, err
	}
	if s.Lower, err = r.dirs(ctx, c.Root); err != nil {
		return s, err
	}
	devices, err := r.devices(c.Devices)
	if err != nil {
		return s, err
	}
	if s.Env, err = r.environment(c.Exec, devices); err != nil {
		return s, err
	}
	volumes, err := r.volumes()
	if err != nil {
		return s, err
	}
	mounts, err := mounter{r, c, dir, held}.mounts(ctx)
	s.Mounts = slices.Concat(volumes, deviceMounts(devices), mounts)
	return s, err
}

func network(m parser.NetMode) sandbox.NetMode {
	if m == parser.NetDefault {
		return sandbox.NetDefault
	}
	return sandbox.NetMode(m)
}

// ownerOf returns the owner of a directory.
func ownerOf(dir string) (layers.Owner, error) {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return layers.Owner{}, &fs.PathError{Op: "stat", Path: dir, Err: err}
	}
	return layers.Owner{UID: int(st.Uid), GID: int(st.Gid)}, nil
}

// makeUpper makes the directory that a command writes to. In an overlay the root
// has the owner and mode of the uppermost directory: that gets its owner from the
// chain. Its mode is 0755 whatever images say, as in BuildKit.
func (r *Runner) makeUpper(ctx context.Context, root layers.Chain, upper string) error {
	view, err := r.Layers.View(ctx, root)
	if err != nil {
		return err
	}
	at, _, _ := view.Lookup("")
	if err := os.Mkdir(upper, 0o755); err != nil {
		return err
	}
	owner, ok := root.RootOwner()
	if !ok {
		owner = layers.Owner{UID: at.UID, GID: at.GID}
	}
	if err := os.Chown(upper, owner.UID, owner.GID); err != nil && !r.SingleUser {
		return err
	}
	if err := os.Chmod(upper, 0o755); err != nil { // whatever the umask
		return err
	}
	when := time.Unix(0, at.ModTime)
	return os.Chtimes(upper, when, when)
}

// dirs returns the directory forms of a chain's layers, making those that are
// missing.
func (r *Runner) dirs(ctx context.Context, c layers.Chain) ([]string, error) {
	c = c.WithoutEmpty()
	dirs := make([]string, len(c))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(4)
	for i := range c {
		group.Go(func() (err error) {
			dirs[i], err = r.Layers.Dir(ctx, c[:i+1])
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return lastOfEach(dirs), nil
}

// lastOfEach returns dirs without those that come again later: an overlay
// takes no directory twice, and what the upper one shows or hides, the lower
// one cannot change.
func lastOfEach(dirs []string) []string {
	var kept []string
	for i, d := range dirs {
		if !slices.Contains(dirs[i+1:], d) {
			kept = append(kept, d)
		}
	}
	return kept
}
