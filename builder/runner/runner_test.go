package runner

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sinter-build/sinter/builder/cdi"
	"github.com/sinter-build/sinter/builder/sandbox"
	"github.com/sinter-build/sinter/cache"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/hint"
	"github.com/sinter-build/sinter/layers/store"
	"github.com/sinter-build/sinter/parser"
)

// newRunner returns a runner on a new store whose commands are run by command: in this
// process, with the directories that a sandbox would show.
func newRunner(t *testing.T, command func(sandbox.Spec) (sandbox.Result, error)) *Runner {
	t.Helper()
	root := t.TempDir()
	s, err := store.Open(root, store.Options{Warn: func(text string) { t.Log("warning:", text) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	c, err := cache.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	return &Runner{
		Layers: s, Caches: c, SingleUser: os.Getuid() != 0,
		Warn:    func(text string) { t.Log("warning:", text) },
		Sandbox: func(_ context.Context, s sandbox.Spec) (sandbox.Result, error) { return command(s) },
	}
}

// command returns a command that prints to nobody.
func command(x parser.Exec) Command {
	x.Args = []string{"command"}
	x.Network = parser.NetNone
	return Command{Exec: x, Name: "step", Output: func(int, []byte) {}}
}

// write writes a file in a directory.
func write(t *testing.T, dir, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// layerOf returns a layer with a file.
func layerOf(t *testing.T, r *Runner, name, content string) layers.Layer {
	t.Helper()
	before := r.Sandbox
	defer func() { r.Sandbox = before }()
	r.Sandbox = func(_ context.Context, s sandbox.Spec) (sandbox.Result, error) {
		write(t, s.Upper, name, content)
		return sandbox.Result{}, nil
	}
	got, err := r.Run(t.Context(), command(parser.Exec{}))
	if err != nil || !got.Changed {
		t.Fatalf("%+v, %v", got, err)
	}
	return got.Layer
}

func paths(t *testing.T, r *Runner, l layers.Layer) string {
	t.Helper()
	tree, err := r.Layers.Tree(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range tree.Entries {
		list = append(list, e.Path)
	}
	return strings.TrimSpace(strings.Join(list, " "))
}

// TestRun: what a command writes becomes a layer over its root, and nothing of the
// command is left.
func TestRun(t *testing.T) {
	var seen sandbox.Spec
	r := newRunner(t, func(s sandbox.Spec) (sandbox.Result, error) {
		seen = s
		write(t, s.Upper, "new", "x")
		return sandbox.Result{MaxRSS: 42}, nil
	})
	base := layerOf(t, r, "old", "base")
	c := command(parser.Exec{Cwd: "/w", User: "1:2", Hostname: "h", ExtraHosts: []parser.Host{{Name: "a", IP: "1.2.3.4"}}})
	c.Root = layers.Chain{base}
	got, err := r.Run(t.Context(), c)
	if err != nil || !got.Changed || got.MaxRSS != 42 {
		t.Fatalf("%+v, %v", got, err)
	}
	if p := paths(t, r, got.Layer); p != "new" {
		t.Errorf("the layer has %q", p)
	}
	if len(seen.Lower) != 1 || seen.Cwd != "/w" || seen.User != "1:2" || seen.Hostname != "h" || seen.Network != sandbox.NetNone ||
		len(seen.Hosts) != 1 || seen.Hosts[0] != (sandbox.Host{Name: "a", IP: "1.2.3.4"}) {
		t.Errorf("the sandbox is told %+v", seen)
	}
	if data, err := os.ReadFile(filepath.Join(seen.Lower[0], "old")); err != nil || string(data) != "base" {
		t.Errorf("the root shows %q, %v", data, err)
	}
	if _, err := os.Lstat(seen.TempDir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the command's folder is still there: %v", err)
	}
}

func TestRunChangesNothing(t *testing.T) {
	r := newRunner(t, func(sandbox.Spec) (sandbox.Result, error) { return sandbox.Result{}, nil })
	if got, err := r.Run(t.Context(), command(parser.Exec{})); err != nil || got.Changed {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestExitCodes(t *testing.T) {
	for _, tt := range []struct {
		code  int
		valid []int
		fails bool
	}{{0, nil, false}, {3, nil, true}, {3, []int{2, 3}, false}, {3, []int{0, 2}, true}, {0, []int{2}, false}} {
		var printed strings.Builder
		r := newRunner(t, func(s sandbox.Spec) (sandbox.Result, error) {
			fmt.Fprint(s.Stdout, strings.Repeat("x", tailSize))
			fmt.Fprint(s.Stderr, "the end")
			res := sandbox.Result{ExitCode: tt.code, MaxRSS: 7}
			if tt.code == 0 {
				return res, nil
			}
			return res, &sandbox.ExitError{Args: s.Args, Result: res}
		})
		c := command(parser.Exec{ValidExitCodes: tt.valid})
		c.Output = func(stream int, data []byte) { fmt.Fprint(&printed, stream, len(data), " ") }
		got, err := r.Run(t.Context(), c)
		var failed *CommandError
		if errors.As(err, &failed) != tt.fails || (err != nil) != tt.fails || got.MaxRSS != 7 {
			t.Errorf("exit code %d with %v: %+v, %v", tt.code, tt.valid, got, err)
		}
		if failed != nil && (failed.ExitCode != tt.code || len(failed.Output) != tailSize || !strings.HasSuffix(failed.Output, "xthe end")) {
			t.Errorf("exit code %d: %d, %d bytes of output", tt.code, failed.ExitCode, len(failed.Output))
		}
		if got := printed.String(); got != "1 8192 2 7 " {
			t.Errorf("printed %s", got)
		}
	}
}

// TestEndedContext: a command that ended because the build did has not failed itself.
func TestEndedContext(t *testing.T) {
	why := errors.New("the build ends")
	ctx, cancel := context.WithCancelCause(t.Context())
	r := newRunner(t, func(s sandbox.Spec) (sandbox.Result, error) {
		cancel(why)
		return sandbox.Result{ExitCode: 137}, &sandbox.ExitError{Args: s.Args}
	})
	if _, err := r.Run(ctx, command(parser.Exec{ValidExitCodes: []int{137}})); err != why {
		t.Errorf("got %v", err)
	}
}

// given are secrets, agents and devices for tests.
func given(t *testing.T) Given {
	t.Helper()
	spec := "cdiVersion: \"0.6.0\"\nkind: vendor.test/thing\ndevices:\n- name: a\n" +
		"  containerEdits:\n    env: [A=device]\n    deviceNodes: [{path: /dev/a, hostPath: /dev/zero}]\n    mounts: [{hostPath: /etc, containerPath: /e, options: [ro]}]\n"
	dir := t.TempDir()
	write(t, dir, "a.yaml", spec)
	return Given{
		Secrets: func(id string) ([]byte, error) {
			switch id {
			case "s":
				return []byte("hidden"), nil
			case "bad":
				return nil, errors.New("no permission")
			}
			return nil, fs.ErrNotExist
		},
		Devices: cdi.Specs{Dirs: []string{dir}},
		Volumes: []Volume{{Host: "/etc", Path: "/host", ReadOnly: true}},
	}
}

func TestEnvironment(t *testing.T) {
	r := &Runner{Given: given(t), Warn: func(text string) { t.Log(text) }}
	const path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	for _, tt := range []struct {
		name string
		exec parser.Exec
		want string
	}{
		{"PATH is kept", parser.Exec{Env: []string{"PATH=/bin"}}, "PATH=/bin"},
		{"PATH is added", parser.Exec{Env: []string{"XPATH=/x"}}, "XPATH=/x " + path},
		{"proxies count more", parser.Exec{Env: []string{"PATH=", "no_proxy=mine"}, Proxy: parser.Proxy{HTTP: "h", No: "n"}},
			"PATH= no_proxy=mine HTTP_PROXY=h http_proxy=h NO_PROXY=n no_proxy=n"},
		{"secrets", parser.Exec{Env: []string{"PATH="}, SecretEnv: []parser.SecretEnv{{ID: "s", Name: "S"}, {ID: "none", Name: "N", Optional: true}}},
			"PATH= S=hidden N="},
		{"devices", parser.Exec{Env: []string{"PATH="}, Devices: []parser.Device{{Name: "vendor.test/thing=a"}, {Name: "vendor.test/none", Optional: true}}},
			"PATH= A=device"},
	} {
		before := slices.Clone(tt.exec.Env)
		edits, err := r.devices(tt.exec.Devices)
		if err != nil {
			t.Fatal(err)
		}
		got, err := r.environment(tt.exec, edits)
		if err != nil || strings.Join(got, " ") != tt.want {
			t.Errorf("%s: %q, %v", tt.name, got, err)
		}
		if !slices.Equal(tt.exec.Env, before) {
			t.Errorf("%s: the step's own environment changed: %q", tt.name, tt.exec.Env)
		}
	}
}

// TestMounts goes through the types of mounts. What depends on the place of the store
// is left out: of directories the number is told.
func TestMounts(t *testing.T) {
	r := newRunner(t, nil)
	r.Given = given(t)
	r.SSH = func(_ context.Context, id, path string, _ parser.Mount) (func(), error) {
		if id != "default" {
			return nil, fs.ErrNotExist
		}
		return func() {}, os.WriteFile(path, nil, 0o600)
	}
	l := layerOf(t, r, "file", "x")
	r.Sandbox = func(context.Context, sandbox.Spec) (sandbox.Result, error) { return sandbox.Result{}, nil }
	for _, tt := range []struct {
		name  string
		mount parser.Mount
		want  string // or a part of the error
		hint  string
	}{
		{"tmpfs", parser.Mount{Type: parser.MountTmpfs, Dest: "/t", TmpfsSize: 5, Input: -1}, "tmpfs /t size 5", ""},
		{"secret", parser.Mount{Type: parser.MountSecret, Dest: "run/s", SecretID: "s", UID: 1, GID: 2, Mode: 0o400, Input: -1},
			"secret /w/run/s data hidden 1:2 400", ""},
		{"secret that is missing", parser.Mount{Type: parser.MountSecret, Dest: "/s", SecretID: "none", Input: -1},
			"mount secret at /s: secret none: not found", "--secret id=none,src=FILE"},
		{"optional secret", parser.Mount{Type: parser.MountSecret, Dest: "/s", SecretID: "none", Optional: true, Input: -1}, "", ""},
		{"optional secret that cannot be read", parser.Mount{Type: parser.MountSecret, Dest: "/s", SecretID: "bad", Optional: true, Input: -1},
			"mount secret at /s: reading secret bad: no permission", ""},
		{"ssh", parser.Mount{Type: parser.MountSSH, Dest: "../agent", Input: -1}, "ssh /agent source ssh0", ""},
		{"ssh that is missing", parser.Mount{Type: parser.MountSSH, Dest: "/a", SecretID: "x", Input: -1}, "no ssh agent or key was given", "--ssh x"},
		{"optional ssh", parser.Mount{Type: parser.MountSSH, Dest: "/a", SecretID: "x", Optional: true, Input: -1}, "", ""},
		{"bind", parser.Mount{Type: parser.MountBind, Dest: "/b", Selector: "/sub", ReadOnly: true}, "bind /b ro 1 lower /sub", ""},
		{"bind to write to", parser.Mount{Type: parser.MountBind, Dest: "/b"}, "bind /b 1 lower upper", ""},
		{"bind of nothing", parser.Mount{Type: parser.MountBind, Dest: "/b", ReadOnly: true, Input: -1}, "bind /b ro upper", ""},
		{"bind to keep", parser.Mount{Type: parser.MountBind, Dest: "/b", Output: 1}, "cannot be kept", ""},
		{"cache", parser.Mount{Type: parser.MountCache, Dest: "/c", CacheID: "id", Sharing: "shared", Input: -1}, "cache /c source fs", ""},
		{"root to read only", parser.Mount{Type: parser.MountBind, Dest: "/", ReadOnly: true}, "a read-only root is not supported", ""},
		{"unknown", parser.Mount{Type: "odd", Dest: "/o", Input: -1}, `mount type "odd" is not known`, ""},
	} {
		c := command(parser.Exec{Cwd: "w", Mounts: []parser.Mount{tt.mount}})
		if tt.mount.Input == 0 {
			c.Below = map[int]Below{0: {Chain: layers.Chain{l}}}
		}
		held := &held{}
		mounts, err := mounter{r, c, t.TempDir(), held}.mounts(t.Context())
		held.release()
		if err != nil {
			if !strings.Contains(err.Error(), tt.want) || !strings.Contains(hint.Of(err), tt.hint) || tt.want == "" {
				t.Errorf("%s: %v (hint %q)", tt.name, err, hint.Of(err))
			}
			continue
		}
		var got []string
		for _, m := range mounts {
			got = append(got, shown(m))
		}
		if strings.Join(got, ", ") != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

// shown writes a mount down.
func shown(m sandbox.Mount) string {
	parts := []string{string(m.Type), m.Dest}
	add := func(given bool, format string, args ...any) {
		if given {
			parts = append(parts, fmt.Sprintf(format, args...))
		}
	}
	add(m.ReadOnly, "ro")
	add(m.Size != 0, "size %d", m.Size)
	add(m.Source != "", "source %s", filepath.Base(m.Source))
	add(m.Data != nil, "data %s", m.Data)
	add(m.UID != 0 || m.GID != 0, "%d:%d", m.UID, m.GID)
	add(m.Mode != 0, "%o", m.Mode)
	add(len(m.Lower) > 0, "%d lower", len(m.Lower))
	add(m.Upper != "", "%s", filepath.Base(m.Upper))
	add(m.Selector != "", "%s", m.Selector)
	return strings.Join(parts, " ")
}

// TestHostMounts: volumes come first and devices next, so that mounts of the
// Dockerfile cover them.
func TestHostMounts(t *testing.T) {
	var seen []string
	r := newRunner(t, func(s sandbox.Spec) (sandbox.Result, error) {
		for _, m := range s.Mounts {
			seen = append(seen, string(m.Type)+" "+m.Dest)
		}
		return sandbox.Result{}, nil
	})
	r.Given = given(t)
	x := parser.Exec{
		Devices: []parser.Device{{Name: "vendor.test/thing=a"}},
		Mounts:  []parser.Mount{{Type: parser.MountTmpfs, Dest: "/t", Input: -1}},
	}
	if _, err := r.Run(t.Context(), command(x)); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(seen, ", "); got != "bind /host, device /dev/a, bind /e, tmpfs /t" {
		t.Errorf("got %s", got)
	}
	x.Devices = []parser.Device{{Name: "vendor.test/none"}}
	if _, err := r.Run(t.Context(), command(x)); err == nil || !strings.Contains(err.Error(), `required device "vendor.test/none" is not registered`) {
		t.Errorf("got %v", err)
	}
	r.Volumes = []Volume{{Host: filepath.Join(t.TempDir(), "none"), Path: "/v"}}
	if _, err := r.Run(t.Context(), command(parser.Exec{})); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// TestCacheMounts: a cache mount keeps what commands write, is told apart by its ID and
// what it begins with, and is freed when its command ends, also in vain.
func TestCacheMounts(t *testing.T) {
	var seen map[string]string
	fails := false
	r := newRunner(t, func(s sandbox.Spec) (sandbox.Result, error) {
		seen = map[string]string{}
		for _, m := range s.Mounts {
			seen[m.Dest] = m.Source
		}
		if fails {
			return sandbox.Result{ExitCode: 1}, errors.New("failed")
		}
		return sandbox.Result{}, nil
	})
	l := layerOf(t, r, "file", "beginning")
	mount := func(dest, id string, input int) parser.Mount {
		return parser.Mount{Type: parser.MountCache, Dest: dest, CacheID: id, Sharing: "private", Input: input}
	}
	run := func(mounts ...parser.Mount) map[string]string {
		t.Helper()
		c := command(parser.Exec{Mounts: mounts})
		c.Below = map[int]Below{}
		for i, m := range mounts {
			if m.Input == 0 {
				c.Below[i] = Below{Chain: layers.Chain{l}, Name: "beginning"}
			}
		}
		if _, err := r.Run(t.Context(), c); (err != nil) != fails {
			t.Fatal(err)
		}
		return seen
	}
	first := maps.Clone(run(mount("/a", "1", -1), mount("/b", "2", -1), mount("/c", "1", -1), mount("/d", "1", 0)))
	if first["/a"] != first["/c"] || first["/a"] == first["/b"] || first["/a"] == first["/d"] {
		t.Errorf("the directories are %q", first)
	}
	if data, err := os.ReadFile(filepath.Join(first["/d"], "file")); err != nil || string(data) != "beginning" {
		t.Errorf("it begins with %q, %v", data, err)
	}
	write(t, first["/d"], "file", "written")
	fails = true
	run(mount("/x", "1", 0))
	fails = false
	if again := run(mount("/y", "1", 0)); again["/y"] != first["/d"] {
		t.Errorf("another directory than before: %q and %q", again["/y"], first["/d"])
	}
	if data, err := os.ReadFile(filepath.Join(first["/d"], "file")); err != nil || string(data) != "written" {
		t.Errorf("it holds %q, %v", data, err)
	}
}

// TestAgentIsStopped: what a command holds is freed in the reverse order, when the
// command has ended.
func TestAgentIsStopped(t *testing.T) {
	var events []string
	r := newRunner(t, func(sandbox.Spec) (sandbox.Result, error) {
		events = append(events, "run")
		return sandbox.Result{}, nil
	})
	r.SSH = func(_ context.Context, id, _ string, _ parser.Mount) (func(), error) {
		events = append(events, "serve "+id)
		return func() { events = append(events, "stop "+id) }, nil
	}
	agent := func(id string) parser.Mount {
		return parser.Mount{Type: parser.MountSSH, Dest: "/" + id, SecretID: id, Input: -1}
	}
	if _, err := r.Run(t.Context(), command(parser.Exec{Mounts: []parser.Mount{agent("a"), agent("b")}})); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(events, ", "); got != "serve a, serve b, run, stop b, stop a" {
		t.Errorf("got %s", got)
	}
}

// TestRootBegins: the directory that a command writes to has the time of the root
// below it, and the mode that BuildKit gives.
func TestRootBegins(t *testing.T) {
	var info fs.FileInfo
	r := newRunner(t, func(s sandbox.Spec) (_ sandbox.Result, err error) {
		info, err = os.Stat(s.Upper)
		return sandbox.Result{}, err
	})
	l := layerOf(t, r, "file", "x")
	c := command(parser.Exec{})
	c.Root = layers.Chain{l}
	if _, err := r.Run(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o755 || info.ModTime().UnixNano() != layers.MadeTime {
		t.Errorf("mode %o, %v", info.Mode().Perm(), info.ModTime())
	}
}

// TestSameLayerTwice: a chain may hold a layer twice (COPY --link of the same
// files, or a base image of equal layers), an overlay may not.
func TestSameLayerTwice(t *testing.T) {
	for in, want := range map[string]string{"": "", "a": "a", "a b a": "b a", "a b a c b": "a c b", "a a": "a"} {
		if got := strings.Join(lastOfEach(strings.Fields(in)), " "); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}
