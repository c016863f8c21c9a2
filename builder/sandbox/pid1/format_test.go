package pid1

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// elfFor is the beginning of an ELF file.
func elfFor(class, data byte, machine uint16) []byte {
	h := make([]byte, elfHeader)
	copy(h, "\x7fELF")
	h[4], h[5], h[16] = class, data, 2
	h[18], h[19] = byte(machine), byte(machine>>8)
	if data == 2 {
		h[18], h[19] = h[19], h[18]
	}
	return h
}

func TestProgramArch(t *testing.T) {
	for _, c := range []struct {
		header []byte
		arch   string
	}{
		{elfFor(2, 1, 62), "amd64"}, {elfFor(1, 1, 3), "386"}, {elfFor(2, 1, 183), "arm64"}, {elfFor(1, 1, 40), "arm"},
		{elfFor(2, 2, 22), "s390x"}, {elfFor(2, 1, 243), "riscv64"}, {elfFor(2, 1, 258), "loong64"},
		{elfFor(2, 1, 21), "ppc64le"}, {elfFor(2, 2, 21), "ppc64"}, {elfFor(2, 1, 8), "mips64le"}, {elfFor(1, 2, 8), "mips"},
		{elfFor(2, 1, 9999), "machine 9999"},
		{[]byte("#!/bin/sh\necho this is a script"), ""}, {elfFor(2, 1, 62)[:19], ""}, {nil, ""},
	} {
		if arch, ok := programArch(c.header); arch != c.arch || ok != (c.arch != "") {
			t.Errorf("%x: %q %v, want %q", c.header, arch, ok, c.arch)
		}
	}
}

func TestNotStarted(t *testing.T) {
	own := map[string]uint16{"amd64": 62, "arm64": 183}[runtime.GOARCH]
	for _, c := range []struct {
		header       []byte
		errno        unix.Errno
		code         int
		reason, hint string
	}{
		{elfFor(2, 1, 243), unix.ENOEXEC, 126, "a program for linux/riscv64", "--install riscv64"},
		{elfFor(2, 1, 243), unix.ENOENT, 127, "emulator that is registered for linux/riscv64 is not in the image", "flag F"},
		{elfFor(2, 1, own), unix.ENOENT, 127, "interpreter or loader", "C library"},
		{[]byte("text"), unix.ENOEXEC, 126, "neither a program nor a script", "#!/bin/sh"},
		{[]byte("#!/nothing"), unix.ENOENT, 127, "interpreter or loader", "#! line"},
		{[]byte("text"), unix.EACCES, 126, `exec "x": permission denied`, "chmod +x"},
	} {
		e := notStarted("x", c.header, c.errno)
		if e.code != c.code || !strings.Contains(e.reason, c.reason) || !strings.Contains(e.hint, c.hint) || (c.hint == "") != (e.hint == "") {
			t.Errorf("%q: %d %s (%s)", c.header, e.code, e.reason, e.hint)
		}
	}
}

func TestLastOfEach(t *testing.T) {
	got := strings.Join(lastOfEach([]string{"A=1", "B=", "nonsense", "A=2=3", "C=x", "B=y"}), " ")
	if got != "A=2=3 B=y C=x" {
		t.Errorf("got %q", got)
	}
}

func TestTooLong(t *testing.T) {
	long := strings.Repeat("x", longestString()+1)
	for _, tt := range []struct {
		args, env    []string
		reason, hint string
	}{
		{[]string{"/bin/sh", "-c", long}, nil, fmt.Sprintf("the script has %d bytes", len(long)), "#!/bin/sh"},
		{[]string{"/bin/sh", "-e", "-c", long}, nil, "the script has", "#!/bin/sh"},
		{[]string{"tool", "-c", "x", long}, nil, "argument 3 has", "file"},
		{[]string{"tool"}, []string{"A=1", "B=" + long}, "the environment variable B has", "secret"},
		{[]string{"tool", long[1:]}, []string{long[1:]}, fmt.Sprintf("have %d bytes together", 2*len(long)+5), "ulimit -s"},
	} {
		e := tooLong(tt.args, tt.env)
		if e.code != 126 || !strings.HasPrefix(e.reason, fmt.Sprintf("exec %q: ", tt.args[0])) ||
			!strings.Contains(e.reason, tt.reason) || !strings.Contains(e.hint, tt.hint) {
			t.Errorf("got %+v, want %s; %s", e, tt.reason, tt.hint)
		}
	}
}
