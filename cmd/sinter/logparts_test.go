package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/sinter-build/sinter/builder/progress"
)

// TestLongLogs: of a long output parts are shown, and its end; all of a short one.
func TestLongLogs(t *testing.T) {
	line := func(i int) string { return fmt.Sprintf("line %09d of what a command prints\n", i) }
	for _, lines := range []int{0, 1, 1000, 2_000_000} {
		for _, piece := range []int{1, 1000} {
			logs := longLogs{}
			var shown bytes.Buffer
			whole, last := 0, ""
			for i := 0; i < lines; i += piece {
				var data strings.Builder
				for k := i; k < min(i+piece, lines); k++ {
					last = line(k)
					data.WriteString(last)
				}
				whole += data.Len()
				shown.Write(logs.shown("step", []byte(data.String())))
			}
			shown.Write(logs.end("step"))
			switch got := shown.String(); {
			case !strings.HasSuffix(got, last):
				t.Errorf("%d lines: the end is not shown", lines)
			case whole <= wholeLog && len(got) != whole:
				t.Errorf("%d lines: %d bytes of %d", lines, len(got), whole)
			case len(got) > 4*wholeLog:
				t.Errorf("%d lines: %d bytes of %d, more than %d", lines, len(got), whole, 4*wholeLog)
			}
			wantLines(t, shown.String(), len(line(0)))
		}
	}
}

// wantLines fails if a line of the output was cut.
func wantLines(t *testing.T, shown string, length int) {
	t.Helper()
	for text := range strings.Lines(shown) {
		if text != "\n" && text[0] != '[' && (len(text) != length || !strings.HasPrefix(text, "line ")) {
			t.Fatalf("a line that nobody printed: %q", text)
		}
	}
}

// TestScreenLongLog: the display on a terminal is not given all of a long output; any
// other is.
func TestScreenLongLog(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcde\n"), 2<<10)
	for _, redraws := range []bool{true, false} {
		s, err := newScreen(os.Stderr, "plain")
		if err != nil {
			t.Fatal(err)
		}
		if redraws {
			s.logs = longLogs{}
		}
		given, all := 0, 0
		for range 64 << 20 / len(data) {
			all += len(data)
			if status := s.status(progress.Output{Step: "step", Data: data}); status != nil {
				given += len(status.Logs[0].Data)
			}
		}
		if redraws != (given < 4*wholeLog) || !redraws && given != all {
			t.Errorf("redraws %t: %d bytes of %d", redraws, given, all)
		}
		status := s.status(progress.Ended{Step: "step", Name: "step"})
		if redraws != (len(status.Logs) == 1) {
			t.Errorf("redraws %t: the end is in %d pieces", redraws, len(status.Logs))
		}
	}
}
