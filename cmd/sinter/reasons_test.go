package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/sinter-build/sinter/cache"
)

// reasoning changes one thing after the other of a build, and compares what the build
// says with what was changed.
type reasoning struct {
	*pairing
	random *rand.Rand
	// lines are the Dockerfile's, args the build arguments.
	lines []string
	args  map[string]string
	n     int
}

// changed is what a change has to lead to: the reason of the first step that runs, as a
// pattern; "" if nothing is to run.
type changed struct{ what, why string }

func newReasoning(t *testing.T) *reasoning {
	r := &reasoning{
		pairing: newPairing(t), random: rand.New(rand.NewPCG(1, 2)), args: map[string]string{"USED": "0", "LATE": "0"},
		lines: []string{
			"FROM base AS deps",
			"COPY lib /lib2",
			"RUN mkdir /res && cp /lib2/a /lib2/b /res",
			"FROM base",
			"ARG USED",
			"ENV E=0",
			"COPY --from=deps /res /res",
			"COPY src /src",
			"COPY one.txt /one",
			"RUN echo $USED > /used",
			"RUN --mount=type=secret,id=s wc -c /run/secrets/s",
			"COPY last.txt /last",
			"ARG LATE",
		},
	}
	for _, name := range []string{"lib/a", "lib/b", "lib/c", "src/a", "src/b", "src/c", "src/d/e", "one.txt", "last.txt", "unused", "secret"} {
		r.write(name, "first "+name)
	}
	return r
}

// push makes the base image another one, with a user of this name.
func (r *reasoning) push(user string) {
	r.t.Helper()
	img, err := busyboxImage("root:x:0:0:root:/root:/bin/sh\n"+user+":x:1000:1000::/:/bin/sh\n", "root:x:0:\n")
	r.do(err)
	ref, err := name.ParseReference(r.base + ":latest")
	r.do(err)
	r.do(remote.Write(ref, img))
}

// next is a text that was not there before.
func (r *reasoning) next() string { r.n++; return fmt.Sprint(r.n) }

func (r *reasoning) pick(names ...string) string { return names[r.random.IntN(len(names))] }

func (r *reasoning) line(prefix string) int {
	return slices.IndexFunc(r.lines, func(l string) bool { return strings.HasPrefix(l, prefix) })
}

// run builds, and returns what the steps of the build did.
func (r *reasoning) run(flags ...string) cache.Build {
	r.t.Helper()
	r.write("Dockerfile", strings.Join(r.lines, "\n")+"\n")
	args := append([]string{"build", "-q", "-t", "app", "--secret", "id=s,src=" + r.at("secret"), "--build-context", "base=docker-image://" + r.base}, flags...)
	for _, name := range slices.Sorted(maps.Keys(r.args)) {
		args = append(args, "--build-arg", name+"="+r.args[name])
	}
	if out, err := runSinter(r.store, append(args, r.ctx)...); err != nil {
		r.t.Fatalf("%v\n%s", err, out)
	}
	out, err := runSinter(r.store, "explain", "--format", "json")
	r.do(err)
	var b cache.Build
	r.do(json.Unmarshal([]byte(out), &b))
	return b
}

// check compares what a build says with what was changed before it.
func (r *reasoning) check(c changed, b cache.Build) {
	r.t.Helper()
	first := ""
	var all []string
	for _, s := range b.Steps {
		if s.Verdict != cache.Ran {
			continue
		}
		text := cache.Text(s.Why)
		all = append(all, s.Name+": "+text)
		if len(s.Why) == 0 {
			r.t.Errorf("%s: %s ran without a reason", c.what, s.Name)
		}
		if first == "" {
			first = text
		}
	}
	if c.why == "" && first != "" || c.why != "" && !regexp.MustCompile("^(?:"+c.why+")$").MatchString(first) {
		r.t.Errorf("%s: the reason is %q, want %q of\n%s\n%s", c.what, first, c.why, strings.Join(all, "\n"), strings.Join(r.lines, "\n"))
	}
}

// changes are the kinds of changes. Each makes one and says what is to follow.
var changes = []func(r *reasoning) changed{
	func(r *reasoning) changed {
		name := r.pick("src/a", "src/b", "src/c", "src/d/e")
		r.write(name, r.next())
		return changed{"content of " + name, name + ` changed \(content\), 1 of 4 files`}
	},
	func(r *reasoning) changed {
		name := r.pick("one.txt", "last.txt")
		r.write(name, r.next())
		return changed{"content of " + name, regexp.QuoteMeta(name) + ` changed \(content\), 1 of 1 file`}
	},
	func(r *reasoning) changed {
		name := r.pick("src/a", "src/b", "one.txt")
		info, err := os.Stat(r.at(name))
		r.do(err, os.Chmod(r.at(name), info.Mode().Perm()^0o111))
		r.n++
		return changed{"mode of " + name, name + ` changed \(mode\), 1 of \d files?`}
	},
	func(r *reasoning) changed {
		from, to := "src/c", "src/z"+r.next()
		r.do(os.Rename(r.at(from), r.at(to)))
		c := changed{"name of " + from, `src/c gone, ` + to + ` added, 2 of 5 files`}
		r.check(c, r.run())
		r.do(os.Rename(r.at(to), r.at(from)))
		return changed{"name back", ""}
	},
	func(r *reasoning) changed {
		name := "src/new" + r.next()
		r.write(name, "new")
		r.check(changed{"a new file", name + ` added, 1 of 5 files`}, r.run())
		r.write(name, r.next())
		r.check(changed{"its content", name + ` changed \(content\), 1 of 5 files`}, r.run())
		r.do(os.Remove(r.at(name)))
		return changed{"it went", ""}
	},
	func(r *reasoning) changed {
		name := r.pick("lib/a", "lib/b", "lib/c")
		r.write(name, r.next())
		return changed{"content of " + name, name + ` changed \(content\), 1 of 3 files`}
	},
	func(r *reasoning) changed {
		before := r.args["USED"]
		r.args["USED"] = r.next()
		return changed{"an argument", fmt.Sprintf("argument USED: %q → %q", before, r.args["USED"])}
	},
	func(r *reasoning) changed {
		r.args["LATE"] = r.next()
		return changed{"an argument that nothing uses", ""}
	},
	func(r *reasoning) changed {
		before := r.lines[r.line("ENV")]
		r.lines[r.line("ENV")] = "ENV E=" + r.next()
		return changed{"ENV", fmt.Sprintf("variable E: %q → %q", strings.TrimPrefix(before, "ENV E="), fmt.Sprint(r.n))}
	},
	func(r *reasoning) changed {
		i := r.line("RUN echo")
		before := r.lines[i]
		r.lines[i] = "RUN echo $USED " + r.next() + " > /used"
		return changed{"a RUN", "instruction changed, it was: " + regexp.QuoteMeta(before)}
	},
	func(r *reasoning) changed {
		i := r.line("COPY one.txt")
		before := r.lines[i]
		r.lines[i] = "COPY one.txt /one" + r.next()
		return changed{"a COPY", "instruction changed, it was: " + regexp.QuoteMeta(before)}
	},
	func(r *reasoning) changed {
		line := "RUN touch /new" + r.next()
		r.lines = slices.Insert(r.lines, r.line("COPY last"), line)
		r.check(changed{"a new instruction", "new instruction"}, r.run())
		r.lines = slices.DeleteFunc(r.lines, func(l string) bool { return l == line })
		return changed{"it went", ""}
	},
	func(r *reasoning) changed {
		i, j := r.line("COPY src"), r.line("COPY one")
		r.write("one.txt", r.next()) // an order that was never built
		r.check(changed{"content", `one.txt changed \(content\), 1 of 1 file`}, r.run())
		r.lines[i], r.lines[j] = r.lines[j], r.lines[i]
		return changed{"the order", `it now follows COPY .*, it followed COPY .*`}
	},
	func(r *reasoning) changed {
		r.write(".dockerignore", "src/b\n")
		r.write("src/a", r.next())
		r.check(changed{"a file and what is ignored", `src/a changed \(content\), src/b gone, 2 of 4 files`}, r.run())
		r.do(os.Remove(r.at(".dockerignore")))
		return changed{"what is ignored", `src/b added, 1 of 4 files`}
	},
	func(r *reasoning) changed { r.write("secret", r.next()); return changed{"a secret", ""} },
	func(r *reasoning) changed {
		r.write("unused", r.next())
		return changed{"a file that nothing reads", ""}
	},
	func(r *reasoning) changed {
		now := time.Unix(1_000_000_000+int64(r.random.IntN(1_000_000)), 0)
		r.do(os.Chtimes(r.at("src/a"), now, now))
		return changed{"a time", ""}
	},
	func(r *reasoning) changed {
		r.do(os.Symlink(r.next(), r.at("src/link")))
		r.check(changed{"a symlink", `src/link added, 1 of 5 files`}, r.run())
		r.do(os.Remove(r.at("src/link")), os.Symlink(r.next(), r.at("src/link")))
		r.check(changed{"its target", `src/link changed \(content\), 1 of 5 files`}, r.run())
		r.do(os.Remove(r.at("src/link")))
		r.write("src/link/in", r.next())
		r.check(changed{"a directory in its place", `src/link changed \(type\), src/link/in added, 2 of 6 files`}, r.run())
		r.do(os.RemoveAll(r.at("src/link")))
		return changed{"it went", ""}
	},
	func(r *reasoning) changed {
		i := r.line("RUN echo")
		before := r.lines[i]
		r.lines[i] = "RUN --mount=type=tmpfs,target=/t" + r.next() + strings.TrimPrefix(before, "RUN")
		r.check(changed{"a mount", "instruction changed, it was: " + regexp.QuoteMeta(before) + `; tmpfs mount /t\d+ added`}, r.run())
		r.lines[i] = before
		return changed{"it went", ""}
	},
	func(r *reasoning) changed {
		i := r.line("RUN echo")
		before := r.lines[i]
		r.lines[i] = "RUN <<E\necho " + r.next() + "\necho $USED > /used\nE"
		r.run()
		r.lines[i] = "RUN <<E\necho " + r.next() + "\necho $USED > /used\nE"
		r.check(changed{"a line of a script", fmt.Sprintf("instruction changed: echo %d → echo %d", r.n-1, r.n)}, r.run())
		r.lines[i] = before
		return changed{"it went", ""}
	},
	func(r *reasoning) changed {
		r.lines = slices.Insert(r.lines, r.line("COPY src"), "# "+r.next())
		c := changed{"a comment", ""}
		r.check(c, r.run())
		r.lines = slices.DeleteFunc(r.lines, func(l string) bool { return strings.HasPrefix(l, "#") })
		return c
	},
	func(r *reasoning) changed {
		r.push("user" + r.next())
		r.check(changed{"the base", `base image \S+/base:latest is now sha256:\w+…, was sha256:\w+…`}, r.run("--pull"))
		return changed{"the same base", ""}
	},
	func(r *reasoning) changed {
		r.check(changed{"--no-cache", "--no-cache"}, r.run("--no-cache"))
		return changed{"after --no-cache", ""}
	},
}

// TestReasons: the reason that a build names is the change that was made, in 200 pairs of
// builds, and nothing runs without a reason.
func TestReasons(t *testing.T) {
	r := newReasoning(t)
	r.check(changed{"first", "first build of this step here"}, r.run())
	kinds := r.random.Perm(len(changes))
	for i := range 170 {
		if t.Failed() {
			return
		}
		c := changes[kinds[i%len(kinds)]](r)
		r.check(c, r.run())
	}
}
