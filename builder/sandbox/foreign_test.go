package sandbox

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// tiny is a static program whose whole work is to exit with 42.
func tiny(machine uint16, code []byte) []byte {
	const header, segment, base = 64, 56, 0x400000
	size := uint64(header + segment + len(code))
	var b bytes.Buffer
	b.WriteString("\x7fELF\x02\x01\x01" + strings.Repeat("\x00", 9))
	for _, v := range []any{
		uint16(2), machine, uint32(1), uint64(base + header + segment), uint64(header), uint64(0),
		uint32(0), uint16(header), uint16(segment), uint16(1), uint16(0), uint16(0), uint16(0),
		uint32(1), uint32(5), uint64(0), uint64(base), uint64(base), size, size, uint64(0x1000),
	} {
		_ = binary.Write(&b, binary.LittleEndian, v) // to memory
	}
	b.Write(code)
	return b.Bytes()
}

// foreignProgram returns a program that this machine cannot run by itself.
func foreignProgram() (arch string, program []byte) {
	if runtime.GOARCH == "amd64" {
		return "arm64", tiny(183, []byte{
			0x40, 0x05, 0x80, 0xd2, // mov x0, 42
			0xa8, 0x0b, 0x80, 0xd2, // mov x8, 93 (exit)
			0x01, 0x00, 0x00, 0xd4, // svc 0
		})
	}
	return "amd64", tiny(62, []byte{
		0xbf, 42, 0, 0, 0, // mov edi, 42
		0xb8, 60, 0, 0, 0, // mov eax, 60 (exit)
		0x0f, 0x05, // syscall
	})
}

// A program for another architecture runs where an emulator is registered with
// the kernel; elsewhere the error says what it is and what to install.
func TestForeignProgram(t *testing.T) {
	b := newBox(t)
	arch, program := foreignProgram()
	s := b.spec("/foreign")
	write(t, s.Upper, map[string]string{"foreign": string(program)})
	_, r, err := b.run(s)
	if emulated(t, arch) {
		if r.ExitCode != 42 {
			t.Fatalf("exit code %d, want 42: %v", r.ExitCode, err)
		}
		return
	}
	var e *ExitError
	if !errors.As(err, &e) || e.ExitCode < 126 {
		t.Fatalf("got %v", err)
	}
	if !strings.Contains(e.Error(), "linux/"+arch) || !strings.Contains(e.HintText(), "--install "+arch) {
		t.Fatalf("got %v\nhint: %s", e, e.HintText())
	}
}

// emulated reports whether the kernel has an emulator for an architecture that
// works in every root.
func emulated(t *testing.T, arch string) bool {
	t.Helper()
	name := map[string]string{"arm64": "qemu-aarch64", "amd64": "qemu-x86_64"}[arch]
	data, err := os.ReadFile(filepath.Join("/proc/sys/fs/binfmt_misc", name))
	if errors.Is(err, os.ErrNotExist) {
		return false
	}
	if err != nil {
		t.Fatal(err)
	}
	state := string(data)
	_, flags, _ := strings.Cut(state, "flags: ")
	flags, _, _ = strings.Cut(flags, "\n")
	return strings.HasPrefix(state, "enabled") && strings.Contains(flags, "F")
}
