package sandbox

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A builder that is killed at any moment leaves no process and no mount.
func TestKilledBuilder(t *testing.T) {
	// What a killed builder leaves becomes our child, so that it can be told from
	// what other tests run at the same time.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	defer unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
	b := newBox(t)
	before, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 12 {
		cmd := exec1(t, self1(t), "-test.run", "^TestSleepForever$")
		// The mark is in the command's arguments, to find it by.
		mark := filepath.Base(t.TempDir()) + "-" + time.Duration(i).String() + "-mark"
		cmd.Env = append(os.Environ(), "SANDBOX_ROOT="+b.lower, "SANDBOX_MARK="+mark, "TMPDIR="+t.TempDir())
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(i) * 5 * time.Millisecond)
		if i == 11 {
			waitFor(t, "the command", func() bool { return running(t, mark) > 0 })
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err == nil {
			t.Fatal("the builder ended by itself")
		}
		waitFor(t, "the end of the command", func() bool { return running(t, mark) == 0 && !orphans(t) })
	}
	after, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(before, after) {
		t.Fatalf("mounts before\n%s\nafter\n%s", before, after)
	}
}

// running counts our processes with this in their arguments.
func running(t *testing.T, mark string) (n int) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		var st syscall.Stat_t
		if syscall.Stat(f, &st) != nil || st.Uid != uint32(os.Getuid()) {
			continue
		}
		if data, err := os.ReadFile(f); err == nil && strings.Contains(string(data), mark) {
			n++
		}
	}
	return n
}

// orphans reports whether processes live on whose parent was killed. Those that
// ended are collected.
func orphans(t *testing.T) bool {
	t.Helper()
	alive := false
	for _, pid := range children(t) {
		ended, err := unix.Wait4(pid, nil, unix.WNOHANG, nil)
		alive = alive || err != nil || ended == 0
	}
	return alive
}

// children are the processes whose parent this one is.
func children(t *testing.T) (pids []int) {
	t.Helper()
	lists, err := filepath.Glob("/proc/self/task/[0-9]*/children")
	if err != nil || len(lists) == 0 {
		t.Fatal("the kernel does not tell who our children are:", err)
	}
	for _, f := range lists {
		list, err := os.ReadFile(f)
		if errors.Is(err, fs.ErrNotExist) {
			continue // a thread that ended
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, field := range strings.Fields(string(list)) {
			pid, err := strconv.Atoi(field)
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
	}
	return pids
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("waited too long for %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestSleepForever(t *testing.T) {
	root := os.Getenv("SANDBOX_MARK")
	if root == "" {
		t.Skip("a part of TestKilledBuilder")
	}
	b := &box{t: t, lower: os.Getenv("SANDBOX_ROOT")}
	b.run(b.spec("sh", "-c", "trap '' TERM HUP; sleep 1000 & sleep 1000; true", os.Getenv("SANDBOX_MARK")))
}
