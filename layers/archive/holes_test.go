package archive

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestHoleWriter(t *testing.T) {
	zeros := strings.Repeat("\x00", 1<<20)
	for name, pieces := range map[string][]string{
		"nothing":        nil,
		"text":           {"hello", "world"},
		"zeros":          {zeros, zeros},
		"zeros and text": {"a", zeros, "b" + zeros, zeros + "c"},
		"few zeros":      {"a\x00\x00", "\x00", zeros[:holeSize-1], zeros[:holeSize+1]},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := os.Create(filepath.Join(t.TempDir(), "f"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			w := NewHoleWriter(f)
			var want bytes.Buffer
			for _, p := range pieces {
				want.WriteString(p)
				if n, err := io.WriteString(w, p); n != len(p) || err != nil {
					t.Fatalf("wrote %d of %d bytes, %v", n, len(p), err)
				}
				if len(p) == 1 {
					if err := w.Finish(); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := w.Finish(); err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(f.Name())
			if err != nil || !bytes.Equal(got, want.Bytes()) {
				t.Fatalf("%d bytes came back, not the %d written, %v", len(got), want.Len(), err)
			}
			info, err := f.Stat()
			if err != nil {
				t.Fatal(err)
			}
			if blocks := info.Sys().(*syscall.Stat_t).Blocks; name == "zeros" && blocks*512 > int64(len(got))/2 {
				t.Errorf("%d bytes take %d blocks", len(got), blocks)
			}
		})
	}
}
