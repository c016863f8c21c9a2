package sandbox

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/builder/sandbox/userns"
)

func TestExit(t *testing.T) {
	b := newBox(t)
	b.want(b.spec("echo", "hello"), "hello\n")
	b.wantLeft()
	b.want(b.spec("/script"), "script\n")
	b.want(b.sh("exec sh -c 'echo $0' x"), "x\n")
	for _, c := range []struct {
		args []string
		code int
		text string
		hint string
	}{
		{[]string{"false"}, 1, `the command did not complete successfully: exit code: 1`, ""},
		{[]string{"sh", "-c", "exit 42"}, 42, "exit code: 42", ""},
		{[]string{"sh", "-c", "kill -TERM $$"}, 143, "exit code: 143: killed by signal 15", ""},
		{[]string{"sh", "-c", "kill -KILL $$"}, 137, "exit code: 137: killed by signal 9", ""},
		{[]string{"nothing"}, 127, `exec "nothing": executable file not found in $PATH`, "in a directory of its PATH"},
		{[]string{"/bin/nothing"}, 127, `exec "/bin/nothing": no such file or directory`, "check the path"},
		{[]string{"/noexec"}, 126, `exec "/noexec": permission denied`, "make it executable"},
		{[]string{"/bin"}, 126, `exec "/bin": is a directory`, "name a program in it"},
		{[]string{"/proc/self/exe"}, 126, "symbolic links", "not followed"},
		{[]string{"/proc/1/exe"}, 126, "symbolic links", "not followed"},
	} {
		err := b.fail(b.spec(c.args...), c.code, c.text)
		if h := err.HintText(); !strings.Contains(h, c.hint) {
			t.Errorf("%q has the hint %q, want %q in it", c.args, h, c.hint)
		}
	}
}

func TestPath(t *testing.T) {
	b := newBox(t)
	s := b.spec("mine")
	write(t, s.Upper, map[string]string{"opt/mine": "#!/bin/sh\necho mine\n"})
	s.Env = []string{"PATH=/nowhere:/opt:/bin"}
	b.want(s, "mine\n")
	s = b.spec("true")
	s.Env = nil
	b.want(s, "")
	// A file in PATH that may not be executed does not hide a later one.
	s = b.spec("true")
	write(t, s.Upper, map[string]string{"opt/true": ""})
	chmod(t, s.Upper+"/opt/true", 0o644)
	s.Env = []string{"PATH=/opt:/bin"}
	b.want(s, "")
}

func TestOutput(t *testing.T) {
	b := newBox(t)
	var out, errs strings.Builder
	s := b.sh("echo out; echo err >&2; cat; echo again >/dev/stdout; echo more >/dev/stderr")
	s.Stdout, s.Stderr = &out, &errs
	if _, err := Run(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if out.String() != "out\nagain\n" || errs.String() != "err\nmore\n" {
		t.Fatalf("got %q and %q", &out, &errs)
	}
	s = b.sh("echo discarded")
	if _, err := Run(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat("/dev/null"); err != nil || info.Mode()&os.ModeDevice == 0 {
		t.Fatal("/dev/null is gone", err)
	}
}

// What the command leaves running ends, and orphans do not stay as zombies.
func TestLeftRunning(t *testing.T) {
	b := newBox(t)
	start := time.Now()
	b.want(b.sh("sleep 100 & setsid sh -c 'sleep 100 & sleep 100' >/dev/null 2>&1 & sh -c '(sleep 0.01 &)'; sleep 0.1; ps -o stat= | grep -c Z || true"), "0\n")
	if d := time.Since(start); d > 90*time.Second {
		t.Fatalf("took %v", d)
	}
}

func TestCancel(t *testing.T) {
	b := newBox(t)
	ctx, cancel := context.WithTimeoutCause(t.Context(), 200*time.Millisecond, errors.New("cause"))
	defer cancel()
	start := time.Now()
	s := b.sh("trap '' TERM INT; sleep 100; sleep 100")
	_, err := Run(ctx, s)
	if err == nil || err.Error() != "cause" {
		t.Fatalf("got %v", err)
	}
	if d := time.Since(start); d > 90*time.Second {
		t.Fatalf("took %v", d)
	}
}

func TestManyAtOnce(t *testing.T) {
	b := newBox(t)
	errs := make(chan error)
	const n = 8
	for range n {
		s := b.sh("echo x > /made; cat /made")
		go func() {
			_, err := Run(t.Context(), s)
			errs <- err
		}()
	}
	for range n {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

func TestUsage(t *testing.T) {
	b := newBox(t)
	_, r, err := b.run(b.sh("dd if=/dev/zero of=/dev/null bs=64M count=1 2>/dev/null; sleep 0.1"))
	if err != nil {
		t.Fatal(err)
	}
	if r.MaxRSS < 64<<20 || r.MaxRSS > 512<<20 || r.Duration < 100*time.Millisecond {
		t.Fatalf("got %+v", r)
	}
}

func BenchmarkTrue(b *testing.B) {
	box := newBox(b)
	// As most images: the mount points are there.
	write(b, box.lower, map[string]string{"etc/resolv.conf": "", "etc/hosts": ""})
	shortest := time.Hour
	for b.Loop() {
		b.StopTimer()
		s := box.spec("/bin/true")
		b.StartTimer()
		start := time.Now()
		if _, err := Run(b.Context(), s); err != nil {
			b.Fatal(err)
		}
		shortest = min(shortest, time.Since(start))
	}
	b.ReportMetric(float64(shortest.Nanoseconds()), "ns-shortest")
}

func TestSignalsAreForwarded(t *testing.T) {
	b := newBox(t)
	b.fail(b.sh("trap 'exit 3' TERM; kill -TERM 1; sleep 10 & wait"), 3, "exit code: 3")
}

// Where there is one user, programs that want others succeed without effect.
func TestOneUser(t *testing.T) {
	b := newBox(t)
	if !userns.Single() {
		t.Skip("there are many users")
	}
	b.want(b.sh("echo ${APT_CONFIG-no apt}"), "no apt\n")
	write(t, b.lower, map[string]string{"etc/apt/apt.conf.d/": "", "etc/own.conf": "Own \"true\";\n"})
	b.want(b.sh("cat $APT_CONFIG; touch /f && chown 5:6 /f && stat -c '%u %g' /f; mknod /n c 1 3; ls /n 2>/dev/null; su user -c 'echo su'"),
		"APT::Sandbox::User \"root\";\n0 0\nsu\n")
	b.wantLeft("f")
	s := b.sh("cat $APT_CONFIG; rm -rf /etc/apt && test ! -e /etc/apt && echo gone")
	s.Env = append(s.Env, "APT_CONFIG=/etc/own.conf")
	b.want(s, "#include \"/etc/own.conf\";\nAPT::Sandbox::User \"root\";\ngone\n")
}

// A store inside of a container's own root cannot hold overlays.
func TestOnOverlay(t *testing.T) {
	b := newBox(t)
	needStatic(t)
	s := b.sh("/builder -test.v -test.run '^TestInOverlay$' | grep -e '^--- '")
	exe, err := os.ReadFile(self1(t))
	if err != nil {
		t.Fatal(err)
	}
	write(t, b.lower, map[string]string{"builder": string(exe)})
	s.Insecure, s.Env = true, append(s.Env, "SANDBOX_NESTED=1", "TMPDIR=/tmp")
	if out, _, err := b.run(s); err != nil || !strings.HasPrefix(out, "--- PASS") {
		t.Fatalf("%v\n%s", err, out)
	}
}

func TestInOverlay(t *testing.T) {
	if os.Getenv("SANDBOX_NESTED") == "" {
		t.Skip("a part of TestOnOverlay")
	}
	b := newBox(t)
	_, _, err := b.run(b.sh("true"))
	var h interface{ HintText() string }
	if !errors.As(err, &h) || !strings.Contains(h.HintText(), "volume") {
		t.Fatalf("got %v", err)
	}
	// With a volume, one sandbox works in another.
	s := b.sh("echo nested")
	dir := t.TempDir()
	if err := unix.Mount("volume", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(dir, 0)
	write(t, dir, map[string]string{"upper/": "", "work/": ""})
	s.Upper, s.Work = dir+"/upper", dir+"/work"
	b.want(s, "nested\n")
}

// What the kernel takes in one argument is less than a heredoc may have: the reason
// is not lost behind the script.
func TestTooLong(t *testing.T) {
	b := newBox(t)
	e := b.fail(b.sh("true "+strings.Repeat("x", 1<<17)), 126, `exit code: 126: exec "/bin/sh": the script has 131077 bytes: the kernel takes 131071 in one argument`)
	if len(e.Error()) > 1000 || !strings.Contains(e.HintText(), "#!/bin/sh") {
		t.Errorf("%d bytes, hint %s", len(e.Error()), e.HintText())
	}
	s := b.sh("true")
	s.Env = append(s.Env, "LONG="+strings.Repeat("x", 1<<17))
	b.fail(s, 126, "the environment variable LONG has 131077 bytes")
}
