// Package seccomp makes the system call filters of the sandbox: classic BPF
// programs, computed in pure Go. It makes them and does not load them.
//
// The default filter says what moby's default profile says, in the way runc
// and libseccomp read it, for every interface the profile names: on amd64 also
// 32-bit x86 and x32, on arm64 also 32-bit ARM.
package seccomp

import (
	"errors"
	"fmt"
	"runtime"
	"slices"

	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Default returns moby's default profile as a filter for a process with these
// capabilities in its bounding set (names as "CAP_SYS_ADMIN"), on the kernel
// and architecture that run. It is to be loaded with SECCOMP_SET_MODE_FILTER
// by a process with CAP_SYS_ADMIN in its user namespace.
func Default(caps []string) ([]unix.SockFilter, error) {
	profile, err := defaultProfile(caps)
	if err != nil {
		return nil, err
	}
	return compile(profile)
}

// DefaultInHostNetwork is Default without raw and packet sockets, with which a
// command with CAP_NET_RAW would read and forge what the host sends and receives,
// and without the socket options that give a foreign address or a mark. A mark that
// is sent as ancillary data cannot be filtered. The capability itself stays, since
// the kernel refuses to start a program that has it as a file capability when the
// bounding set lacks it.
func DefaultInHostNetwork(caps []string) ([]unix.SockFilter, error) {
	return extended(caps, noRawSockets(), noRawOptions())
}

// DefaultWithBroker is Default for a command whose sockets are made by another
// process: calls of socket(2) for what Brokered names wait for the listener of the
// filter, as does socketcall(2) for a socket of any kind, whose arguments are in
// memory. options says that a capability has power over the network in which they
// are made; then the socket options that give a foreign address or a mark are
// denied.
func DefaultWithBroker(caps []string, options bool) ([]unix.SockFilter, error) {
	rules := brokered()
	if options {
		rules = append(rules, noRawOptions()...)
	}
	return extended(caps, rules)
}

// extended compiles the default profile with rules before its own: the first rule
// that applies decides.
func extended(caps []string, rules ...[]specs.LinuxSyscall) ([]unix.SockFilter, error) {
	profile, err := defaultProfile(caps)
	if err != nil {
		return nil, err
	}
	profile.Syscalls = append(slices.Concat(rules...), profile.Syscalls...)
	return compile(profile)
}

func defaultProfile(caps []string) (*specs.LinuxSeccomp, error) {
	spec := &specs.Spec{Process: &specs.Process{
		Capabilities: &specs.LinuxCapabilities{Bounding: caps},
	}}
	profile, err := seccomp.GetDefaultProfile(spec)
	if err != nil {
		return nil, fmt.Errorf("default seccomp profile: %w", err)
	}
	return profile, nil
}

// FakeRoot returns the filter for a user namespace that has a single id. Calls
// that change owners, ids, capabilities or make devices do nothing and succeed,
// because package installers ask for them and there is nothing else they could
// do here; every other call is allowed. The idea and the list are Charliecloud's
// (ch-image --force=seccomp). Where another filter fails a call, the filter that
// was loaded last decides, so load this one after the default filter, and after
// the ids of the command are set.
func FakeRoot() ([]unix.SockFilter, error) {
	arches, err := nativeArchitectures(runtime.GOARCH)
	if err != nil {
		return nil, err
	}
	return compile(fakeRootProfile(arches))
}

// nativeArchitectures returns the interfaces of a kernel that runs programs of
// an architecture named as Go does.
func nativeArchitectures(goarch string) ([]specs.Arch, error) {
	switch goarch {
	case "amd64":
		return []specs.Arch{specs.ArchX86_64, specs.ArchX32, specs.ArchX86}, nil
	case "arm64":
		return []specs.Arch{specs.ArchAARCH64, specs.ArchARM}, nil
	}
	return nil, fmt.Errorf("seccomp filter for %s: %w", goarch, errors.ErrUnsupported)
}

// fakeRootProfile is FakeRoot in the form of a profile.
func fakeRootProfile(arches []specs.Arch) *specs.LinuxSeccomp {
	success := uint(0)
	fake := func(names []string, args ...specs.LinuxSeccompArg) specs.LinuxSyscall {
		return specs.LinuxSyscall{Names: names, Action: specs.ActErrno, ErrnoRet: &success, Args: args}
	}
	p := &specs.LinuxSeccomp{
		DefaultAction: specs.ActAllow,
		Architectures: arches,
		Syscalls: []specs.LinuxSyscall{fake([]string{
			"chown", "fchown", "lchown", "fchownat",
			"chown32", "fchown32", "lchown32",
			"setuid", "setreuid", "setresuid", "setfsuid",
			"setgid", "setregid", "setresgid", "setfsgid", "setgroups",
			"setuid32", "setreuid32", "setresuid32", "setfsuid32",
			"setgid32", "setregid32", "setresgid32", "setfsgid32", "setgroups32",
			"capset",
		})},
	}
	// Only devices are out of reach: pipes, sockets and files are really made.
	for _, kind := range []uint64{unix.S_IFCHR, unix.S_IFBLK} {
		device := specs.LinuxSeccompArg{Index: 1, Value: unix.S_IFMT, ValueTwo: kind, Op: specs.OpMaskedEqual}
		p.Syscalls = append(p.Syscalls, fake([]string{"mknod"}, device))
		device.Index = 2
		p.Syscalls = append(p.Syscalls, fake([]string{"mknodat"}, device))
	}
	return p
}
