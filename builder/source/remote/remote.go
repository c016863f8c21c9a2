// Package remote has what git and web share: the folders of the store in which they
// keep what servers sent, secrets for servers, and an HTTP client.
package remote

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sinter-build/sinter/builder/redirect"
	"github.com/sinter-build/sinter/builder/transfer"
	"github.com/sinter-build/sinter/layers/folder"
	"github.com/sinter-build/sinter/layers/hostfile"
)

// Config says where what servers send is kept, and what is known of them.
type Config struct {
	// Root is the store's folder. Below it each URL and each repository has a folder,
	// which only the process that holds its lock changes.
	Root string

	// Claim says that a folder below Root is in use before it is looked at, so that
	// nobody removes it. Optional.
	Claim func(folder string) error

	// Secrets returns a secret's content by its ID; fs.ErrNotExist when nobody gave
	// one. Optional.
	Secrets func(id string) ([]byte, error)
}

// Secret returns a secret without the line end that files have; ok is false when
// nobody gave it.
func (c Config) Secret(id string) (value string, ok bool, err error) {
	if c.Secrets == nil {
		return "", false, nil
	}
	data, err := c.Secrets(id)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "", false, nil
	case err != nil:
		return "", false, fmt.Errorf("reading secret %s: %w", id, err)
	}
	return strings.TrimRight(string(data), "\r\n"), true, nil
}

// Name is a name for a folder that stands for all the parts.
func Name(parts ...any) string {
	b, err := json.Marshal(parts)
	if err != nil {
		// Only functions and channels cannot be written; no part is one.
		panic(err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(b))[:32]
}

// TempPrefix begins the names of what is in a folder while it is being made.
const TempPrefix = "tmp-"

// ClaimFolder claims a folder of the store.
func (c Config) ClaimFolder(dir string) error {
	if c.Claim == nil {
		return nil
	}
	path, err := filepath.Rel(c.Root, dir)
	if err != nil {
		return err
	}
	return c.Claim(path)
}

// Lock claims and makes a folder, waits until nobody else works in it, removes what
// somebody who was killed left there, and notes that it is used for address. Closing
// the file ends the lock; processes that inherit the file hold it as well.
func (c Config) Lock(ctx context.Context, dir, address string) (*os.File, error) {
	f, err := c.lock(ctx, dir)
	if err == nil {
		if err = Use(dir, address); err != nil {
			err = errors.Join(err, f.Close())
		}
	}
	if err != nil {
		return nil, fmt.Errorf("keeping %s: %w", address, err)
	}
	return f, nil
}

func (c Config) lock(ctx context.Context, dir string) (*os.File, error) {
	if err := c.ClaimFolder(dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	f, err := hostfile.Lock(ctx, filepath.Join(dir, "lock"), "another build, which is downloading into "+dir, hostfile.Exclusive)
	if err != nil {
		return nil, fmt.Errorf("locking %s: %w", dir, err)
	}
	old, err := filepath.Glob(filepath.Join(dir, TempPrefix+"*"))
	for _, path := range old {
		err = errors.Join(err, folder.RemoveAll(ctx, path))
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// OriginFile is where a folder says which address it is for.
const OriginFile = "origin"

// Use notes of a folder that it was used now, and for which address.
func Use(dir, address string) error {
	path := filepath.Join(dir, OriginFile)
	now := time.Now()
	if err := os.Chtimes(path, now, now); err == nil || !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return folder.WriteFile(filepath.Join(dir, TempPrefix), path, []byte(address+"\n"), 0o600)
}

// Used returns when such a folder was last used; zero when it does not say.
func Used(dir string) time.Time {
	info, err := os.Lstat(filepath.Join(dir, OriginFile))
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

// Origin returns the address, without credentials, that a folder is for; "" when it
// does not say.
func Origin(dir string) string {
	data, err := os.ReadFile(filepath.Join(dir, OriginFile))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// NewClient returns an HTTP client for what users fetch.
func NewClient() *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.Proxy = redirect.Proxy
	t.ResponseHeaderTimeout = transfer.StallTime
	t.DialContext = (&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second, ControlContext: redirect.Control}).DialContext
	return &http.Client{Transport: redirect.Transport(t, isNamed), CheckRedirect: redirect.Check}
}

// isNamed reports whether a request is to the host that the user named.
func isNamed(r *http.Request) bool { return r.URL.Hostname() == redirect.First(r).URL.Hostname() }

// WithoutUser removes credentials from an address.
func WithoutUser(address string) string {
	scheme, rest, ok := strings.Cut(address, "://")
	if !ok {
		return address
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	return scheme + "://" + rest[strings.LastIndex(rest[:end], "@")+1:]
}
