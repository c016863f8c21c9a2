package store

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/folder"
)

// A layer's error says once which layer it is, and has a hint unless the disk
// is the matter.
func TestLayerError(t *testing.T) {
	pulled := layers.Layer{ID: "abc", Origins: []string{"host/base"}}
	for _, tt := range []struct {
		layer      layers.Layer
		err        error
		text, hint string
	}{
		{pulled, folder.ErrCorrupt, "layer abc of host/base: " + folder.ErrCorrupt.Error(), "the image in host/base is at fault"},
		{layers.Layer{ID: "abc"}, folder.ErrCorrupt, "layer abc: " + folder.ErrCorrupt.Error(), "sinter verify --repair"},
		{pulled, fmt.Errorf("%w: %w", fs.ErrNotExist, errUnclaimed), "a prune may have removed it meanwhile", "try again"},
		{pulled, fmt.Errorf("%w: %w", fs.ErrNotExist, errCannotGet), "can only be read", "in a store that can be written to"},
		{pulled, &fs.PathError{Op: "write", Path: "x", Err: fs.ErrPermission}, "layer abc of host/base: write x", ""},
	} {
		err := ofLayer(tt.layer, fmt.Errorf("reading: %w", ofLayer(tt.layer, tt.err)))
		var e *LayerError
		if !errors.As(err, &e) || !errors.Is(err, tt.err) {
			t.Fatalf("got %v", err)
		}
		if !strings.Contains(err.Error(), tt.text) || strings.Count(err.Error(), "layer abc") != 1 {
			t.Errorf("got %q, want %q in it", err, tt.text)
		}
		if !strings.Contains(e.HintText(), tt.hint) || (tt.hint == "") != (e.HintText() == "") {
			t.Errorf("hint %q, want %q in it", e.HintText(), tt.hint)
		}
	}
}
