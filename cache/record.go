package cache

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/sinter-build/sinter/layers/folder"
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

func encodeRecord(r *Record) ([]byte, error) {
	payload, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	return folder.Seal(payload), nil
}

// decodeRecord reads a record for key; folder.ErrCorrupt (wrapped) when it is not one.
func decodeRecord(key Key, data []byte) (*Record, error) {
	payload, err := folder.Unseal(data)
	if err != nil {
		return nil, err
	}
	var r Record
	if err := json.Unmarshal(payload, &r); err != nil {
		return nil, fmt.Errorf("%w: %w", folder.ErrCorrupt, err)
	}
	if r.Key != key {
		return nil, fmt.Errorf("%w: it is about another key", folder.ErrCorrupt)
	}
	return &r, nil
}
