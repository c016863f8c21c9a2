package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moby/buildkit/client"

	"github.com/sinter-build/sinter/builder/progress"
)

// countedWrites counts what is written.
type countedWrites struct {
	strings.Builder
	n int
}

func (w *countedWrites) Write(p []byte) (int, error) {
	w.n++
	return w.Builder.Write(p)
}

func TestBursts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out countedWrites
		b := &bursts{out: &out}
		want := ""
		for range 3 {
			for i := range 1000 {
				fmt.Fprintf(b, "line %d", i)
				fmt.Fprintln(b)
				want += fmt.Sprintf("line %d\n", i)
			}
			fmt.Fprint(b, "no newline ")
			want += "no newline "
			time.Sleep(burstDelay)
			synctest.Wait()
			if out.String() != want {
				t.Fatalf("after %s there are %d of %d bytes", burstDelay, out.Len(), len(want))
			}
		}
		if out.n != 3 {
			t.Errorf("%d writes for 3 bursts", out.n)
		}
		fmt.Fprint(b, "last")
		b.flush()
		if !strings.HasSuffix(out.String(), "last") {
			t.Error("flush does not write what is held")
		}
	})
}

// What waits for the display is little: an interrupted build shows it before it ends.
func TestOutputInParts(t *testing.T) {
	data := bytes.Repeat([]byte("y\n"), 5*maxPart)
	for _, tt := range []struct {
		lines logLines
		want  int
	}{{logLines{}, 10}, {nil, 1}} {
		s := &screen{lines: tt.lines, feed: make(chan *client.SolveStatus, 100)}
		s.send(progress.Output{Step: "x", Data: data})
		close(s.feed)
		var got []byte
		n := 0
		for st := range s.feed {
			got = append(got, st.Logs[0].Data...)
			n++
		}
		if n != tt.want || !bytes.Equal(got, data) {
			t.Errorf("%d parts with %d bytes, want %d with %d", n, len(got), tt.want, len(data))
		}
	}
}

// The plain display's two writes for each line are joined.
func TestPlainDisplayWritesBursts(t *testing.T) {
	var out countedWrites
	s, err := newScreen(&out, "plain")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	s.event(progress.Started{Step: "x", Name: "x", Time: now})
	s.event(progress.Output{Step: "x", Data: bytes.Repeat([]byte("y\n"), 10*maxPart), Time: now})
	s.event(progress.Ended{Step: "x", Name: "x", Time: now})
	s.close()
	lines := strings.Count(out.String(), "\n")
	if lines < 10*maxPart {
		t.Errorf("%d lines are shown of %d", lines, 10*maxPart)
	}
	if out.n > lines/10 {
		t.Errorf("%d writes for %d lines", out.n, lines)
	}
}
