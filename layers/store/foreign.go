package store

import (
	"fmt"
	"os"
	"path/filepath"
)

// storeFolders are those that every store has, below its root.
var storeFolders = []string{"blobs/sha256", "tmp", "locks", "layers"}

// A ForeignError is a directory that was to be used as a store and holds something else.
// What is in tmp and locks of a store is removed by who opens it.
type ForeignError struct {
	Root string
	// Entry is one of the things in it.
	Entry string
}

func (e *ForeignError) Error() string {
	return fmt.Sprintf("%s is not a store of sinter, and not empty: it has %s", e.Root, e.Entry)
}

// HintText says what is possible.
func (e *ForeignError) HintText() string {
	return "name a store, or a directory that is empty or new, with --root DIR or SINTER_ROOT"
}

// CheckFolder fails with a *ForeignError when root holds anything and is not a store. It
// comes before anything is made in root.
func CheckFolder(root string) error {
	if isStore(root) {
		return nil
	}
	// Another process may be making the store while we look.
	if entry := strange(root); entry != "" && !isStore(root) {
		return &ForeignError{Root: root, Entry: entry}
	}
	return nil
}

// isStore reports whether a directory is a store, although copying may have lost empty
// folders.
func isStore(root string) bool {
	has := func(name string) bool {
		_, err := os.Stat(filepath.Join(root, name))
		return err == nil
	}
	return has("layers") && has("blobs/sha256") || has("index.copy") ||
		has("steps") && has("content") && has("locks") && has("tmp") // by package cache
}

// strange returns something in a directory that cannot be what is left of making a store
// in it: that is empty folders, and what is known of contexts. It is "" for a directory that is empty or
// missing, or that cannot be read: then no store can be made in it either.
func strange(root string) string {
	entries, err := os.ReadDir(root)
	if err != nil {
		return ""
	}
	for _, e := range entries {
		name := e.Name()
		if name == "contexts" || name == "lost+found" { // the latter is a new volume's
			continue
		}
		if !isDir(filepath.Join(root, name)) { // symlinks to folders elsewhere are fine
			return name
		}
		below, err := os.ReadDir(filepath.Join(root, name))
		if err != nil {
			return name
		}
		for _, b := range below {
			if name != "blobs" || b.Name() != "sha256" {
				return name + "/" + b.Name()
			}
		}
	}
	return ""
}
