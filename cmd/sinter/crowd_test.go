package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// crowd is how many builds of each sort run at once.
const crowd = 6

// TestCrowd builds the same and different things in one store at once, while
// other commands list, remove and collect: every build succeeds, what is the same
// is done once, and the store is as it must be.
func TestCrowd(t *testing.T) {
	registry := serveRegistry(t)
	pushBase(t, registry+"/base:latest")
	c := crowded{t: t, base: registry + "/base", root: filepath.Join(t.TempDir(), "store")}
	same := c.context("same", "RUN echo same-was-run; sleep 0.5; echo $$ >/made")
	var builds, others sync.WaitGroup
	outputs := make([]string, crowd)
	for i := range crowd {
		different := c.context(fmt.Sprint("different", i), fmt.Sprintf("RUN --mount=type=cache,target=/c,sharing=locked echo %d >>/c/all; cp /c/all /made", i))
		builds.Go(func() { outputs[i] = c.build(same, fmt.Sprint("same", i)) })
		builds.Go(func() { c.build(different, fmt.Sprint("different", i)) })
	}
	done := make(chan struct{})
	for _, args := range [][]string{{"images"}, {"du", "-v"}, {"prune", "--force"}, {"rmi", "-f", "different0"}} {
		others.Go(func() {
			for {
				c.sinter(args...)
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
	others.Wait()
	if n := strings.Count(strings.Join(outputs, ""), " same-was-run\n"); n != 1 {
		t.Errorf("the same step was run %d times", n)
	}
	if out := c.sinter("verify"); !strings.Contains(out, "OK: ") {
		t.Error(out)
	}
}

// TestCrowdAsPlainUser is TestCrowd in the user namespaces of a plain user.
func TestCrowdAsPlainUser(t *testing.T) { runAsPlainUser(t, true, "^TestCrowd$") }

type crowded struct {
	t          *testing.T
	base, root string
}

// context makes a build context with a Dockerfile.
func (c crowded) context(name, run string) string {
	dir := filepath.Join(filepath.Dir(c.root), name)
	writeAt(c.t, filepath.Join(dir, "Dockerfile"), []byte("FROM base\nCOPY file /file\n"+run+"\nCOPY --from=base /bin/sh /again\n"))
	writeAt(c.t, filepath.Join(dir, "file"), []byte(name))
	return dir
}

func (c crowded) build(dir, name string) string {
	out := filepath.Join(filepath.Dir(c.root), name+".tar")
	return c.sinter("build", "--progress=plain", "--build-context", "base=docker-image://"+c.base, "-t", name, "-o", "type=image", "-o", "type=oci,dest="+out, dir)
}

// sinter runs a command, which must succeed, and returns what it prints.
func (c crowded) sinter(args ...string) string {
	out, err := runSinter(c.root, args...)
	if err != nil {
		c.t.Errorf("sinter %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// runSinter runs a command with a store and returns what it prints.
func runSinter(root string, args ...string) (string, error) {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Args[0] = programName
	cmd.Env = append(os.Environ(), "SINTER_ROOT="+root)
	out, err := cmd.CombinedOutput()
	return string(out), err
}
