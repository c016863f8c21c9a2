package userns

import (
	"fmt"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// firstFile is the lowest number that an inherited file can have beside the
// standard three.
const firstFile = 3

// besideInherited returns what to start a program with, from firstFile on, so that
// it has own at the number returned, and each file that this process was started with
// under its own number: arguments may name one, as /dev/fd/3.
func besideInherited(own *os.File) (files []*os.File, number int, err error) {
	inherited, err := inheritedFiles()
	if err != nil {
		return nil, 0, err
	}
	number = firstFile
	for _, n := range inherited {
		if n == number {
			number++
		}
	}
	files = make([]*os.File, number-firstFile)
	for _, n := range inherited {
		if n >= number {
			break
		}
		// Of a number that is not given the child's file is closed.
		fd, err := unix.FcntlInt(uintptr(n), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			closeDuplicates(files, own)
			return nil, 0, fmt.Errorf("keeping the inherited file %d open: %w", n, err)
		}
		files[n-firstFile] = os.NewFile(uintptr(fd), "/dev/fd/"+strconv.Itoa(n))
	}
	return append(files, own), number, nil
}

// closeDuplicates closes files, but for the caller's own.
func closeDuplicates(files []*os.File, own *os.File) {
	for _, f := range files {
		if f != nil && f != own {
			f.Close()
		}
	}
}

// inheritedFiles are the numbers, in order, of the files that programs started
// from here get, without the standard three.
func inheritedFiles() ([]int, error) {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil, fmt.Errorf("listing open files: %w", err)
	}
	var list []int
	for _, e := range entries {
		n, err := strconv.Atoi(e.Name())
		if err != nil || n < firstFile {
			continue
		}
		flags, err := unix.FcntlInt(uintptr(n), unix.F_GETFD, 0)
		if err == nil && flags&unix.FD_CLOEXEC == 0 { // else it was that of the listing
			list = append(list, n)
		}
	}
	slices.Sort(list)
	return list, nil
}
