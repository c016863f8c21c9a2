package seccomp

import (
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Offsets into struct seccomp_data; both architectures are little endian.
const (
	offsetNumber = 0
	offsetArch   = 4
	offsetArgs   = 16
)

// A piece of code is a list of instructions; unless said otherwise it ends in a
// return on each of its paths, so that pieces can be put one behind the other.

func load(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

func ret(action uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: action}
}

// branch compares the loaded word with k and goes on with one of two pieces.
// A conditional jump spans 255 instructions; beyond it takes a long one.
func branch(op uint16, k uint32, then, otherwise []unix.SockFilter) []unix.SockFilter {
	jump := unix.SockFilter{Code: unix.BPF_JMP | op | unix.BPF_K, K: k}
	if len(then) <= 255 {
		jump.Jf = uint8(len(then))
		return slices.Concat([]unix.SockFilter{jump}, then, otherwise)
	}
	jump.Jt = 1
	far := unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JA, K: uint32(len(then))}
	return slices.Concat([]unix.SockFilter{jump, far}, then, otherwise)
}

// search finds the span of the loaded call number. The spans are ordered.
func search(s []span) []unix.SockFilter {
	if len(s) == 1 {
		return s[0].code()
	}
	half := len(s) / 2
	return branch(unix.BPF_JGE, s[half].from, search(s[half:]), search(s[:half]))
}

// code returns the piece for a call of the span: each rule's code falls through
// to the next one's.
func (s span) code() []unix.SockFilter {
	var code []unix.SockFilter
	for _, r := range s.rules {
		code = append(code, r.code()...)
		if len(r.conditions) == 0 {
			return code
		}
	}
	return append(code, ret(s.action))
}

// code returns the rule's action where its conditions hold; else it falls off
// its end.
func (r rule) code() []unix.SockFilter {
	code := []unix.SockFilter{ret(r.action)}
	for _, c := range slices.Backward(r.conditions) {
		code = resolve(test(c), code)
	}
	return code
}

// A step is an instruction whose jumps have a meaning and not yet a length.
type step struct {
	code   uint16
	k      uint32
	jt, jf target
}

// A target is where a step goes: to the next step, to the code that runs when
// the condition holds, or behind that code.
type target int

const (
	next target = iota
	pass
	fail
)

// resolve puts steps before the code that they decide about. That is at most
// the tests of six arguments, so that a short jump always reaches.
func resolve(steps []step, body []unix.SockFilter) []unix.SockFilter {
	out := make([]unix.SockFilter, 0, len(steps)+len(body))
	for i, s := range steps {
		left := len(steps) - i - 1
		distance := [...]uint8{next: 0, pass: uint8(left), fail: uint8(left + len(body))}
		out = append(out, unix.SockFilter{Code: s.code, K: s.k, Jt: distance[s.jt], Jf: distance[s.jf]})
	}
	return append(out, body...)
}

// test returns the steps that compare a 64-bit argument, half by half.
func test(c specs.LinuxSeccompArg) []step {
	const eq, ge, gt = unix.BPF_JEQ, unix.BPF_JGE, unix.BPF_JGT
	switch high, low := split(c.Value); c.Op {
	case specs.OpEqualTo:
		return []step{loadHigh(c), jump(eq, high, next, fail), loadLow(c), jump(eq, low, pass, fail)}
	case specs.OpNotEqual:
		return []step{loadHigh(c), jump(eq, high, next, pass), loadLow(c), jump(eq, low, fail, pass)}
	case specs.OpMaskedEqual:
		wantHigh, wantLow := split(c.ValueTwo)
		return []step{
			loadHigh(c), and(high), jump(eq, wantHigh, next, fail),
			loadLow(c), and(low), jump(eq, wantLow, pass, fail),
		}
	case specs.OpGreaterEqual:
		return []step{loadHigh(c), jump(gt, high, pass, next), jump(eq, high, next, fail), loadLow(c), jump(ge, low, pass, fail)}
	case specs.OpGreaterThan:
		return []step{loadHigh(c), jump(gt, high, pass, next), jump(eq, high, next, fail), loadLow(c), jump(gt, low, pass, fail)}
	case specs.OpLessThan:
		return []step{loadHigh(c), jump(gt, high, fail, next), jump(eq, high, next, pass), loadLow(c), jump(ge, low, fail, pass)}
	case specs.OpLessEqual:
		return []step{loadHigh(c), jump(gt, high, fail, next), jump(eq, high, next, pass), loadLow(c), jump(gt, low, fail, pass)}
	}
	return nil
}

func split(v uint64) (high, low uint32) { return uint32(v >> 32), uint32(v) }

func jump(op uint16, k uint32, jt, jf target) step {
	return step{code: unix.BPF_JMP | op | unix.BPF_K, k: k, jt: jt, jf: jf}
}

func and(mask uint32) step {
	return step{code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, k: mask}
}

func loadLow(c specs.LinuxSeccompArg) step {
	return step{code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, k: offsetArgs + 8*uint32(c.Index)}
}

func loadHigh(c specs.LinuxSeccompArg) step {
	s := loadLow(c)
	s.k += 4
	return s
}
