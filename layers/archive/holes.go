package archive

import (
	"io"
	"os"
)

// A HoleWriter writes a new file and leaves holes where there are only zeros,
// so that a few bytes that stand for gigabytes take no room on disk.
type HoleWriter struct {
	f    *os.File
	hole int64 // zeros since the last byte that was written
	err  error
}

// NewHoleWriter returns a writer to f, from where f stands, which is its end.
func NewHoleWriter(f *os.File) *HoleWriter { return &HoleWriter{f: f} }

// holeSize is the least length of a hole, in bytes.
const holeSize = 64 << 10

// Write implements io.Writer. Until Finish, zeros at the end may be missing.
func (w *HoleWriter) Write(p []byte) (int, error) {
	n := 0
	for n < len(p) && w.err == nil {
		zero, size := alike(p[n:])
		if zero {
			w.hole += int64(size)
		} else {
			w.write(p[n : n+size])
		}
		n += size
	}
	return n, w.err
}

// alike measures the pieces at the beginning of p that are all zero, or all not.
func alike(p []byte) (zero bool, size int) {
	for size < len(p) {
		piece := p[size:min(size+holeSize, len(p))]
		is := len(piece) == holeSize && allZero(piece)
		if size > 0 && is != zero {
			break
		}
		zero, size = is, size+len(piece)
	}
	return zero, size
}

func (w *HoleWriter) write(p []byte) {
	if w.hole > 0 {
		_, w.err = w.f.Seek(w.hole, io.SeekCurrent)
		w.hole = 0
	}
	if w.err == nil {
		_, w.err = w.f.Write(p)
	}
}

// Finish gives the file its length. More can be written after it.
func (w *HoleWriter) Finish() error {
	if w.err != nil || w.hole == 0 {
		return w.err
	}
	end, err := w.f.Seek(w.hole, io.SeekCurrent)
	w.hole = 0
	if err == nil {
		err = w.f.Truncate(end)
	}
	w.err = err
	return err
}
