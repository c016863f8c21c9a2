package layers

import (
	"fmt"
	"sync"
	"testing"
	"unsafe"
)

// Chains that grow from one another share their layers, and no chain sees what
// another one that grew from the same has got on top.
func TestAppendShares(t *testing.T) {
	var c Chain
	allocated := 0
	for i := range 3000 {
		next := c.Append(Layer{ID: ID(fmt.Sprint(i))})
		if unsafe.SliceData(next) != unsafe.SliceData(c) {
			allocated += cap(next)
		}
		c = next
	}
	if allocated > 4*len(c) {
		t.Errorf("%d steps made room for %d layers", len(c), allocated)
	}

	var forks sync.WaitGroup
	grown := make([]Chain, 8)
	for i := range grown {
		forks.Go(func() {
			grown[i] = c[:2000].Append(Layer{ID: "fork"}).Append(Layer{ID: ID(fmt.Sprint("top ", i))})
		})
	}
	atEnd := c.Append(Layer{ID: "a"})
	other := c.Append(Layer{ID: "b"})
	forks.Wait()
	for i, l := range c {
		if l.ID != ID(fmt.Sprint(i)) {
			t.Fatalf("layer %d of the first chain became %s", i, l.ID)
		}
	}
	if a, b := atEnd[len(c)].ID, other[len(c)].ID; a != "a" || b != "b" {
		t.Errorf("two chains on one have %s and %s on top", a, b)
	}
	for i, g := range grown {
		if got, want := g[len(g)-1].ID, ID(fmt.Sprint("top ", i)); len(g) != 2002 || g[2000].ID != "fork" || got != want {
			t.Errorf("fork %d: %d layers, %s on top, want %s", i, len(g), got, want)
		}
	}
}
