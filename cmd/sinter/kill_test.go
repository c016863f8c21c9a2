package main

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// killDockerfile has steps of every kind in parallel, so that a kill at a
// random moment hits each of them now and then.
const killDockerfile = `FROM base AS one
ENV MARKER=%s
COPY changing /changing
RUN i=0; while [ $i -lt 20 ]; do echo $i > /one-$i; i=$((i+1)); done; sleep 0.05
FROM base AS two
ENV MARKER=%[1]s
COPY changing /changing
RUN --mount=type=cache,target=/cache sh -c 'date >> /cache/dates; sleep 0.1 & wait'
RUN head -c 3000000 /dev/urandom > /random
FROM base
COPY --from=one /one-* /
COPY --from=two /random /
COPY . /all
`

// killsVariable says how many builds TestKilled kills.
const killsVariable = "SINTER_TEST_KILLS"

// TestKilled kills builds at random moments: the next build must succeed, the
// store must verify, and no process, no mount and no half-written file may stay.
func TestKilled(t *testing.T) {
	times := 50
	if testing.Short() {
		times = 10
	}
	if n, err := strconv.Atoi(os.Getenv(killsVariable)); err == nil {
		times = n
	}
	registry := serveRegistry(t)
	pushBase(t, registry+"/base:latest")
	k := killing{t: t, root: t.TempDir(), ctx: t.TempDir(), marker: fmt.Sprintf("kill-test-%d", rand.Int64()), base: registry + "/base"}
	k.write("Dockerfile", fmt.Sprintf(killDockerfile, k.marker))
	for i := range 30 {
		k.write(fmt.Sprintf("file%d", i), strings.Repeat("x", i*1000))
	}
	k.write("changing", "first")
	began := time.Now()
	k.build()
	took := time.Since(began)
	for i := range times {
		k.write("changing", fmt.Sprint(i))
		k.killed(time.Duration(rand.Int64N(int64(took))))
		k.nothingLeft()
		if i%10 == 9 {
			k.build()
			k.verify()
			k.nothingHalf()
		}
	}
}

// TestKilledAsPlainUser is TestKilled in the user namespace of a user with
// subordinate IDs.
func TestKilledAsPlainUser(t *testing.T) {
	runAsPlainUser(t, true, "^TestKilled$", killsVariable+"=20")
}

type killing struct {
	t                       *testing.T
	root, ctx, marker, base string
}

func (k *killing) write(name, text string) {
	k.t.Helper()
	if err := os.WriteFile(filepath.Join(k.ctx, name), []byte(text), 0o644); err != nil {
		k.t.Fatal(err)
	}
}

func (k *killing) command(args ...string) *exec.Cmd {
	c := exec.Command("/proc/self/exe", args...)
	c.Args[0] = programName
	c.Env = append(os.Environ(), "SINTER_ROOT="+k.root)
	return c
}

func (k *killing) buildCommand() *exec.Cmd {
	return k.command("build", "--progress=plain", "--build-context", "base=docker-image://"+k.base,
		"-t", k.base+"-killed", "-o", "type=image", "-o", "type=oci,dest="+k.beside("out.tar"), "-o", "type=oci,tar=false,dest="+k.beside("layout"),
		"-o", "type=local,dest="+k.beside("files"), "-o", "type=registry", k.ctx)
}

// beside is where an output goes.
func (k *killing) beside(name string) string { return filepath.Join(filepath.Dir(k.ctx), name) }

func (k *killing) build() {
	k.t.Helper()
	if out, err := k.buildCommand().CombinedOutput(); err != nil {
		k.t.Fatalf("build: %v\n%s", err, out)
	}
}

func (k *killing) verify() {
	k.t.Helper()
	if out, err := k.command("verify").CombinedOutput(); err != nil {
		k.t.Fatalf("verify: %v\n%s", err, out)
	}
}

// nothingHalf looks for files that are being written in the store, beside the
// outputs and in them when no build is running.
func (k *killing) nothingHalf() {
	k.t.Helper()
	left, err := filepath.Glob(filepath.Join(k.root, "tmp", "*"))
	if err != nil {
		k.t.Fatal(err)
	}
	for _, output := range []string{k.beside("out.tar"), k.beside("layout"), k.beside("files")} {
		if _, err := os.Stat(output); err != nil {
			k.t.Error(err)
		}
	}
	err = filepath.WalkDir(filepath.Dir(k.ctx), func(path string, d fs.DirEntry, err error) error {
		if err == nil && (path == k.root || path == k.ctx) {
			return fs.SkipDir
		}
		if strings.HasPrefix(d.Name(), ".") && path != filepath.Dir(k.ctx) {
			left = append(left, path)
		}
		return err
	})
	if err != nil {
		k.t.Fatal(err)
	}
	if len(left) > 0 {
		k.t.Errorf("left: %q", left)
	}
}

// killed starts a build and kills it after a while.
func (k *killing) killed(after time.Duration) {
	k.t.Helper()
	c := k.buildCommand()
	if err := c.Start(); err != nil {
		k.t.Fatal(err)
	}
	time.Sleep(after)
	_ = c.Process.Signal(syscall.SIGKILL)
	_ = c.Wait()
}

// nothingLeft waits until the killed build's commands have gone, and looks for
// mounts.
func (k *killing) nothingLeft() {
	k.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for len(k.processes()) > 0 {
		select {
		case <-ctx.Done():
			k.t.Fatalf("processes of a killed build are left: %v", k.processes())
		case <-time.After(10 * time.Millisecond):
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		k.t.Fatal(err)
	}
	if bytes.Contains(mounts, []byte(k.root)) {
		k.t.Fatalf("a mount of a killed build is left:\n%s", mounts)
	}
}

// processes lists those that carry the build's marker or work in its store.
func (k *killing) processes() []string {
	var found []string
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		k.t.Fatal(err)
	}
	for _, f := range files {
		env, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		if bytes.Contains(env, []byte(k.marker)) || bytes.Contains(env, []byte("SINTER_ROOT="+k.root)) {
			command, _ := os.ReadFile(filepath.Join(filepath.Dir(f), "cmdline"))
			found = append(found, filepath.Dir(f)+" "+string(bytes.ReplaceAll(command, []byte{0}, []byte{' '})))
		}
	}
	return found
}
