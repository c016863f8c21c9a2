package main

import (
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/moby/buildkit/client"

	"github.com/sinter-build/sinter/builder/sandbox/userns"
	"github.com/sinter-build/sinter/parser"
)

// warnedVariable tells the process in a user namespace what the one outside has
// warned of.
const warnedVariable = "SINTER_WARNED"

// saidWarnings are what this process, and the one that started it, have warned of.
type saidWarnings struct {
	mu sync.Mutex
	// digests are of all texts that have been said, also by the other process.
	digests map[string]bool
	// texts are what this process had to say, in order.
	texts []string
}

// add reports whether a text has not been said before.
func (s *saidWarnings) add(text string) bool {
	h := fnv.New128a()
	h.Write([]byte(text))
	digest := fmt.Sprintf("%x", h.Sum(nil))
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(s.texts, text) {
		s.texts = append(s.texts, text)
	}
	if s.digests[digest] {
		return false
	}
	s.note(digest)
	return true
}

func (s *saidWarnings) note(digest string) {
	if s.digests == nil {
		s.digests = map[string]bool{}
	}
	s.digests[digest] = true
}

// redact hides secrets in what is said.
func (a *app) redact(text string) string {
	if a.hides == nil {
		return parser.Redact(text)
	}
	return a.hides(text)
}

// warn says something once, however many goroutines come upon it.
func (a *app) warn(text string) {
	if text = legible(a.redact(text)); a.warned.add(text) {
		a.sayWarning(text)
	}
}

// allWarnings are those that the display was given and all others of this process. The
// display must have been closed.
func (a *app) allWarnings() []client.VertexWarning {
	a.warned.mu.Lock()
	defer a.warned.mu.Unlock()
	all := slices.Clone(a.screen.warnings)
	for _, text := range a.warned.texts {
		w := ownWarning(text)
		if !slices.ContainsFunc(all, func(v client.VertexWarning) bool {
			return v.Vertex == w.Vertex && string(v.Short) == string(w.Short)
		}) {
			all = append(all, *w)
		}
	}
	return all
}

// handWarningsOver keeps the process that this one starts from saying again what
// has been said.
func (a *app) handWarningsOver() error {
	a.warned.mu.Lock()
	defer a.warned.mu.Unlock()
	return os.Setenv(warnedVariable, strings.Join(slices.Sorted(maps.Keys(a.warned.digests)), ","))
}

// takeWarningsOver is the other side of handWarningsOver.
func (a *app) takeWarningsOver() {
	if os.Args[0] != userns.Name {
		return
	}
	a.warned.mu.Lock()
	defer a.warned.mu.Unlock()
	for digest := range strings.SplitSeq(os.Getenv(warnedVariable), ",") {
		a.warned.note(digest)
	}
	os.Unsetenv(warnedVariable)
}

// printWarnings shows what the build warned of: what the checks of the Dockerfile
// found as a list with a line for each, everything else as it is.
func printWarnings(w io.Writer, warnings []client.VertexWarning) {
	var found []string
	for _, v := range warnings {
		if text := warningText(v); v.URL != "" {
			found = append(found, text)
		} else {
			fmt.Fprintf(w, "warning: %s\n", text)
		}
	}
	if len(found) == 0 {
		return
	}
	fmt.Fprintf(w, "%s found (--check shows more):\n", count(len(found), "warning"))
	for _, text := range found {
		fmt.Fprintf(w, " - %s\n", text)
	}
}

func warningText(w client.VertexWarning) string {
	text := legible(string(w.Short))
	if w.SourceInfo != nil && len(w.Range) > 0 {
		line := w.Range[0].Start.Line
		// The checks say the line as well.
		text = fmt.Sprintf("%s:%d: %s", w.SourceInfo.Filename, line, strings.TrimSuffix(text, fmt.Sprintf(" (line %d)", line)))
	}
	return text
}

// count is a number of things: their name takes an s unless there is one.
func count(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return fmt.Sprintf("%d %s", n, thing)
}
