package seccomp

import (
	"math"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// SocketTypeMask is the part of socket(2)'s second argument that is the type; the
// rest are flags (SOCK_TYPE_MASK of the kernel's include/linux/net.h).
const SocketTypeMask = 0xf

// SocketCallSocket is the first argument of a socketcall(2) for a socket
// (SYS_SOCKET of the kernel's include/uapi/linux/net.h).
const SocketCallSocket = 1

// Brokered reports whether sockets of a kind, given as to socket(2), are those of
// the internet, or show the network's interfaces and routes. Raw ones are
// not.
func Brokered(domain, kind, protocol int) bool {
	switch domain {
	case unix.AF_INET, unix.AF_INET6:
		switch kind & SocketTypeMask {
		case unix.SOCK_STREAM, unix.SOCK_DGRAM, unix.SOCK_SEQPACKET:
			return true
		}
	case unix.AF_NETLINK:
		return protocol == unix.NETLINK_ROUTE
	}
	return false
}

// brokered are the rules for DefaultWithBroker.
func brokered() []specs.LinuxSyscall {
	socket := func(args ...specs.LinuxSeccompArg) specs.LinuxSyscall {
		return specs.LinuxSyscall{Names: []string{"socket"}, Action: specs.ActNotify, Args: args}
	}
	rules := []specs.LinuxSyscall{
		socket(word(0, unix.AF_NETLINK), word(2, unix.NETLINK_ROUTE)),
		{Names: []string{"socketcall"}, Action: specs.ActNotify, Args: []specs.LinuxSeccompArg{word(0, SocketCallSocket)}},
	}
	for _, domain := range []uint64{unix.AF_INET, unix.AF_INET6} {
		for _, kind := range []uint64{unix.SOCK_STREAM, unix.SOCK_DGRAM, unix.SOCK_SEQPACKET} {
			rules = append(rules, socket(word(0, domain), ofType(kind)))
		}
	}
	return rules
}

// noRawSockets deny raw and packet sockets.
func noRawSockets() []specs.LinuxSyscall {
	socket := func(act specs.LinuxSeccompAction, arg specs.LinuxSeccompArg) specs.LinuxSyscall {
		return specs.LinuxSyscall{Names: []string{"socket"}, Action: act, Args: []specs.LinuxSeccompArg{arg}}
	}
	unknown := uint(unix.ENOSYS)
	return []specs.LinuxSyscall{
		// In these domains raw is a type like any other.
		socket(specs.ActAllow, word(0, unix.AF_UNIX)),
		socket(specs.ActAllow, word(0, unix.AF_NETLINK)),
		socket(specs.ActErrno, word(0, unix.AF_PACKET)),
		socket(specs.ActErrno, word(0, unix.AF_XDP)),
		socket(specs.ActErrno, ofType(unix.SOCK_RAW)),
		socket(specs.ActErrno, ofType(unix.SOCK_PACKET)),
		// Its arguments are in memory, where a filter cannot look. C libraries
		// for 32-bit x86 have called socket(2) instead since Linux 4.3.
		{Names: []string{"socketcall"}, Action: specs.ActErrno, ErrnoRet: &unknown},
	}
}

// noRawOptions deny the socket options that need CAP_NET_RAW.
func noRawOptions() []specs.LinuxSyscall {
	const (
		ipTransparent   = 19
		ipv6Transparent = 75
	)
	option := func(level, name uint64) specs.LinuxSyscall {
		return specs.LinuxSyscall{
			Names: []string{"setsockopt"}, Action: specs.ActErrno, Args: []specs.LinuxSeccompArg{word(1, level), word(2, name)},
		}
	}
	return []specs.LinuxSyscall{
		option(unix.SOL_SOCKET, unix.SO_MARK),
		option(unix.SOL_IP, ipTransparent),
		option(unix.SOL_IPV6, ipv6Transparent),
	}
}

// word compares the 32 bits that the kernel reads of an argument.
func word(index uint, value uint64) specs.LinuxSeccompArg {
	return specs.LinuxSeccompArg{Index: index, Value: math.MaxUint32, ValueTwo: value, Op: specs.OpMaskedEqual}
}

// ofType compares the type of a socket.
func ofType(kind uint64) specs.LinuxSeccompArg {
	return specs.LinuxSeccompArg{Index: 1, Value: SocketTypeMask, ValueTwo: kind, Op: specs.OpMaskedEqual}
}
