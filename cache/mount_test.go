package cache

import (
	"context"
	"errors"
	"os"
	"path/filepath"
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
