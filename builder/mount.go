package builder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"

	"github.com/sinter-build/sinter/builder/sandbox"
	"github.com/sinter-build/sinter/layers/hint"
	"github.com/sinter-build/sinter/parser"
)

// held is what a command holds while it runs.
type held struct{ frees []func() }

func (h *held) add(free func()) { h.frees = append(h.frees, free) }

func (h *held) release() {
	for i := len(h.frees) - 1; i >= 0; i-- {
		h.frees[i]()
	}
	h.frees = nil
}

// mounter prepares the mounts of one command.
type mounter struct {
	*engine
	node *parser.Node
	// dir is the command's own temporary folder.
	dir string
	// cwd is where the command runs: relative places of mounts are below it.
	cwd  string
	held *held
	// caches are the directories of cache mounts by the mounts' places.
	caches map[int]string
}

// mounts prepares the mounts of the command, but for its root.
func (m mounter) mounts(ctx context.Context, asked []parser.Mount) ([]sandbox.Mount, error) {
	var err error
	if m.caches, err = m.cacheDirs(ctx, asked); err != nil {
		return nil, err
	}
	var list []sandbox.Mount
	for i, mount := range asked {
		if mount.Dest == "/" {
			if mount.ReadOnly {
				return nil, fmt.Errorf("mount %d: a read-only root is not supported", i)
			}
			continue
		}
		sm, skip, err := m.mount(ctx, i, mount)
		if err != nil {
			return nil, mountError(mount, err)
		}
		if !skip {
			list = append(list, sm)
		}
	}
	return list, nil
}

// mountError says which mount could not be prepared.
func mountError(m parser.Mount, err error) error {
	return fmt.Errorf("mount %s at %s: %w", m.Type, m.Dest, err)
}

// mount prepares one mount; skip says that it is optional and was not given.
func (m mounter) mount(ctx context.Context, i int, pm parser.Mount) (sm sandbox.Mount, skip bool, err error) {
	sm = sandbox.Mount{
		Type: sandbox.MountType(pm.Type), Dest: m.dest(pm.Dest), ReadOnly: pm.ReadOnly,
		Selector: pm.Selector, UID: pm.UID, GID: pm.GID, Mode: pm.Mode, Size: pm.TmpfsSize,
	}
	switch pm.Type {
	case parser.MountTmpfs:
		return sm, false, nil
	case parser.MountSecret:
		sm.Data, skip, err = m.secret(pm.SecretID, pm.Optional)
		return sm, skip, err
	case parser.MountSSH:
		return m.ssh(ctx, i, pm, sm)
	case parser.MountCache:
		sm.Source = m.caches[i]
		return sm, false, nil
	case parser.MountBind:
		return sm, false, m.bind(ctx, i, pm, &sm)
	}
	return sm, false, fmt.Errorf("mount type %q is not known", pm.Type)
}

// dest is the absolute path of a mount. The frontend makes those of most types
// absolute, but not those of secrets and agents.
func (m mounter) dest(at string) string {
	if path.IsAbs(at) {
		return at
	}
	return path.Join("/", m.cwd, at)
}

// bind mounts the layers of the input. What a command writes there goes to a
// directory of its own that is thrown away.
func (m mounter) bind(ctx context.Context, i int, pm parser.Mount, sm *sandbox.Mount) error {
	if pm.Output > 0 {
		return errors.New("the result of a mount other than the root cannot be kept")
	}
	if pm.Input >= 0 {
		c, err := m.layersOf(ctx, m.node.Inputs[pm.Input], pm.Selector)
		if err != nil {
			return err
		}
		if sm.Lower, err = m.dirs(ctx, c); err != nil {
			return err
		}
	}
	if pm.ReadOnly && len(sm.Lower) > 0 {
		return nil
	}
	return m.scratch(i, sm)
}

// scratch gives a mount directories to write to.
func (m mounter) scratch(i int, sm *sandbox.Mount) error {
	base := filepath.Join(m.dir, "mount"+strconv.Itoa(i))
	sm.Upper, sm.Work = filepath.Join(base, "upper"), filepath.Join(base, "work")
	if err := os.MkdirAll(sm.Upper, 0o755); err != nil {
		return err
	}
	return os.MkdirAll(sm.Work, 0o755)
}

func (m mounter) ssh(ctx context.Context, i int, pm parser.Mount, sm sandbox.Mount) (sandbox.Mount, bool, error) {
	id := pm.SecretID
	if id == "" {
		id = "default"
	}
	sm.Source = filepath.Join(m.dir, "ssh"+strconv.Itoa(i))
	if m.SSH != nil {
		stop, err := m.SSH(ctx, id, sm.Source, pm)
		if err == nil {
			m.held.add(stop)
			return sm, false, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return sm, false, err
		}
	}
	if pm.Optional {
		return sm, true, nil
	}
	return sm, false, hint.Add(fmt.Errorf("no ssh agent or key was given for id %q", id), "give one with --ssh "+id)
}

// secret returns a secret's content; missing optional ones are skipped.
func (e *engine) secret(id string, optional bool) (data []byte, skip bool, err error) {
	err = fs.ErrNotExist
	if e.Secrets != nil {
		data, err = e.Secrets(id)
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

// secretEnv puts secrets into the command's environment, and nowhere else. An
// optional one that was not given leaves its variable empty, as in BuildKit.
func (e *engine) secretEnv(s *sandbox.Spec, vars []parser.SecretEnv) error {
	for _, v := range vars {
		data, _, err := e.secret(v.ID, v.Optional)
		if err != nil {
			return err
		}
		s.Env = append(s.Env[:len(s.Env):len(s.Env)], v.Name+"="+string(data))
	}
	return nil
}
