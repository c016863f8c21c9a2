package sandbox

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
)

// The init's open files besides the standard three.
const (
	planFD   = 3 // the builder writes a plan and keeps it open while it lives
	reportFD = 4
)

// plan is what the builder tells the init.
type plan struct {
	Spec
	// Stage is an empty directory for the init's own mounts.
	Stage string
	// UserNS says that we are root in a user namespace only, and Single that it
	// maps one user.
	UserNS, Single bool
	ResolvConf     []byte
	// Filters are seccomp programs as the kernel wants them, in this byte order.
	Filter, FakeRoot []byte
}

// report is what the init answers.
type report struct {
	// Err is why the command could not be run: a failure of the sandbox.
	Err  string `json:",omitempty"`
	Hint string `json:",omitempty"`
	// Reason is why the command itself could not be started.
	Reason   string `json:",omitempty"`
	ExitCode int
	Signal   int
	MaxRSS   int64 // bytes
	Stubs    []string
}

func writeMessage(w io.Writer, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	frame := binary.LittleEndian.AppendUint64(make([]byte, 0, 8+len(data)), uint64(len(data)))
	_, err = w.Write(append(frame, data...))
	return err
}

func readMessage(r io.Reader, v any) error {
	var size [8]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return err
	}
	data, err := io.ReadAll(io.LimitReader(r, int64(binary.LittleEndian.Uint64(size[:]))))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("reading a message: %w", err)
	}
	return nil
}
