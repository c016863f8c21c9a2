package source

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/sinter-build/sinter/layers/folder"
	"github.com/sinter-build/sinter/layers/hostfile"
)

// Remotes gets files from the web and from git repositories. What it got stays
// in downloads/ and git/ below the store's folder, in one folder for each URL
// and each repository, which only the process that holds its lock changes.
//
// One value serves one build: within it every URL and every ref has one answer.
type Remotes struct {
	// SSH serves the agent of the given ID on a new socket at path, until
	// stop is called; fs.ErrNotExist when nobody gave that agent. Optional.
	SSH func(ctx context.Context, id, path string) (stop func(), err error)

	// Claim says that a folder below root is in use before it is looked at, so that
	// nobody removes it. Optional.
	Claim func(folder string) error

	// Home is the home directory in which ssh finds known_hosts; "" is that of this
	// process's user.
	Home string

	root    string
	secrets func(id string) ([]byte, error)
	client  *http.Client
	// pause is the time before a request is tried again; it grows.
	pause time.Duration

	mu        sync.Mutex
	downloads map[string]*slot[download]
	refs      map[string]*slot[revision]
	trees     map[string]*slot[*Local]
	retired   []io.Closer
	// checked are the checkouts that are as they were made.
	checked sync.Map
}

// NewRemotes keeps what it gets below root, the store's folder. secrets
// returns a secret's content by its ID; fs.ErrNotExist when nobody gave one.
func NewRemotes(root string, secrets func(id string) ([]byte, error)) *Remotes {
	return &Remotes{
		root: root, secrets: secrets, client: newHTTPClient(), pause: 300 * time.Millisecond,
		downloads: map[string]*slot[download]{},
		refs:      map[string]*slot[revision]{},
		trees:     map[string]*slot[*Local]{},
	}
}

// Close releases the files that were served. None may be in use any more.
func (r *Remotes) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	for _, c := range r.retired {
		errs = append(errs, c.Close())
	}
	for _, s := range r.downloads {
		if s.found {
			errs = append(errs, s.val.body.Close())
		}
	}
	for _, s := range r.trees {
		if s.found {
			errs = append(errs, s.val.Close())
		}
	}
	r.retired = nil
	clear(r.downloads)
	clear(r.trees)
	r.client.CloseIdleConnections()
	return errors.Join(errs...)
}

// retire keeps c open until Close.
func (r *Remotes) retire(c io.Closer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.retired = append(r.retired, c)
}

// slot holds an answer once it was found. Who looks for it holds mu.
type slot[T any] struct {
	mu    sync.Mutex
	found bool
	val   T
}

// get returns the answer, finding it if need be. A failure is not kept.
func (s *slot[T]) get(find func() (T, error)) (T, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.found {
		return s.val, nil
	}
	v, err := find()
	if err == nil {
		s.val, s.found = v, true
	}
	return v, err
}

func slotOf[T any](r *Remotes, m map[string]*slot[T], key string) *slot[T] {
	return slotIn(&r.mu, m, key)
}

// slotIn returns the slot of key in m, which mu guards.
func slotIn[T any](mu *sync.Mutex, m map[string]*slot[T], key string) *slot[T] {
	mu.Lock()
	defer mu.Unlock()
	s, ok := m[key]
	if !ok {
		s = &slot[T]{}
		m[key] = s
	}
	return s
}

// secret returns a secret without the line end that files have; ok is false
// when nobody gave it.
func (r *Remotes) secret(id string) (value string, ok bool, err error) {
	if r.secrets == nil {
		return "", false, nil
	}
	data, err := r.secrets(id)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "", false, nil
	case err != nil:
		return "", false, fmt.Errorf("reading secret %s: %w", id, err)
	}
	for len(data) > 0 && (data[len(data)-1] == '\n' || data[len(data)-1] == '\r') {
		data = data[:len(data)-1]
	}
	return string(data), true, nil
}

// RemoteError says what hindered a download or a checkout. URLs in it have no
// credentials.
type RemoteError struct {
	Msg, Hint string
	Err       error
}

func (e *RemoteError) Error() string {
	if e.Err == nil {
		return e.Msg
	}
	return e.Msg + ": " + e.Err.Error()
}

// Unwrap returns the reason, if there is another one.
func (e *RemoteError) Unwrap() error { return e.Err }

// HintText returns the way out, or "".
func (e *RemoteError) HintText() string { return e.Hint }

// folderName is a name for a folder that stands for all the parts.
func folderName(parts ...any) string {
	b, err := json.Marshal(parts)
	if err != nil {
		// Only functions and channels cannot be written; no part is one.
		panic(err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(b))[:32]
}

const tempPrefix = "tmp-"

// claim claims a folder in the store.
func (r *Remotes) claim(dir string) error {
	if r.Claim == nil {
		return nil
	}
	path, err := filepath.Rel(r.root, dir)
	if err != nil {
		return err
	}
	return r.Claim(path)
}

// lockFolder claims and makes a folder, waits until nobody else works in it and removes
// what somebody who was killed left there. Closing the file ends the lock;
// processes that inherit the file hold it as well.
func (r *Remotes) lockFolder(ctx context.Context, dir string) (*os.File, error) {
	if err := r.claim(dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	f, err := hostfile.Lock(ctx, filepath.Join(dir, "lock"), "another build, which is downloading into "+dir, hostfile.Exclusive)
	if err != nil {
		return nil, fmt.Errorf("locking %s: %w", dir, err)
	}
	old, err := filepath.Glob(filepath.Join(dir, tempPrefix+"*"))
	for _, path := range old {
		err = errors.Join(err, folder.RemoveAll(ctx, path))
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// originFile is where a folder says which address it is for.
const originFile = "origin"

// used notes of a folder that it was used now, and for which address.
func used(dir, address string) error {
	path := filepath.Join(dir, originFile)
	now := time.Now()
	if err := os.Chtimes(path, now, now); err == nil || !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return folder.WriteFile(filepath.Join(dir, tempPrefix), path, []byte(address+"\n"), 0o600)
}

// Used returns when such a folder was last used; zero when it does not say.
func Used(dir string) time.Time {
	info, err := os.Lstat(filepath.Join(dir, originFile))
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

// Origin returns the address, without credentials, that a folder in downloads/
// or git/ is for; "" when it does not say.
func Origin(dir string) string {
	data, err := os.ReadFile(filepath.Join(dir, originFile))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}
