package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sinter-build/sinter/builder/sandbox/userns"
)

// ranged is a user whose ranges of subordinate IDs change between builds in one store.
type ranged struct {
	t         *testing.T
	dir, name string
	as        *syscall.Credential
}

func newRanged(t *testing.T) *ranged {
	t.Helper()
	if os.Getuid() != 0 || userns.Inside() {
		t.Skip("needs root, to make users")
	}
	dir, err := os.MkdirTemp("/var/tmp", "sinter-ranges-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	who := makeUser(t, false)
	r := &ranged{t: t, dir: dir, name: who.Username, as: credential(t, who)}
	t.Cleanup(func() { r.give(0, 0) })
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	sh(t, "cp", self, filepath.Join(dir, "test"))
	sh(t, "mkdir", filepath.Join(dir, "out"))
	sh(t, "chown", "-R", who.Username+":", dir)
	return r
}

// give makes one range of count IDs from first on all that the user has.
func (r *ranged) give(first, count int) {
	r.t.Helper()
	for _, file := range []string{"/etc/subuid", "/etc/subgid"} {
		sh(r.t, "sed", "-i", "/^"+r.name+":/d", file)
		if count > 0 {
			sh(r.t, "sh", "-c", `echo "$0" >>"$1"`, fmt.Sprintf("%s:%d:%d", r.name, first, count), file)
		}
	}
}

// sinter returns what the program says, and its error.
func (r *ranged) sinter(stdin string, args ...string) (string, error) {
	c := exec.Command(filepath.Join(r.dir, "test"), args...)
	c.Args[0] = programName
	c.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + r.dir, "SINTER_ROOT=" + filepath.Join(r.dir, "store"), "GORACE=" + noWait}
	c.Stdin = strings.NewReader(stdin)
	c.SysProcAttr = &syscall.SysProcAttr{Credential: r.as}
	text, err := c.CombinedOutput()
	return string(text), err
}

// build returns what a build of dockerfile said, and the files of its result as tar
// lists them.
func (r *ranged) build(base, dockerfile string) (said, files string) {
	r.t.Helper()
	out := filepath.Join(r.dir, "out", "tar")
	text, err := r.sinter(dockerfile, "build", "--progress=plain", "--build-context", "base=docker-image://"+base,
		"-o", "type=tar,dest="+out, "-f", "-", r.dir+"/out")
	if err != nil {
		r.t.Fatalf("%v\n%s", err, text)
	}
	list, err := exec.Command("tar", "--numeric-owner", "-tvf", out).CombinedOutput()
	if err != nil {
		r.t.Fatalf("%v\n%s", err, list)
	}
	return text, string(list)
}

// TestFewIDs: commands run also where the group of terminals is not among the IDs.
func TestFewIDs(t *testing.T) {
	r := newRanged(t)
	registry := serveRegistry(t)
	pushBase(t, registry+"/base:latest")
	r.give(900000, 3)
	if _, files := r.build(registry+"/base", "FROM base\nRUN echo a >/a && chown 2:3 /a\n"); !strings.Contains(files, " 2/3 ") {
		t.Errorf("the files are\n%s", files)
	}
}

// TestRangesThatGrow: once the user has more IDs, files have the owners that they
// would have had with these from the beginning: neither results of commands nor
// directories of layers are taken from before.
func TestRangesThatGrow(t *testing.T) {
	r := newRanged(t)
	registry := serveRegistry(t)
	pushBase(t, registry+"/base:latest")
	const dockerfile = "FROM scratch AS low\nCOPY --chown=70:80 Dockerfile /f\n" +
		"FROM base\nCOPY --from=low /f /f\nRUN cp -p /f /copied\n"
	if err := os.WriteFile(filepath.Join(r.dir, "out", "Dockerfile"), []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
	r.give(900000, 10)
	if said, _ := r.build(registry+"/base", dockerfile); !strings.Contains(said, "/copied (like /f of 70:80)") {
		t.Errorf("no warning of an owner that is missing:\n%s", said)
	}
	for _, more := range []string{"", "RUN chmod 600 /f && cp -p /f /again\n"} {
		r.give(900000, 100)
		said, files := r.build(registry+"/base", dockerfile+more)
		if strings.Contains(said, "now belong to root") || strings.Count(files, " 70/80 ") != 2+strings.Count(more, "again") {
			t.Errorf("with more IDs the files are\n%s\n%s", files, said)
		}
	}
}

// TestRangesThatMove: what was made with a range that the user has no more is made
// again, and what cannot be removed any more is named.
func TestRangesThatMove(t *testing.T) {
	r := newRanged(t)
	registry := serveRegistry(t)
	pushBase(t, registry+"/base:latest")
	const dockerfile = "FROM base AS made\nRUN mkdir /d && echo a >/d/f && chown -R 5:6 /d && chmod 700 /d\n" +
		"FROM base\nRUN --mount=from=made,target=/m cp -a /m/d /d"
	r.give(900000, 100)
	r.build(registry+"/base", dockerfile)
	r.give(910000, 100)
	if _, files := r.build(registry+"/base", dockerfile+"2\n"); strings.Count(files, " 5/6 ") != 2 {
		t.Errorf("with another range the files are\n%s", files)
	}
	said, err := r.sinter("", "prune", "--all", "--force")
	if err == nil || !strings.Contains(said, "hint: its files may belong to IDs that this user had when they were made") {
		t.Errorf("prune: %v\n%s", err, said)
	}
	if said, err := r.sinter("", "prune", "--all", "--force"); err != nil {
		t.Errorf("the next prune: %v\n%s", err, said)
	}
}
