package seccomp

import (
	"encoding/binary"
	"fmt"
	"math"
	"runtime"
	"slices"
	"testing"

	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// dockerCaps are the capabilities docker gives by default.
func dockerCaps() []string {
	return []string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW",
		"CAP_SETGID", "CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE",
		"CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
	}
}

// selectRules applies the conditions of moby's profile for any architecture and
// kernel; the library does it for those that run.
func selectRules(goarch string, caps []string, kernel seccomp.KernelVersion) *specs.LinuxSeccomp {
	all := seccomp.DefaultProfile()
	p := &specs.LinuxSeccomp{DefaultAction: all.DefaultAction, DefaultErrnoRet: all.DefaultErrnoRet}
	native := map[string]specs.Arch{"amd64": specs.ArchX86_64, "arm64": specs.ArchAARCH64}[goarch]
	for _, a := range all.ArchMap {
		if a.Arch == native {
			p.Architectures = append([]specs.Arch{a.Arch}, a.SubArches...)
		}
	}
	reached := func(min *seccomp.KernelVersion) bool {
		return kernel.Kernel > min.Kernel || kernel.Kernel == min.Kernel && kernel.Major >= min.Major
	}
	for _, s := range all.Syscalls {
		if in := s.Includes; in != nil {
			missing := slices.ContainsFunc(in.Caps, func(c string) bool { return !slices.Contains(caps, c) })
			if missing || len(in.Arches) > 0 && !slices.Contains(in.Arches, goarch) || in.MinKernel != nil && !reached(in.MinKernel) {
				continue
			}
		}
		if ex := s.Excludes; ex != nil {
			held := slices.ContainsFunc(ex.Caps, func(c string) bool { return slices.Contains(caps, c) })
			if held || slices.Contains(ex.Arches, goarch) || ex.MinKernel != nil && reached(ex.MinKernel) {
				continue
			}
		}
		p.Syscalls = append(p.Syscalls, s.LinuxSyscall)
	}
	return p
}

// call is one system call as a filter sees it.
type call struct {
	arch, nr uint32
	args     [6]uint64
}

// image is the call as struct seccomp_data for a machine that, unlike the
// kernel, loads words in network order.
func (c call) image() []byte {
	b := make([]byte, 64)
	binary.BigEndian.PutUint32(b[offsetNumber:], c.nr)
	binary.BigEndian.PutUint32(b[offsetArch:], c.arch)
	for i, a := range c.args {
		binary.BigEndian.PutUint32(b[offsetArgs+8*i:], uint32(a))
		binary.BigEndian.PutUint32(b[offsetArgs+8*i+4:], uint32(a>>32))
	}
	return b
}

func machine(t testing.TB, filter []unix.SockFilter) func(call) uint32 {
	t.Helper()
	program := make([]bpf.Instruction, len(filter))
	for i, f := range filter {
		program[i] = bpf.RawInstruction{Op: f.Code, Jt: f.Jt, Jf: f.Jf, K: f.K}.Disassemble()
		if raw, ok := program[i].(bpf.RawInstruction); ok {
			t.Fatalf("instruction %d is not one: %+v", i, raw)
		}
	}
	vm, err := bpf.NewVM(program)
	if err != nil {
		t.Fatal(err)
	}
	return func(c call) uint32 {
		got, err := vm.Run(c.image())
		if err != nil {
			t.Fatalf("%+v: %v", c, err)
		}
		return uint32(got)
	}
}

// holds says whether a condition of a profile holds, as runtime-spec defines it.
func holds(c specs.LinuxSeccompArg, v uint64) bool {
	switch c.Op {
	case specs.OpEqualTo:
		return v == c.Value
	case specs.OpNotEqual:
		return v != c.Value
	case specs.OpLessThan:
		return v < c.Value
	case specs.OpLessEqual:
		return v <= c.Value
	case specs.OpGreaterThan:
		return v > c.Value
	case specs.OpGreaterEqual:
		return v >= c.Value
	case specs.OpMaskedEqual:
		return v&c.Value == c.ValueTwo
	}
	panic(c.Op)
}

// says is what the profile says of a call by name.
func says(p *specs.LinuxSeccomp, name string, args [6]uint64) uint32 {
	result := func(a specs.LinuxSeccompAction, errno *uint) uint32 {
		if a == specs.ActAllow {
			return unix.SECCOMP_RET_ALLOW
		}
		if errno == nil {
			return unix.SECCOMP_RET_ERRNO | 1
		}
		return unix.SECCOMP_RET_ERRNO | uint32(*errno)
	}
	for _, s := range p.Syscalls {
		if !slices.Contains(s.Names, name) {
			continue
		}
		all := true
		for _, c := range s.Args {
			all = all && holds(c, args[c.Index])
		}
		if all {
			return result(s.Action, s.ErrnoRet)
		}
	}
	return result(p.DefaultAction, p.DefaultErrnoRet)
}

// values are interesting values of an argument: all that the profile names for
// it, their neighbours, and both halves of a word set.
func values(p *specs.LinuxSeccomp) []uint64 {
	v := []uint64{0, 1, math.MaxUint32, math.MaxUint64, 1 << 32, 0x11 /* SIGCHLD */}
	for _, s := range p.Syscalls {
		for _, c := range s.Args {
			for _, x := range []uint64{c.Value, c.ValueTwo} {
				v = append(v, x, x-1, x+1, x|1<<40, x&^(x-1))
			}
		}
	}
	slices.Sort(v)
	return slices.Compact(v)
}

// checkProfile compares a filter with its profile: every known call of every
// interface with every interesting value in each argument.
func checkProfile(t *testing.T, p *specs.LinuxSeccomp, filter []unix.SockFilter) {
	t.Helper()
	calls, err := parseTable()
	if err != nil {
		t.Fatal(err)
	}
	run, interesting := machine(t, filter), values(p)
	for _, arch := range p.Architectures {
		i, err := interfaceOf(arch)
		if err != nil {
			t.Fatal(err)
		}
		highest := make([]uint32, len(i.bases()))
		for _, s := range p.Syscalls {
			for _, name := range s.Names {
				nr, ok := calls[name].of(i)
				for r, b := range i.bases() {
					if ok && nr >= b.from && nr < b.to {
						highest[r] = max(highest[r], nr)
					}
				}
			}
		}
		for name, n := range calls {
			nr, ok := n.of(i)
			if !ok {
				continue
			}
			for _, v := range interesting {
				for index := range 6 {
					c := call{arch: i.audit(), nr: nr}
					c.args[index] = v
					want := says(p, name, c.args)
					for r, b := range i.bases() {
						if nr >= b.from && nr < b.to && nr > highest[r] && p.DefaultAction != specs.ActAllow {
							want = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
						}
					}
					if got := run(c); got != want {
						t.Fatalf("%s: %s (%#x) with argument %d = %#x: %#x, the profile says %#x", arch, name, nr, index, v, got, want)
					}
				}
			}
		}
	}
}

func TestDefaultProfile(t *testing.T) {
	capSets := map[string][]string{
		"docker":   dockerCaps(),
		"none":     nil,
		"insecure": append(dockerCaps(), "CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_SYS_TIME", "CAP_BPF", "CAP_SYS_BOOT", "CAP_SYSLOG"),
	}
	for _, goarch := range []string{"amd64", "arm64"} {
		for name, caps := range capSets {
			kernels := []seccomp.KernelVersion{{Kernel: 6, Major: 18}}
			if name == "docker" { // around the only condition there is
				kernels = append(kernels, seccomp.KernelVersion{Kernel: 4, Major: 7}, seccomp.KernelVersion{Kernel: 4, Major: 8})
			}
			for _, kernel := range kernels {
				t.Run(fmt.Sprintf("%s/%s/%s", goarch, name, kernel.String()), func(t *testing.T) {
					p := selectRules(goarch, caps, kernel)
					filter, err := compile(p)
					if err != nil {
						t.Fatal(err)
					}
					if len(filter) > 1500 {
						t.Errorf("%d instructions", len(filter))
					}
					checkProfile(t, p, filter)
				})
			}
		}
	}
}

// TestDefault checks that Default is the compiled profile of this machine.
func TestDefault(t *testing.T) {
	if runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
		t.Skipf("no filter for %s", runtime.GOARCH)
	}
	filter, err := Default(dockerCaps())
	if err != nil {
		t.Fatal(err)
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	var kernel seccomp.KernelVersion
	if _, err := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &kernel.Kernel, &kernel.Major); err != nil {
		t.Fatal(err)
	}
	checkProfile(t, selectRules(runtime.GOARCH, dockerCaps(), kernel), filter)
}

// TestKnownAnswers pins calls whose numbers and answers are written down here,
// not derived from the table.
func TestKnownAnswers(t *testing.T) {
	const (
		allow  = unix.SECCOMP_RET_ALLOW
		eperm  = unix.SECCOMP_RET_ERRNO | 1
		enosys = unix.SECCOMP_RET_ERRNO | 38
		kill   = unix.SECCOMP_RET_KILL_PROCESS
		x64    = unix.AUDIT_ARCH_X86_64
		ia32   = unix.AUDIT_ARCH_I386
		a64    = unix.AUDIT_ARCH_AARCH64
		a32    = unix.AUDIT_ARCH_ARM
		x32Bit = 0x40000000
	)
	tests := []struct {
		goarch, name string
		arch, nr     uint32
		arg0         uint64
		want         uint32
	}{
		{"amd64", "read", x64, 0, 0, allow},
		{"amd64", "execve", x64, 59, 0, allow},
		{"amd64", "mount", x64, 165, 0, eperm},
		{"amd64", "unshare", x64, 272, 0, eperm},
		{"amd64", "clone of a process", x64, 56, uint64(unix.SIGCHLD), allow},
		{"amd64", "clone of a user namespace", x64, 56, unix.CLONE_NEWUSER, eperm},
		{"amd64", "clone3", x64, 435, 0, enosys},
		{"amd64", "io_uring_setup", x64, 425, 0, eperm},
		{"amd64", "userfaultfd", x64, 323, 0, eperm},
		{"amd64", "keyctl", x64, 250, 0, eperm},
		{"amd64", "chroot", x64, 161, 0, allow},
		{"amd64", "reboot", x64, 169, 0, eperm},
		{"amd64", "personality of Linux", x64, 135, 0, allow},
		{"amd64", "personality query", x64, 135, 0xffffffff, allow},
		{"amd64", "personality query, sign extended", x64, 135, math.MaxUint64, eperm},
		{"amd64", "personality without randomisation", x64, 135, 0x40000, eperm},
		{"amd64", "socket AF_INET6", x64, 41, unix.AF_INET6, allow},
		{"amd64", "socket AF_VSOCK", x64, 41, unix.AF_VSOCK, eperm},
		{"amd64", "socket AF_ALG", x64, 41, unix.AF_ALG, eperm},
		{"amd64", "a call of the future", x64, 1000, 0, enosys},
		{"amd64", "no call", x64, math.MaxUint32, 0, enosys},
		{"amd64", "x32 read", x64, x32Bit, 0, allow},
		{"amd64", "x32 execve", x64, x32Bit + 520, 0, allow},
		{"amd64", "execve by its 64-bit number on x32", x64, x32Bit + 59, 0, eperm},
		{"amd64", "x32 mount", x64, x32Bit + 165, 0, eperm},
		{"amd64", "x32 future", x64, x32Bit + 1000, 0, enosys},
		{"amd64", "i386 execve", ia32, 11, 0, allow},
		{"amd64", "i386 mount", ia32, 21, 0, eperm},
		{"amd64", "i386 socketcall", ia32, 102, 0, allow},
		{"amd64", "i386 clone of a user namespace", ia32, 120, unix.CLONE_NEWUSER, eperm},
		{"amd64", "i386 clone3", ia32, 435, 0, enosys},
		{"amd64", "a foreign architecture", a64, 64, 0, kill},
		{"arm64", "write", a64, 64, 0, allow},
		{"arm64", "execve", a64, 221, 0, allow},
		{"arm64", "newfstatat", a64, 79, 0, allow},
		{"arm64", "mount", a64, 40, 0, eperm},
		{"arm64", "clone of a user namespace", a64, 220, unix.CLONE_NEWUSER, eperm},
		{"arm64", "clone3", a64, 435, 0, enosys},
		{"arm64", "future", a64, 1000, 0, enosys},
		{"arm64", "arm execve", a32, 11, 0, allow},
		{"arm64", "arm cacheflush", a32, 0xf0002, 0, allow},
		{"arm64", "arm set_tls", a32, 0xf0005, 0, allow},
		{"arm64", "arm usr26", a32, 0xf0003, 0, eperm},
		{"arm64", "arm mount", a32, 21, 0, eperm},
		{"arm64", "arm future", a32, 1000, 0, enosys},
		{"arm64", "a foreign architecture", x64, 0, 0, kill},
	}
	for _, tt := range tests {
		t.Run(tt.goarch+"/"+tt.name, func(t *testing.T) {
			filter, err := compile(selectRules(tt.goarch, dockerCaps(), seccomp.KernelVersion{Kernel: 6, Major: 1}))
			if err != nil {
				t.Fatal(err)
			}
			c := call{arch: tt.arch, nr: tt.nr, args: [6]uint64{tt.arg0}}
			if got := machine(t, filter)(c); got != tt.want {
				t.Errorf("%#x, want %#x", got, tt.want)
			}
		})
	}
}

// TestRawSockets: in the host's network raw sockets are denied, by any
// interface, and all other sockets are as before.
func TestRawSockets(t *testing.T) {
	const (
		allow, eperm, enosys = unix.SECCOMP_RET_ALLOW, unix.SECCOMP_RET_ERRNO | 1, unix.SECCOMP_RET_ERRNO | 38
		x64, ia32, a64       = unix.AUDIT_ARCH_X86_64, unix.AUDIT_ARCH_I386, unix.AUDIT_ARCH_AARCH64
		flags                = unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK
	)
	for _, tt := range []filterCase{
		{"amd64", "stream", x64, 41, [6]uint64{unix.AF_INET, unix.SOCK_STREAM | flags}, allow},
		{"amd64", "datagram", x64, 41, [6]uint64{unix.AF_INET6, unix.SOCK_DGRAM}, allow},
		{"amd64", "raw", x64, 41, [6]uint64{unix.AF_INET, unix.SOCK_RAW}, eperm},
		{"amd64", "raw, with flags", x64, 41, [6]uint64{unix.AF_INET6, unix.SOCK_RAW | flags}, eperm},
		{"amd64", "raw, with more bits than the kernel reads", x64, 41, [6]uint64{unix.AF_INET, 1<<32 | unix.SOCK_RAW}, eperm},
		{"amd64", "packet", x64, 41, [6]uint64{unix.AF_PACKET, unix.SOCK_DGRAM}, eperm},
		{"amd64", "packet, with more bits than the kernel reads", x64, 41, [6]uint64{1<<32 | unix.AF_PACKET, unix.SOCK_DGRAM}, eperm},
		{"amd64", "packet by its old type", x64, 41, [6]uint64{unix.AF_INET, unix.SOCK_PACKET}, eperm},
		{"amd64", "express data path", x64, 41, [6]uint64{unix.AF_XDP, unix.SOCK_RAW}, eperm},
		{"amd64", "raw netlink", x64, 41, [6]uint64{unix.AF_NETLINK, unix.SOCK_RAW}, allow},
		{"amd64", "raw unix", x64, 41, [6]uint64{unix.AF_UNIX, unix.SOCK_RAW}, allow},
		{"amd64", "still denied", x64, 41, [6]uint64{unix.AF_ALG, unix.SOCK_SEQPACKET}, eperm},
		{"amd64", "transparent", x64, 54, [6]uint64{3, unix.SOL_IP, 19}, eperm},
		{"amd64", "transparent, IPv6", x64, 54, [6]uint64{3, unix.SOL_IPV6, 75}, eperm},
		{"amd64", "mark", x64, 54, [6]uint64{3, unix.SOL_SOCKET, unix.SO_MARK}, eperm},
		{"amd64", "mark, with more bits than the kernel reads", x64, 54, [6]uint64{3, 1<<32 | unix.SOL_SOCKET, unix.SO_MARK}, eperm},
		{"amd64", "mark, with more bits of the name", x64, 54, [6]uint64{3, unix.SOL_SOCKET, 7<<32 | unix.SO_MARK}, eperm},
		{"amd64", "transparent, with more bits than the kernel reads", x64, 54, [6]uint64{3, 1<<32 | unix.SOL_IP, 19}, eperm},
		{"amd64", "another option", x64, 54, [6]uint64{3, unix.SOL_SOCKET, unix.SO_REUSEADDR}, allow},
		{"amd64", "x32 raw", x64, 0x40000000 + 41, [6]uint64{unix.AF_INET, unix.SOCK_RAW}, eperm},
		{"amd64", "i386 raw", ia32, 359, [6]uint64{unix.AF_INET, unix.SOCK_RAW}, eperm},
		{"amd64", "i386 stream", ia32, 359, [6]uint64{unix.AF_INET, unix.SOCK_STREAM}, allow},
		{"amd64", "i386 socketcall", ia32, 102, [6]uint64{1}, enosys},
		{"arm64", "raw", a64, 198, [6]uint64{unix.AF_INET, unix.SOCK_RAW}, eperm},
		{"arm64", "stream", a64, 198, [6]uint64{unix.AF_INET, unix.SOCK_STREAM}, allow},
	} {
		t.Run(tt.goarch+"/"+tt.name, func(t *testing.T) {
			tt.check(t, noRawSockets(), noRawOptions())
		})
	}
}

// filterCase is a call, and what a filter is to return for it.
type filterCase struct {
	goarch, name string
	arch, nr     uint32
	args         [6]uint64
	want         uint32
}

// check tries the default profile with rules before its own.
func (c filterCase) check(t *testing.T, rules ...[]specs.LinuxSyscall) {
	t.Helper()
	profile := selectRules(c.goarch, dockerCaps(), seccomp.KernelVersion{Kernel: 6, Major: 1})
	profile.Syscalls = append(slices.Concat(rules...), profile.Syscalls...)
	filter, err := compile(profile)
	if err != nil {
		t.Fatal(err)
	}
	if got := machine(t, filter)(call{arch: c.arch, nr: c.nr, args: c.args}); got != c.want {
		t.Errorf("%#x, want %#x", got, c.want)
	}
}

// TestBroker: sockets of the internet, and netlink sockets for routes, wait for an
// answer by any interface. All other calls are as before.
func TestBroker(t *testing.T) {
	const (
		allow, eperm, notify   = unix.SECCOMP_RET_ALLOW, unix.SECCOMP_RET_ERRNO | 1, unix.SECCOMP_RET_USER_NOTIF
		setsockopt, socketcall = 54, 102
		x64, ia32, a64         = unix.AUDIT_ARCH_X86_64, unix.AUDIT_ARCH_I386, unix.AUDIT_ARCH_AARCH64
		flags                  = unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK
	)
	for _, tt := range []filterCase{
		{"amd64", "stream", x64, 41, [6]uint64{unix.AF_INET, unix.SOCK_STREAM | flags}, notify},
		{"amd64", "datagram", x64, 41, [6]uint64{unix.AF_INET6, unix.SOCK_DGRAM, unix.IPPROTO_UDP}, notify},
		{"amd64", "packets in order", x64, 41, [6]uint64{unix.AF_INET6, unix.SOCK_SEQPACKET, unix.IPPROTO_SCTP}, notify},
		{"amd64", "more bits than the kernel reads", x64, 41, [6]uint64{1<<32 | unix.AF_INET, 1<<32 | unix.SOCK_STREAM}, notify},
		{"amd64", "raw", x64, 41, [6]uint64{unix.AF_INET, unix.SOCK_RAW}, allow},
		{"amd64", "packet by its old type", x64, 41, [6]uint64{unix.AF_INET, unix.SOCK_PACKET}, allow},
		{"amd64", "packet", x64, 41, [6]uint64{unix.AF_PACKET, unix.SOCK_DGRAM}, allow},
		{"amd64", "routes", x64, 41, [6]uint64{unix.AF_NETLINK, unix.SOCK_RAW | flags, unix.NETLINK_ROUTE}, notify},
		{"amd64", "other netlink", x64, 41, [6]uint64{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_KOBJECT_UEVENT}, allow},
		{"amd64", "unix", x64, 41, [6]uint64{unix.AF_UNIX, unix.SOCK_STREAM}, allow},
		{"amd64", "still denied", x64, 41, [6]uint64{unix.AF_ALG, unix.SOCK_SEQPACKET}, eperm},
		{"amd64", "mark", x64, setsockopt, [6]uint64{3, unix.SOL_SOCKET, unix.SO_MARK}, eperm},
		{"amd64", "another option", x64, setsockopt, [6]uint64{3, unix.SOL_SOCKET, unix.SO_REUSEADDR}, allow},
		{"amd64", "x32 stream", x64, 0x40000000 + 41, [6]uint64{unix.AF_INET, unix.SOCK_STREAM}, notify},
		{"amd64", "i386 stream", ia32, 359, [6]uint64{unix.AF_INET, unix.SOCK_STREAM}, notify},
		{"amd64", "i386 socketcall for a socket", ia32, socketcall, [6]uint64{1}, notify},
		{"amd64", "i386 socketcall for another call", ia32, socketcall, [6]uint64{3}, allow},
		{"arm64", "stream", a64, 198, [6]uint64{unix.AF_INET, unix.SOCK_STREAM}, notify},
		{"arm64", "unix", a64, 198, [6]uint64{unix.AF_UNIX, unix.SOCK_STREAM}, allow},
	} {
		t.Run(tt.goarch+"/"+tt.name, func(t *testing.T) {
			tt.check(t, brokered(), noRawOptions())
			if tt.nr == setsockopt || tt.nr == socketcall {
				return
			}
			if Brokered(int(int32(tt.args[0])), int(int32(tt.args[1])), int(int32(tt.args[2]))) != (tt.want == notify) {
				t.Error("Brokered says something else")
			}
		})
	}
}

// TestOperators runs every operator over values around the borders of the
// halves of a word, alone, together and repeated for one argument.
func TestOperators(t *testing.T) {
	border := []uint64{0, 1, 2, math.MaxUint32 - 1, math.MaxUint32, 1 << 32, 1<<32 + 1, 5<<32 + 7, math.MaxUint64 - 1, math.MaxUint64}
	ops := []specs.LinuxSeccompOperator{
		specs.OpEqualTo, specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual,
		specs.OpGreaterThan, specs.OpGreaterEqual, specs.OpMaskedEqual,
	}
	const number = 2 // open
	for _, op := range ops {
		for _, operand := range border {
			first := specs.LinuxSeccompArg{Index: 1, Value: operand, ValueTwo: operand & 0xf0000000f, Op: op}
			second := specs.LinuxSeccompArg{Index: 5, Value: 5<<32 + 7, Op: specs.OpGreaterEqual}
			again := specs.LinuxSeccompArg{Index: 1, Value: 1, Op: specs.OpEqualTo}
			filter := func(args ...specs.LinuxSeccompArg) func(call) uint32 {
				f, err := compile(&specs.LinuxSeccomp{
					DefaultAction: specs.ActErrno,
					Architectures: []specs.Arch{specs.ArchX86_64},
					Syscalls:      []specs.LinuxSyscall{{Names: []string{"open"}, Action: specs.ActAllow, Args: args}},
				})
				if err != nil {
					t.Fatal(err)
				}
				return machine(t, f)
			}
			one, two, either := filter(first), filter(first, second), filter(first, again)
			for _, v := range border {
				for _, w := range border {
					c := call{arch: unix.AUDIT_ARCH_X86_64, nr: number, args: [6]uint64{1: v, 5: w}}
					for name, x := range map[string]struct{ got, want bool }{
						"one":    {one(c) == unix.SECCOMP_RET_ALLOW, holds(first, v)},
						"both":   {two(c) == unix.SECCOMP_RET_ALLOW, holds(first, v) && holds(second, w)},
						"either": {either(c) == unix.SECCOMP_RET_ALLOW, holds(first, v) || holds(again, v)},
					} {
						if x.got != x.want {
							t.Fatalf("%s: %s %#x of %#x, %#x: %v", name, op, operand, v, w, x.got)
						}
					}
				}
			}
		}
	}
}

func TestFakeRootProfile(t *testing.T) {
	const fake = unix.SECCOMP_RET_ERRNO
	for _, goarch := range []string{"amd64", "arm64"} {
		arches, err := nativeArchitectures(goarch)
		if err != nil {
			t.Fatal(err)
		}
		p := fakeRootProfile(arches)
		filter, err := compile(p)
		if err != nil {
			t.Fatal(err)
		}
		checkProfile(t, p, filter)
		if goarch != "amd64" {
			continue
		}
		run := machine(t, filter)
		for name, x := range map[string]struct {
			c    call
			want uint32
		}{
			"chown":         {call{unix.AUDIT_ARCH_X86_64, 92, [6]uint64{}}, fake},
			"setgroups":     {call{unix.AUDIT_ARCH_X86_64, 116, [6]uint64{}}, fake},
			"mknod device":  {call{unix.AUDIT_ARCH_X86_64, 133, [6]uint64{1: unix.S_IFCHR | 0o600}}, fake},
			"mknodat block": {call{unix.AUDIT_ARCH_X86_64, 259, [6]uint64{2: unix.S_IFBLK | 0o600}}, fake},
			"mknod pipe":    {call{unix.AUDIT_ARCH_X86_64, 133, [6]uint64{1: unix.S_IFIFO | 0o600}}, unix.SECCOMP_RET_ALLOW},
			"mknod file":    {call{unix.AUDIT_ARCH_X86_64, 133, [6]uint64{1: 0o600}}, unix.SECCOMP_RET_ALLOW},
			"mount":         {call{unix.AUDIT_ARCH_X86_64, 165, [6]uint64{}}, unix.SECCOMP_RET_ALLOW},
			"future":        {call{unix.AUDIT_ARCH_X86_64, 1000, [6]uint64{}}, unix.SECCOMP_RET_ALLOW},
			"i386 chown32":  {call{unix.AUDIT_ARCH_I386, 212, [6]uint64{}}, fake},
		} {
			if got := run(x.c); got != x.want {
				t.Errorf("%s: %#x, want %#x", name, got, x.want)
			}
		}
	}
}

func TestUnknown(t *testing.T) {
	for name, p := range map[string]*specs.LinuxSeccomp{
		"architecture": {DefaultAction: specs.ActErrno, Architectures: []specs.Arch{specs.ArchS390X}},
		"action":       {DefaultAction: specs.ActTrace, Architectures: []specs.Arch{specs.ArchX86_64}},
		"operator": {DefaultAction: specs.ActErrno, Architectures: []specs.Arch{specs.ArchX86_64}, Syscalls: []specs.LinuxSyscall{
			{Names: []string{"open"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Op: "SCMP_CMP_SIMILAR"}}}}},
		"argument": {DefaultAction: specs.ActErrno, Architectures: []specs.Arch{specs.ArchX86_64}, Syscalls: []specs.LinuxSyscall{
			{Names: []string{"open"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Index: 6, Op: specs.OpEqualTo}}}}},
	} {
		if _, err := compile(p); err == nil {
			t.Errorf("unknown %s is accepted", name)
		}
	}
	if _, err := nativeArchitectures("mips"); err == nil {
		t.Error("a filter for an architecture without tables")
	}
}

func BenchmarkDefault(b *testing.B) {
	for b.Loop() {
		if _, err := Default(dockerCaps()); err != nil {
			b.Fatal(err)
		}
	}
}
