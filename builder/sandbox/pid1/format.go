package pid1

import (
	"encoding/binary"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// elfHeader is the part of an ELF file that names the machine, in bytes.
const elfHeader = 20

// programArch says which architecture a program is for, by Go's names; false is for
// what is no ELF file.
func programArch(header []byte) (arch string, ok bool) {
	if len(header) < elfHeader || string(header[:4]) != "\x7fELF" {
		return "", false
	}
	little, wide := header[5] != 2, header[4] == 2
	var order binary.ByteOrder = binary.BigEndian
	if little {
		order = binary.LittleEndian
	}
	machine := order.Uint16(header[18:])
	switch machine {
	case 3:
		return "386", true
	case 62:
		return "amd64", true
	case 40:
		return "arm", true
	case 183:
		return "arm64", true
	case 22:
		return "s390x", true
	case 243:
		return "riscv64", true
	case 258:
		return "loong64", true
	case 8, 21:
		arch = map[uint16]string{8: "mips", 21: "ppc"}[machine]
		if wide {
			arch += "64"
		}
		if little {
			arch += "le"
		}
		return arch, true
	}
	return fmt.Sprintf("machine %d", machine), true
}

// runsHere says whether this machine may run programs of an architecture without
// any help.
func runsHere(arch string) bool {
	return arch == runtime.GOARCH || (runtime.GOARCH == "amd64" && arch == "386")
}

// notStarted explains why the kernel did not start a file that is there and has
// this beginning.
func notStarted(name string, header []byte, errno unix.Errno) *startError {
	arch, isProgram := programArch(header)
	foreign := isProgram && !runsHere(arch)
	e := &startError{code: 126, reason: fmt.Sprintf("exec %q: %s", name, errno.Error())}
	switch {
	case errno == unix.ENOEXEC && isProgram:
		e.reason += fmt.Sprintf(": it is a program for linux/%s; this machine is linux/%s and has no emulator registered for it", arch, runtime.GOARCH)
		e.hint = "install one: apt-get install qemu-user-static binfmt-support (Debian, Ubuntu), dnf install qemu-user-static (Fedora), or docker run --privileged --rm tonistiigi/binfmt --install " + arch +
			"; a stage that only compiles needs none with FROM --platform=$BUILDPLATFORM"
	case errno == unix.ENOEXEC:
		e.reason += ": it is neither a program nor a script that begins with #!"
		e.hint = "begin a script with #! and the program that reads it, such as #!/bin/sh"
	case errno == unix.EACCES:
		e.hint = "make it executable, with chmod +x or COPY --chmod=755"
	case errno == unix.ENOENT && foreign:
		e.code = 127
		e.reason = fmt.Sprintf("exec %q: the emulator that is registered for linux/%s is not in the image", name, arch)
		e.hint = "register it with the flag F, so that images need not have it: apt-get install qemu-user-static binfmt-support does so, or docker run --privileged --rm tonistiigi/binfmt --install " + arch
	case errno == unix.ENOENT:
		e.code = 127
		e.reason += " (the interpreter or loader that it names is missing)"
		e.hint = "the image needs what the script's #! line names, without a carriage return at its end, or the C library that the program was linked with (glibc or musl)"
	}
	return e
}

// firstBytes returns the beginning of a file of the command, or nothing.
func (c *command) firstBytes(file string) []byte {
	header, err := readBelow(c.root, c.inRoot(file), elfHeader)
	if err != nil {
		return nil
	}
	return header
}
