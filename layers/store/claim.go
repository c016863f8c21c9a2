package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/hostfile"
)

// A claim says that a process uses a part of the store, so that nobody removes it
// before the process has ended. It is written before the process looks whether the
// part is there.
//
// All claims of a process are lines in the file that it holds locked as long as it
// lives (lockName). They are written with the gate shared; whoever removes parts has
// the gate alone while it reads the claims and moves away what nobody has claimed
// (see Exclude). So a claim was either read, and the part stays, or the part was gone
// before it was claimed, and whoever claimed it finds nothing there.
type claims struct {
	mu   sync.Mutex
	gate *os.File
	held map[string]bool
	// kept says that the gate stays shared until the process ends, because claims
	// cannot be written: whoever removes parts then waits for the process.
	kept bool
	// alone says that this process has the gate alone, and needs no claims.
	alone bool
}

const (
	// gateName is the lock that claims are made with.
	gateName = "gate"
	// claimsPrefix begins the names of temporary folders whose lock holds claims.
	// Versions of sinter that made none called theirs otherwise. It is in the name
	// because a name can be had on a disk that is full.
	claimsPrefix = "claims-"
)

// Claims call a part by its path below the store's root, such as mounts/<key>. An
// image, with all that its manifest or index needs, has a name of its own.

// LayerPart is what claims call a layer with all its forms.
func LayerPart(id layers.ID) string { return "layers/" + string(id) }

// BlobPart is what claims call a blob.
func BlobPart(d digest.Digest) string {
	return "blobs/" + d.Algorithm().String() + "/" + d.Encoded()
}

const imagePrefix = "image "

// Claim says that this process uses parts of the store, until it closes the store.
func (s *shelf) Claim(parts ...string) error {
	if s.claims.hasAll(parts) {
		return nil
	}
	return s.ClaimFound(func() ([]string, error) { return parts, nil })
}

// ClaimImage claims an image by its manifest or index, before that is read.
func (s *shelf) ClaimImage(d digest.Digest) error { return s.Claim(imagePrefix + d.String()) }

// ClaimFound claims what find returns, while nothing can be removed. find must not
// claim anything itself.
func (s *shelf) ClaimFound(find func() (parts []string, err error)) error {
	c := &s.claims
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.alone || c.gate == nil || s.readOnly() {
		_, err := find()
		return err
	}
	if !c.kept {
		if err := hostfile.Hold(s.opt.Context, c.gate, "prune or verify --repair", hostfile.Shared); err != nil {
			return fmt.Errorf("claiming parts of the store: %w", err)
		}
	}
	parts, err := find()
	if err == nil && c.write(parts, s.own) != nil {
		c.kept = true
	}
	if !c.kept {
		err = errors.Join(err, unix.Flock(int(c.gate.Fd()), unix.LOCK_UN))
	}
	return err
}

// write adds lines to the file of claims.
func (c *claims) write(parts []string, file *os.File) error {
	var lines strings.Builder
	for _, part := range parts {
		if !c.held[part] && !strings.Contains(part, "\n") { // nothing has such a name
			lines.WriteString(part + "\n")
			c.held[part] = true
		}
	}
	if lines.Len() == 0 {
		return nil
	}
	_, err := file.WriteString(lines.String())
	return err
}

// hasAll reports whether this process has claimed all parts.
func (c *claims) hasAll(parts []string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !slices.ContainsFunc(parts, func(part string) bool { return !c.held[part] })
}

// claimNothing keeps the gate shared, since claims cannot be written. Where the gate
// is missing or belongs to another user, nothing keeps that user's prune from removing
// what is being read: see missing.
func (s *shelf) claimNothing() error {
	s.claims.held = map[string]bool{}
	gate, err := hostfile.OpenLock(filepath.Join(s.root, "locks", gateName))
	if hostfile.IsReadOnly(err) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	s.claims.gate, s.claims.kept = gate, true
	return hostfile.Hold(s.opt.Context, gate, "prune or verify --repair", hostfile.Shared)
}

var (
	// errUnclaimed is about what is missing where neither claims nor the gate keep
	// others from removing it.
	errUnclaimed = errors.New("a prune may have removed it meanwhile")
	// errCannotGet is about what is missing and cannot be kept.
	errCannotGet = errors.New("it cannot be fetched into a store that can only be read")
)

// IsUnlocked reports whether nothing keeps other processes from removing what this one
// reads: the store can only be read, and its gate cannot be locked.
func (s *shelf) IsUnlocked() bool { return s.readOnly() && s.claims.gate == nil }

// missing adds to err, about what is missing, what that means in a store that can only
// be read.
func (s *shelf) missing(err error) error {
	switch {
	case !s.readOnly():
		return err
	case s.IsUnlocked():
		return fmt.Errorf("%w: %w", err, errUnclaimed)
	}
	return fmt.Errorf("%w: %w", err, errCannotGet)
}

func (c *claims) close() error {
	if c.gate == nil {
		return nil
	}
	return c.gate.Close()
}

// openClaims prepares claims.
func (s *shelf) openClaims() error {
	gate, err := hostfile.OpenLock(filepath.Join(s.root, "locks", gateName))
	if err != nil {
		return err
	}
	s.claims.gate, s.claims.held = gate, map[string]bool{}
	return nil
}
