package hostfile

import (
	"context"
	"io/fs"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Streams reads files that a person named, each pipe or terminal among them once:
// whoever reads the same one again gets the same content. The zero value is ready
// to use.
type Streams struct {
	mu   sync.Mutex
	read map[streamID]*stream
}

// streamID names a file that is not a regular one.
type streamID struct{ dev, ino, rdev uint64 }

type stream struct {
	mu   sync.Mutex
	done bool
	data []byte
}

// Read returns the content of a file of up to limit bytes. A regular file is read
// each time. What could not be read is tried again the next time.
func (s *Streams) Read(ctx context.Context, path string, limit int64) ([]byte, error) {
	id, once, err := identify(path)
	if err != nil {
		return nil, err
	}
	if !once {
		return ReadStream(ctx, path, limit)
	}
	s.mu.Lock()
	if s.read == nil {
		s.read = map[streamID]*stream{}
	}
	known := s.read[id]
	if known == nil {
		known = &stream{}
		s.read[id] = known
	}
	s.mu.Unlock()

	known.mu.Lock()
	defer known.mu.Unlock()
	if !known.done {
		if known.data, err = ReadStream(ctx, path, limit); err != nil {
			return nil, err
		}
		known.done = true
	}
	if int64(len(known.data)) > limit {
		return nil, &SizeError{Path: path, Limit: limit}
	}
	return known.data, nil
}

// ReadOnce reports whether a file gives its content to one reader only, as a pipe
// or a terminal does.
func ReadOnce(path string) bool {
	_, once, err := identify(path)
	return err == nil && once
}

// SameStream reports whether two names are of one file that can be read once.
func SameStream(a, b string) bool {
	first, once, err := identify(a)
	if err != nil || !once {
		return false
	}
	second, _, err := identify(b)
	return err == nil && first == second
}

// memoryDevices is the major number of /dev/null, /dev/zero and their like, which
// never run out.
const memoryDevices = 1

func identify(path string) (id streamID, once bool, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return id, false, err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		id = streamID{uint64(st.Dev), st.Ino, uint64(st.Rdev)}
	}
	switch m := info.Mode(); {
	case m&fs.ModeNamedPipe != 0:
		once = true
	case m&fs.ModeCharDevice != 0:
		once = unix.Major(id.rdev) != memoryDevices
	}
	return id, once, nil
}
