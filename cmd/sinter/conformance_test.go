package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The conformance cases run through sinter unless the environment says otherwise.
const (
	// conformanceCases is another folder of cases.
	conformanceCases = "CONF_CASES"
	// conformanceCommand is another builder's command line, with the
	// placeholders {dockerfile} {context} {flags} {out} {name} {registry}, as
	// the reference cases' runner has them. Such a builder has to find
	// docker.io at conformanceRegistry, and its words are not compared.
	conformanceCommand  = "CONF_COMMAND"
	conformanceRegistry = "CONF_REGISTRY"
	// conformanceUpdate, when set, writes what the command makes into the cases:
	// for a command that is the reference.
	conformanceUpdate = "CONF_UPDATE"
	// conformanceExport is a folder that gets the cases in the reference
	// runner's form; nothing is built then.
	conformanceExport = "CONF_EXPORT"
)

const ownCommand = programName + " build --progress plain --registry-mirror docker.io={registry} -f {dockerfile} {flags} -o type=oci,dest={out} {context}"

// conformance runs cases through a builder.
type conformance struct {
	command  string
	own      bool // command is the sinter under test
	registry string
	bases    []*baseImage
	update   bool
	env      []string
}

// TestConformance builds each case of testdata/conformance and compares the
// image with what the reference makes of it: all of the config and every file.
func TestConformance(t *testing.T) {
	if underRace {
		t.Skip("hundreds of processes, each slow under the race detector: `make suite` runs them without")
	}
	dir := conformanceFolder()
	if to := os.Getenv(conformanceExport); to != "" {
		exportCases(t, dir, to)
		return
	}
	c := newConformance(t)
	for _, file := range caseFiles(t, dir) {
		name := strings.TrimSuffix(strings.TrimPrefix(file, dir+"/"), ".txtar")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cs, err := readCase(file, name)
			if err != nil {
				t.Fatal(err)
			}
			if reason, err := cs.unfit(c.own); err != nil {
				t.Fatal(err)
			} else if reason != "" {
				t.Skip(reason)
			}
			c.run(t, cs)
		})
	}
}

func conformanceFolder() string {
	if dir := os.Getenv(conformanceCases); dir != "" {
		return filepath.Clean(dir)
	}
	return filepath.Join("..", "..", "testdata", "conformance")
}

// caseFiles are the cases in dir's folders, which are named for instructions.
func caseFiles(t *testing.T, dir string) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.HasSuffix(path, ".txtar") {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatalf("%s has no case", dir)
	}
	return files
}

func newConformance(t *testing.T) *conformance {
	t.Helper()
	c := &conformance{command: os.Getenv(conformanceCommand), registry: os.Getenv(conformanceRegistry)}
	c.own = c.command == ""
	c.update = os.Getenv(conformanceUpdate) != ""
	if c.own {
		c.command = ownCommand
	}
	if c.registry == "" {
		c.registry = serveRegistry(t)
	}
	c.bases = conformanceBases(t, c.registry)

	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	if err := os.Symlink(self, filepath.Join(bin, programName)); err != nil {
		t.Fatal(err)
	}
	store := storeFolder(t)
	c.env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "SINTER_ROOT="+store)
	return c
}

// storeFolder is a folder for sinter's store; the files of mapped users in it
// are removed by the program that made them.
func storeFolder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sinter-conformance-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			sh(t, "unshare", "--user", "--map-auto", "--map-root-user", "rm", "-rf", dir)
		}
	})
	return dir
}

// run builds one case and judges what comes out.
func (c *conformance) run(t *testing.T, cs *testCase) {
	work := t.TempDir()
	if err := cs.unpack(work); err != nil {
		t.Fatal(err)
	}
	if err := cs.serve(t, work); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(work, "image.tar")
	output, err := c.build(t.Context(), cs, work, out)
	if cs.Refused {
		if err == nil {
			t.Fatalf("built; want it refused with %q\n%s", cs.Errors, output)
		}
		if c.own {
			wantWords(t, cs.Errors, output)
		}
		return
	}
	if err != nil {
		t.Fatalf("not built: %v\n%s", err, output)
	}
	img, err := readImage(out)
	if err != nil {
		t.Fatal(err)
	}
	got := img.compared(t, c.bases, cs)
	if c.update {
		if err := cs.write(got); err != nil {
			t.Fatal(err)
		}
		return
	}
	for _, section := range []string{"config", "tree", "history"} {
		if want, ok := cs.section(section); (ok || section != "history") && want != got[section] {
			t.Errorf("%s: %s differs: - want + got\n%s", cs.file, section, lineDiff(want, got[section]))
		}
	}
	for _, secret := range cs.Absent {
		if where := img.contains(secret); where != "" {
			t.Errorf("%q is in %s", secret, where)
		}
		if c.own && strings.Contains(output, secret) {
			t.Errorf("%q was printed:\n%s", secret, output)
		}
	}
}

// build runs the command and returns what it printed.
func (c *conformance) build(ctx context.Context, cs *testCase, work, out string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	line := strings.NewReplacer(
		"{dockerfile}", quoteWord(filepath.Join(work, cs.dockerfile)), "{context}", quoteWord(filepath.Join(work, "context")),
		"{flags}", cs.flags(work, c.registry), "{out}", quoteWord(out), "{registry}", c.registry,
		"{name}", "conformance/"+strings.ToLower(cs.name),
	).Replace(c.command)
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", line)
	cmd.Dir, cmd.Env = work, c.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	err := cmd.Run()
	if err != nil && ctx.Err() != nil {
		err = errors.Join(err, ctx.Err())
	}
	return output.String(), err
}

func quoteWord(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// wantWords holds what a refused build printed against regular expressions.
func wantWords(t *testing.T, patterns []string, output string) {
	t.Helper()
	for _, pattern := range patterns {
		re, err := regexp.Compile("(?m)" + pattern)
		if err != nil {
			t.Fatal(err)
		}
		if !re.MatchString(output) {
			t.Errorf("the refusal has no match for %q:\n%s", pattern, output)
		}
	}
}

// lineDiff shows the lines that only one of two texts has.
func lineDiff(want, got string) string {
	a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
	var out strings.Builder
	for _, line := range a {
		if !slices.Contains(b, line) {
			fmt.Fprintf(&out, "- %s\n", line)
		}
	}
	for _, line := range b {
		if !slices.Contains(a, line) {
			fmt.Fprintf(&out, "+ %s\n", line)
		}
	}
	if out.Len() == 0 {
		return "(the same lines in another order)\n- " + want + "+ " + got
	}
	return out.String()
}
