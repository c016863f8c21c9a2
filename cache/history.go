package cache

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"
	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/layers/folder"
	"github.com/sinter-build/sinter/layers/hostfile"
)

// How much of the past is kept: whichever ends first.
const (
	keptBuilds = 100
	keptFor    = 30 * 24 * time.Hour
)

// longestBuild is the most bytes of a build's record that are read. Of a step it has some
// kilobytes.
const longestBuild = 64 << 20

// A build is a folder in builds/, named by its ID, with the record and the logs of its
// steps in it. Listings of contents, which builds refer to, are in listings/.
const (
	buildRecord = "build"
	listingsDir = "listings"
)

// NewBuildID returns an ID for a build that began at a time: IDs in alphabetical order are
// builds in the order of time. It ends in letters that are the same for the same subject.
func NewBuildID(began time.Time, of Subject) string {
	text, _ := json.Marshal(of) // strings have no errors
	sum := sha256.Sum256(text)
	return fmt.Sprintf("%08s-%s", strconv.FormatInt(began.UnixMilli(), 36), hex.EncodeToString(sum[:4]))
}

// idTime returns when the build of an ID began.
func idTime(id string) (time.Time, bool) {
	text, _, ok := strings.Cut(id, "-")
	ms, err := strconv.ParseInt(text, 36, 64)
	return time.UnixMilli(ms), ok && err == nil
}

func (s *Store) buildPath(id string, names ...string) string {
	return filepath.Join(append([]string{s.root, "builds", id}, names...)...)
}

// PutBuild writes down what a build did, and moves the logs of its steps there: logs is a
// folder with a file LOG NUMBER for each step that has one, or "". Builds that are too old
// are removed. The ID gets another time if there is one like it.
func (s *Store) PutBuild(b *Build, logs string) error {
	at, _ := idTime(b.ID)
	for {
		err := os.Mkdir(s.buildPath(b.ID), 0o700)
		if errors.Is(err, fs.ErrNotExist) {
			err = os.MkdirAll(s.buildPath(b.ID), 0o700)
		}
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("writing down the build: %w", err)
		}
		at = at.Add(time.Millisecond)
		b.ID = NewBuildID(at, b.Of)
	}
	if logs != "" {
		if err := os.Rename(logs, s.buildPath(b.ID, "logs")); err != nil {
			return fmt.Errorf("keeping the logs of the build: %w", err)
		}
	}
	payload, err := json.Marshal(b)
	if err != nil {
		return fmt.Errorf("writing down the build: %w", err)
	}
	if err := s.write(s.buildPath(b.ID, buildRecord), folder.Seal(payload)); err != nil {
		return err
	}
	for _, step := range b.Steps {
		for _, p := range step.Parts {
			if p.Kind == Content {
				touch(s.listingPath(strings.TrimSpace(p.Value)))
			}
		}
	}
	return s.forgetBuilds(time.Now())
}

// buildIDs lists all builds, the oldest first.
func (s *Store) buildIDs() ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(s.root, "builds"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading the builds: %w", err)
	}
	var ids []string
	for _, e := range entries {
		if _, ok := idTime(e.Name()); ok && e.IsDir() {
			ids = append(ids, e.Name())
		}
	}
	return ids, nil
}

// forgetBuilds removes builds that are too old, and listings that none of the others
// refers to.
func (s *Store) forgetBuilds(now time.Time) error {
	ids, err := s.buildIDs()
	if err != nil {
		return err
	}
	gone := 0
	for i, id := range ids {
		if at, _ := idTime(id); len(ids)-i <= keptBuilds && now.Sub(at) < keptFor {
			break
		}
		if err := os.RemoveAll(s.buildPath(id)); err != nil {
			return fmt.Errorf("removing an old build: %w", err)
		}
		gone++
	}
	if gone == 0 || gone == len(ids) {
		return nil
	}
	oldest, _ := idTime(ids[gone])
	return s.forgetListings(oldest)
}

// forgetListings removes the listings that no build since a time refers to: each build
// touches those to which it does.
func (s *Store) forgetListings(since time.Time) error {
	entries, err := os.ReadDir(filepath.Join(s.root, listingsDir))
	if err != nil {
		return ignoreMissing(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.ModTime().Before(since) {
			continue
		}
		if err := ignoreMissing(os.Remove(filepath.Join(s.root, listingsDir, e.Name()))); err != nil {
			return err
		}
	}
	return nil
}

// Builds returns all builds, the newest first. Those whose record is missing or damaged
// are left out.
func (s *Store) Builds() ([]Build, error) {
	ids, err := s.buildIDs()
	if err != nil {
		return nil, err
	}
	var list []Build
	for _, id := range slices.Backward(ids) {
		b, err := s.Build(id)
		switch {
		case err == nil:
			list = append(list, *b)
		case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, folder.ErrCorrupt):
			return nil, err
		}
	}
	return list, nil
}

// Build returns the build of an ID. It fails with fs.ErrNotExist or folder.ErrCorrupt.
func (s *Store) Build(id string) (*Build, error) {
	data, err := hostfile.Read(s.buildPath(id, buildRecord), longestBuild)
	var kind *hostfile.KindError
	var size *hostfile.SizeError
	if errors.As(err, &kind) || errors.As(err, &size) {
		return nil, fmt.Errorf("build %s: %w: %w", id, folder.ErrCorrupt, err)
	}
	if err != nil {
		return nil, err
	}
	return decodeBuild(id, data)
}

func decodeBuild(id string, data []byte) (*Build, error) {
	payload, err := folder.Unseal(data)
	if err != nil {
		return nil, fmt.Errorf("build %s: %w", id, err)
	}
	var b Build
	if err := json.Unmarshal(payload, &b); err != nil {
		return nil, fmt.Errorf("build %s: %w: %w", id, folder.ErrCorrupt, err)
	}
	b.ID = id
	return &b, nil
}

// LastBuild returns the last build of the same that got as far as to have steps; nil if
// there is none.
func (s *Store) LastBuild(of Subject) *Build {
	_, end, _ := strings.Cut(NewBuildID(time.UnixMilli(0), of), "-")
	ids, err := s.buildIDs()
	if err != nil {
		return nil
	}
	for _, id := range slices.Backward(ids) {
		if !strings.HasSuffix(id, "-"+end) {
			continue
		}
		if b, err := s.Build(id); err == nil && len(b.Steps) > 0 {
			return b
		}
	}
	return nil
}

// OpenLog opens what the step of a number printed in a build.
func (s *Store) OpenLog(id string, step int) (io.ReadCloser, error) {
	f, err := hostfile.Open(s.buildPath(id, "logs", strconv.Itoa(step)))
	if err != nil {
		return nil, err
	}
	zip, err := gzip.NewReader(f)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%w: %w", folder.ErrCorrupt, err)
	}
	return struct {
		io.Reader
		io.Closer
	}{zip, f}, nil
}

// listingPath is where the listing of a content digest is.
func (s *Store) listingPath(content string) string {
	_, name, _ := strings.Cut(content, ":")
	return filepath.Join(s.root, listingsDir, filepath.Base("x" + name)[1:])
}

// HasListing reports whether it is known what a content digest was made of.
func (s *Store) HasListing(content string) bool {
	_, err := os.Stat(s.listingPath(content))
	return err == nil
}

// PutListing writes down what a content digest is made of. list calls its argument with
// each file, and returns the digest of what it listed: with another one nothing is kept.
func (s *Store) PutListing(content string, list func(add func(File) error) (string, error)) error {
	var buf bytes.Buffer
	w, err := newListingWriter(&buf)
	if err != nil {
		return err
	}
	got, err := list(w.add)
	if err != nil {
		return err
	}
	if err := w.close(); err != nil || got != content {
		return err
	}
	if err := os.Mkdir(filepath.Join(s.root, listingsDir), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return s.write(s.listingPath(content), buf.Bytes())
}

// Listing returns what a content digest was made of; nil if that is not known.
func (s *Store) Listing(content string) Listing {
	f, err := os.OpenFile(s.listingPath(content), os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	defer f.Close()
	l, err := readListing(f)
	if err != nil {
		return nil
	}
	return l
}
