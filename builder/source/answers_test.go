package source

import (
	"errors"
	"slices"
	"sync"
	"testing"
)

// An answer is found once, whoever asks. A failure is not kept.
func TestAnswers(t *testing.T) {
	var a Answers[int]
	if _, err := a.Get("x", func() (int, error) { return 1, errors.New("failed") }); err == nil {
		t.Error("the failure was not returned")
	}
	var asking sync.WaitGroup
	found := 0
	for range 10 {
		asking.Go(func() {
			got, err := a.Get("x", func() (int, error) {
				found++
				return 7, nil
			})
			if got != 7 || err != nil {
				t.Errorf("got %d, %v", got, err)
			}
		})
	}
	asking.Wait()
	if found != 1 {
		t.Errorf("it was found %d times", found)
	}
	a.At("nobody found it")
	if all := a.Forget(); !slices.Equal(all, []int{7}) {
		t.Errorf("the answers were %v", all)
	}
	if a.At("x").Found {
		t.Error("an answer was not forgotten")
	}
}
