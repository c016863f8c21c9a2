package catalog

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/sinter-build/sinter/layers/folder"
)

const (
	// cacheVersion numbers the form of what is kept; another version is not read.
	cacheVersion = 1
	// maxVariants is how many results of a cataloger are kept for a layer, for images
	// that have the layer and answer look-ups in different ways.
	maxVariants = 4
	// answerAge is for how long the answer for a whole image is kept.
	answerAge = 30 * 24 * time.Hour

	layersFolder  = "layers"  // what was found in each layer
	digestsFolder = "digests" // those of files of each layer
	answersFolder = "answers" // what was answered about each image
)

// Cache keeps what was found, in a folder of its own. A nil Cache keeps nothing. What
// it cannot read or write counts as missing: it can be found again.
type Cache struct {
	// Folder has the results.
	Folder string
	// Known reports whether the store still has a layer. Results of others are removed.
	Known func(layer string) bool
}

// kept is what is kept of a layer.
type kept struct {
	// Types are the MIME types of its programs, by their paths; nil if unknown.
	Types map[string]string `json:"types"`
	// Found has the results of each cataloger, the one that was used last first.
	Found map[string][]result `json:"found"`
}

// result is what a cataloger found in a layer.
type result struct {
	// Listed identifies the files of the layer that the cataloger searched.
	Listed string `json:"listed"`
	// Lookups are what else it asked.
	Lookups []lookup `json:"lookups"`
	// Packages is what it found, in syft's format.
	Packages json.RawMessage `json:"packages,omitempty"`
	// Problems are its errors.
	Problems []string `json:"problems,omitempty"`
}

// sealed is the file of a layer or an answer.
type sealed[T any] struct {
	Version int    `json:"version"`
	Syft    string `json:"syft"`
	Value   T      `json:"value"`
}

// SyftVersion returns the version of syft in this program.
func SyftVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, d := range info.Deps {
			if d.Path == "github.com/anchore/syft" {
				return d.Version
			}
		}
	}
	return "unknown"
}

// layer returns what is kept of a layer.
func (c *Cache) layer(id string) kept {
	k, _ := load[kept](c, layersFolder, id)
	if k.Found == nil {
		k.Found = map[string][]result{}
	}
	return k
}

// load reads a file of the cache.
func load[T any](c *Cache, dir, name string) (value T, ok bool) {
	if c == nil || !usable(name) {
		return value, false
	}
	data, err := os.ReadFile(filepath.Join(c.Folder, dir, name))
	if err == nil {
		data, err = folder.Unseal(data)
	}
	var s sealed[T]
	if err != nil || json.Unmarshal(data, &s) != nil || s.Version != cacheVersion || s.Syft != SyftVersion() {
		return value, false
	}
	return s.Value, true
}

// save writes a file of the cache.
func save[T any](c *Cache, dir, name string, value T) error {
	if c == nil || !usable(name) {
		return nil
	}
	data, err := json.Marshal(sealed[T]{cacheVersion, SyftVersion(), value})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(c.Folder, dir), 0o755); err != nil {
		return err
	}
	path := filepath.Join(c.Folder, dir, name)
	return folder.WriteFile(filepath.Join(c.Folder, dir, tempPrefix), path, folder.Seal(data), 0o644)
}

// tempPrefix begins the names of files that are being written.
const tempPrefix = ".tmp-"

func usable(name string) bool {
	return name != "" && filepath.Base(name) == name && !strings.HasPrefix(name, ".")
}

// Answer returns what was kept under a key for a whole image, if anything.
func (c *Cache) Answer(key string) (Found, bool) { return load[Found](c, answersFolder, key) }

// Keep keeps an answer under a key. It also removes old answers, and what is kept of
// layers that the store does not have any more.
func (c *Cache) Keep(key string, f Found) error {
	if c == nil {
		return nil
	}
	return errors.Join(save(c, answersFolder, key, f), c.clean())
}

func (c *Cache) clean() error {
	old := time.Now().Add(-answerAge)
	isOld := func(e fs.DirEntry) bool { return changedBefore(e, old) }
	isGone := func(e fs.DirEntry) bool {
		if strings.HasPrefix(e.Name(), tempPrefix) {
			return isOld(e)
		}
		return !c.Known(e.Name())
	}
	return errors.Join(c.remove(answersFolder, isOld), c.remove(layersFolder, isGone), c.remove(digestsFolder, isGone))
}

func (c *Cache) remove(dir string, gone func(fs.DirEntry) bool) error {
	entries, err := os.ReadDir(filepath.Join(c.Folder, dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if !gone(e) {
			continue
		}
		if failed := os.Remove(filepath.Join(c.Folder, dir, e.Name())); !errors.Is(failed, fs.ErrNotExist) {
			err = errors.Join(err, failed)
		}
	}
	return err
}

func changedBefore(e fs.DirEntry, t time.Time) bool {
	info, err := e.Info()
	return err == nil && info.ModTime().Before(t)
}

// use puts a result before the others of its cataloger, and reports whether that
// changes anything.
func (k *kept) use(cataloger string, r result) bool {
	list := k.Found[cataloger]
	same := func(old result) bool { return old.Listed == r.Listed && slices.Equal(old.Lookups, r.Lookups) }
	if len(list) > 0 && same(list[0]) {
		return false
	}
	list = slices.DeleteFunc(list, same)
	k.Found[cataloger] = slices.Insert(list[:min(len(list), maxVariants-1)], 0, r)
	return true
}
