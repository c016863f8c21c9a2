package pid1

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/layers/hint"
)

// sandboxInit is the first process of a command's namespaces.
type sandboxInit struct {
	plan Plan
	// root is the command's root, open.
	root int
	// idMaps is a /proc in which the command's child writes its ID map where there
	// is one user only; -1 when it need not.
	idMaps int
	// points makes the mount points that the root does not have.
	points *mountPoints
	// devices is a directory with the devices that every command has. They are
	// the host's own where borrowed is set.
	devices  int
	borrowed bool
	// otherHostname says that the host name cannot be set.
	otherHostname bool
	// dirs counts the directories made on the stage.
	dirs int
}

// initMain does what the builder tells it to. It never returns.
func initMain() {
	runtime.LockOSThread()
	plan, out := os.NewFile(PlanFD, "plan"), os.NewFile(ReportFD, "report")
	var r Report
	if err := closeInherited(os.Args[1:]); err != nil {
		r.fail(err)
	} else {
		r = serve(plan)
	}
	if err := writeReport(out, &r); err != nil {
		os.Exit(1)
	}
	os.Exit(0)
}

func serve(from *os.File) (r Report) {
	in := &sandboxInit{idMaps: -1}
	if err := readPlan(from, &in.plan); err != nil {
		r.fail(fmt.Errorf("reading the plan: %w", err))
		return r
	}
	go dieWith(from)
	forward := takeSignals()
	cmd, err := in.prepare()
	if err == nil {
		err = in.run(cmd, forward, &r)
	}
	if err != nil {
		r.fail(err)
	}
	r.OtherHostname = in.otherHostname
	if in.points != nil {
		r.Stubs = in.points.made
	}
	return r
}

// dieWith ends this process, and by that all in its namespace, when the
// builder's end of the pipe closes.
func dieWith(builder *os.File) {
	var b [1]byte
	builder.Read(b[:])
	os.Exit(1)
}

// prepare makes the command's world and enters it.
func (in *sandboxInit) prepare() (*command, error) {
	// Nobody inside may look into this process by ptrace or /proc/1.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("closing the init to others: %w", err)
	}
	// The kernel has named it after the file that it was started from.
	if err := unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(unsafe.StringData(Name+"\x00"))), 0, 0, 0); err != nil {
		return nil, fmt.Errorf("naming the init: %w", err)
	}
	if err := newSessionKeyring(); err != nil {
		return nil, err
	}
	unix.Umask(0)
	switch err := unix.Sethostname([]byte(in.plan.Hostname)); err {
	case nil:
	case unix.EPERM: // a seccomp filter's, in containers of podman: the namespace is our own
		in.otherHostname = true
	default:
		return nil, fmt.Errorf("setting host name %q: %w", in.plan.Hostname, err)
	}
	if in.plan.OwnNetwork {
		if err := LoopbackUp(); err != nil {
			return nil, err
		}
	}
	if err := in.mountRoot(); err != nil {
		return nil, err
	}
	// The user is looked up, and the working directory made, in the root alone,
	// as BuildKit does: mounts do not count.
	user, err := in.lookupUser()
	if err != nil {
		return nil, err
	}
	if err := in.makeCwd(user); err != nil {
		return nil, err
	}
	if err := in.mountAll(); err != nil {
		return nil, err
	}
	if user.Home, err = homeOf(in.root, user.Uid); err != nil {
		return nil, err
	}
	if err := in.openIDMaps(user); err != nil {
		return nil, err
	}
	if err := in.enter(); err != nil {
		return nil, err
	}
	return in.command(user)
}

// mountRoot makes the root, on a stage of our own.
func (in *sandboxInit) mountRoot() error {
	err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	if errors.Is(err, unix.EINVAL) {
		return hint.Add(
			fmt.Errorf("keeping mounts private: the root directory is not a mount point: %w", err),
			"in a chroot, make it one before: mount --bind DIR DIR, then chroot DIR; or use bwrap or a container",
		)
	}
	if err != nil {
		return fmt.Errorf("keeping mounts private: %w", err)
	}
	// noswap: the stage holds secrets.
	stage, err := NewMount("tmpfs", unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV, "mode=0700", "?noswap")
	if err != nil {
		return tooOld("fsopen", err)
	}
	dir, err := openPath(in.plan.Stage)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	if err := attach(stage, dir); err != nil {
		return fmt.Errorf("mounting the stage: %w", err)
	}
	attr := unix.MOUNT_ATTR_NODEV
	if in.plan.Insecure {
		attr = 0
	}
	mount, err := in.overlay(in.plan.Lower, in.plan.Upper, in.plan.Work, attr)
	if err != nil {
		return fmt.Errorf("mounting the root: %w", err)
	}
	at := in.stage("root")
	if err := unix.Mkdir(at, 0o755); err != nil {
		return fmt.Errorf("making the root: %w", err)
	}
	target, err := openPath(at)
	if err != nil {
		return err
	}
	defer unix.Close(target)
	if err := attach(mount, target); err != nil {
		return fmt.Errorf("mounting the root: %w", err)
	}
	if in.root, err = openPath(at); err != nil {
		return err
	}
	in.points, err = newMountPoints(in.root)
	return err
}

func (in *sandboxInit) stage(name string) string { return filepath.Join(in.plan.Stage, name) }

// newStageDir makes one more directory on the stage.
func (in *sandboxInit) newStageDir() (string, error) {
	in.dirs++
	dir := in.stage("dir" + strconv.Itoa(in.dirs))
	if err := unix.Mkdir(dir, 0o755); err != nil {
		return "", fmt.Errorf("making a directory on the stage: %w", err)
	}
	return dir, nil
}

// enter makes the root the only thing there is: no other directory is left,
// neither mounted nor open.
func (in *sandboxInit) enter() error {
	cwd, err := in.openCwd()
	if err != nil {
		return err
	}
	keep := []int{PlanFD, ReportFD, in.root, cwd}
	if in.idMaps >= 0 {
		keep = append(keep, in.idMaps)
	}
	if in.plan.Broker > 0 {
		keep = append(keep, in.plan.Broker)
	}
	if err := closeBut(keep...); err != nil {
		return err
	}
	if err := unix.Fchdir(in.root); err != nil {
		return fmt.Errorf("entering the root: %w", err)
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("changing the root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leaving the old root: %w", err)
	}
	defer unix.Close(cwd)
	if err := unix.Fchdir(cwd); err != nil {
		return fmt.Errorf("entering working directory %s: %w", in.cwd(), err)
	}
	return insideRoot(in.cwd())
}

// insideRoot makes sure that the working directory lies below the root, as runc
// does since CVE-2024-21626: the kernel says where it does not.
func insideRoot(name string) error {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Getcwd(buf)
	if err != nil {
		return fmt.Errorf("entering working directory %s: %w", name, err)
	}
	if n == 0 || buf[0] != '/' {
		return fmt.Errorf("working directory %s lies outside the root of the container", name)
	}
	return nil
}

// run starts the command and waits for it and for all that it leaves behind.
func (in *sandboxInit) run(cmd *command, forward <-chan os.Signal, r *Report) error {
	err := cmd.find(in.plan.Env)
	if err == nil {
		err = restrictScopes()
	}
	pid := 0
	if err == nil {
		in.giveOutput(cmd.uid)
		pid, err = cmd.start()
	}
	if in.plan.Broker > 0 {
		unix.Close(in.plan.Broker)
	}
	var failed *startError
	if errors.As(err, &failed) {
		r.ExitCode, r.Reason, r.Hint = failed.code, failed.Error(), failed.hint
		return nil
	}
	if err != nil {
		return err
	}
	go forwardTo(pid, forward)
	status, err := reap(pid)
	if err != nil {
		return err
	}
	// What the command left running ends with it.
	unix.Kill(-1, unix.SIGKILL)
	for {
		if _, err := wait4(-1); err != nil {
			break
		}
	}
	r.ExitCode = status.ExitStatus()
	if status.Signaled() {
		r.Signal = int(status.Signal())
		r.ExitCode = 128 + r.Signal
	}
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_CHILDREN, &usage); err == nil { // else it is unknown
		r.MaxRSS = usage.Maxrss << 10
	}
	r.Ended = true
	if r.ExitCode != 0 {
		// No step of a Dockerfile is kept then, and its exit code is what counts.
		_ = setReadOnly(in.root)
		return nil
	}
	return in.sealRoot()
}

// giveOutput lets the user open /dev/stdin, /dev/stdout and /dev/stderr, which
// are pipes.
func (in *sandboxInit) giveOutput(uid int) {
	if uid == 0 || in.plan.Single {
		return
	}
	for fd := 0; fd <= 2; fd++ {
		// Only a convenience: a command that does not open them needs none.
		_ = unix.Fchown(fd, uid, -1)
	}
}

// reap waits for a process, and for the orphans that end before it.
func reap(pid int) (unix.WaitStatus, error) {
	for {
		done, err := wait4(-1)
		if err != nil {
			return 0, fmt.Errorf("waiting for the command: %w", err)
		}
		if done.pid == pid {
			return done.status, nil
		}
	}
}

type ended struct {
	pid    int
	status unix.WaitStatus
}

func wait4(pid int) (e ended, err error) {
	for {
		e.pid, err = unix.Wait4(pid, &e.status, 0, nil)
		if err != unix.EINTR {
			return e, err
		}
	}
}

// tooOld explains the lack of a system call.
func tooOld(call string, err error) error {
	err = fmt.Errorf("%s: %w", call, err)
	if errors.Is(err, unix.ENOSYS) {
		return hint.Add(err, "the sandbox needs Linux 5.12 or later, and a seccomp profile that allows its mount calls")
	}
	return err
}
