package progress

import (
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

// A meter tells of the first bytes at once, of others not too often, and of the end.
func TestMeter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []int64
		m := NewMeter(Update{ID: "x", Total: 5}, func(u Update) { told = append(told, u.Current) })
		if _, err := io.Copy(io.Discard, m.Reader(iotest.OneByteReader(strings.NewReader("abc")))); err != nil {
			t.Fatal(err)
		}
		time.Sleep(tellEvery)
		m.Moved(1)
		m.Set(2)
		m.Done()
		if want := []int64{1, 4, 2}; !slices.Equal(told, want) {
			t.Errorf("told of %v, want %v", told, want)
		}
	})
}
