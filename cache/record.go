package cache

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Record says what a step yielded, or what else is remembered of layers. It is data to be distrusted: whoever uses
// one checks that the layers it names are there.
type Record struct {
	Key Key `json:"key"`
	// Kind says what the record is about.
	Kind Kind `json:"kind,omitempty"`
	// Name is the step as people see it, such as "[build 3/7] RUN make".
	Name string `json:"name"`
	// Parts are what else is remembered; steps have none.
	Parts Recipe `json:"parts,omitempty"`
	// Outputs are the results of the step, each a root file system given
	// by the names of its layers, the lowest first.
	Outputs []Output `json:"outputs"`
	// Duration is how long the step took when it ran.
	Duration time.Duration `json:"duration"`
	Created  time.Time     `json:"created"`
}

// Kind says what a record is about.
type Kind string

const (
	// Step records say what a step yielded.
	Step Kind = ""
	// FirstBuild records say when an image of the layers was first built.
	FirstBuild Kind = "first build"
	// EarlierCopy records name a copy of a directory, for the next copy to share
	// its files.
	EarlierCopy Kind = "copy of a directory"
)

// Output is one result of a step: the chain of layers by name.
type Output struct {
	Layers []string `json:"layers"`
}

// ErrCorrupt is what reading a torn or altered file of the store yields.
var ErrCorrupt = errors.New("checksum does not match")

// sealed files are a line with the sha256 of the rest, then the rest; so a torn
// write, a flipped bit or a truncated file shows.
func seal(payload []byte) []byte {
	sum := sha256.Sum256(payload)
	var b bytes.Buffer
	b.WriteString(hex.EncodeToString(sum[:]))
	b.WriteByte('\n')
	b.Write(payload)
	return b.Bytes()
}

func unseal(data []byte) ([]byte, error) {
	head, payload, ok := bytes.Cut(data, []byte{'\n'})
	sum := sha256.Sum256(payload)
	if !ok || string(head) != hex.EncodeToString(sum[:]) {
		return nil, ErrCorrupt
	}
	return payload, nil
}

func encodeRecord(r *Record) ([]byte, error) {
	payload, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	return seal(payload), nil
}

// decodeRecord reads a record for key; ErrCorrupt (wrapped) when it is not one.
func decodeRecord(key Key, data []byte) (*Record, error) {
	payload, err := unseal(data)
	if err != nil {
		return nil, err
	}
	var r Record
	if err := json.Unmarshal(payload, &r); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if r.Key != key {
		return nil, fmt.Errorf("%w: it is about another key", ErrCorrupt)
	}
	return &r, nil
}
