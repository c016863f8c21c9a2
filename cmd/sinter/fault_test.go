package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sinter-build/sinter/builder/sandbox/userns"
)

const faultDockerfile = `FROM base AS one
ARG N
RUN echo $N >/one
FROM base
COPY file /file
COPY --from=one /one /one
ARG N
RUN mkdir /d && echo $N >/d/two && chmod 4755 /d/two
`

// TestFaults lets one system call of a command fail, or has the kernel kill the
// command in it. Whatever that call was: a command that says that it worked has
// worked, what had a name before is whole, and the command works when it is called
// again.
func TestFaults(t *testing.T) {
	if os.Getuid() != 0 || userns.Inside() {
		t.Skip("needs root, to trace what sinter starts")
	}
	if underRace {
		t.Skip("make suite runs it, without the race detector")
	}
	f := newFaults(t)
	for _, c := range f.commands() {
		for _, p := range c.pinned {
			f.tryPinned(t, c, p)
		}
		if len(c.pinned) > 0 {
			continue
		}
		for _, fault := range []struct {
			what string
			when []int
		}{
			{"renameat,renameat2:signal=KILL", []int{1, 2, 3, 5, 8}},
			{"mkdirat:signal=KILL", []int{2, 4}},
			{"fsync,syncfs:error=EIO", []int{1, 2}},
			{"openat:error=EIO", []int{4, 9, 17}},
			{"openat:error=EMFILE", []int{6}},
			{"write:error=ENOSPC", []int{2, 4}},
			{"mkdirat:error=ENOSPC", []int{1, 3}},
		} {
			for _, when := range fault.when {
				f.try(t, c, fault.what, when)
			}
		}
		if f.tried > 10 && f.hits == 0 { // fewer where -run chose some
			t.Errorf("%s: no fault had an effect", c.name)
		}
		f.tried, f.hits = 0, 0
	}
}

// faults are the commands that are tried, in a store that is the same at each
// beginning.
type faults struct {
	bin, store, ctx, base, archive string
	// kept is an image that has a name when the fault happens; want is what the
	// build yields.
	kept, want string
	// blobs are the files of kept in the store: of its manifest, its config and its
	// last layer.
	blobs struct{ manifest, config, layer string }
	// pushed is the host of a registry that is empty at each beginning.
	pushed string
	// tried counts the commands, and hits those that a fault stopped.
	tried, hits int
}

type faultyCommand struct {
	name string
	// args may have HOST, the registry that is empty.
	args []string
	// worked looks at the result of a command that says it worked.
	worked func(t *testing.T, store string)
	// pinned are faults that certainly stop the command; the others are not tried.
	pinned []pinnedFault
}

// pinnedFault is what happens at the first call that is about a file of the store.
// The kernel counts the calls of each thread, and which one makes a call is for the
// Go runtime to decide: other faults may have no effect.
type pinnedFault struct{ what, file string }

func newFaults(t *testing.T) *faults {
	t.Helper()
	if _, err := exec.LookPath("strace"); err != nil {
		t.Fatal("strace is missing: install it, or run make test-packages")
	}
	if out, err := exec.Command("strace", "-o", "/dev/null", "true").CombinedOutput(); err != nil {
		t.Skipf("no process can be traced here: %s", out)
	}
	registry := serveRegistry(t)
	pushBase(t, registry+"/base:latest")
	f := &faults{bin: t.TempDir(), store: filepath.Join(t.TempDir(), "store"), ctx: t.TempDir(), base: registry + "/base"}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(f.bin, programName)); err != nil {
		t.Fatal(err)
	}
	writeAt(t, filepath.Join(f.ctx, "Dockerfile"), []byte(faultDockerfile))
	writeAt(t, filepath.Join(f.ctx, "file"), []byte("x"))
	elsewhere := filepath.Join(t.TempDir(), "elsewhere")
	f.must(t, elsewhere, f.build("app", "2")...)
	f.want = f.digest(t, elsewhere, "app")
	f.archive = filepath.Join(f.ctx, "..", "app.tar")
	f.must(t, elsewhere, "save", "-o", f.archive, "app")
	f.must(t, f.store, f.build("kept", "1")...)
	f.kept = f.digest(t, f.store, "kept")
	f.findBlobs(t, registry)
	return f
}

func (f *faults) findBlobs(t *testing.T, registry string) {
	t.Helper()
	f.must(t, f.store, "push", "-q", "kept", registry+"/kept:1")
	img := pushedImage(t, registry+"/kept:1")
	m, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	d, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	file := func(h v1.Hash) string { return filepath.Join("blobs", h.Algorithm, h.Hex) }
	f.blobs.manifest, f.blobs.config, f.blobs.layer = file(d), file(m.Config.Digest), file(m.Layers[len(m.Layers)-1].Digest)
}

func (f *faults) build(name, n string) []string {
	return []string{"build", "-q", "--build-context", "base=docker-image://" + f.base, "--build-arg", "SOURCE_DATE_EPOCH=1700000000", "--build-arg", "N=" + n, "-t", name, f.ctx}
}

func (f *faults) commands() []faultyCommand {
	named := func(name string, want *string) func(t *testing.T, store string) {
		return func(t *testing.T, store string) {
			t.Helper()
			f.whole(t, store, name, *want)
		}
	}
	return []faultyCommand{
		{name: "build", args: f.build("app", "2"), worked: named("app", &f.want)},
		{name: "cached build", args: f.build("other", "1"), worked: named("other", &f.kept)},
		{name: "tag", args: []string{"tag", "kept", "tagged"}, worked: named("tagged", &f.kept)},
		{name: "load", args: []string{"load", "-q", "-i", f.archive}, worked: named("app", &f.want)},
		{name: "pull", args: []string{"pull", "-q", f.base}, worked: func(t *testing.T, store string) { f.must(t, store, "save", "-o", "/dev/null", f.base) }},
		{name: "prune", args: []string{"prune", "-f", "-a"}, worked: func(*testing.T, string) {}},
		{name: "repair", args: []string{"verify", "--repair"}, worked: func(*testing.T, string) {}},
		{name: "push", args: []string{"push", "-q", "kept", "HOST/app:1"}, worked: f.isPushed(&f.kept), pinned: append(f.layerFaults(), pinnedFault{"openat:error=EIO", f.blobs.config}, pinnedFault{"openat:error=EIO", f.blobs.manifest})},
		{name: "build --push", args: append(f.build("HOST/app:1", "1"), "--push"), worked: f.isPushed(&f.kept), pinned: f.layerFaults()},
	}
}

func (f *faults) isPushed(want *string) func(t *testing.T, store string) {
	return func(t *testing.T, _ string) {
		t.Helper()
		got, err := pushedImage(t, f.pushed+"/app:1").ConfigName()
		if err != nil || got.String() != *want {
			t.Errorf("the registry has %s, not %s (%v)", got, *want, err)
		}
	}
}

// layerFaults are single reads of a layer that fail, or in which the process is
// killed. (A config or manifest that cannot be read does not fail a build, which
// has the bytes and writes them again.)
func (f *faults) layerFaults() []pinnedFault {
	return []pinnedFault{
		{"openat:error=EIO", f.blobs.layer},
		{"openat:error=EMFILE", f.blobs.layer},
		{"openat:signal=KILL", f.blobs.layer},
		{"read:error=EIO", f.blobs.layer},
		{"read:signal=KILL", f.blobs.layer},
	}
}

func (f *faults) command(store string, before []string, args ...string) *exec.Cmd {
	all := append(before[:len(before):len(before)], filepath.Join(f.bin, programName))
	c := exec.Command(all[0], append(all[1:], args...)...)
	if len(before) == 0 {
		c.Args[0] = programName
	} else {
		c.Args[len(before)] = programName // found on PATH
	}
	c.Env = append(os.Environ(), "SINTER_ROOT="+store, "PATH="+f.bin+":"+os.Getenv("PATH"))
	return c
}

func (f *faults) must(t *testing.T, store string, args ...string) string {
	t.Helper()
	out, err := f.command(store, nil, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func (f *faults) digest(t *testing.T, store, name string) string {
	t.Helper()
	return f.must(t, store, "inspect", "-f", "{{.Id}}", name)
}

// whole reads every byte of an image.
func (f *faults) whole(t *testing.T, store, name, want string) {
	t.Helper()
	if got := f.digest(t, store, name); got != want {
		t.Errorf("%s is %s, not %s", name, got, want)
	}
	f.must(t, store, "save", "-o", filepath.Join(t.TempDir(), "out.tar"), name)
}

func (f *faults) try(t *testing.T, c faultyCommand, fault string, when int) {
	t.Run(fmt.Sprintf("%s/%s/%d", c.name, fault, when), func(t *testing.T) {
		f.tried++
		if f.run(t, c, fault, when, "") != nil {
			f.hits++
		}
	})
}

func (f *faults) tryPinned(t *testing.T, c faultyCommand, p pinnedFault) {
	t.Run(fmt.Sprintf("%s/%s/%s", c.name, p.what, p.file), func(t *testing.T) {
		if f.run(t, c, p.what, 1, p.file) == nil {
			t.Error("the fault had no effect")
		}
	})
}

// run returns why the command failed with the fault. file is what the call is
// about; "" is anything.
func (f *faults) run(t *testing.T, c faultyCommand, fault string, when int, file string) (failed error) {
	t.Helper()
	store := filepath.Join(t.TempDir(), "store")
	if out, err := exec.Command("cp", "-a", f.store, store).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v\n%s", err, out)
	}
	f.must(t, store, "verify", "--repair") // no directory in a copy counts
	f.pushed = serveRegistry(t)
	args := make([]string, len(c.args))
	for i, arg := range c.args {
		args[i] = strings.ReplaceAll(arg, "HOST", f.pushed)
	}
	call, _, _ := strings.Cut(fault, ":")
	inject := fmt.Sprintf("inject=%s:when=%d", fault, when)
	tracer := []string{"strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=" + call, "-e", inject}
	if file != "" {
		tracer = append(tracer, "-P", filepath.Join(store, file))
	}
	out, err := f.command(store, tracer, args...).CombinedOutput()
	if err == nil {
		c.worked(t, store)
	}
	f.whole(t, store, "kept", f.kept)
	f.must(t, store, args...)
	c.worked(t, store)
	f.whole(t, store, "kept", f.kept)
	if strings.Contains(fault, "syncfs") {
		f.must(t, store, "verify", "--repair") // what was lost by that, verify tells
	}
	f.must(t, store, "verify")
	if t.Failed() {
		t.Logf("with the fault: %v\n%s", err, out)
	}
	return err
}
