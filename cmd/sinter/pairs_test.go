package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pairsDockerfile has every way in which files of a context and of a stage decide
// what a step yields.
const pairsDockerfile = `FROM base AS stage
COPY tree /tree
RUN --mount=type=bind,target=/ctx cd /ctx/tree && find . -type f | sort | xargs stat -c '%n %a %h' > /list && find . -type f | sort | xargs cat >> /list
RUN cp -a /tree /kept
FROM base
COPY --from=stage /list /list
COPY --from=stage /kept/sub /kept
COPY tree/* /flat/
RUN --mount=type=bind,from=stage,source=/kept,target=/kept2 cd /kept2 && ls -lR | grep -v ^total | cut -c 1-10 > /modes && find . | sort >> /modes
`

// pairing builds a context in a store that stays and in stores that are new: both
// images must be the same.
type pairing struct {
	t                *testing.T
	base, ctx, store string
}

func newPairing(t *testing.T) *pairing {
	registry := serveRegistry(t)
	pushBase(t, registry+"/base:latest")
	p := &pairing{t: t, base: registry + "/base", ctx: t.TempDir(), store: filepath.Join(t.TempDir(), "store")}
	p.write("Dockerfile", pairsDockerfile)
	p.write("tree/a", "text a")
	p.write("tree/b", "text b")
	p.write("tree/sub/c", "text c")
	p.do(os.Symlink("a", p.at("tree/link")))
	return p
}

func (p *pairing) at(name string) string { return filepath.Join(p.ctx, name) }

func (p *pairing) write(name, text string) { writeAt(p.t, p.at(name), []byte(text)) }

func (p *pairing) do(errs ...error) {
	p.t.Helper()
	if err := errors.Join(errs...); err != nil {
		p.t.Fatal(err)
	}
}

// build returns the image's ID.
func (p *pairing) build(store string) (string, error) {
	id := filepath.Join(filepath.Dir(p.store), "id")
	out, err := runSinter(store, "build", "--progress=plain", "--timestamp=1000000000", "--iidfile", id,
		"--build-context", "base=docker-image://"+p.base, p.ctx)
	if err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	data, err := os.ReadFile(id)
	return string(data), err
}

// compare fails when the store that stays gives another image than a new one.
func (p *pairing) compare(what string) {
	p.t.Helper()
	cached, err := p.build(p.store)
	p.do(err)
	fresh := filepath.Join(filepath.Dir(p.store), "fresh")
	built, err := p.build(fresh)
	p.do(err)
	if cached != built {
		p.t.Errorf("%s: the image is %s with a cache, and %s without", what, cached, built)
	}
	_, err = runSinter(fresh, "prune", "--all", "--force")
	p.do(err)
}

// TestCachedAsFresh changes a context in all ways that a key has to see.
func TestCachedAsFresh(t *testing.T) {
	p := newPairing(t)
	p.compare("first")
	same := func(name, text string) error {
		info, err := os.Stat(p.at(name))
		if err != nil {
			return err
		}
		return errors.Join(os.WriteFile(p.at(name), []byte(text), 0), os.Chtimes(p.at(name), info.ModTime(), info.ModTime()))
	}
	for _, change := range []struct {
		what string
		do   func() error
	}{
		{"content", func() error { return os.WriteFile(p.at("tree/a"), []byte("longer text a"), 0) }},
		{"content of the same length and time", func() error { return same("tree/sub/c", "text d") }},
		{"mode", func() error { return os.Chmod(p.at("tree/a"), 0o755) }},
		{"mode of a directory", func() error { return os.Chmod(p.at("tree/sub"), 0o700) }},
		// An image keeps times, and keys do not see them: with a timestamp later ones are equal.
		{"time", func() error { return os.Chtimes(p.at("tree/a"), time.Time{}, time.Unix(1_500_000_000, 0)) }},
		{"names joined", func() error {
			return errors.Join(os.Remove(p.at("tree/b")), os.Link(p.at("tree/a"), p.at("tree/b")))
		}},
		{"names parted", func() error {
			return errors.Join(os.Remove(p.at("tree/b")), os.WriteFile(p.at("tree/b"), []byte("longer text a"), 0o755))
		}},
		{"files exchanged", func() error {
			return errors.Join(os.Rename(p.at("tree/a"), p.at("tree/t")), os.Rename(p.at("tree/sub/c"), p.at("tree/a")), os.Rename(p.at("tree/t"), p.at("tree/sub/c")))
		}},
		{"a link", func() error { return errors.Join(os.Remove(p.at("tree/link")), os.Symlink("b", p.at("tree/link"))) }},
		{"a new file", func() error { return os.WriteFile(p.at("tree/new"), []byte("new"), 0o644) }},
		{"ignored", func() error { return os.WriteFile(p.at(".dockerignore"), []byte("tree/new\n.dockerignore\n"), 0o644) }},
		{"back", func() error { return errors.Join(os.Remove(p.at(".dockerignore")), os.Chmod(p.at("tree/sub"), 0o755)) }},
	} {
		p.do(change.do())
		p.compare(change.what)
	}
}

// TestCachedAsFreshAsPlainUser is TestCachedAsFresh with one user ID, and with more.
func TestCachedAsFreshAsPlainUser(t *testing.T) {
	for _, ranges := range []bool{true, false} {
		runAsPlainUser(t, ranges, "^TestCachedAsFresh$")
	}
}

// TestChangedDuringBuild changes the mode of a file while the build opens another
// one, to hash it, that was listed with it. Whatever that build leaves in the store, each state
// of the context gives the image then that it gives in a new store.
func TestChangedDuringBuild(t *testing.T) {
	for what, dockerfile := range map[string]string{
		"copy":  "FROM base\nCOPY tree /tree\n",
		"mount": "FROM base\nRUN --mount=type=bind,target=/ctx stat -c %a /ctx/tree/z > /mode\n",
	} {
		t.Run(what, func(t *testing.T) {
			p := newPairing(t)
			p.write("Dockerfile", dockerfile)
			p.write("tree/0", "")
			p.write("tree/z", "text z")
			p.do(os.Chmod(p.at("tree/z"), 0o644))
			opening := holdOpen(t, p.at("tree/0"))
			done := make(chan error, 1)
			go func() {
				_, err := p.build(p.store)
				done <- err
			}()
			for !opening.begun() {
				select {
				case err := <-done:
					t.Fatal("the build has not opened the file: ", err)
				default:
				}
			}
			p.do(os.Chmod(p.at("tree/z"), 0o755))
			opening.allow()
			if err := <-done; err != nil && !strings.Contains(err.Error(), "changed while it was being read") {
				t.Error(err)
			}
			for _, mode := range []os.FileMode{0o644, 0o755} {
				p.do(os.Chmod(p.at("tree/z"), mode))
				p.compare(mode.String())
			}
		})
	}
}

// heldOpen makes processes wait that open a file.
type heldOpen struct {
	fd int
	// allow lets them go on.
	allow func()
}

// holdOpen holds up whoever opens the file from now on.
func holdOpen(t *testing.T, file string) heldOpen {
	t.Helper()
	fd, err := unix.FanotifyInit(unix.FAN_CLASS_CONTENT|unix.FAN_CLOEXEC, unix.O_RDONLY|unix.O_CLOEXEC)
	if err == unix.EPERM {
		t.Skip("only root can hold up a process that opens a file")
	}
	if err != nil {
		t.Fatal("fanotify: ", err)
	}
	h := heldOpen{fd: fd, allow: sync.OnceFunc(func() { unix.Close(fd) })}
	t.Cleanup(h.allow)
	if err := unix.FanotifyMark(fd, unix.FAN_MARK_ADD, unix.FAN_OPEN_PERM, unix.AT_FDCWD, file); err != nil {
		t.Fatal("fanotify: ", err)
	}
	return h
}

// begun waits a moment for a process that opens the file, and reports whether one
// does.
func (h heldOpen) begun() bool {
	const millis = 10
	n, _ := unix.Poll([]unix.PollFd{{Fd: int32(h.fd), Events: unix.POLLIN}}, millis)
	return n > 0
}
