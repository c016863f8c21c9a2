package main

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/sinter-build/sinter/builder/progress"
)

// TestLogLines: lines stay as they are unless they are too long, in whatever pieces
// they come.
func TestLogLines(t *testing.T) {
	long := strings.Repeat("x", maxLogLine)
	for name, tc := range map[string]struct{ text, want string }{
		"short":      {"one\n\ntwo\nthree", "one\n\ntwo\nthree"},
		"fits":       {long + "\nb", long + "\nb"},
		"just fits":  {"a\n" + long[1:] + "\nb", "a\n" + long[1:] + "\nb"},
		"no end":     {"a\n" + long + "bc", "a\n" + long + "\nbc"},
		"twice":      {long + long + "b\n", long + "\n" + long + "\nb\n"},
		"with \\r":   {strings.Repeat("x\r", maxLogLine/2) + "b", strings.Repeat("x\r", maxLogLine/2) + "\nb"},
		"long, then": {long + "b\nc\n", long + "\nb\nc\n"},
	} {
		for _, piece := range []int{len(tc.text), 32 << 10, 1000} {
			lines, got := logLines{}, []byte(nil)
			for rest := []byte(tc.text); len(rest) > 0; {
				n := min(piece, len(rest))
				got = append(got, lines.broken("step", rest[:n])...)
				rest = rest[n:]
			}
			if string(got) != tc.want {
				t.Errorf("%s, in pieces of %d: %d bytes and %d newlines; want %d and %d",
					name, piece, len(got), bytes.Count(got, []byte("\n")), len(tc.want), strings.Count(tc.want, "\n"))
			}
		}
	}
}

// lineMeter measures the longest line that is written to it.
type lineMeter struct{ now, longest int }

func (m *lineMeter) Write(p []byte) (int, error) {
	for _, b := range p {
		if m.now++; b == '\n' {
			m.now = 0
		}
		m.longest = max(m.longest, m.now)
	}
	return len(p), nil
}

// TestEndlessLine: the display breaks the line of a command that prints none.
func TestEndlessLine(t *testing.T) {
	m := &lineMeter{}
	s, err := newScreen(struct{ io.Writer }{m}, "plain")
	if err != nil {
		t.Fatal(err)
	}
	s.show()
	now := time.Now()
	s.event(progress.Started{Step: "sha256:1", Name: "RUN", Time: now})
	for range 100 {
		s.event(progress.Output{Step: "sha256:1", Stream: 1, Data: bytes.Repeat([]byte("x"), maxLogLine/32), Time: now})
	}
	s.event(progress.Ended{Step: "sha256:1", Name: "RUN", Time: now})
	s.close()
	if m.longest < maxLogLine/2 || m.longest > maxLogLine+100 {
		t.Errorf("the longest line has %d bytes", m.longest)
	}
}
