package seccomp

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

//go:generate go run gentable.go

// An abi is an interface of the kernel with call numbers of its own.
type abi int

// The interfaces, in the order of the table's columns.
const (
	amd64 abi = iota
	x32
	x86
	arm64
	arm
	abiCount
)

// numbers are the numbers of one call; -1 where an interface has no such call.
type numbers [abiCount]int64

// of returns the call's number in an interface. The zero value has none.
func (n *numbers) of(i abi) (uint32, bool) {
	if n == nil || n[i] < 0 {
		return 0, false
	}
	return uint32(n[i]), true
}

// interfaceOf returns the interface that a profile names.
func interfaceOf(a specs.Arch) (abi, error) {
	switch a {
	case specs.ArchX86_64:
		return amd64, nil
	case specs.ArchX32:
		return x32, nil
	case specs.ArchX86:
		return x86, nil
	case specs.ArchAARCH64:
		return arm64, nil
	case specs.ArchARM:
		return arm, nil
	}
	return 0, fmt.Errorf("seccomp architecture %s: no table of its system calls", a)
}

// audit returns what the kernel calls the interface in struct seccomp_data.
func (i abi) audit() uint32 {
	return [abiCount]uint32{
		unix.AUDIT_ARCH_X86_64,
		unix.AUDIT_ARCH_X86_64, // x32 differs in the number only
		unix.AUDIT_ARCH_I386,
		unix.AUDIT_ARCH_AARCH64,
		unix.AUDIT_ARCH_ARM,
	}[i]
}

// A numberRange is a run of numbers that are handed out in order, up to to.
type numberRange struct{ from, to uint32 }

// bases returns the ranges of an interface's numbers.
func (i abi) bases() []numberRange {
	const (
		x32Bit     = 0x40000000
		armPrivate = 0xf0000
	)
	switch i {
	case amd64:
		return []numberRange{{0, x32Bit}}
	case x32:
		return []numberRange{{x32Bit, math.MaxUint32}}
	case arm:
		return []numberRange{{0, armPrivate}, {armPrivate, math.MaxUint32}}
	}
	return []numberRange{{0, math.MaxUint32}}
}

// parseTable reads the generated table.
func parseTable() (map[string]*numbers, error) {
	calls := make(map[string]*numbers, 512)
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) != 1+int(abiCount) {
			return nil, fmt.Errorf("system call table: line %q", line)
		}
		n := new(numbers)
		for i, f := range fields[1:] {
			n[i] = -1
			if f == "-" {
				continue
			}
			nr, err := strconv.ParseUint(f, 10, 32)
			if err != nil {
				return nil, fmt.Errorf("system call table: line %q: %w", line, err)
			}
			n[i] = int64(nr)
		}
		calls[fields[0]] = n
	}
	return calls, nil
}
