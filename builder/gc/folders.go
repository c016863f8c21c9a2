package gc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sinter-build/sinter/builder/source/remote"
	"github.com/sinter-build/sinter/layers/folder"
	"github.com/sinter-build/sinter/layers/image"
)

// Folder is a file or a directory with all that is in it.
type Folder struct {
	// Path is below the store's root.
	Path string
	Size int64
	// Used is when something in it was last changed.
	Used time.Time
	// From is the address that a download came from.
	From string
}

// mountDirs are the folders of the store that hold cache mounts.
var mountDirs = []string{"mounts"}

// downloadDirs are the folders of the store that hold what came from elsewhere.
var downloadDirs = []string{"downloads", "git"}

// noteDirs are the folders of the store that hold notes. What sinter-sbom notes of layers
// and images is in sbom.
var noteDirs = []string{"content", "contexts", "sbom"}

// buildDirs are the folders of the store that hold what builds did.
var buildDirs = []string{"builds", "listings"}

// referrerDirs are the folders of the store that hold lists of referrers.
var referrerDirs = []string{image.ReferrersDir}

// takeFolders measures all that is neither a blob nor a layer nor a record.
func (s *Stock) takeFolders(ctx context.Context, root string) error {
	for _, of := range []struct {
		dirs []string
		into *[]Folder
	}{{mountDirs, &s.Mounts}, {downloadDirs, &s.Downloads}, {noteDirs, &s.Notes}, {buildDirs, &s.Builds}, {referrerDirs, &s.Referrers}} {
		for _, dir := range of.dirs {
			found, err := folders(ctx, root, dir)
			if err != nil {
				return fmt.Errorf("measuring %s: %w", dir, err)
			}
			*of.into = append(*of.into, found...)
		}
	}
	for i, d := range s.Downloads {
		s.Downloads[i].From = remote.Origin(filepath.Join(root, d.Path))
	}
	return nil
}

// retakeFolders looks which of the folders that were measured are still there, and
// whether they were used since.
func (s *Stock) retakeFolders(root string, before *Stock) (err error) {
	if s.Mounts, err = stillThere(root, before.Mounts); err != nil {
		return err
	}
	if s.Downloads, err = stillThere(root, before.Downloads); err != nil {
		return err
	}
	if s.Notes, err = stillThere(root, before.Notes); err != nil {
		return err
	}
	if s.Builds, err = stillThere(root, before.Builds); err != nil {
		return err
	}
	s.Referrers, err = stillThere(root, before.Referrers)
	return err
}

func stillThere(root string, list []Folder) ([]Folder, error) {
	var there []Folder
	for _, f := range list {
		info, err := os.Lstat(filepath.Join(root, f.Path))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		times := []time.Time{info.ModTime(), remote.Used(filepath.Join(root, f.Path))}
		for _, t := range times {
			if t.After(f.Used) {
				f.Used = t
			}
		}
		there = append(there, f)
	}
	return there, nil
}

// unfinished is how long a file may be in the making.
const unfinished = time.Hour

// folders measures everything directly in a folder of the store, but what is being
// written.
func folders(ctx context.Context, root, dir string) ([]Folder, error) {
	entries, err := os.ReadDir(filepath.Join(root, dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []Folder
	for _, e := range entries {
		f := Folder{Path: filepath.Join(dir, e.Name())}
		if f.Size, f.Used, err = folder.Measure(ctx, filepath.Join(root, f.Path)); err != nil {
			return nil, err
		}
		if !strings.HasPrefix(e.Name(), ".") || time.Since(f.Used) > unfinished {
			list = append(list, f)
		}
	}
	return list, nil
}
