package main

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// exportedCase is case.json of the reference cases' runner.
type exportedCase struct {
	ID         string            `json:"id"`
	Corpus     string            `json:"corpus"`
	Source     string            `json:"source"`
	Dockerfile string            `json:"dockerfile"`
	Context    string            `json:"context"`
	Args       map[string]string `json:"args"`
	Labels     map[string]string `json:"labels"`
	Contexts   map[string]string `json:"contexts"`
	Secrets    map[string]string `json:"secrets"`
	Target     string            `json:"target"`
	Platform   string            `json:"platform"`
	Opts       map[string]string `json:"opts"`
	HTTP       []exportedFile    `json:"http"`
	Notes      []string          `json:"notes"`
	Fails      bool              `json:"expect_fail"`
	Skip       *string           `json:"skip"`
}

// exportedFile is a file, or a git repository, that is served.
type exportedFile struct {
	Base    string            `json:"base"`
	Path    string            `json:"path"`
	File    string            `json:"file,omitempty"`
	Git     string            `json:"git,omitempty"`
	Headers map[string]string `json:"headers,omitempty"`
}

// exportCases writes the cases below dir in the form that the reference cases'
// runner takes: to/cases/ID with case.json and df, to/ctx/ID with the contexts.
func exportCases(t *testing.T, dir, to string) {
	t.Helper()
	for _, file := range caseFiles(t, dir) {
		name := strings.TrimSuffix(strings.TrimPrefix(file, dir+"/"), ".txtar")
		c, err := readCase(file, name)
		if err != nil {
			t.Fatal(err)
		}
		if err := exportCase(c, to); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
}

func exportCase(c *testCase, to string) error {
	id := "own-" + strings.ReplaceAll(c.name, "/", "-")
	home, ctx := filepath.Join(to, "cases", id), filepath.Join(to, "ctx", id)
	for _, dir := range []string{home, ctx} {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	work, err := os.MkdirTemp("", "sinter-export-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	if err := c.unpack(work); err != nil {
		return err
	}
	out := exportedCase{
		ID: id, Corpus: "own", Source: c.name, Dockerfile: "df/" + filepath.Base(c.dockerfile), Context: "ctx/" + id + "/context",
		Args: pairMap(c.BuildArgs), Labels: pairMap(c.Labels), Contexts: map[string]string{}, Secrets: map[string]string{},
		Target: c.Target, Platform: c.Platform, Opts: c.opts(), HTTP: []exportedFile{}, Notes: []string{}, Fails: c.Refused,
	}
	copies := map[string]string{filepath.Join(work, "context"): filepath.Join(ctx, "context")}
	for _, x := range c.Contexts {
		if strings.Contains(x[1], "://") {
			out.Contexts[x[0]] = x[1]
			continue
		}
		out.Contexts[x[0]] = "dir:ctx/" + id + "/" + x[1]
		copies[filepath.Join(work, x[1])] = filepath.Join(ctx, x[1])
	}
	for _, s := range c.Secrets {
		out.Secrets[s[0]] = "secrets/" + s[1]
		copies[filepath.Join(work, s[1])] = filepath.Join(home, "secrets", s[1])
	}
	if out.HTTP, err = c.exportServed(work); err != nil {
		return err
	}
	if len(out.HTTP) > 0 {
		copies[filepath.Join(work, "http")] = filepath.Join(home, "http")
	}
	for from, to := range copies {
		if err := copyTree(from, to); err != nil {
			return err
		}
	}
	if err := c.exportDockerfile(work, filepath.Join(home, "df")); err != nil {
		return err
	}
	data, err := json.MarshalIndent(out, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(home, "case.json"), append(data, '\n'), 0o644)
}

// exportDockerfile writes the Dockerfile and the ignore file of its own.
func (c *testCase) exportDockerfile(work, to string) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	data, err := os.ReadFile(filepath.Join(work, c.dockerfile))
	if err != nil {
		return err
	}
	path := filepath.Join(to, filepath.Base(c.dockerfile))
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(string(data), "@HTTP@", "@HTTP0@")), 0o644); err != nil {
		return err
	}
	ignore := filepath.Join(work, c.dockerfile+".dockerignore")
	if _, err := os.Stat(ignore); err != nil {
		return nil
	}
	return copyTree(ignore, path+".dockerignore")
}

// exportServed lists what the case's server serves: repositories as a whole.
func (c *testCase) exportServed(work string) ([]exportedFile, error) {
	files, headers := []exportedFile{}, c.headers()
	root := filepath.Join(work, "http")
	if _, err := os.Stat(root); err != nil {
		return files, nil
	}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		url := strings.TrimPrefix(p, root)
		switch {
		case d.IsDir() && strings.HasSuffix(p, ".git"):
			files = append(files, exportedFile{Base: "@HTTP0@", Path: url, Git: "http" + url})
			return filepath.SkipDir
		case !d.IsDir():
			f := exportedFile{Base: "@HTTP0@", Path: url, File: "http" + url, Headers: map[string]string{}}
			for k := range headers[url] {
				f.Headers[k] = headers[url].Get(k)
			}
			files = append(files, f)
		}
		return nil
	})
	return files, err
}

// opts are the options that have no field of their own.
func (c *testCase) opts() map[string]string {
	opts := map[string]string{}
	for k, v := range map[string]string{
		"add-hosts": strings.Join(c.AddHosts, ","), "ulimit": strings.Join(c.Ulimits, ","),
		"shm-size": c.ShmSize, "force-network-mode": c.Network,
	} {
		if v != "" {
			opts[k] = v
		}
	}
	return opts
}

func pairMap(pairs [][2]string) map[string]string {
	m := map[string]string{}
	for _, p := range pairs {
		m[p[0]] = p[1]
	}
	return m
}

// copyTree copies with modes, owners, times, links and extended attributes.
func copyTree(from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		return fmt.Errorf("copying: %w\n%s", err, out)
	}
	return nil
}
