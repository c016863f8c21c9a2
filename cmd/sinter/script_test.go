package main

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/builder/sandbox"
	"github.com/sinter-build/sinter/builder/sandbox/userns"
)

// noWait is for GORACE.
const noWait = "atexit_sleep_ms=0"

// programName as its own name makes the test binary behave as sinter.
const programName = "sinter-under-test"

func TestMain(m *testing.M) {
	// The test binary plays all parts of sinter: the init of a command, the
	// process in a user namespace, the program itself.
	program := os.Args[0] == programName || os.Args[0] == "sinter-userns"
	sandbox.Dispatch()
	if program {
		os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	// The race detector would have every process wait for a second at its end.
	os.Setenv("GORACE", noWait)
	testscript.Main(m, map[string]func(){
		"sinter": func() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) },
	})
}

// TestScript runs testdata/script: the command line as people use it.
func TestScript(t *testing.T) {
	registry, referrers := serveRegistry(t), serveReferrers(t)
	pushBase(t, registry+"/base:latest")
	t.Cleanup(func() { scannerProgram.remove(t) })
	testscript.Run(t, testscript.Params{
		Dir:                 scripts(),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("REGISTRY", registry)
			env.Setenv("REFERRERS", referrers)
			env.Setenv("SINTER_ROOT", filepath.Join(env.WorkDir, ".store"))
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("TMPDIR", os.TempDir())
			env.Setenv("GORACE", noWait)
			return serveWeb(env)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"image-tree":   cmdImageTree,
			"image-config": cmdImageConfig,
			"validate":     cmdValidate,
			"validate-all": cmdValidateAll,
			"same":         cmdSame,
			"replace":      cmdReplace,
			"ssh-key":      cmdSSHKey,
			"claim":        cmdClaim,
			"recompress":   cmdRecompress,
			"image-layers": cmdImageLayers,
			"attest":       cmdAttest,
			"refer":        cmdRefer,
			"scanner":      cmdScanner,
		},
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "userns":
				return os.Getuid() != 0, nil
			case "single":
				return singleUser()
			case "limits":
				return canLimit(), nil
			}
			return false, fmt.Errorf("unknown condition %s", cond)
		},
	})
}

// canLimit reports whether this user may make control groups.
func canLimit() bool {
	for _, dir := range []string{"/sys/fs/cgroup/memory", "/sys/fs/cgroup"} {
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			return unix.Access(dir, unix.W_OK) == nil
		}
	}
	return false
}

// scriptsVariable names the folder of scripts for a test binary that runs away
// from its package.
const scriptsVariable = "SINTER_TEST_SCRIPTS"

func scripts() string {
	if dir := os.Getenv(scriptsVariable); dir != "" {
		return dir
	}
	return filepath.Join("..", "..", "testdata", "script")
}

// TestScriptAsPlainUser runs the scripts and the conformance cases again as users
// that are not root: one with subordinate IDs, one without.
func TestScriptAsPlainUser(t *testing.T) {
	for name, ranges := range map[string]bool{"with subordinate IDs": true, "without": false} {
		t.Run(name, func(t *testing.T) { runAsPlainUser(t, ranges, "^(TestScript|TestConformance)$") })
	}
}

// runAsPlainUser runs tests of this package as a user made for it, with more
// variables in the environment.
func runAsPlainUser(t *testing.T, ranges bool, tests string, env ...string) {
	if os.Getuid() != 0 || userns.Inside() {
		t.Skip("needs root, to make users; the tests themselves ran as a plain user")
	}
	dir, err := os.MkdirTemp("/var/tmp", "sinter-script-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// Files of mapped users are root's to remove.
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	who := makeUser(t, ranges)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	sh(t, "cp", self, filepath.Join(dir, "test"))
	sh(t, "cp", "-r", scripts(), filepath.Join(dir, "script"))
	sh(t, "cp", "-r", conformanceFolder(), filepath.Join(dir, "conformance"))
	sh(t, "chown", "-R", who.Username+":", dir)
	c := exec.Command(filepath.Join(dir, "test"), "-test.run="+tests, "-test.timeout=10m")
	c.Dir = dir
	c.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + dir, "USER=" + who.Username, "GORACE=" + noWait,
		scriptsVariable + "=" + filepath.Join(dir, "script"), conformanceCases + "=" + filepath.Join(dir, "conformance"),
	}, append(env, scannerFor(t, tests)...)...)
	c.SysProcAttr = &syscall.SysProcAttr{Credential: credential(t, who)}
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// singleUser reports whether this process can only make files of one owner: it
// is a plain user's without subordinate IDs.
func singleUser() (bool, error) {
	u, err := user.Current()
	if err != nil || os.Getuid() == 0 {
		return false, err
	}
	data, err := os.ReadFile("/etc/subuid")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	return !slices.ContainsFunc(strings.Split(string(data), "\n"), func(line string) bool {
		return strings.HasPrefix(line, u.Username+":") || strings.HasPrefix(line, u.Uid+":")
	}), nil
}

func credential(t *testing.T, who *user.User) *syscall.Credential {
	t.Helper()
	uid, err := strconv.Atoi(who.Uid)
	if err != nil {
		t.Fatal(err)
	}
	gid, err := strconv.Atoi(who.Gid)
	if err != nil {
		t.Fatal(err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

// makeUser makes a user for the time of a test.
func makeUser(t *testing.T, ranges bool) *user.User {
	t.Helper()
	name := fmt.Sprintf("sinter%d", rand.IntN(1e6))
	sh(t, "useradd", "--no-create-home", "--shell", "/bin/sh", name)
	t.Cleanup(func() { sh(t, "userdel", "--force", name) })
	for _, file := range []string{"/etc/subuid", "/etc/subgid"} {
		sh(t, "sed", "-i", "/^"+name+":/d", file)
	}
	if ranges {
		sh(t, "usermod", "--add-subuids", "900000-965535", "--add-subgids", "900000-965535", name)
	}
	u, err := user.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func sh(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

// serveRegistry runs a registry in this process and returns its host and port.
func serveRegistry(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: ggcr.New(ggcr.Logger(quietLog()))}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return l.Addr().String()
}

// openImage reads an image: an OCI layout's directory or its tar, a reference
// in a registry.
func openImage(ts *testscript.TestScript, where string) v1.Image {
	var img v1.Image
	info, err := os.Stat(ts.MkAbs(where))
	switch {
	case err != nil:
		img, err = remote.Image(must(ts)(name.ParseReference(where)).(name.Reference), remote.WithContext(context.Background()))
	case info.IsDir():
		img, err = layoutImage(ts.MkAbs(where))
	default:
		dir := filepath.Join(ts.Getenv("WORK"), ".opened", filepath.Base(where))
		ts.Check(os.RemoveAll(dir))
		ts.Check(os.MkdirAll(dir, 0o755))
		ts.Check(ts.Exec("tar", "-xf", ts.MkAbs(where), "-C", dir))
		img, err = layoutImage(dir)
	}
	ts.Check(err)
	return img
}

func must(ts *testscript.TestScript) func(v any, err error) any {
	return func(v any, err error) any {
		ts.Check(err)
		return v
	}
}

func layoutImage(dir string) (v1.Image, error) {
	idx, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, err
	}
	m, err := idx.IndexManifest()
	if err != nil {
		return nil, err
	}
	if len(m.Manifests) != 1 {
		return nil, fmt.Errorf("the layout has %d manifests, not 1", len(m.Manifests))
	}
	return idx.Image(m.Manifests[0].Digest)
}

// cmdValidate recomputes every digest of an image: validate IMAGE.
func cmdValidate(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: validate IMAGE")
	}
	err := validate.Image(openImage(ts, args[0]))
	if neg != (err != nil) {
		ts.Fatalf("validate %s: %v", args[0], err)
	}
}

// cmdImageConfig prints an image's config as indented JSON to a file:
// image-config IMAGE FILE.
func cmdImageConfig(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: image-config IMAGE FILE")
	}
	raw, err := openImage(ts, args[0]).RawConfigFile()
	ts.Check(err)
	var v map[string]any
	ts.Check(json.Unmarshal(raw, &v))
	out, err := json.MarshalIndent(v, "", "  ")
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), append(out, '\n'), 0o644))
}

// cmdImageTree lists an image's files, one line for each, to a file:
// image-tree IMAGE FILE [PREFIX…].
func cmdImageTree(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: image-tree IMAGE FILE [PREFIX…]")
	}
	files, err := mergedFiles(openImage(ts, args[0]))
	ts.Check(err)
	var lines []string
	for path, line := range files {
		wanted := len(args) == 2 || slices.ContainsFunc(args[2:], func(prefix string) bool {
			return path == prefix || strings.HasPrefix(path, strings.TrimSuffix(prefix, "/")+"/")
		})
		if wanted {
			lines = append(lines, line)
		}
	}
	slices.Sort(lines)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(strings.Join(lines, "\n")+"\n"), 0o644))
}

// cmdReplace replaces text in a file: replace OLD NEW FILE.
func cmdReplace(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: replace OLD NEW FILE")
	}
	path := ts.MkAbs(args[2])
	data, err := os.ReadFile(path)
	ts.Check(err)
	if !strings.Contains(string(data), args[0]) {
		ts.Fatalf("%s does not have %q", args[2], args[0])
	}
	ts.Check(os.WriteFile(path, []byte(strings.ReplaceAll(string(data), args[0], args[1])), 0o644))
}

// cmdSSHKey writes a new private key: ssh-key FILE [PASSPHRASE].
func cmdSSHKey(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 1 && len(args) != 2 {
		ts.Fatalf("usage: ssh-key FILE [PASSPHRASE]")
	}
	_, key, err := ed25519.GenerateKey(nil)
	ts.Check(err)
	block, err := ssh.MarshalPrivateKey(key, "")
	if len(args) == 2 {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(key, "", []byte(args[1]))
	}
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), pem.EncodeToMemory(block), 0o600))
}
