package cache

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func fillWith(text string) func(string) error {
	return func(dir string) error { return os.WriteFile(filepath.Join(dir, "begin"), []byte(text), 0o644) }
}

func TestMountSharing(t *testing.T) {
	for _, c := range []struct {
		sharing       string
		waits, shares bool
	}{{"shared", false, true}, {"private", false, false}, {"locked", true, true}} {
		t.Run(c.sharing, func(t *testing.T) {
			s, key := open(t), record("make").Key
			first, release, err := s.Mount(context.Background(), key, c.sharing, fillWith("first"))
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond)
			defer cancel()
			second, release2, err := s.Mount(ctx, key, c.sharing, fillWith("second"))
			if c.waits {
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Fatalf("the second did not wait: %v", err)
				}
				release()
				if second, release2, err = s.Mount(context.Background(), key, c.sharing, fillWith("second")); err != nil {
					t.Fatal(err)
				}
			} else if err != nil {
				t.Fatal(err)
			} else {
				defer release()
			}
			defer release2()
			if (first == second) != c.shares {
				t.Errorf("first %s, second %s", first, second)
			}
			if data, err := os.ReadFile(filepath.Join(first, "begin")); err != nil || string(data) != "first" {
				t.Errorf("it begins with %q, %v", data, err)
			}
		})
	}
}

func TestMountThatCannotBeFilledLeavesNothing(t *testing.T) {
	s, key := open(t), record("make").Key
	broken := errors.New("broken")
	_, _, err := s.Mount(context.Background(), key, "shared", func(dir string) error {
		if err := fillWith("half")(dir); err != nil {
			return err
		}
		return broken
	})
	if !errors.Is(err, broken) {
		t.Fatalf("got %v", err)
	}
	dir, release, err := s.Mount(context.Background(), key, "shared", func(string) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(dir), "new-*")); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}

// What a killed process began to fill goes when the mount is next filled, and
// several who want it at once fill it once.
func TestMountBegunByTheDead(t *testing.T) {
	s, key := open(t), record("make").Key
	begun := filepath.Join(s.root, "mounts", key.String(), "new-1")
	if err := os.MkdirAll(filepath.Join(begun, "dir"), 0o700); err != nil {
		t.Fatal(err)
	}
	var filled atomic.Int32
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			dir, release, err := s.Mount(context.Background(), key, "shared", func(dir string) error {
				filled.Add(1)
				return fillWith("x")(dir)
			})
			if err != nil {
				t.Error(err)
				return
			}
			defer release()
			if data, err := os.ReadFile(filepath.Join(dir, "begin")); err != nil || string(data) != "x" {
				t.Errorf("it begins with %q, %v", data, err)
			}
		})
	}
	wg.Wait()
	if n := filled.Load(); n != 1 {
		t.Errorf("filled %d times", n)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(begun), "new-*")); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}
