package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/builder/sandbox/network"
	"github.com/sinter-build/sinter/builder/sandbox/pid1"
	"github.com/sinter-build/sinter/builder/sandbox/seccomp"
	"github.com/sinter-build/sinter/builder/sandbox/userns"
	"github.com/sinter-build/sinter/layers/hint"
)

const defaultHostname = "buildkitsandbox"

// newPlan turns a spec into what the init needs. ns is the command's network
// namespace if it has a broker.
func newPlan(s Spec, ns *network.Namespace) (*pid1.Plan, error) {
	p := &pid1.Plan{
		Lower: s.Lower, Upper: s.Upper, Work: s.Work, Stage: filepath.Join(s.TempDir, "stage"),
		Args: s.Args, Env: s.Env, Cwd: s.Cwd, User: s.User, Hostname: s.Hostname,
		OwnNetwork: s.Network == NetNone, Insecure: s.Insecure,
		UserNS: userns.Inside(), Single: userns.Single(), TTYGroup: userns.HasGroup(5),
	}
	if p.Hostname == "" {
		p.Hostname = defaultHostname
	}
	p.Hosts = hosts(p.Hostname, s.Hosts)
	if err := os.Mkdir(p.Stage, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	var err error
	if p.Mounts, err = mounts(s.Mounts); err != nil {
		return nil, err
	}
	if p.ResolvConf, err = os.ReadFile("/etc/resolv.conf"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("reading the host's name servers: %w", err)
	}
	if ns != nil {
		p.ResolvConf = numberedInterfaces(p.ResolvConf)
	}
	if p.Limits, err = limits(s.Ulimits); err != nil {
		return nil, err
	}
	return p, privileges(p, s, ns)
}

// mounts are the mounts asked for as BuildKit and runc take them: of two at one
// place the later counts, a tmpfs on /dev is the /dev that every command has, and
// little may be covered in /proc.
func mounts(asked []Mount) ([]Mount, error) {
	var list []Mount
	at := map[string]int{}
	for _, m := range asked {
		m.Dest = path.Clean("/" + m.Dest)
		if m.Dest == "/dev" && m.Type == MountTmpfs {
			continue
		}
		if (m.Dest == "/proc" || strings.HasPrefix(m.Dest, "/proc/")) && !slices.Contains(coverable, m.Dest) {
			return nil, hint.Add(
				fmt.Errorf("mounting %s at %s: nothing can be mounted there", m.Type, m.Dest),
				"/proc is the kernel's own; choose another target",
			)
		}
		if i, twice := at[m.Dest]; twice {
			list[i] = m
			continue
		}
		at[m.Dest] = len(list)
		list = append(list, m)
	}
	return list, nil
}

// coverable are the files of /proc that runc lets be covered: those that tell a
// command how large its machine is.
var coverable = []string{
	"/proc/cpuinfo", "/proc/diskstats", "/proc/meminfo", "/proc/stat", "/proc/swaps", "/proc/uptime", "/proc/loadavg",
	"/proc/slabinfo", "/proc/net/dev", "/proc/sys/kernel/ns_last_pid", "/proc/sys/crypto/fips_enabled",
}

// privileges says what the command may do.
func privileges(p *pid1.Plan, s Spec, ns *network.Namespace) (err error) {
	p.Caps = ^pid1.CapSet(0)
	if !p.Insecure {
		p.Caps = 0
		for _, c := range defaultCaps {
			p.Caps |= 1 << c.number
		}
		if p.Filter, err = networkFilter(s, ns); err != nil {
			return fmt.Errorf("making the seccomp filter: %w", err)
		}
	}
	if p.Single {
		if p.FakeRoot, err = fakeRootFilter(); err != nil {
			return fmt.Errorf("making the seccomp filter: %w", err)
		}
	}
	return nil
}

// The filter is the same for every command; it is made once.
var fakeRootFilter = sync.OnceValues(func() ([]byte, error) { return rawFilter(seccomp.FakeRoot()) })

// rawFilter returns a program as it is in memory.
func rawFilter(filter []unix.SockFilter, err error) ([]byte, error) {
	if err != nil || len(filter) == 0 {
		return nil, err
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(&filter[0])), len(filter)*int(unsafe.Sizeof(filter[0]))), nil
}

// defaultCaps are the capabilities of root in a container, the same as those of
// docker and BuildKit.
var defaultCaps = [...]struct {
	number int
	name   string
}{
	{unix.CAP_CHOWN, "CAP_CHOWN"}, {unix.CAP_DAC_OVERRIDE, "CAP_DAC_OVERRIDE"}, {unix.CAP_FSETID, "CAP_FSETID"},
	{unix.CAP_FOWNER, "CAP_FOWNER"}, {unix.CAP_MKNOD, "CAP_MKNOD"}, {unix.CAP_NET_RAW, "CAP_NET_RAW"},
	{unix.CAP_SETGID, "CAP_SETGID"}, {unix.CAP_SETUID, "CAP_SETUID"}, {unix.CAP_SETFCAP, "CAP_SETFCAP"},
	{unix.CAP_SETPCAP, "CAP_SETPCAP"}, {unix.CAP_NET_BIND_SERVICE, "CAP_NET_BIND_SERVICE"},
	{unix.CAP_SYS_CHROOT, "CAP_SYS_CHROOT"}, {unix.CAP_KILL, "CAP_KILL"}, {unix.CAP_AUDIT_WRITE, "CAP_AUDIT_WRITE"},
}

func capNames() []string {
	names := make([]string, len(defaultCaps))
	for i, c := range defaultCaps {
		names[i] = c.name
	}
	return names
}

// hosts is the content of /etc/hosts, the same as BuildKit's.
func hosts(name string, more []Host) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "127.0.0.1\tlocalhost %s\n::1\tlocalhost ip6-localhost ip6-loopback\n", name)
	for _, h := range more {
		fmt.Fprintf(&b, "%s\t%s\n", h.IP, h.Name)
	}
	return b.Bytes()
}

// limits translates ulimits.
func limits(ulimits []Ulimit) ([]pid1.Limit, error) {
	var limits []pid1.Limit
	for _, u := range ulimits {
		resource, ok := ulimitResource(u.Name)
		if !ok {
			return nil, hint.Add(
				fmt.Errorf("ulimit %q is not known", u.Name),
				"the names are those of docker build --ulimit, such as nofile, nproc and core",
			)
		}
		// -1 becomes the largest number, which the kernel takes as unlimited.
		l := pid1.Limit{Resource: resource, Soft: uint64(u.Soft), Hard: uint64(u.Hard)}
		if l.Soft > l.Hard {
			return nil, fmt.Errorf("ulimit %s: the soft limit %d is above the hard limit %d", u.Name, u.Soft, u.Hard)
		}
		limits = append(limits, l)
	}
	return limits, nil
}

// ulimitResource knows the names of limits as docker takes them.
func ulimitResource(name string) (int, bool) {
	resource, ok := map[string]int{
		"as": unix.RLIMIT_AS, "core": unix.RLIMIT_CORE, "cpu": unix.RLIMIT_CPU, "data": unix.RLIMIT_DATA,
		"fsize": unix.RLIMIT_FSIZE, "locks": unix.RLIMIT_LOCKS, "memlock": unix.RLIMIT_MEMLOCK,
		"msgqueue": unix.RLIMIT_MSGQUEUE, "nice": unix.RLIMIT_NICE, "nofile": unix.RLIMIT_NOFILE,
		"nproc": unix.RLIMIT_NPROC, "rss": unix.RLIMIT_RSS, "rtprio": unix.RLIMIT_RTPRIO,
		"rttime": unix.RLIMIT_RTTIME, "sigpending": unix.RLIMIT_SIGPENDING, "stack": unix.RLIMIT_STACK,
	}[name]
	return resource, ok
}
