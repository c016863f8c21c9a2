package store

import (
	"context"
	"errors"
	"os"
	"strings"

	"github.com/sinter-build/sinter/layers/archive"
)

// distrust has the directory form that m describes made again when it is next
// wanted, unless it has been already.
func (s *Store) distrust(dir string, m archive.Mark) error {
	if s.LookOnly {
		return nil
	}
	s.dirs.forget(dir)
	if now, err := readMark(dir); err != nil || now != m {
		return nil //nolint:nilerr // there is nothing to distrust
	}
	return removeIfThere(dir + madeSuffix)
}

// DistrustChanged compares every directory form in the store with what it was when it
// was made. Those that were changed are made again when they are next wanted.
//
// It is for when one was found to be changed: what changed that, such as a copy of the
// store made of hard links, may have changed others, and each would fail one more build.
// Outside of its user namespace a plain user's process sees other owners, and does
// nothing.
func (s *Store) DistrustChanged(ctx context.Context) error {
	if os.Geteuid() != 0 {
		return nil
	}
	ids, err := s.IDs()
	if err != nil {
		return err
	}
	for _, id := range ids {
		forms, err := os.ReadDir(s.layerPath(id, ""))
		if err != nil {
			continue // somebody removed it
		}
		for _, f := range forms {
			name, marked := strings.CutSuffix(f.Name(), madeSuffix)
			// Directories of the other kind have owners that do not exist here.
			if !marked || isOneUsers(name) != s.opt.SingleUser {
				continue
			}
			if err := s.recheck(ctx, s.layerPath(id, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// recheck compares one directory form, if it counts.
func (s *Store) recheck(ctx context.Context, dir string) error {
	k, err := s.knownDir(dir)
	if err != nil || k == nil {
		return err
	}
	if err := s.checkDir(ctx, dir, k); !errors.Is(err, ErrChanged) {
		return err
	}
	return nil
}
