package main

import (
	"fmt"
	"hash/fnv"
	"os"
	"strings"

	"github.com/sinter-build/sinter/builder/sandbox/userns"
	"github.com/sinter-build/sinter/parser"
)

// warnedVariable tells the process in a user namespace what the one outside has
// warned of.
const warnedVariable = "SINTER_WARNED"

// warn says something once, however many goroutines come upon it.
func (a *app) warn(text string) {
	text = parser.Redact(text)
	h := fnv.New128a()
	h.Write([]byte(text))
	if _, said := a.warned.LoadOrStore(fmt.Sprintf("%x", h.Sum(nil)), true); !said {
		a.sayWarning(text)
	}
}

// handWarningsOver keeps the process that this one starts from saying again what
// has been said.
func (a *app) handWarningsOver() error {
	var said []string
	a.warned.Range(func(digest, _ any) bool {
		said = append(said, digest.(string))
		return true
	})
	return os.Setenv(warnedVariable, strings.Join(said, ","))
}

// takeWarningsOver is the other side of handWarningsOver.
func (a *app) takeWarningsOver() {
	if os.Args[0] != userns.Name {
		return
	}
	for digest := range strings.SplitSeq(os.Getenv(warnedVariable), ",") {
		a.warned.Store(digest, true)
	}
	os.Unsetenv(warnedVariable)
}
