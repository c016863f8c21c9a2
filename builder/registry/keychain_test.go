package registry

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
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
	user := func(host, path string) string {
		t.Helper()
		reg, err := registryName(host, false)
		if err != nil {
			t.Fatal(err)
		}
		a, err := storedCredentials{}.Resolve(reg.Repo(path))
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
	a, err := storedCredentials{}.Resolve(reg.Repo("team/app"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := a.Authorization()
	if err != nil || c.Username != "user of helped.example" || c.Password != "s" {
		t.Errorf("got %+v, %v", c, err)
	}
}

func TestDamagedCredentials(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	t.Setenv("DOCKER_CONFIG", dir)
	write(t, filepath.Join(dir, "config.json"), "{")
	_, _, err := New(Config{}).Resolve(t.Context(), mustRef(t, "127.0.0.1:1/a:1"))
	wantError(t, err, "reading the credentials for 127.0.0.1:1", "config.json")
}
