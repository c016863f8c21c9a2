package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/builder/sandbox/network"
	"github.com/sinter-build/sinter/builder/sandbox/pid1"
	"github.com/sinter-build/sinter/builder/sandbox/seccomp"
)

// idle are network namespaces that no command is in. Every command that has a broker
// has one to itself: commands that share one would share abstract sockets. Each is
// used again, since making one costs 0.7 ms.
var idle = make(chan *network.Namespace, 64)

// privateNetwork makes the namespace of the first command. The error is a reason for
// commands to do without.
var privateNetwork = sync.OnceValue(func() error {
	ns, err := network.New()
	if err == nil {
		keep(ns)
	}
	return err
})

// takeNamespace returns a network namespace for a command, or nil: then it has its
// own, or the host's.
func takeNamespace(ctx context.Context, s *Spec) (*network.Namespace, error) {
	if !s.usesBroker() {
		return nil, nil
	}
	if err := privateNetwork(); err != nil {
		return nil, passing(err)
	}
	select {
	case ns := <-idle:
		return made(ns)
	default:
	}
	ns, err := network.New()
	if err == nil {
		return ns, nil
	}
	// As many as there can be are in use.
	select {
	case ns := <-idle:
		return made(ns)
	case <-ctx.Done():
		return nil, errors.Join(context.Cause(ctx), err)
	}
}

// made makes a namespace that could not be made when it was due.
func made(ns *network.Namespace) (*network.Namespace, error) {
	if ns != nil {
		return ns, nil
	}
	ns, err := network.New()
	if err != nil {
		keep(nil) // or others would wait for it in vain
	}
	return ns, err
}

// passing returns an error that may be gone the next time: what a command can reach
// does not depend on it.
func passing(err error) error {
	for _, errno := range []unix.Errno{unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.EAGAIN} {
		if errors.Is(err, errno) {
			return err
		}
	}
	return nil
}

// giveBack takes a namespace back when its command has ended. The command may have
// passed a socket to a process outside, which would reach the next command by it:
// then another namespace takes its place. Where none can be made, the next command
// tries again, and fails if it has to.
func giveBack(ns *network.Namespace) {
	if ns == nil {
		return
	}
	if ns.Left {
		ns.Close()
		ns, _ = network.New()
	}
	keep(ns)
}

func keep(ns *network.Namespace) {
	select {
	case idle <- ns:
	default:
		if ns != nil {
			ns.Close()
		}
	}
}

// canScope reports whether the kernel can keep commands from connecting to abstract
// sockets outside of their sandbox.
var canScope = sync.OnceValue(pid1.CanScope)

// Prepare begins to make, in the background, what the first command needs and all
// commands share.
var Prepare = sync.OnceFunc(func() {
	go func() { _ = privateNetwork() }()
	go func() { _, _ = brokerFilter() }()
})

// usesBroker reports whether a command is to have its network by a broker. One with
// the host's network has the namespace itself, and one with all privileges no filter
// that would stop its calls.
func (s *Spec) usesBroker() bool { return s.Network == NetDefault && !s.Insecure }

// Exposed says why abstract Unix sockets lead from a command to other programs of
// this machine, or from them to it, more than was asked for. It is nil when they do
// not.
func Exposed(s Spec) error {
	switch {
	case s.Network == NetNone:
		return nil
	case s.usesBroker():
		if err := privateNetwork(); passing(err) == nil {
			return err
		}
		return nil // the step fails
	case !canScope():
		return errors.New("this kernel has no Landlock scopes, which Linux 6.12 has")
	}
	return nil
}

// networkFilter returns the seccomp filter that a command's network asks for.
func networkFilter(s Spec, ns *network.Namespace) ([]byte, error) {
	switch {
	case ns != nil:
		return brokerFilter()
	case s.Network != NetNone && ownsNetwork():
		return hostNetworkFilter()
	}
	return defaultFilter()
}

// The filters are the same for every command; they are made once.
var (
	defaultFilter     = sync.OnceValues(func() ([]byte, error) { return rawFilter(seccomp.Default(capNames())) })
	hostNetworkFilter = sync.OnceValues(func() ([]byte, error) { return rawFilter(seccomp.DefaultInHostNetwork(capNames())) })
	brokerFilter      = sync.OnceValues(func() ([]byte, error) {
		return rawFilter(seccomp.DefaultWithBroker(capNames(), ownsNetwork()))
	})
)

// ownsNetwork reports whether capabilities of this process have power over the
// network that it is in: its user namespace, or one below, owns the network
// namespace. A plain user's capabilities have none over the host's.
var ownsNetwork = sync.OnceValue(func() bool {
	ns, err := unix.Open("/proc/self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return true
	}
	defer unix.Close(ns)
	owner, err := unix.IoctlRetInt(ns, unix.NS_GET_USERNS)
	if err != nil {
		return err != unix.EPERM // the owner is out of reach
	}
	unix.Close(owner)
	return true
})

// connect gives a command a broker and what goes with it, as open files of its init
// from the number first on. Without a namespace there is none.
func connect(ns *network.Namespace, p *pid1.Plan, first int) (*network.Broker, []*os.File, error) {
	if ns == nil {
		return nil, nil, nil
	}
	broker, err := ns.NewBroker()
	if err != nil {
		return nil, nil, fmt.Errorf("connecting the command to the network: %w", err)
	}
	p.Broker, p.FilterFlags = first, ns.FilterFlags
	files := []*os.File{broker.Socket()}
	if ownsNetwork() {
		p.SysNetwork = first + 1
		files = append(files, ns.Outer)
	}
	return broker, files, nil
}

// numberedInterfaces replaces the names of interfaces in the addresses of name
// servers (fe80::1%eth0) with their numbers, which sockets take as well: C libraries
// look up names in the command's network namespace, which does not have them.
func numberedInterfaces(resolvConf []byte) []byte {
	lines := strings.Split(string(resolvConf), "\n")
	for i, line := range lines {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		_, name, _ := strings.Cut(fields[1], "%")
		if found, err := net.InterfaceByName(name); err == nil {
			lines[i] = strings.Replace(line, "%"+name, "%"+strconv.Itoa(found.Index), 1)
		}
	}
	return []byte(strings.Join(lines, "\n"))
}
