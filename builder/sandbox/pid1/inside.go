// Package pid1 is the first process in the namespaces of a command. The
// builder starts its own binary again under the name Name; this package then
// takes the place of main: it mounts the root, runs the command as it is told
// by a plan on PlanFD, ends what is left and reports on ReportFD.
//
// It runs when the package is initialised, and imports as little as it can, so
// that it comes before the initialisation of most other packages: those of the
// whole program take longer than all the work done here, and an init is started
// for every command.
package pid1

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/layers/hint"
)

// Name is os.Args[0] of the init.
const Name = "sinter-init"

// The init's open files besides the standard three.
const (
	PlanFD   = 3 // the builder writes a plan, and keeps it open while it lives
	ReportFD = 4
)

var _ = begin()

func begin() struct{} {
	switch os.Args[0] {
	case Name:
		initMain()
	case TmpfsName:
		tmpfsMain()
	}
	return struct{}{}
}

// Plan is what the builder tells the init.
type Plan struct {
	// Lower are directories, lowest first; Upper and Work are overlay's.
	Lower       []string
	Upper, Work string
	// Stage is an empty directory for the init's own mounts.
	Stage          string
	Args, Env      []string
	Cwd, User      string
	Hostname       string
	OwnNetwork     bool
	Insecure       bool
	UserNS, Single bool // root of a user namespace only, with one user
	TTYGroup       bool // terminals can belong to the group tty, 5
	Mounts         []Mount
	Limits         []Limit
	Caps           CapSet
	// ResolvConf and Hosts are the content of files in /etc.
	ResolvConf, Hosts []byte
	// Filter and FakeRoot are seccomp programs in memory layout, or empty.
	Filter, FakeRoot []byte
	// Broker is a socket by which the listener of the filter, loaded with
	// FilterFlags, is passed to the builder, in whose network namespace the init is
	// not. SysNetwork is that namespace, for /sys, if it may be used. 0 is none.
	Broker, SysNetwork int
	FilterFlags        uint32
}

// MountType is what a mount shows.
type MountType string

// The types of mounts.
const (
	MountBind   MountType = "bind"
	MountCache  MountType = "cache"
	MountTmpfs  MountType = "tmpfs"
	MountSecret MountType = "secret"
	MountSSH    MountType = "ssh"
	MountDevice MountType = "device"
)

// Mount is one mount of a command, besides /proc, /sys and /dev.
type Mount struct {
	Type     MountType
	Dest     string
	ReadOnly bool
	// Source is the directory, file or socket of a bind, a cache or an agent.
	Source string
	// Lower, with Upper and Work when it can be written to, stand for Source: a
	// stage's directories, lowest first.
	Lower       []string
	Upper, Work string
	// Selector is a path inside the source; its links do not lead out of it.
	Selector string
	// Data is a secret. It is never on disk.
	Data     []byte
	UID, GID int
	Mode     uint32
	// Size limits a tmpfs, in bytes; 0 is the kernel's choice.
	Size int64
	// FD is a tmpfs that is made already; 0 is none.
	FD int
}

// Report is what the init answers.
type Report struct {
	// Err is a failure of the sandbox: before the command, or after it if Ended
	// is set. Hint is what to do about that, or about Reason.
	Err, Hint string
	Ended     bool
	// Reason is why the command itself could not be started.
	Reason           string
	ExitCode, Signal int
	MaxRSS           int64 // bytes; 0 when it is unknown
	// OtherHostname says that the command saw the host name of the container around, as
	// a seccomp filter lets nobody set another.
	OtherHostname bool
	// Stubs are mount points made in the root, parents first.
	Stubs []string
}

func (r *Report) fail(err error) {
	r.Err = err.Error()
	var h *hint.Error
	switch {
	case errors.As(err, &h):
		r.Hint = h.Hint
	case r.Ended && errors.Is(err, unix.EMFILE):
		// It had enough before the command ran.
		r.Hint = "the command lowered the limit of open files of process 1, which is sinter's (prlimit)"
	}
}
