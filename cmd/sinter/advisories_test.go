package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestAdvisories: every test that the sandbox's table of advisories names exists,
// and every row names one.
func TestAdvisories(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "..", "builder", "sandbox", "ADVISORIES.md"))
	if err != nil {
		t.Fatal(err)
	}
	known := knownTests(t, filepath.Join("..", ".."))
	rows := 0
	for line := range strings.Lines(string(data)) {
		row, ok := strings.CutPrefix(strings.TrimSpace(line), "|")
		if !ok || strings.HasPrefix(row, "-") || strings.HasSuffix(row, " Test |") {
			continue
		}
		// The last column has tests; the table of sinter itself has no numbers.
		cells := strings.Split(strings.TrimSuffix(row, "|"), "|")
		if len(cells) != 3 && len(cells) != 4 {
			t.Errorf("not a row of three or four cells: %s", line)
			continue
		}
		rows++
		for name := range strings.SplitSeq(cells[len(cells)-1], ",") {
			name = strings.TrimSpace(name)
			if bare := strings.Trim(name, "`"); "`"+bare+"`" != name || !known[bare] {
				t.Errorf("%s: there is no test %s", strings.TrimSpace(cells[0]), name)
			}
		}
	}
	if rows < 50 {
		t.Errorf("only %d rows were looked at", rows)
	}
}

var testFunction = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)

// knownTests are the names of all test functions and scripts below a directory.
func knownTests(t *testing.T, top string) map[string]bool {
	t.Helper()
	known := map[string]bool{}
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if strings.HasSuffix(path, ".txtar") {
			known[filepath.Base(path)] = true
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		data, err := os.ReadFile(path)
		for _, m := range testFunction.FindAllSubmatch(data, -1) {
			known[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return known
}
