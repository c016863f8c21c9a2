package seccomp

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// maxInstructions is what the kernel accepts (BPF_MAXINSNS).
const maxInstructions = 4096

// A rule is what happens to a call when all of its conditions hold.
type rule struct {
	conditions []specs.LinuxSeccompArg
	action     uint32
}

// A span is a run of call numbers, from one up to the next span's, that are all
// treated alike: the first rule that applies, or else the action.
type span struct {
	from   uint32
	rules  []rule
	action uint32
}

// compile turns a profile into a program: a comparison of the architecture,
// then for each a binary search over spans of call numbers. Calls from an
// interface the profile does not name kill the process, as in libseccomp.
//
// A number above all those the profile names is one that the profile's authors
// have not seen: it fails with ENOSYS, so that a C library falls back to an
// older call; runc does the same. Numbers below that are not named get the
// profile's default action.
func compile(p *specs.LinuxSeccomp) ([]unix.SockFilter, error) {
	calls, err := parseTable()
	if err != nil {
		return nil, err
	}
	byArch := map[uint32][]span{}
	var arches []uint32
	for _, arch := range p.Architectures {
		i, err := interfaceOf(arch)
		if err != nil {
			return nil, err
		}
		s, err := spans(p, i, calls)
		if err != nil {
			return nil, err
		}
		audit := i.audit()
		if byArch[audit] == nil {
			arches = append(arches, audit)
		}
		byArch[audit] = append(byArch[audit], s...)
	}
	program := []unix.SockFilter{ret(unix.SECCOMP_RET_KILL_PROCESS)}
	for _, audit := range slices.Backward(arches) {
		s := byArch[audit]
		slices.SortFunc(s, func(a, b span) int { return cmp.Compare(a.from, b.from) })
		body := append([]unix.SockFilter{load(offsetNumber)}, search(merge(s))...)
		program = branch(unix.BPF_JEQ, audit, body, program)
	}
	program = append([]unix.SockFilter{load(offsetArch)}, program...)
	if len(program) > maxInstructions {
		return nil, fmt.Errorf("seccomp filter: %d instructions, the kernel takes %d", len(program), maxInstructions)
	}
	return program, nil
}

// spans returns what the profile says of one interface's calls, ordered, from
// the interface's first number.
func spans(p *specs.LinuxSeccomp, i abi, calls map[string]*numbers) ([]span, error) {
	def, err := action(p.DefaultAction, p.DefaultErrnoRet)
	if err != nil {
		return nil, err
	}
	known := map[uint32]*span{}
	for _, s := range p.Syscalls {
		rules, err := rulesOf(s)
		if err != nil {
			return nil, err
		}
		for _, name := range s.Names {
			nr, ok := calls[name].of(i)
			if !ok {
				continue
			}
			if known[nr] == nil {
				known[nr] = &span{from: nr, action: def}
			}
			known[nr].add(rules)
		}
	}
	unknown := def
	if p.DefaultAction != specs.ActAllow {
		unknown = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
	}
	var out []span
	for _, base := range i.bases() {
		out = append(out, fill(known, base, def, unknown)...)
	}
	return out, nil
}

// fill returns the calls of one range of numbers and the spans around them.
func fill(calls map[uint32]*span, r numberRange, def, unknown uint32) []span {
	next := r.from
	var out []span
	var own []uint32
	for nr := range calls {
		if nr >= r.from && nr < r.to {
			own = append(own, nr)
		}
	}
	slices.Sort(own)
	for _, nr := range own {
		if nr > next {
			out = append(out, span{from: next, action: def})
		}
		out = append(out, *calls[nr])
		next = nr + 1
	}
	return append(out, span{from: next, action: unknown})
}

// add appends rules; one without conditions replaces the action and ends them.
func (s *span) add(rules []rule) {
	for _, r := range rules {
		if n := len(s.rules); n > 0 && len(s.rules[n-1].conditions) == 0 {
			return
		}
		s.rules = append(s.rules, r)
	}
}

// rulesOf returns the rules of one entry of a profile. As in runc, conditions
// must all hold, except when two of them are of one argument: then each of them
// is a rule of its own.
func rulesOf(s specs.LinuxSyscall) ([]rule, error) {
	act, err := action(s.Action, s.ErrnoRet)
	if err != nil {
		return nil, err
	}
	var seen [6]bool
	repeated := false
	for _, c := range s.Args {
		if c.Index >= uint(len(seen)) {
			return nil, fmt.Errorf("seccomp rule of %v: argument %d", s.Names, c.Index)
		}
		if test(c) == nil {
			return nil, fmt.Errorf("seccomp rule of %v: operator %q", s.Names, c.Op)
		}
		repeated = repeated || seen[c.Index]
		seen[c.Index] = true
	}
	if !repeated {
		return []rule{{conditions: s.Args, action: act}}, nil
	}
	var rules []rule
	for _, c := range s.Args {
		rules = append(rules, rule{conditions: []specs.LinuxSeccompArg{c}, action: act})
	}
	return rules, nil
}

// action returns what a filter returns for an action of a profile; an errno
// that is not given is EPERM.
func action(a specs.LinuxSeccompAction, errno *uint) (uint32, error) {
	switch a {
	case specs.ActAllow:
		return unix.SECCOMP_RET_ALLOW, nil
	case specs.ActErrno:
		if errno == nil {
			return unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM), nil
		}
		return unix.SECCOMP_RET_ERRNO | uint32(*errno)&unix.SECCOMP_RET_DATA, nil
	case specs.ActNotify:
		return unix.SECCOMP_RET_USER_NOTIF, nil
	}
	return 0, fmt.Errorf("seccomp action %s: not one of the default profile's", a)
}

// merge joins neighbours that are treated alike.
func merge(s []span) []span {
	return slices.CompactFunc(s, func(a, b span) bool {
		return slices.Equal(a.code(), b.code())
	})
}
