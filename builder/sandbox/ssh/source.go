// Package ssh lets a command use the keys of the person who builds, without
// seeing them: it serves an SSH agent on a socket, either by asking the person's
// agent or from key files. The command may list keys and sign, and can change
// nothing.
package ssh

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/sinter-build/sinter/layers/hostfile"
)

// DefaultID names the source of a mount that does not say which it wants.
const DefaultID = "default"

// maxKeySize is how many bytes of a key file are read, as in BuildKit.
const maxKeySize = 100 << 10

// A Source says where the keys of one id come from: from an agent's socket or
// from key files, not both.
type Source struct {
	ID     string
	Socket string
	Keys   []string

	ring agent.ExtendedAgent // holds the keys once they are read
}

// Parse reads the flag --ssh of docker build: ID[=SOCKET|KEY[,KEY]]. Without a
// path it means the agent that SSH_AUTH_SOCK names. The files must exist; they are
// read by ReadKeys.
func Parse(flag string) (Source, error) {
	id, list, _ := strings.Cut(flag, "=")
	s := Source{ID: id}
	if id == "" {
		s.ID = DefaultID
	}
	if list == "" {
		s.Socket = os.Getenv("SSH_AUTH_SOCK")
		if s.Socket == "" {
			return Source{}, fmt.Errorf("ssh %q: SSH_AUTH_SOCK is not set; start an agent (eval $(ssh-agent); ssh-add) or name a key: --ssh %s=FILE", s.ID, s.ID)
		}
		return s, s.check()
	}
	for _, path := range strings.Split(list, ",") {
		if path == "" {
			return Source{}, fmt.Errorf("ssh %q: empty path in %q", s.ID, flag)
		}
		info, err := os.Stat(path)
		switch {
		case err != nil:
			return Source{}, fmt.Errorf("ssh %q: %w", s.ID, err)
		case info.Mode()&os.ModeSocket == 0:
			s.Keys = append(s.Keys, path)
		case s.Socket != "":
			return Source{}, fmt.Errorf("ssh %q: more than one socket", s.ID)
		default:
			s.Socket = path
		}
	}
	return s, s.check()
}

// check finds what can be found wrong without connecting to an agent.
func (s Source) check() error {
	if s.Socket != "" && len(s.Keys) > 0 {
		return fmt.Errorf("ssh %q: a socket and keys together", s.ID)
	}
	if s.Socket == "" {
		return nil
	}
	info, err := os.Stat(s.Socket)
	if err != nil {
		return fmt.Errorf("ssh %q: agent: %w", s.ID, err)
	}
	if info.Mode()&os.ModeSocket == 0 {
		return fmt.Errorf("ssh %q: agent: %s is not a socket", s.ID, s.Socket)
	}
	return nil
}

// ReadKeys returns the source with the content of its key files. It reads each of
// them once, by files, as one may be a pipe. A source with an agent stays as it is.
func (s Source) ReadKeys(ctx context.Context, files *hostfile.Streams) (Source, error) {
	if s.Socket != "" {
		return s, nil
	}
	ring, ok := agent.NewKeyring().(agent.ExtendedAgent)
	if !ok {
		return s, fmt.Errorf("ssh %q: keyring lacks extended signatures", s.ID)
	}
	for _, path := range s.Keys {
		key, err := readKey(ctx, files, path)
		if err != nil {
			return s, fmt.Errorf("ssh %q: key %s: %w", s.ID, path, err)
		}
		if err := ring.Add(agent.AddedKey{PrivateKey: key, Comment: path}); err != nil {
			return s, fmt.Errorf("ssh %q: key %s: %w", s.ID, path, err)
		}
	}
	s.ring = ring
	return s, nil
}

// readKey reads a private key of any of the formats of ssh-keygen.
func readKey(ctx context.Context, files *hostfile.Streams, path string) (any, error) {
	data, err := files.Read(ctx, path, maxKeySize)
	var size *hostfile.SizeError
	if errors.As(err, &size) {
		return nil, fmt.Errorf("larger than %d bytes, not a private key", maxKeySize)
	}
	if err != nil {
		return nil, err
	}
	key, err := ssh.ParseRawPrivateKey(data)
	var locked *ssh.PassphraseMissingError
	if errors.As(err, &locked) {
		return nil, errors.New("protected by a passphrase; add it to an agent (ssh-add) and pass that instead")
	}
	if err != nil {
		if _, _, _, _, pubErr := ssh.ParseAuthorizedKey(data); pubErr == nil {
			return nil, errors.New("a public key; the private one is needed")
		}
		return nil, fmt.Errorf("no private key in it: %w", err)
	}
	return key, nil
}
