package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// fakeGo says that it is Go 1.19, or else another version, and builds a file.
const fakeGo = `#!/bin/sh
case "$1" in
version) echo "go version go${FAKE_GO:-1.19.8} linux/amd64" ;;
build) while [ "$1" != -o ]; do shift; done; echo built >"$2" ;;
esac
`

func runMake(t *testing.T, goVersion string, args ...string) (string, error) {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "go")
	if err := os.WriteFile(program, []byte(fakeGo), 0o755); err != nil {
		t.Fatal(err)
	}
	c := exec.Command("make", append([]string{"-C", filepath.Join("..", ".."), "OUT=" + dir, "GO=" + program}, args...)...)
	c.Env = append(os.Environ(), "FAKE_GO="+goVersion, "MAKEFLAGS=", "MAKELEVEL=")
	out, err := c.CombinedOutput()
	return string(out), err
}

func TestMakeWithOlderGo(t *testing.T) {
	out, err := runMake(t, "1.19.8", "build")
	if err == nil || !strings.Contains(out, "or later, but ") || !strings.Contains(out, "/go is 1.19.8\n") {
		t.Errorf("%v\n%s", err, out)
	}
	for _, newer := range []string{"1.99", "1.99rc1", "2.0.1"} {
		if out, err := runMake(t, newer, "build"); err != nil {
			t.Errorf("Go %s: %v\n%s", newer, err, out)
		}
	}
	if out, err := runMake(t, "", "build", "GO=/nowhere/go"); err == nil || !strings.Contains(out, "/nowhere/go is not there") {
		t.Errorf("without Go: %v\n%s", err, out)
	}
}

func TestMakeInstall(t *testing.T) {
	dest := filepath.Join(t.TempDir(), "a b")
	if out, err := runMake(t, "1.99", "install", "DESTDIR="+dest, "PREFIX=/opt/x"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	data, err := os.ReadFile(filepath.Join(dest, "opt", "x", "bin", "sinter"))
	if err != nil || string(data) != "built\n" {
		t.Errorf("installed: %q, %v", data, err)
	}
	info, err := os.Stat(filepath.Join(dest, "opt", "x", "bin", "sinter"))
	if err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("installed: %v, %v", info, err)
	}
}
