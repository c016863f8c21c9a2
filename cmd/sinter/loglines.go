package main

import (
	"bytes"

	"github.com/sinter-build/sinter/builder/progress"
)

// maxLogLine is the longest line of a command's output that is shown unbroken, in bytes.
// The display keeps a line in memory until it ends.
const maxLogLine = 1 << 20

// logLines breaks lines that do not end, as a command prints that shows a file or
// draws its progress with carriage returns alone. It counts how long the line of each
// step is so far; standard output and standard error share lines, as they do in the
// display.
type logLines map[progress.Step]int

// broken is data with a newline wherever a line has become too long; nothing is broken
// where l is nil.
func (l logLines) broken(step progress.Step, data []byte) []byte {
	if l == nil {
		return data
	}
	var out []byte // nil as long as there is nothing to break
	rest := data
	for {
		end := bytes.IndexByte(rest, '\n')
		if room := maxLogLine - l[step]; end < 0 && len(rest) > room || end > room {
			if out == nil {
				out = bytes.Clone(data[:len(data)-len(rest)])
			}
			out = append(append(out, rest[:room]...), '\n')
			rest, l[step] = rest[room:], 0
			continue
		}
		if end < 0 {
			l[step] += len(rest)
			break
		}
		if out != nil {
			out = append(out, rest[:end+1]...)
		}
		rest, l[step] = rest[end+1:], 0
	}
	if out == nil {
		return data
	}
	return append(out, rest...)
}
