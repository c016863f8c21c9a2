package pid1

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// ExtraArg is the init's only argument: how many open files it is given besides
// the standard three, PlanFD and ReportFD.
func ExtraArg(n int) string { return strconv.Itoa(n) }

// closeInherited closes every file that this process was started with and that
// is not meant for it: those that the builder itself inherited, and the builder's
// own. The command's side could reach a directory of the host through any of them.
func closeInherited(args []string) error {
	if len(args) != 1 {
		return errors.New("the init has one argument")
	}
	extra, err := strconv.Atoi(args[0])
	if err != nil || extra < 0 {
		return fmt.Errorf("the init was given %q files", args[0])
	}
	first := uint(ReportFD + 1 + extra)
	if err := unix.CloseRange(first, ^uint(0), 0); err != nil {
		return tooOld("close_range", err)
	}
	if err := unix.CloseRange(PlanFD, first-1, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return tooOld("close_range", err)
	}
	return nil
}

// closeBut closes all files but the standard three and these.
func closeBut(keep ...int) error {
	slices.Sort(keep)
	first := uint(3)
	for _, fd := range keep {
		if uint(fd) > first {
			if err := unix.CloseRange(first, uint(fd)-1, 0); err != nil {
				return tooOld("close_range", err)
			}
		}
		first = uint(fd) + 1
	}
	if err := unix.CloseRange(first, ^uint(0), 0); err != nil {
		return tooOld("close_range", err)
	}
	return nil
}
