package main

import (
	"fmt"
	"strings"
	"testing"
)

func TestEmptyBlocks(t *testing.T) {
	empty := []string{"------", " > pushing:", "------"}
	full := []string{"------", " > RUN false:", "output", "------"}
	for _, tt := range []struct {
		name       string
		lines, got []string
	}{
		{"empty", empty, nil},
		{"full", full, full},
		{"empty, full", append(empty[:3:3], full...), full},
		{"full, empty", append(full[:4:4], empty...), full},
		{"full, full", append(full[:4:4], full...), append(full[:4:4], full...)},
		{"rules of others", []string{"------", "------", "x", "------"}, []string{"------", "------", "x", "------"}},
		{"a block's beginning", empty[:2], empty[:2]},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out strings.Builder
			w, flush := withoutEmptyBlocks(&out)
			for _, line := range tt.lines {
				fmt.Fprintln(w, line)
			}
			flush()
			want := ""
			for _, line := range tt.got {
				want += line + "\n"
			}
			if out.String() != want {
				t.Errorf("got\n%swant\n%s", &out, want)
			}
		})
	}
}
