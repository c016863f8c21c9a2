package registry

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"golang.org/x/sys/unix"
)

// authFile is a file with users by key; the password is "of " and the user.
func authFile(t *testing.T, path string, users map[string]string) string {
	t.Helper()
	text := ""
	for key, user := range users {
		text += fmt.Sprintf(`,%q: {"auth": %q}`, key, base64.StdEncoding.EncodeToString([]byte(user+":of "+user)))
	}
	return write(t, path, `{"auths": {`+text[1:]+`}}`)
}

func TestStoredCredentials(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("XDG_CONFIG_HOME", filepath.Join(home, "config"))
	t.Setenv("XDG_RUNTIME_DIR", filepath.Join(home, "run"))
	t.Setenv("DOCKER_CONFIG", filepath.Join(home, "docker"))
	t.Setenv("REGISTRY_AUTH_FILE", "")
	t.Setenv("DOCKER_AUTH_CONFIG", "")
	user := func(host, path string) string {
		t.Helper()
		reg, err := registryName(host, false)
		if err != nil {
			t.Fatal(err)
		}
		a, err := storedCredentials{say: func(string) {}}.Resolve(reg.Repo(path))
		if err != nil {
			t.Fatal(err)
		}
		if a == authn.Anonymous {
			return ""
		}
		c, err := a.Authorization()
		if err != nil || c.Password != "of "+c.Username {
			t.Errorf("%s/%s: %+v, %v", host, path, c, err)
		}
		return c.Username
	}
	check := func(host, path, want string) {
		t.Helper()
		if got := user(host, path); got != want {
			t.Errorf("%s/%s: got %q, want %q", host, path, got, want)
		}
	}
	check("docker.io", "library/a", "")
	authFile(t, filepath.Join(home, "config/containers/auth.json"), map[string]string{
		"docker.io": "podman-hub", "quay.io/team": "team", "quay.io": "all", "lan:5000": "lan", "only.example": "last",
	})
	check("docker.io", "library/a", "podman-hub")
	check("quay.io", "team/app", "team")
	check("quay.io", "teams/app", "all")
	authFile(t, filepath.Join(home, "run/containers/auth.json"), map[string]string{"lan:5000": "run", "quay.io/team/app": "app"})
	check("lan:5000", "a", "run")
	check("lan", "a", "")
	check("quay.io", "team/app", "app")
	authFile(t, filepath.Join(home, "docker/config.json"), map[string]string{"https://index.docker.io/v1/": "docker-hub", "lan:5000": "docker"})
	check("docker.io", "library/a", "docker-hub")
	check("lan:5000", "a", "docker")
	variable, err := os.ReadFile(authFile(t, filepath.Join(home, "variable.json"), map[string]string{"lan:5000": "variable", "lan:5000/b": "path"}))
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("DOCKER_AUTH_CONFIG", string(variable))
	check("lan:5000", "a", "variable")
	check("lan:5000", "b", "path")
	check("docker.io", "library/a", "docker-hub")
	t.Setenv("REGISTRY_AUTH_FILE", authFile(t, filepath.Join(home, "own.json"), map[string]string{"lan:5000": "own"}))
	check("lan:5000", "a", "own")
	check("only.example", "a", "last")
}

// A helper is a program that docker calls; this one knows one host.
func TestCredentialHelper(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	t.Setenv("DOCKER_CONFIG", dir)
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	write(t, filepath.Join(dir, "config.json"), `{"credHelpers": {"helped.example": "test"}}`)
	program := write(t, filepath.Join(dir, "docker-credential-test"),
		"#!/bin/sh\nread host\necho \"{\\\"ServerURL\\\": \\\"$host\\\", \\\"Username\\\": \\\"user of $host\\\", \\\"Secret\\\": \\\"s\\\"}\"\n")
	if err := os.Chmod(program, 0o755); err != nil {
		t.Fatal(err)
	}
	reg, err := registryName("helped.example", false)
	if err != nil {
		t.Fatal(err)
	}
	a, err := storedCredentials{say: func(string) {}}.Resolve(reg.Repo("team/app"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := a.Authorization()
	if err != nil || c.Username != "user of helped.example" || c.Password != "s" {
		t.Errorf("got %+v, %v", c, err)
	}
}

// helper makes docker-credential-NAME of a shell script the one for all registries.
func helper(t *testing.T, name, script string) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	t.Setenv("DOCKER_CONFIG", dir)
	t.Setenv("REGISTRY_AUTH_FILE", "")
	t.Setenv("DOCKER_AUTH_CONFIG", "")
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	write(t, filepath.Join(dir, "config.json"), `{"credsStore": "`+name+`"}`)
	program := write(t, filepath.Join(dir, "docker-credential-"+name), "#!/bin/sh\n"+script)
	if err := os.Chmod(program, 0o755); err != nil {
		t.Fatal(err)
	}
}

// Helpers that fail are named, with what they say; one that does not know the registry
// has not failed. Nothing of theirs goes to our own standard error.
func TestCredentialHelperAnswers(t *testing.T) {
	const good = `echo '{"Username": "user", "Secret": "secret"}'`
	for name, tt := range map[string]struct{ script, user, token, fault, said string }{
		"good":     {script: good, user: "user"},
		"chatty":   {script: "echo touch the key >&2; printf twice >&2;" + good, user: "user", said: "docker-credential-chatty: touch the key|docker-credential-chatty: twice"},
		"agent":    {script: "sleep 3 & " + good, user: "user"},
		"token":    {script: `echo '{"Username": "<token>", "Secret": "refresh"}'`, token: "refresh"},
		"unknown":  {script: "echo credentials not found in native keychain; exit 1"},
		"empty":    {script: `echo '{"Username": "", "Secret": ""}'`},
		"locked":   {script: "echo the keyring is locked; exit 3", fault: "docker-credential-locked: exit status 3: the keyring is locked"},
		"silent":   {script: "exit 1", fault: "docker-credential-silent: exit status 1"},
		"garbage":  {script: "echo garbage", fault: "docker-credential-garbage: its answer is not that of a credential helper"},
		"nothing":  {script: "", fault: "docker-credential-nothing: its answer is not that of a credential helper"},
		"endless":  {script: "yes", fault: "docker-credential-endless: "},
		"nobodies": {script: "exec /nonexistent", fault: "docker-credential-nobodies: exit status"},
	} {
		t.Run(name, func(t *testing.T) {
			helper(t, name, tt.script)
			reg, err := registryName("helped.example", false)
			if err != nil {
				t.Fatal(err)
			}
			var said []string
			a, err := storedCredentials{say: func(line string) { said = append(said, line) }}.Resolve(reg.Repo("app"))
			if tt.fault != "" {
				wantError(t, err, tt.fault, "credsStore and credHelpers")
			} else if err != nil {
				t.Error(err)
			}
			known, err := a.Authorization()
			if err != nil || known.Username != tt.user || known.IdentityToken != tt.token {
				t.Errorf("got %+v, %v", known, err)
			}
			if got := strings.Join(said, "|"); tt.fault == "" && got != tt.said {
				t.Errorf("it said %q, want %q", got, tt.said)
			}
		})
	}
}

// Docker's helper for Docker Hub is asked under docker's name of it, podman's under its.
func TestCredentialHelperOfDockerHub(t *testing.T) {
	helper(t, "hub", `echo "{\"Username\": \"$(cat)\", \"Secret\": \"s\"}"`)
	reg, err := registryName("docker.io", false)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"docker.io", "index.docker.io", "https://index.docker.io/v1/"} {
		t.Setenv("DOCKER_AUTH_CONFIG", `{"credHelpers": {"`+key+`": "hub"}}`)
		a, err := storedCredentials{say: func(string) {}}.Resolve(reg.Repo("library/a"))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := a.Authorization(); err != nil || got.Username != key {
			t.Errorf("%s: got %+v, %v", key, got, err)
		}
	}
}

// A helper runs as it is told, or else as this process.
func TestCredentialHelperProcess(t *testing.T) {
	helper(t, "process", `echo "{\"Username\": \"$(id -u)\", \"Secret\": \"s\"}"`)
	for _, tt := range []struct {
		host int
		want string
	}{{os.Getuid(), "1234"}, {-2, strconv.Itoa(os.Getuid())}} {
		attr := &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 1234, HostID: tt.host, Size: 1}},
		}
		c := storedCredentials{func(string) {}, func() *syscall.SysProcAttr { return attr }}
		got, err := c.askHelper(t.Context(), "process", "reg.example")
		if err != nil || got.Username != tt.want {
			t.Errorf("%d: %+v, %v, want %s", tt.host, got, err, tt.want)
		}
	}
}

// A helper that does not answer ends with the build, and so do those who wait for it.
func TestCredentialHelperHangs(t *testing.T) {
	started := filepath.Join(t.TempDir(), "started")
	if err := unix.Mkfifo(started, 0o600); err != nil {
		t.Fatal(err)
	}
	helper(t, "hanging", "echo x >"+started+"; exec sleep 1000")
	reg := newTestRegistry(t)
	reg.intercept((&tokenRegistry{host: reg.host}).handle)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_, _ = os.ReadFile(started)
		cancel()
	}()
	_, _, err := New(Config{}).Resolve(ctx, mustRef(t, reg.host+"/a:1"))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// What may hold credentials and cannot be read is warned of when a registry asks
// for them. An image for everybody is pulled nevertheless; one that is refused says
// what is wrong with the credentials.
func TestUnreadableCredentials(t *testing.T) {
	for _, tt := range []struct{ name, config, text, hint string }{
		{"not JSON", "{", "config.json", "repair or remove docker's config.json"},
		{"missing helper", `{"credsStore": "of-nobody"}`, "docker-credential-of-nobody", "the helper must be installed"},
		{"missing helper of a host", `{"credHelpers": {"HOST": "of-nobody"}}`, "docker-credential-of-nobody", "the helper must be installed"},
		{"not a file", "", "config.json", "repair or remove docker's config.json"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			reg := newTestRegistry(t)
			if err := quick(Config{}).Push(t.Context(), reg.host+"/a:1", imageSource(t, randomImage(t, 100, 1)), nil); err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			t.Setenv("DOCKER_CONFIG", dir)
			t.Setenv("HOME", dir)
			path := filepath.Join(dir, "config.json")
			if tt.config == "" {
				if err := os.Mkdir(path, 0o755); err != nil {
					t.Fatal(err)
				}
			} else {
				write(t, path, strings.ReplaceAll(tt.config, "HOST", reg.host))
			}
			var warned []string
			pull := func() error {
				_, _, err := New(Config{Warn: func(s string) { warned = append(warned, s) }}).Resolve(t.Context(), mustRef(t, reg.host+"/a:1"))
				return err
			}
			if err := pull(); err != nil || len(warned) != 0 {
				t.Errorf("a registry that does not ask: %v, warned %q", err, warned)
			}
			tokens := &tokenRegistry{host: reg.host, anonymous: true}
			reg.intercept(tokens.handle)
			if err := pull(); err != nil || len(warned) != 1 || !strings.Contains(warned[0], tt.text) {
				t.Errorf("an image for everybody: %v, warned %q", err, warned)
			}
			tokens.anonymous = false
			wantError(t, pull(), "access denied, and the credentials for "+reg.host+" cannot be read: ", tt.hint)
			wantError(t, pull(), tt.text, tt.hint)
		})
	}
}

// $DOCKER_AUTH_CONFIG has what config.json has, as GitLab's runners fill it: helpers,
// names and passwords as well. What cannot be read of it is told as that of a file is.
func TestCredentialVariable(t *testing.T) {
	helper(t, "variable", `echo '{"Username": "helped", "Secret": "s"}'`)
	for _, tt := range []struct{ variable, user, fault string }{
		{variable: `{"auths": {"lan:5000": {"username": "plain", "password": "x"}}}`, user: "plain"},
		{variable: `{"credHelpers": {"lan:5000": "variable"}, "auths": {"lan:5000": {"auth": "dTpw"}}}`, user: "helped"},
		{variable: `garbage`, user: "helped", fault: "parsing $DOCKER_AUTH_CONFIG: "},
	} {
		t.Setenv("DOCKER_AUTH_CONFIG", tt.variable)
		reg, err := registryName("lan:5000", false)
		if err != nil {
			t.Fatal(err)
		}
		a, err := storedCredentials{say: func(string) {}}.Resolve(reg.Repo("a"))
		if tt.fault != "" {
			wantError(t, err, tt.fault, "repair or remove $DOCKER_AUTH_CONFIG")
		} else if err != nil {
			t.Error(err)
		}
		known, err := a.Authorization()
		if err != nil || known.Username != tt.user {
			t.Errorf("%s: got %+v, %v", tt.variable, known, err)
		}
	}
}

// The first file that can be read and knows the registry decides.
func TestCredentialsBehindUnreadable(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("DOCKER_CONFIG", home)
	t.Setenv("XDG_RUNTIME_DIR", filepath.Join(home, "run"))
	t.Setenv("REGISTRY_AUTH_FILE", "")
	authFile(t, filepath.Join(home, "run/containers/auth.json"), map[string]string{"lan:5000": "podman"})
	find := func(want string) {
		t.Helper()
		reg, err := registryName("lan:5000", false)
		if err != nil {
			t.Fatal(err)
		}
		a, fault := storedCredentials{say: func(string) {}}.Resolve(reg.Repo("a"))
		if fault == nil {
			t.Error("no fault was reported")
		}
		known, err := a.Authorization()
		if err != nil || known.Username != want {
			t.Errorf("got %+v, %v, want the user %s", known, err, want)
		}
	}
	write(t, filepath.Join(home, "config.json"), "{")
	find("podman")
	write(t, filepath.Join(home, "config.json"), `{"credsStore": "of-nobody"}`)
	find("podman")
	auth := base64.StdEncoding.EncodeToString([]byte("docker:of docker"))
	write(t, filepath.Join(home, "config.json"), `{"credsStore": "of-nobody", "auths": {"lan:5000": {"auth": "`+auth+`"}}}`)
	find("docker")
}
