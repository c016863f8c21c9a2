package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/layers/hostfile"
)

// besideDockerfile has a step that waits until it is told to go on.
const besideDockerfile = `FROM base AS stage
RUN echo of the stage >/stage
RUN echo more >>/stage
FROM base
COPY file /file
COPY --from=stage /stage /stage
RUN --mount=type=cache,target=/cache echo kept >/cache/f; echo begun >/sync/begun; read line </sync/go; cat /cache/f >/made
COPY --from=stage /stage /again
RUN cat /stage /again /file /made >/all
`

// beside is a store in which a build waits in the middle of a command.
type beside struct {
	t                     *testing.T
	root, dir, base, sync string
	build                 *exec.Cmd
	out                   strings.Builder
	ended                 chan error
}

func newBeside(t *testing.T) *beside {
	t.Helper()
	registry := serveRegistry(t)
	pushBase(t, registry+"/base:latest")
	dir := t.TempDir()
	b := &beside{t: t, root: filepath.Join(dir, "store"), dir: dir, base: registry + "/base", sync: filepath.Join(dir, "sync")}
	writeAt(t, filepath.Join(dir, "ctx", "Dockerfile"), []byte(besideDockerfile))
	writeAt(t, filepath.Join(dir, "ctx", "file"), []byte("a file\n"))
	writeAt(t, filepath.Join(dir, "other", "Dockerfile"), []byte("FROM base\nARG N\nRUN echo $N >/other\n"))
	b.must(os.Mkdir(b.sync, 0o755))
	for _, fifo := range []string{"begun", "go"} {
		b.must(unix.Mkfifo(filepath.Join(b.sync, fifo), 0o666))
		b.must(os.Chmod(filepath.Join(b.sync, fifo), 0o666))
	}
	return b
}

func (b *beside) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// command is sinter with a bound on its time: a command that waits for the build would
// do so for ever.
func (b *beside) command(args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(b.t.Context(), 5*time.Minute)
	b.t.Cleanup(cancel)
	c := exec.CommandContext(ctx, "/proc/self/exe", args...)
	c.Args[0] = programName
	c.Env = append(os.Environ(), "SINTER_ROOT="+b.root)
	return c
}

func (b *beside) sinter(args ...string) string {
	b.t.Helper()
	out, err := b.command(args...).CombinedOutput()
	if err != nil {
		b.t.Fatalf("sinter %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (b *beside) buildArgs() []string {
	return []string{
		"build", "--progress=plain", "--volume", b.sync + ":/sync", "--build-context", "base=docker-image://" + b.base, "-t", "built",
		"-o", "type=image", "-o", "type=oci,tar=false,dest=" + filepath.Join(b.dir, "layout"), filepath.Join(b.dir, "ctx"),
	}
}

// start builds until the command waits.
func (b *beside) start() {
	b.t.Helper()
	b.build = b.command(b.buildArgs()...)
	b.build.Stdout, b.build.Stderr = &b.out, &b.out
	b.must(b.build.Start())
	ended := make(chan error, 1)
	go func() { ended <- b.build.Wait() }()
	begun := make(chan error, 1)
	go func() {
		_, err := os.ReadFile(filepath.Join(b.sync, "begun"))
		begun <- err
	}()
	select {
	case err := <-begun:
		b.must(err)
	case err := <-ended:
		b.t.Fatalf("build: %v\n%s", err, b.out.String())
	}
	b.t.Cleanup(func() { _ = b.build.Process.Kill() })
	b.ended = ended
}

// goOn lets the command go on, and returns when the build has ended.
func (b *beside) goOn() {
	b.t.Helper()
	b.must(os.WriteFile(filepath.Join(b.sync, "go"), []byte("go\n"), 0))
	if err := <-b.ended; err != nil {
		b.t.Fatalf("build: %v\n%s", err, b.out.String())
	}
	b.valid("layout")
	if out := b.sinter("verify"); !strings.Contains(out, "OK: ") {
		b.t.Error(out)
	}
}

func (b *beside) valid(name string) {
	b.t.Helper()
	index, err := layout.ImageIndexFromPath(filepath.Join(b.dir, name))
	if err == nil {
		err = validate.Index(index)
	}
	if err != nil {
		b.t.Error(err)
	}
}

// entries counts what is in a folder of the store.
func (b *beside) entries(folder string) int {
	b.t.Helper()
	list, err := os.ReadDir(filepath.Join(b.root, folder))
	b.must(err)
	return len(list)
}

// TestPruneBesideBuild prunes all, repairs and removes names while a build is in the
// middle of a command. None of them waits, what nobody needs goes, and the build ends
// with an image that is whole and with a cache that has all of its steps.
func TestPruneBesideBuild(t *testing.T) {
	b := newBeside(t)
	b.sinter("build", "-t", "other", "--build-context", "base=docker-image://"+b.base, filepath.Join(b.dir, "other"))
	b.start()
	b.sinter("rmi", "other")
	blobs := b.entries("blobs/sha256")
	if out := b.sinter("prune", "--all", "--force"); !strings.Contains(out, "Steps: 1, layers: 1, blobs: 6,") || strings.Contains(out, "Untagged") {
		t.Errorf("prune: %s", out)
	}
	if left := b.entries("blobs/sha256"); left != blobs-6 { // three are of its provenance
		t.Errorf("%d of %d blobs are left", left, blobs)
	}
	b.sinter("images")
	b.sinter("verify", "--repair")
	b.sinter("prune", "--all", "--force", "--filter", "until=0s")
	b.goOn()
	if out := b.sinter(b.buildArgs()...); !strings.Contains(out, " 0 steps ran") {
		t.Errorf("built again: %s", out)
	}
}

// TestPruneBesideBuildAsPlainUser is TestPruneBesideBuild in the user namespaces of a
// plain user.
func TestPruneBesideBuildAsPlainUser(t *testing.T) {
	runAsPlainUser(t, true, "^TestPruneBesideBuild$")
}

// TestPruneAfterKill: what a build used that was killed is nobody's any more.
func TestPruneAfterKill(t *testing.T) {
	b := newBeside(t)
	b.start()
	b.must(b.build.Process.Kill())
	<-b.ended
	if out := b.sinter("prune", "--all", "--force"); !strings.Contains(out, "cache mounts: 1,") {
		t.Error(out)
	}
	for _, folder := range []string{"layers", "blobs/sha256", "mounts"} {
		if n := b.entries(folder); n != 0 {
			t.Errorf("%d entries are left in %s", n, folder)
		}
	}
}

// TestPruneWaitsForOlderVersions: a build of a version that makes no claims is waited
// for, and prune says so.
func TestPruneWaitsForOlderVersions(t *testing.T) {
	b := &beside{t: t, root: filepath.Join(t.TempDir(), "store")}
	b.sinter("images")
	dir := filepath.Join(b.root, "tmp", "123")
	b.must(os.Mkdir(dir, 0o700))
	older, err := hostfile.Lock(t.Context(), filepath.Join(dir, "lock"), "", hostfile.Exclusive)
	b.must(err)
	prune := b.command("prune", "--all", "--force")
	said, err := prune.StderrPipe()
	b.must(err)
	b.must(prune.Start())
	line := make([]byte, 1<<10)
	n, err := said.Read(line)
	b.must(err)
	if !strings.Contains(string(line[:n]), "an older version of sinter") {
		t.Errorf("it says %q", line[:n])
	}
	b.must(older.Close())
	if rest, err := io.ReadAll(said); err != nil || prune.Wait() != nil {
		t.Errorf("prune: %v\n%s", err, rest)
	}
}

// TestPruneOnFullDisk: what makes room works where there is none.
func TestPruneOnFullDisk(t *testing.T) {
	d := newFullDisk(t, "size=16m")
	store := filepath.Join(d.small, "store")
	large := make([]byte, 2_000_000)
	_, _ = rand.NewChaCha8([32]byte{}).Read(large)
	writeAt(t, filepath.Join(d.ctx, "large"), large)
	writeAt(t, filepath.Join(d.ctx, "x.Dockerfile"), []byte("FROM scratch\nCOPY large /\n"))
	writeAt(t, filepath.Join(d.ctx, "y.Dockerfile"), []byte("FROM scratch\nCOPY large /y\n"))
	for _, args := range [][]string{{"x", "-t", "kept"}, {"y", "-t", "other"}} {
		if out, code := d.build(t, store, args[0], args[1:]...); code != exitOK {
			t.Fatal(out)
		}
	}
	if out, code := d.sinter(t, store, "rmi", "other"); code != exitOK {
		t.Fatal(out)
	}
	// Until nothing more can be written at all.
	_ = os.WriteFile(filepath.Join(d.small, "fill"), make([]byte, 16<<20), 0o644)
	for _, args := range [][]string{{"images"}, {"prune", "--force"}, {"verify"}} {
		if out, code := d.sinter(t, store, args...); code != exitOK {
			t.Errorf("%v: code %d\n%s", args, code, out)
		}
	}
}

// TestPruneCrowd lets builds and collections run at once, many times over. Every build
// succeeds, and its image is whole.
func TestPruneCrowd(t *testing.T) {
	registry := serveRegistry(t)
	pushBase(t, registry+"/base:latest")
	b := &beside{t: t, dir: t.TempDir(), base: registry + "/base"}
	b.root = filepath.Join(b.dir, "store")
	rounds := 6
	if testing.Short() {
		rounds = 2
	}
	var builds, prunes sync.WaitGroup
	for i := range 4 {
		dir := filepath.Join(b.dir, fmt.Sprint("ctx", i))
		writeAt(t, filepath.Join(dir, "file"), []byte(fmt.Sprint("file ", i)))
		builds.Go(func() {
			for round := range rounds {
				// One step is the builds' own in each round, the others are shared.
				dockerfile := fmt.Sprintf(crowdDockerfile, i, round)
				b.check(os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(dockerfile), 0o644))
				out := fmt.Sprintf("layout-%d-%d", i, round)
				b.run("build", "--progress=plain", "--build-context", "base=docker-image://"+b.base, "-t", fmt.Sprint("built", i),
					"-o", "type=image", "-o", "type=oci,tar=false,dest="+filepath.Join(b.dir, out), dir)
				b.valid(out)
			}
		})
	}
	done := make(chan struct{})
	for _, args := range [][]string{
		{"prune", "--all", "--force"}, {"prune", "--force"}, {"prune", "--all", "--force", "--keep-storage=1kB"}, {"verify", "--repair"}, {"rmi", "-f", "built0"},
	} {
		prunes.Go(func() {
			for {
				b.run(args...)
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	builds.Wait()
	close(done)
	prunes.Wait()
	b.run("verify")
}

const crowdDockerfile = `FROM base AS stage
RUN echo shared >/shared
RUN echo more >>/shared
FROM base
COPY file /file
RUN --mount=type=cache,target=/cache echo x >>/cache/all; cp /cache/all /made
COPY --from=stage /shared /shared
RUN echo %d %d >/own; cat /shared /file /made >/dev/null
`

// run is sinter for several goroutines.
func (b *beside) run(args ...string) {
	if out, err := runSinter(b.root, args...); err != nil {
		b.t.Errorf("sinter %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func (b *beside) check(err error) {
	if err != nil {
		b.t.Error(err)
	}
}

// TestPruneKilled has the kernel kill prune in the middle of what it does: what is left
// is whole, and the next prune goes on.
func TestPruneKilled(t *testing.T) {
	if _, err := exec.LookPath("strace"); err != nil {
		t.Fatal("strace is missing: install it, or run make test-packages")
	}
	if underRace || os.Getuid() != 0 {
		t.Skip("needs root, to trace, and no race detector")
	}
	b := newBeside(t)
	b.sinter("build", "-t", "other", "--build-context", "base=docker-image://"+b.base, filepath.Join(b.dir, "other"))
	self, err := os.Executable()
	b.must(err)
	bin := t.TempDir()
	b.must(os.Symlink(self, filepath.Join(bin, programName)))
	hits := 0
	for _, call := range []string{"renameat,renameat2", "unlink,unlinkat"} {
		for when := 1; when < 16; when += 2 {
			b.sinter("build", "--build-context", "base=docker-image://"+b.base, "--build-arg", fmt.Sprint("N=", when), filepath.Join(b.dir, "other"))
			c := exec.Command("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace="+call, "-e", fmt.Sprintf("inject=%s:signal=KILL:when=%d", call, when),
				programName, "prune", "--force")
			c.Env = append(os.Environ(), "SINTER_ROOT="+b.root, "PATH="+bin+":"+os.Getenv("PATH"))
			var exit *exec.ExitError
			if out, err := c.CombinedOutput(); errors.As(err, &exit) {
				hits++
			} else if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			b.sinter("verify")
		}
	}
	if hits == 0 {
		t.Error("no prune was killed")
	}
	b.sinter("prune", "--force")
	left, err := filepath.Glob(filepath.Join(b.root, "tmp", "[^.]*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left in tmp: %v, %v", left, err)
	}
	b.sinter("verify")
}
