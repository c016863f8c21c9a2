package pid1

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"syscall"
	"unsafe"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/layers/hint"
)

// command is all that the forked child needs to become the command, in the form
// in which system calls take it: between fork and exec nothing may be allocated.
type command struct {
	name string
	// root and cwd are where its files are looked up.
	root int
	cwd  string
	// files are the executables to try, in the order of PATH, with their names.
	names      []string
	files      []*byte
	argv, envv []*byte
	// args and env are what argv and envv point to.
	args, env []string
	// tried is, in a child that failed, the executable that counts.
	tried     int32
	limits    []rlimit
	groups    []uint32
	uid, gid  int
	drop      []int
	caps      CapSet
	capHeader unix.CapUserHeader
	capData   [2]unix.CapUserData
	insecure  bool
	single    bool
	filter    *unix.SockFprog
	fakeRoot  *unix.SockFprog
	// broker is a socket that takes the filter's listener, as handover says; both
	// are zero when the filter has none.
	broker   uintptr
	handover *handover
	// errPipe is the only file that stays open until the command starts.
	errPipe uintptr
	// nested are what to write to which file of idMaps for a user namespace in
	// which the only user has another number; nil when not needed.
	nested []idMapFile
	idMaps uintptr
}

type idMapFile struct {
	name *byte
	data []byte
}

// startError is a command that could not be started, for a reason of its own.
type startError struct {
	code         int
	reason, hint string
}

func (e *startError) Error() string { return e.reason }

func (in *sandboxInit) command(u *user.ExecUser) (c *command, err error) {
	c = &command{
		name: in.plan.Args[0], root: in.root, cwd: in.cwd(), uid: u.Uid, gid: u.Gid, insecure: in.plan.Insecure, single: in.plan.Single,
		capHeader: unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3},
	}
	for _, g := range u.Sgids {
		c.groups = append(c.groups, uint32(g))
	}
	if c.limits, err = rlimits(in.plan.Limits); err != nil {
		return nil, err
	}
	own, err := OwnCaps()
	if err != nil {
		return nil, err
	}
	c.caps = in.plan.Caps & own
	c.drop, c.capData = c.caps.dropped(), c.caps.data(in.plan.Insecure)
	c.filter, c.fakeRoot = program(in.plan.Filter), program(in.plan.FakeRoot)
	if c.filter != nil && in.plan.Broker > 0 {
		c.broker, c.handover = uintptr(in.plan.Broker), newHandover(in.plan.FilterFlags)
	}
	if err := in.nest(c, u); err != nil {
		return nil, err
	}
	c.args, c.env = in.plan.Args, withHome(lastOfEach(in.plan.Env), u.Home)
	if c.argv, err = pointers(c.args); err != nil {
		return nil, fmt.Errorf("arguments: %w", err)
	}
	if c.envv, err = pointers(c.env); err != nil {
		return nil, fmt.Errorf("environment: %w", err)
	}
	return c, nil
}

// openIDMaps opens what the child writes its ID map to, for a user other than root
// where we have one user only.
func (in *sandboxInit) openIDMaps(u *user.ExecUser) (err error) {
	if !in.plan.Single || (u.Uid == 0 && u.Gid == 0) {
		in.idMaps = -1
		return nil
	}
	if in.idMaps < 0 {
		in.idMaps, err = openBelow(in.root, "/proc", unix.O_PATH|unix.O_DIRECTORY)
	}
	return err
}

// nest prepares a user namespace in which the only user is this one.
func (in *sandboxInit) nest(c *command, u *user.ExecUser) error {
	if in.idMaps < 0 {
		return nil
	}
	c.idMaps = uintptr(in.idMaps)
	for _, f := range []struct{ name, data string }{
		{"self/setgroups", "deny"},
		{"self/uid_map", fmt.Sprintf("%d 0 1", u.Uid)},
		{"self/gid_map", fmt.Sprintf("%d 0 1", u.Gid)},
	} {
		name, err := unix.BytePtrFromString(f.name)
		if err != nil {
			return err
		}
		c.nested = append(c.nested, idMapFile{name, []byte(f.data)})
	}
	return nil
}

// program reads a seccomp program as it was sent; nil is none.
func program(raw []byte) *unix.SockFprog {
	const size = int(unsafe.Sizeof(unix.SockFilter{}))
	if len(raw) < size {
		return nil
	}
	filter := make([]unix.SockFilter, len(raw)/size)
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&filter[0])), len(filter)*size), raw)
	return &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
}

// inPath returns the files that a PATH may mean by a name. As with runc, a
// relative directory that would win is an error: what a name means must not
// depend on where the command starts.
func (c *command) inPath(search string) ([]string, error) {
	var files []string
	found := false
	for _, dir := range strings.Split(search, ":") {
		f := path.Join(dir, c.name)
		st, err := c.stat(f)
		executable := err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR && st.Mode&0o111 != 0
		switch {
		case path.IsAbs(f):
			files = append(files, f)
			found = found || executable
		case executable && !found:
			return nil, &startError{
				code:   126,
				reason: fmt.Sprintf("exec %q: found in %q, a relative directory in $PATH", c.name, dir),
				hint:   "make the directories in PATH absolute, or write the command with a slash",
			}
		}
	}
	return files, nil
}

// inRoot returns a path of the command as one from its root.
func (c *command) inRoot(name string) string {
	if path.IsAbs(name) {
		return name
	}
	// Not joined: what is before ".." may be a symlink.
	return c.cwd + "/" + name
}

// stat looks at a file of the command. Links of /proc that stand for open files
// are not followed.
func (c *command) stat(name string) (unix.Stat_t, error) { return statBelow(c.root, c.inRoot(name)) }

// find looks up the executable by the PATH of the command, inside its root. The
// kernel looks it up once more, by then with no file open that leads out of the
// root.
func (c *command) find(env []string) error {
	files := []string{c.name}
	if !strings.Contains(c.name, "/") {
		search, ok := lookupEnv(env, "PATH")
		if !ok {
			search = DefaultPath
		}
		var err error
		if files, err = c.inPath(search); err != nil {
			return err
		}
	}
	var kept []string
	for _, f := range files {
		st, err := c.stat(f)
		switch {
		case errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR):
			continue
		case errors.Is(err, unix.ELOOP):
			if strings.Contains(c.name, "/") {
				return &startError{
					code:   126,
					reason: fmt.Sprintf("exec %q: %s", c.name, err),
					hint:   "symlinks must not form a loop, and those of /proc that stand for open files are not followed",
				}
			}
			continue
		case err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR:
			if strings.Contains(c.name, "/") {
				return &startError{code: 126, reason: fmt.Sprintf("exec %q: is a directory", c.name), hint: "name a program in it"}
			}
			continue
		}
		kept = append(kept, f)
	}
	if len(kept) == 0 {
		return c.notFound()
	}
	var err error
	if c.files, err = pointers(kept); err != nil {
		return err
	}
	c.names, c.files = kept, c.files[:len(kept)]
	return nil
}

// notFound says that the image has no such program.
func (c *command) notFound() error {
	e := &startError{code: 127, reason: fmt.Sprintf("exec %q: no such file or directory", c.name)}
	switch {
	case c.name == "/bin/sh":
		e.hint = `this image has no shell: write RUN ["/PROGRAM", "ARGUMENT"] for a program that it has, or COPY --from a stage in which commands can run (FROM scratch has no files at all)`
	case strings.Contains(c.name, "/"):
		e.hint = "check the path: the program has to be in the image"
	default:
		e.reason = fmt.Sprintf("exec %q: executable file not found in $PATH", c.name)
		e.hint = "check the name: the program has to be in the image, in a directory of its PATH"
	}
	return e
}

// DefaultPath is docker's for Linux.
const DefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// lastOfEach returns an environment in which every variable is set once, at its
// first place to its last value, as BuildKit does: C libraries would take the
// first.
func lastOfEach(env []string) []string {
	at := make(map[string]int, len(env))
	var kept []string
	for _, kv := range env {
		name, _, ok := strings.Cut(kv, "=")
		if !ok {
			continue
		}
		if i, twice := at[name]; twice {
			kept[i] = kv
			continue
		}
		at[name] = len(kept)
		kept = append(kept, kv)
	}
	return kept
}

// withHome sets HOME where the environment has none, or an empty one, as runc
// does.
func withHome(env []string, home string) []string {
	i := slices.IndexFunc(env, func(kv string) bool { return strings.HasPrefix(kv, "HOME=") })
	switch {
	case i < 0:
		return append(env, "HOME="+home)
	case env[i] == "HOME=":
		env[i] += home
	}
	return env
}

// lookupEnv returns the value of a variable.
func lookupEnv(env []string, name string) (string, bool) {
	for _, kv := range slices.Backward(env) {
		if v, ok := strings.CutPrefix(kv, name+"="); ok {
			return v, true
		}
	}
	return "", false
}

// pointers returns strings as system calls take them.
func pointers(ss []string) ([]*byte, error) {
	p, err := syscall.SlicePtrFromStrings(ss)
	if err != nil {
		return nil, errors.New("a zero byte cannot be given to a command")
	}
	return p, nil
}

// start starts the command and returns its process.
func (c *command) start() (int, error) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return 0, fmt.Errorf("making a pipe: %w", err)
	}
	defer unix.Close(pipe[0])
	c.errPipe = uintptr(pipe[1])
	pid, errno := c.fork()
	unix.Close(pipe[1])
	if errno != 0 {
		return 0, fmt.Errorf("starting a process: %w", errno)
	}
	var failure childFailure
	raw := unsafe.Slice((*byte)(unsafe.Pointer(&failure)), unsafe.Sizeof(failure))
	for {
		n, err := unix.Read(pipe[0], raw)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("starting a process: %w", err)
		}
		if n == 0 {
			return pid, nil
		}
		break
	}
	if _, err := wait4(pid); err != nil {
		return 0, fmt.Errorf("waiting for the child: %w", err)
	}
	return 0, c.failed(failure)
}

// failed explains why the child did not become the command.
func (c *command) failed(f childFailure) error {
	switch {
	case f.errno == unix.EINVAL && (f.step == stepGroups || f.step == stepUser):
		return hint.Add(
			fmt.Errorf("becoming user %d:%d: this build's user namespace does not have these IDs", c.uid, c.gid),
			"a plain user's build has the IDs that /etc/subuid and /etc/subgid give: use smaller numbers, or give more",
		)
	case f.errno == unix.EPERM && f.step == stepLimits:
		return hint.Add(
			fmt.Errorf("setting ulimits: %w", f.errno),
			"only root, with CAP_SYS_RESOURCE, may ask for more than this process has: see ulimit -H -a",
		)
	}
	if f.step != stepExec {
		return fmt.Errorf("preparing the command: %s: %w", f.step, f.errno)
	}
	if f.errno == unix.E2BIG {
		return tooLong(c.args, c.env)
	}
	return notStarted(c.name, c.firstBytes(c.names[f.file]), f.errno)
}
