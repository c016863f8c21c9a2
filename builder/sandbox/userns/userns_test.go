package userns

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"
)

// outer is os.Args[0] of the test binary as the program that calls Reexec.
const outer = "sinter-userns-test"

func TestMain(m *testing.M) {
	switch os.Args[0] {
	case outer:
		os.Exit(runOuter())
	case Name:
		os.Exit(runInner())
	case reasonOnly:
		fmt.Print(Reason())
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// reasonOnly is os.Args[0] of the test binary that prints Reason.
const reasonOnly = "sinter-userns-reason"

// TestReasonAround: one id in a namespace that others made is told of as well.
func TestReasonAround(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to map other ids")
	}
	for want, size := range map[string]int{"maps only one ID": 1, "": 2} {
		cmd := exec.Command("/proc/self/exe")
		cmd.Args[0] = reasonOnly
		ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: size}}
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: ids, GidMappings: ids}
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) || (want == "") != (len(out) == 0) {
			t.Errorf("%d ids: %q, %v", size, out, err)
		}
	}
}

// cancelSignal ends runOuter's context. It is not passed on.
const cancelSignal = unix.SIGWINCH

// runOuter is what a program does that finds itself without privilege.
func runOuter() int {
	// What whoever runs the tests has left open is not to be reported.
	if err := unix.CloseRange(3, 1<<31, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		fmt.Println(err)
		return 98
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	canceled := make(chan os.Signal, 1)
	signal.Notify(canceled, cancelSignal)
	go func() {
		<-canceled
		cancel()
	}()
	if !Needed() {
		fmt.Println("not needed")
		return 99
	}
	code, err := Reexec(ctx, os.Args[1:], os.Stdin)
	if err != nil {
		fmt.Println("error:", err)
		var r *RefusedError
		if errors.As(err, &r) {
			fmt.Println("hint:", r.HintText())
		}
		return 98
	}
	return code
}

// report is what the program inside finds.
type report struct {
	Args                            []string
	Uids, Gids, Reason              string
	UID, GID                        int
	Needed, Inside, Single          bool
	Mount, Chown, Setgroups, Read   string
	Inheritable, Ambient, Effective string
	OneThread                       bool // capabilities could be set in one thread only: linked with C
	Files                           []string
	MountNS, UserNS, Home           string
	AsUser                          string // the IDs of a program that AsUser starts
}

func runInner() int {
	if err := Continue(); err != nil {
		fmt.Println("continue:", err)
		return 97
	}
	var code int
	switch verb := os.Args[1]; verb {
	case "report":
		if err := json.NewEncoder(os.Stdout).Encode(look()); err != nil {
			return 96
		}
	case "exit":
		code, _ = strconv.Atoi(os.Args[2])
	case "die":
		_ = unix.Kill(os.Getpid(), unix.SIGKILL)
	case "cat":
		if _, err := io.Copy(os.Stdout, os.Stdin); err != nil {
			return 96
		}
	case "signal":
		code = awaitSignal()
	case "nested": // refuse more namespaces, as root, then ask for one as a plain user
		if err := os.WriteFile("/proc/sys/user/max_user_namespaces", []byte("0"), 0); err != nil {
			fmt.Println(err)
			return 96
		}
		cmd := exec.Command("/proc/self/exe", "report")
		cmd.Args[0] = outer
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1, Gid: 1}}
		out, err := cmd.CombinedOutput()
		fmt.Printf("%s%v\n", out, err)
	}
	return code
}

// look tries what a builder does.
func look() report {
	r := report{Args: os.Args[1:], UID: os.Geteuid(), GID: os.Getegid(), Needed: Needed(), Inside: Inside(), Single: Single(), Reason: Reason(), Home: Home()}
	text := func(err error) string {
		if err != nil {
			return err.Error()
		}
		return "ok"
	}
	uids, _ := readMap("/proc/self/uid_map")
	gids, _ := readMap("/proc/self/gid_map")
	r.Uids, r.Gids = uids.String(), gids.String()
	dir, err := os.MkdirTemp("", "userns")
	if err != nil {
		r.Mount = err.Error()
		return r
	}
	defer os.RemoveAll(dir)
	r.Mount = text(unix.Mount("tmpfs", dir, "tmpfs", 0, ""))
	file := filepath.Join(dir, "f")
	r.Chown = text(errors.Join(os.WriteFile(file, nil, 0o600), os.Chown(file, 1000, 1000)))
	_ = unix.Unmount(dir, unix.MNT_DETACH)
	status, _ := os.ReadFile("/proc/thread-self/status")
	for line := range strings.Lines(string(status)) {
		key, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch key {
		case "CapInh":
			r.Inheritable = value
		case "CapAmb":
			r.Ambient = value
		case "CapEff":
			r.Effective = value
		}
	}
	_, err = os.ReadFile(os.Getenv("TEST_READ"))
	r.Read = text(err)
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_GETPID, 0, 0, 0)
	r.OneThread = errno == unix.ENOTSUP
	r.Setgroups = text(unix.Setgroups(nil))
	r.MountNS, _ = os.Readlink("/proc/self/ns/mnt")
	r.UserNS, _ = os.Readlink("/proc/self/ns/user")
	cmd := exec.Command("/bin/sh", "-c", "echo $(/usr/bin/id -u):$(/usr/bin/id -g)")
	cmd.SysProcAttr = AsUser()
	ids, err := cmd.CombinedOutput()
	r.AsUser = strings.TrimSpace(string(ids)) + " " + text(err)
	// What a command started from here would have open.
	out, _ := exec.Command("/bin/ls", "/proc/self/fd").Output()
	r.Files = strings.Fields(string(out))
	return r
}

// program returns the test binary where any user can run it.
func program(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "userns-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "program")
	data, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// plainUser makes a user for the length of a test, with subordinate ids or
// without.
func plainUser(t *testing.T, ranges bool) *syscall.Credential {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("making a user needs root")
	}
	name := fmt.Sprintf("sinter-ut%d", time.Now().UnixNano()%1e9)
	args := []string{"--system", "--no-create-home", "--shell", "/bin/sh"}
	if ranges {
		args = append(args, "--add-subids-for-system")
	}
	if out, err := exec.Command("useradd", append(args, name)...).CombinedOutput(); err != nil {
		t.Skipf("useradd: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("userdel", name).CombinedOutput(); err != nil {
			t.Errorf("userdel: %v: %s", err, out)
		}
	})
	ids, err := exec.Command("sh", "-c", "id -u "+name+"; id -g "+name).Output()
	if err != nil {
		t.Fatal(err)
	}
	var uid, gid uint32
	if _, err := fmt.Sscan(string(ids), &uid, &gid); err != nil {
		t.Fatal(err)
	}
	return &syscall.Credential{Uid: uid, Gid: gid}
}

// outside returns the command that calls Reexec.
func outside(path string, cred *syscall.Credential, args ...string) *exec.Cmd {
	cmd := exec.Command(path, args...)
	cmd.Args[0] = outer
	cmd.Dir = "/tmp"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred, Setpgid: true}
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	return cmd
}

// inside returns the report of a program that cred runs in a namespace.
func inside(t *testing.T, path string, cred *syscall.Credential, env ...string) report {
	t.Helper()
	cmd := outside(path, cred, "report", "a b", "")
	cmd.Env = append(cmd.Env, env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s%s", err, out, &stderr)
	}
	var r report
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return r
}

// checkRoot checks what holds in every namespace.
func checkRoot(t *testing.T, r report) {
	t.Helper()
	if r.UID != 0 || r.GID != 0 || r.Needed || !r.Inside {
		t.Errorf("uid %d, gid %d, needed %v, inside %v", r.UID, r.GID, r.Needed, r.Inside)
	}
	if !slices.Equal(r.Args, []string{"report", "a b", ""}) {
		t.Errorf("arguments %q", r.Args)
	}
	if r.Home == "" || r.Home == "/root" {
		t.Errorf("home %q", r.Home)
	}
	if r.Mount != "ok" {
		t.Errorf("mount: %s", r.Mount)
	}
	if !r.OneThread && (strings.Trim(r.Inheritable, "0") != "" || strings.Trim(r.Ambient, "0") != "") || strings.Trim(r.Effective, "0") == "" {
		t.Errorf("capabilities: inheritable %s, ambient %s, effective %s", r.Inheritable, r.Ambient, r.Effective)
	}
	if !slices.Equal(r.Files, []string{"0", "1", "2", "3"}) { // 3 is ls's own
		t.Errorf("files open in programs started inside: %q", r.Files)
	}
	for name, ns := range map[string]string{"mnt": r.MountNS, "user": r.UserNS} {
		if ours, err := os.Readlink("/proc/self/ns/" + name); err != nil || ours == ns {
			t.Errorf("%s namespace %s, ours %s, %v", name, ns, ours, err)
		}
	}
}

func TestFull(t *testing.T) {
	if _, err := exec.LookPath("newuidmap"); err != nil {
		t.Skip(err)
	}
	path, cred := program(t), plainUser(t, true)
	// A file that only one of the user's further groups may read.
	shared := filepath.Join(filepath.Dir(path), "shared")
	if err := errors.Join(os.WriteFile(shared, nil, 0o640), os.Chown(shared, 0, 4242)); err != nil {
		t.Fatal(err)
	}
	cred.Groups = []uint32{4242}
	r := inside(t, path, cred, "TEST_READ="+shared)
	checkRoot(t, r)
	if r.Read != "ok" {
		t.Errorf("a file of the user's further group: %s", r.Read)
	}
	if r.Single || r.Reason != "" || r.Chown != "ok" || r.Setgroups != "ok" {
		t.Errorf("single %v (%s), chown: %s, setgroups: %s", r.Single, r.Reason, r.Chown, r.Setgroups)
	}
	if want := fmt.Sprintf("0 %d 1\n1 ", cred.Uid); !strings.HasPrefix(r.Uids, want) {
		t.Errorf("uid map %q, want %q…", r.Uids, want)
	}
	if want := fmt.Sprintf("0 %d 1\n1 ", cred.Gid); !strings.HasPrefix(r.Gids, want) {
		t.Errorf("gid map %q, want %q…", r.Gids, want)
	}
	checkAsUser(t, r, cred)
}

func checkAsUser(t *testing.T, r report, cred *syscall.Credential) {
	t.Helper()
	if want := fmt.Sprintf("%d:%d ok", cred.Uid, cred.Gid); r.AsUser != want {
		t.Errorf("a program as the user: %s, want %s", r.AsUser, want)
	}
}

func TestSingle(t *testing.T) {
	path, cred := program(t), plainUser(t, false)
	for name, tt := range map[string]struct{ env, reason string }{
		"no range":     {"", "usermod --add-subuids"},
		"no newuidmap": {"PATH=/nowhere", "usermod --add-subuids"},
	} {
		t.Run(name, func(t *testing.T) {
			r := inside(t, path, cred, tt.env)
			checkSingle(t, r, cred, tt.reason)
		})
	}
	t.Run("asked for", func(t *testing.T) {
		ranged := plainUser(t, true)
		r := inside(t, path, ranged, OneIDEnv+"=1")
		checkSingle(t, r, ranged, OneIDEnv)
	})
}

// TestUnmapped: where a user has more ids, a namespace without them is refused.
func TestUnmapped(t *testing.T) {
	path, cred := program(t), plainUser(t, true)
	const good = "#!/bin/sh\nexec /usr/bin/NAME \"$@\"\n"
	for name, tt := range map[string]struct {
		newuidmap, newgidmap, want string
	}{
		"exit code":   {"#!/bin/sh\necho no such luck >&2\nexit 1\n", good, "newuidmap failed: no such luck"},
		"killed":      {"#!/bin/sh\nkill -KILL $$\n", good, "newuidmap failed: signal: killed"},
		"groups":      {good, "#!/bin/sh\necho Resource temporarily unavailable >&2\nexit 1\n", "newgidmap failed: Resource temporarily"},
		"not started": {"#!/nowhere\n", good, "newuidmap failed: fork/exec"},
		"missing":     {"", "", "not installed"},
		"one missing": {good, "", "not installed"},
	} {
		t.Run(name, func(t *testing.T) {
			bin, err := os.MkdirTemp(filepath.Dir(path), "bin")
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(bin, 0o755); err != nil {
				t.Fatal(err)
			}
			for program, text := range map[string]string{"newuidmap": tt.newuidmap, "newgidmap": tt.newgidmap} {
				if text == "" {
					continue
				}
				text = strings.ReplaceAll(text, "NAME", program)
				if err := os.WriteFile(filepath.Join(bin, program), []byte(text), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			cmd := outside(path, cred, "report")
			cmd.Env = append(cmd.Env, "PATH="+bin)
			out, err := cmd.CombinedOutput()
			if cmd.ProcessState.ExitCode() != 98 || !strings.Contains(string(out), tt.want) || !strings.Contains(string(out), OneIDEnv) {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}

func checkSingle(t *testing.T, r report, cred *syscall.Credential, reason string) {
	t.Helper()
	checkRoot(t, r)
	checkAsUser(t, r, cred)
	if !r.Single || !strings.Contains(r.Reason, reason) {
		t.Errorf("single %v, reason %q", r.Single, r.Reason)
	}
	if want := fmt.Sprintf("0 %d 1\n", cred.Uid); r.Uids != want {
		t.Errorf("uid map %q, want %q", r.Uids, want)
	}
	if r.Chown == "ok" || r.Setgroups == "ok" {
		t.Errorf("chown: %s, setgroups: %s", r.Chown, r.Setgroups)
	}
}

// TestRootWithoutPrivilege is root in a container that may not mount.
func TestRootWithoutPrivilege(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("not root")
	}
	path := program(t)
	cmd := exec.Command("setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin", path, "report", "a b", "")
	if cmd.Err != nil {
		t.Skip(cmd.Err)
	}
	// setpriv passes the name it executes as os.Args[0].
	named := filepath.Join(filepath.Dir(path), outer)
	if err := os.Rename(path, named); err != nil {
		t.Fatal(err)
	}
	cmd.Args = []string{"sh", "-c", `PATH=$1:$PATH exec setpriv --bounding-set -sys_admin --inh-caps -sys_admin ` + outer + ` report "a b" ""`, "sh", filepath.Dir(path)}
	cmd.Path = "/bin/sh"
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var r report
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if r.Needed || r.Mount != "ok" || r.Chown != "ok" || r.Single || r.Setgroups != "ok" {
		t.Errorf("%+v", r)
	}
}

// TestRefused turns user namespaces off in one of our own, where that harms
// nobody.
func TestRefused(t *testing.T) {
	path, cred := program(t), plainUser(t, true)
	out, err := outside(path, cred, "nested").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, want := range []string{"error: making a user namespace", "hint: the sysctl user.max_user_namespaces is 0", "exit status 98"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in %s", want, out)
		}
	}
}

func TestRefusal(t *testing.T) {
	for name, tt := range map[string]struct {
		settings map[string]string
		err      error
		want     string
	}{
		"debian":    {map[string]string{"/proc/sys/kernel/unprivileged_userns_clone": "0"}, unix.EPERM, "unprivileged_userns_clone=1"},
		"ubuntu":    {map[string]string{"/proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1"}, unix.EACCES, "apparmor_restrict_unprivileged_userns=0"},
		"none":      {map[string]string{"/proc/sys/user/max_user_namespaces": "0"}, unix.ENOSPC, "max_user_namespaces is 0"},
		"too many":  {map[string]string{"/proc/sys/user/max_user_namespaces": "5"}, unix.ENOSPC, "too many"},
		"container": {map[string]string{"Seccomp": "2"}, unix.EPERM, "seccomp=unconfined"},
		"unknown":   {nil, unix.EPERM, "chroot"},
		"docker":    {map[string]string{"Uid": "0", "Seccomp": "2"}, &os.PathError{Op: "fork/exec", Path: "/proc/self/exe", Err: unix.EPERM}, "seccomp=unconfined"},
		"root":      {map[string]string{"Uid": "0", "Seccomp": "2"}, unix.EPERM, "CAP_SETFCAP"},
		"bare":      {nil, &os.PathError{Op: "open", Path: "/dev/null", Err: unix.ENOENT}, "mknod"},
		"no kernel": {map[string]string{"/proc/self/ns/user": ""}, unix.EINVAL, "CONFIG_USER_NS"},
	} {
		get := func(path string) string {
			if v, ok := tt.settings[path]; ok {
				return v
			}
			if path == "/proc/self/ns/user" {
				return "user:[1]"
			}
			return ""
		}
		if got := refusal(tt.err, get); !strings.Contains(got, tt.want) {
			t.Errorf("%s: %q, want %q in it", name, got, tt.want)
		}
	}
}

// The range that is advised is nobody's yet.
func TestFreeRange(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"empty": "", "usual": "a:100000:65536\nb:165536:65536\n", "low": "a:1000:10\n",
		"apart": "a:700000:65536\nbad\nb:100000:10\n", "full": "a:100000:4294867295\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for files, want := range map[string]int64{
		"empty": 100000, "usual": 231072, "low": 100000, "apart": 765536, "full": 100000, "usual apart": 765536, "nowhere usual": 231072,
	} {
		var paths []string
		for _, name := range strings.Fields(files) {
			paths = append(paths, filepath.Join(dir, name))
		}
		if got := freeRange(paths...); got != want {
			t.Errorf("%s: %d, want %d", files, got, want)
		}
	}
}

// Ids that are not the usual ones are told apart, however the map gives them.
func TestUnusualIDs(t *testing.T) {
	ids := func(ranges ...int64) (m idMap) {
		for i := 0; i < len(ranges); i += 2 {
			m = append(m, user.IDMap{ID: ranges[i], ParentID: 1000 + ranges[i], Count: ranges[i+1]})
		}
		return m
	}
	all := idMap{{Count: math.MaxUint32}}
	usual := ids(0, 1, 1, 65536)
	for _, test := range []struct {
		uids, gids idMap
		want       string
	}{
		{all, all, ""},
		{usual, usual, ""},
		{ids(0, 65536), ids(0, 65536), ""},
		{ids(0, 65535), usual, "0-65534 0-65536"},
		{usual, ids(0, 200000), "0-65536 0-199999"},
		{ids(1, 65000, 65001, 536, 0, 1), usual, ""},
		{ids(0, 1), ids(0, 1), ""},
		{ids(0, 1, 1, 10), usual, "0-10 0-65536"},
		{usual, ids(0, 1, 1, 10), "0-65536 0-10"},
		{ids(0, 10, 100, 100), ids(5, 1), "0-9,100-199 5-5"},
	} {
		if got := unusualIDs(test.uids, test.gids); got != test.want {
			t.Errorf("%v and %v: %q, want %q", test.uids, test.gids, got, test.want)
		}
	}
}
