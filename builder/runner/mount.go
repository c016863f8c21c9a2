package runner

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/sinter-build/sinter/builder/sandbox"
	"github.com/sinter-build/sinter/layers/hint"
	"github.com/sinter-build/sinter/parser"
)

// held is what a command holds while it runs.
type held struct{ frees []func() }

func (h *held) add(free func()) { h.frees = append(h.frees, free) }

// release frees everything, the last first.
func (h *held) release() {
	for _, free := range slices.Backward(h.frees) {
		free()
	}
	h.frees = nil
}

// mounter prepares the mounts of one command.
type mounter struct {
	*Runner
	command Command
	// dir is the command's own temporary folder.
	dir  string
	held *held
}

// mounts prepares the mounts of the command, but for its root.
func (m mounter) mounts(ctx context.Context) ([]sandbox.Mount, error) {
	caches, err := m.cacheDirs(ctx)
	if err != nil {
		return nil, err
	}
	var list []sandbox.Mount
	for i, mount := range m.command.Mounts {
		if mount.Dest == "/" {
			if mount.ReadOnly {
				return nil, fmt.Errorf("mount %d: a read-only root is not supported", i)
			}
			continue
		}
		sm, skip, err := m.mount(ctx, i, mount, caches[i])
		if err != nil {
			return nil, MountError(mount, err)
		}
		if !skip {
			list = append(list, sm)
		}
	}
	return list, nil
}

// MountError says which mount could not be prepared.
func MountError(m parser.Mount, err error) error {
	return fmt.Errorf("mount %s at %s: %w", m.Type, m.Dest, err)
}

// mount prepares one mount; cached is the directory of a cache mount. skip says that
// the mount is optional and was not given.
func (m mounter) mount(ctx context.Context, i int, pm parser.Mount, cached string) (sm sandbox.Mount, skip bool, err error) {
	sm = sandbox.Mount{
		Type: sandbox.MountType(pm.Type), Dest: place(m.command.Cwd, pm.Dest), ReadOnly: pm.ReadOnly,
		Selector: pm.Selector, UID: pm.UID, GID: pm.GID, Mode: pm.Mode, Size: pm.TmpfsSize,
	}
	switch pm.Type {
	case parser.MountTmpfs:
		return sm, false, nil
	case parser.MountSecret:
		sm.Data, skip, err = m.secret(pm.SecretID, pm.Optional)
		return sm, skip, err
	case parser.MountSSH:
		sm.Source = filepath.Join(m.dir, "ssh"+strconv.Itoa(i))
		skip, err = m.serveAgent(ctx, pm, sm.Source)
		return sm, skip, err
	case parser.MountCache:
		sm.Source = cached
		return sm, false, nil
	case parser.MountBind:
		return sm, false, m.bind(ctx, i, pm, &sm)
	}
	return sm, false, fmt.Errorf("mount type %q is not known", pm.Type)
}

// place is the absolute path of a mount in a command that runs in cwd. The frontend
// makes those of most types absolute, but not those of secrets and agents.
func place(cwd, at string) string {
	if path.IsAbs(at) {
		return at
	}
	return path.Join("/", cwd, at)
}

// bind mounts the layers of the input. What a command writes there goes to a
// directory of its own that is thrown away.
func (m mounter) bind(ctx context.Context, i int, pm parser.Mount, sm *sandbox.Mount) (err error) {
	if pm.Output > 0 {
		return errors.New("the result of a mount other than the root cannot be kept")
	}
	if sm.Lower, err = m.dirs(ctx, m.command.Below[i].Chain); err != nil {
		return err
	}
	if pm.ReadOnly && len(sm.Lower) > 0 {
		return nil
	}
	base := filepath.Join(m.dir, "mount"+strconv.Itoa(i))
	sm.Upper, sm.Work = filepath.Join(base, "upper"), filepath.Join(base, "work")
	if err := os.MkdirAll(sm.Upper, 0o755); err != nil {
		return err
	}
	return os.MkdirAll(sm.Work, 0o755)
}

// serveAgent serves the agent of an ssh mount on a socket, while the command runs.
func (m mounter) serveAgent(ctx context.Context, pm parser.Mount, socket string) (skip bool, err error) {
	id := pm.SecretID
	if id == "" {
		id = "default"
	}
	err = fs.ErrNotExist
	if m.SSH != nil {
		var stop func()
		if stop, err = m.SSH(ctx, id, socket, pm); err == nil {
			m.held.add(stop)
			return false, nil
		}
	}
	switch {
	case !errors.Is(err, fs.ErrNotExist):
		return false, err
	case pm.Optional:
		return true, nil
	}
	return false, hint.Add(fmt.Errorf("no ssh agent or key was given for id %q", id), "give one with --ssh "+id)
}

// secret returns a secret's content; missing optional ones are skipped.
func (r *Runner) secret(id string, optional bool) (data []byte, skip bool, err error) {
	err = fs.ErrNotExist
	if r.Secrets != nil {
		data, err = r.Secrets(id)
	}
	switch {
	case err == nil:
		return data, false, nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, false, fmt.Errorf("reading secret %s: %w", id, err)
	case optional:
		return nil, true, nil
	}
	return nil, false, hint.Add(fmt.Errorf("secret %s: not found", id), fmt.Sprintf("give it with --secret id=%s,src=FILE or --secret id=%s,env=VARIABLE", id, id))
}
