package builder

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/builder/sandbox"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/parser"
)

// exec runs a command on its parent's layers. What the command changed becomes
// one more layer.
func (e *engine) exec(ctx context.Context, n *parser.Node, op parser.Exec) (value, error) {
	sandbox.Prepare()
	if err := e.bounds.commands.Acquire(ctx, 1); err != nil {
		return value{}, err
	}
	defer e.bounds.commands.Release(1)
	var root layers.Chain
	for _, in := range e.plan.nodes[n].inputs {
		var err error
		if !in.root {
			continue
		}
		if root, err = e.chainOf(ctx, in.from); err != nil {
			return value{}, err
		}
	}
	dir, err := e.Layers.TempDir("run-")
	if err != nil {
		return value{}, err
	}
	// What cannot be removed now goes with this process.
	defer func() { _ = e.Layers.RemoveTemp(dir) }()
	spec, release, err := e.spec(ctx, n, op, root, dir)
	defer release()
	if err != nil {
		return value{}, err
	}
	before, err := ownerOf(spec.Upper)
	if err != nil {
		return value{}, err
	}
	if err := sandbox.Exposed(spec); err != nil {
		e.warn(fmt.Sprintf("RUN and other programs of this machine can reach each other through abstract Unix sockets: %s; "+
			"RUN --network=none and --network none have no such sockets", err))
	}
	if err := e.runCommand(ctx, n, op, spec); err != nil {
		return value{}, err
	}
	return e.adopt(ctx, n, root, spec.Upper, before)
}

// adopt makes the directory that a command wrote a layer. before is who owned it
// when the command began.
func (e *engine) adopt(ctx context.Context, n *parser.Node, root layers.Chain, upper string, before layers.Owner) (value, error) {
	owner, err := ownerOf(upper)
	if err != nil {
		return value{}, err
	}
	given := &owner
	if owner == before {
		given = nil
	}
	l, changed, err := e.Layers.Adopt(ctx, upper, root, given, time.Now().UTC())
	if err != nil {
		return value{}, fmt.Errorf("keeping what the command wrote: %w", err)
	}
	if changed {
		if err := e.tellOwners(ctx, n, root, l); err != nil {
			return value{}, fmt.Errorf("looking at the owners of what the command wrote: %w", err)
		}
		e.packIfExported(n, l)
		return value{chains: []layers.Chain{root.Append(l)}}, nil
	}
	root, err = e.unchanged(ctx, root)
	return value{chains: []layers.Chain{root}}, err
}

// spec describes the command to the sandbox. release frees what the command
// held (cache mounts, agents) and must be called in any case.
func (e *engine) spec(ctx context.Context, n *parser.Node, op parser.Exec, root layers.Chain, dir string) (s sandbox.Spec, release func(), err error) {
	held := &held{}
	s = sandbox.Spec{
		Upper: filepath.Join(dir, "upper"), Work: filepath.Join(dir, "work"), TempDir: dir,
		Args: op.Args, Env: withPath(withProxy(op.Env, op.Proxy)), Cwd: op.Cwd, User: op.User, Hostname: op.Hostname,
		Network: network(op.Network), Insecure: op.Insecure, CgroupParent: op.CgroupParent,
		Resources: sandbox.Resources(op.Resources),
	}
	for _, h := range op.ExtraHosts {
		s.Hosts = append(s.Hosts, sandbox.Host(h))
	}
	for _, u := range op.Ulimits {
		s.Ulimits = append(s.Ulimits, sandbox.Ulimit(u))
	}
	if err := e.makeUpper(ctx, root, s.Upper); err != nil {
		return s, held.release, err
	}
	if err := os.Mkdir(s.Work, 0o755); err != nil {
		return s, held.release, err
	}
	if s.Lower, err = e.dirs(ctx, root); err != nil {
		return s, held.release, err
	}
	if err := e.secretEnv(&s, op.SecretEnv); err != nil {
		return s, held.release, err
	}
	if s.Mounts, err = e.volumes(); err != nil {
		return s, held.release, err
	}
	if err := e.giveDevices(&s, op.Devices); err != nil {
		return s, held.release, err
	}
	mounts, err := mounter{engine: e, node: n, dir: dir, cwd: op.Cwd, held: held}.mounts(ctx, op.Mounts)
	s.Mounts = append(s.Mounts, mounts...)
	return s, held.release, err
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
		return layers.Owner{}, &os.PathError{Op: "stat", Path: dir, Err: err}
	}
	return layers.Owner{UID: int(st.Uid), GID: int(st.Gid)}, nil
}

// makeUpper makes the directory that a command writes to. In an overlay the root
// has the owner and mode of the uppermost directory: that gets its owner from the
// chain. Its mode is 0755 whatever images say, as in BuildKit.
func (e *engine) makeUpper(ctx context.Context, root layers.Chain, upper string) error {
	view, err := e.Layers.View(ctx, root)
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
	if err := os.Chown(upper, owner.UID, owner.GID); err != nil && !e.SingleUser {
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
func (e *engine) dirs(ctx context.Context, c layers.Chain) ([]string, error) {
	c = withoutEmpty(c)
	dirs := make([]string, len(c))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(4)
	for i := range c {
		group.Go(func() (err error) {
			dirs[i], err = e.Layers.Dir(ctx, c[:i+1])
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return lastOfEach(dirs), nil
}

func withoutEmpty(c layers.Chain) layers.Chain {
	return slices.DeleteFunc(slices.Clone(c), func(l layers.Layer) bool { return l.ID == layers.EmptyID })
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
