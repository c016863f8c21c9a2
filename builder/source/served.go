package source

import (
	"encoding/json"
	"fmt"
	"sync"

	"github.com/sinter-build/sinter/parser"
)

// Served remembers the operations whose files were served. The zero value has none.
type Served struct{ ops sync.Map }

// HasServed reports whether the files of an operation were served already, so that serving
// them again downloads nothing.
func (s *Served) HasServed(op parser.Op) bool {
	_, ok := s.ops.Load(opText(op))
	return ok
}

// Serves notes that the files of an operation are served.
func (s *Served) Serves(op parser.Op) { s.ops.Store(opText(op), true) }

// opText tells operations apart by all of their fields.
func opText(op parser.Op) string {
	text, _ := json.Marshal(op) // strings, numbers and maps of these have no errors
	return fmt.Sprintf("%T %s", op, text)
}
