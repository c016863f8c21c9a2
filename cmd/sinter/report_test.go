package main

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/builder/sandbox/userns"
)

// ENOSPC is a full disk, but not when it is namespaces that there may be no more
// of.
func TestFull(t *testing.T) {
	for err, want := range map[error]bool{
		fmt.Errorf("writing: %w", unix.ENOSPC):                             true,
		fmt.Errorf("writing: %w", unix.EDQUOT):                             true,
		fmt.Errorf("writing: %w", unix.EROFS):                              false,
		fmt.Errorf("starting: %w", &userns.RefusedError{Err: unix.ENOSPC}): false,
	} {
		if got := isFull(err); got != want {
			t.Errorf("%v: %t", err, got)
		}
	}
}
