package main

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/sinter-build/sinter/builder/sandbox/userns"
)

// contextTime is when the files of contexts were last changed, unless a case's
// setup says something else.
var contextTime = time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)

// sections are the parts of a case that are no files.
var sections = []string{"setup", "headers", "config", "tree", "history", "error"}

// testCase is one behaviour, as testdata/conformance/README.md describes it.
type testCase struct {
	file, name string
	archive    *txtar.Archive

	BuildArgs, Labels         [][2]string
	Contexts, Secrets         [][2]string
	Target, Platform, Network string
	AddHosts, Ulimits         []string
	ShmSize                   string

	dockerfile string   // beside context, or in it
	root, ids  bool     // what it needs of the user
	Absent     []string // texts that the image must not have
	Times      []string // paths whose time is compared
	Refused    bool
	Errors     []string
}

// readCase reads one file of cases.
func readCase(file, name string) (*testCase, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	c := &testCase{file: file, name: name, archive: txtar.Parse(data), dockerfile: "Dockerfile"}
	if _, ok := c.section("context/Dockerfile"); ok {
		c.dockerfile = "context/Dockerfile"
	}
	for line := range strings.Lines(string(c.archive.Comment)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		option, value, _ := strings.Cut(line, " ")
		if err := c.set(option, strings.TrimSpace(value)); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
	}
	if text, ok := c.section("error"); ok {
		c.Refused = true
		for line := range strings.Lines(text) {
			c.Errors = append(c.Errors, strings.TrimSuffix(line, "\n"))
		}
	}
	return c, nil
}

func (c *testCase) set(option, value string) error {
	key, text, _ := strings.Cut(value, "=")
	pair := [2]string{key, text}
	switch option {
	case "build-arg":
		c.BuildArgs = append(c.BuildArgs, pair)
	case "label":
		c.Labels = append(c.Labels, pair)
	case "build-context":
		c.Contexts = append(c.Contexts, pair)
	case "secret":
		c.Secrets = append(c.Secrets, pair)
	case "add-host":
		c.AddHosts = append(c.AddHosts, value)
	case "ulimit":
		c.Ulimits = append(c.Ulimits, value)
	case "target":
		c.Target = value
	case "platform":
		c.Platform = value
	case "network":
		c.Network = value
	case "shm-size":
		c.ShmSize = value
	case "dockerfile":
		c.dockerfile = value
	case "absent":
		c.Absent = append(c.Absent, value)
	case "times":
		c.Times = strings.Fields(value)
	case "needs":
		c.root = c.root || value == "root"
		c.ids = c.ids || value == "ids"
	default:
		return fmt.Errorf("unknown option %q", option)
	}
	return nil
}

// section is the text of one of the archive's files.
func (c *testCase) section(name string) (string, bool) {
	i := slices.IndexFunc(c.archive.Files, func(f txtar.File) bool { return f.Name == name })
	if i < 0 {
		return "", false
	}
	return string(c.archive.Files[i].Data), true
}

// unfit says why this user cannot run the case.
func (c *testCase) unfit(own bool) (string, error) {
	if os.Getuid() == 0 && !userns.Inside() {
		return "", nil
	}
	single, err := singleUser()
	switch {
	case !own:
		return "other builders are run as root", nil
	case c.root:
		return "the case's files need root", nil
	case c.ids && single:
		return "the image has files of several users", nil
	}
	return "", err
}

// unpack writes the case's files and runs its setup.
func (c *testCase) unpack(dir string) error {
	if err := os.MkdirAll(filepath.Join(dir, "context"), 0o755); err != nil {
		return err
	}
	for _, f := range c.archive.Files {
		if slices.Contains(sections, f.Name) {
			continue
		}
		path := filepath.Join(dir, f.Name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, f.Data, 0o644); err != nil {
			return err
		}
		if err := os.Chtimes(path, contextTime, contextTime); err != nil {
			return err
		}
	}
	script, ok := c.section("setup")
	if !ok {
		return nil
	}
	cmd := exec.Command("/bin/sh", "-eu", "-c", "umask 022\n"+script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "TZ=UTC", "LC_ALL=C", "GIT_CONFIG_GLOBAL=/dev/null")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("setup: %w\n%s", err, out)
	}
	return nil
}

// serve serves the case's folder http, and names the server in the Dockerfile.
func (c *testCase) serve(t *testing.T, dir string) error {
	folder := filepath.Join(dir, "http")
	if _, err := os.Stat(folder); err != nil {
		return nil
	}
	headers := c.headers()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, err := os.ReadFile(filepath.Join(folder, filepath.Clean("/"+r.URL.Path)))
		if err != nil && headers[r.URL.Path] == nil {
			http.Error(w, "not here", http.StatusNotFound)
			return
		}
		status := http.StatusOK
		for k, v := range headers[r.URL.Path] {
			w.Header()[k] = v
			if k == "Location" {
				status = http.StatusFound
			}
		}
		w.WriteHeader(status)
		w.Write(data)
	}))
	t.Cleanup(s.Close)
	path := filepath.Join(dir, c.dockerfile)
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return os.WriteFile(path, bytes.ReplaceAll(data, []byte("@HTTP@"), []byte(s.URL)), 0o644)
}

// headers are the lines "/PATH NAME: VALUE" of the section headers.
func (c *testCase) headers() map[string]http.Header {
	out := map[string]http.Header{}
	text, _ := c.section("headers")
	for line := range strings.Lines(text) {
		path, header, _ := strings.Cut(strings.TrimSpace(line), " ")
		name, value, _ := strings.Cut(header, ":")
		if out[path] == nil {
			out[path] = http.Header{}
		}
		out[path].Set(name, strings.TrimSpace(value))
	}
	return out
}

// flags are docker's flags of the case, quoted for a shell.
func (c *testCase) flags(dir, registry string) string {
	var words []string
	add := func(flag, value string) { words = append(words, flag, quoteWord(value)) }
	for _, a := range c.BuildArgs {
		add("--build-arg", a[0]+"="+a[1])
	}
	for _, l := range c.Labels {
		add("--label", l[0]+"="+l[1])
	}
	for _, x := range c.Contexts {
		if !strings.Contains(x[1], "://") {
			x[1] = filepath.Join(dir, x[1])
		}
		add("--build-context", x[0]+"="+strings.ReplaceAll(x[1], "@REGISTRY@", registry))
	}
	for _, s := range c.Secrets {
		add("--secret", "id="+s[0]+",src="+filepath.Join(dir, s[1]))
	}
	for _, h := range c.AddHosts {
		add("--add-host", h)
	}
	for _, u := range c.Ulimits {
		add("--ulimit", u)
	}
	for flag, value := range map[string]string{"--target": c.Target, "--platform": c.Platform, "--network": c.Network, "--shm-size": c.ShmSize} {
		if value != "" {
			add(flag, value)
		}
	}
	return strings.Join(words, " ")
}

// write puts what a build made into the case's file, in place of the sections
// of those names.
func (c *testCase) write(got map[string]string) error {
	for _, name := range []string{"config", "tree", "history"} {
		i := slices.IndexFunc(c.archive.Files, func(f txtar.File) bool { return f.Name == name })
		switch {
		case i >= 0 && got[name] == "":
			c.archive.Files = slices.Delete(c.archive.Files, i, i+1)
		case i >= 0:
			c.archive.Files[i].Data = []byte(got[name])
		case got[name] != "" && name != "history":
			c.archive.Files = append(c.archive.Files, txtar.File{Name: name, Data: []byte(got[name])})
		}
	}
	return os.WriteFile(c.file, txtar.Format(c.archive), 0o644)
}
