// Package sandbox runs one command in a root made of layer directories.
//
// The same binary is started again as the command's init, in namespaces of its
// own: it mounts the root, runs the command, ends whatever is left of it and
// says how it went (see pid1). The builder's own mount namespace never sees a mount, so
// nothing is left when a process is killed at any moment.
//
// There is one path for root and for a user namespace in which we are root
// (see userns). The package does not choose what to run, does not cache, and
// knows nothing of images: it leaves what the command wrote in Spec.Upper.
package sandbox

import (
	"io"
	"time"

	"github.com/sinter-build/sinter/builder/sandbox/pid1"
)

// Spec is a command and the world that it sees.
type Spec struct {
	// Lower are the directories below the root, lowest first. None is allowed.
	Lower []string
	// Upper takes what the command writes; Work is overlay's own. Both are empty
	// directories of the caller, on one file system.
	Upper, Work string
	// TempDir is a private directory of the caller.
	TempDir string

	Args, Env []string
	// Cwd is made, for the user, when the root does not have it.
	Cwd string
	// User is a name or number with an optional group, as in Dockerfiles.
	User string
	// Hostname is "buildkitsandbox" when empty.
	Hostname string
	Network  NetMode
	// Insecure gives all capabilities, no seccomp filter, and hides nothing.
	Insecure bool
	// Hosts are extra lines of /etc/hosts.
	Hosts        []Host
	Mounts       []Mount
	Ulimits      []Ulimit
	Resources    Resources
	CgroupParent string

	// Stdout and Stderr are written to by one goroutine each; nil discards.
	Stdout, Stderr io.Writer
}

// NetMode is the network that a command sees.
type NetMode string

// The networks. By default a command uses the host's from a namespace of its own
// (see package network); NetHost is the host's namespace.
const (
	NetDefault NetMode = ""
	NetHost    NetMode = "host"
	NetNone    NetMode = "none"
)

// Host is a line of /etc/hosts.
type Host struct{ Name, IP string }

// Ulimit is a resource limit by its name in ulimit(1), such as "nofile". -1 is
// unlimited.
type Ulimit struct {
	Name       string
	Soft, Hard int64
}

// Resources are limits of a control group; zero is none.
type Resources struct {
	Memory, MemorySwap     int64 // bytes; MemorySwap counts both, -1 is unlimited
	CPUShares, CPUPeriod   uint64
	CPUQuota               int64 // microseconds of each CPUPeriod
	CPUSetCPUs, CPUSetMems string
}

// Mount is one mount of a command, besides /proc, /sys and /dev; see pid1.
type Mount = pid1.Mount

// MountType is what a mount shows.
type MountType = pid1.MountType

// The types of mounts.
const (
	MountBind   = pid1.MountBind
	MountCache  = pid1.MountCache
	MountTmpfs  = pid1.MountTmpfs
	MountSecret = pid1.MountSecret
	MountSSH    = pid1.MountSSH
	// MountDevice is a device node of this machine.
	MountDevice = pid1.MountDevice
)

// DefaultPath is where commands are looked up when the environment has no PATH:
// docker's for Linux.
const DefaultPath = pid1.DefaultPath

// Result says how a command went.
type Result struct {
	// ExitCode is 128 plus the signal for a command that a signal ended, and 126
	// or 127 for one that could not be started, as in a shell.
	ExitCode int
	Signal   int
	// OOM says that the kernel killed the command for lack of memory.
	OOM      bool
	Duration time.Duration
	// OtherHostname says that the command saw the host name of the container around, as
	// a seccomp filter lets nobody set another.
	OtherHostname bool
	// MaxRSS is the memory of the largest process, in bytes.
	MaxRSS int64
}
