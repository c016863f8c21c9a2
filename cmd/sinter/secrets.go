package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"

	"github.com/sinter-build/sinter/builder/sandbox/ssh"
	"github.com/sinter-build/sinter/layers/hostfile"
	"github.com/sinter-build/sinter/parser"
)

// maxSecret is BuildKit's limit for one secret, in bytes.
const maxSecret = 500 << 10

// secretSource is where one secret comes from. As in docker, the variable counts
// when both are given.
type secretSource struct {
	file, env string
}

// secrets are by ID. They are read when a command needs them.
type secrets map[string]secretSource

// parseSecrets reads --secret id=ID[,src=FILE|,env=VARIABLE][,type=file|env].
func parseSecrets(list []string) (secrets, error) {
	all := secrets{}
	for _, text := range list {
		fields, err := csvFields(text)
		if err != nil {
			return nil, badFlag("secret", text, err)
		}
		var id, kind string
		var s secretSource
		for _, field := range fields {
			switch value := field[1]; field[0] {
			case "id":
				id = value
			case "source", "src":
				s.file = value
			case "env":
				s.env = value
			case "type":
				if kind = value; kind != "file" && kind != "env" {
					return nil, wrongFlag("secret", text, fmt.Sprintf("type %q is not known: want file or env", value))
				}
			default:
				return nil, wrongFlag("secret", text, fmt.Sprintf("unknown field %q: want id, src, env or type", field[0]))
			}
		}
		if id == "" {
			return nil, wrongFlag("secret", text, "id is missing")
		}
		if kind == "env" && s.env == "" {
			s.env, s.file = s.file, ""
		}
		if s, err = s.complete(id); err != nil {
			return nil, badFlag("secret", text, err)
		}
		all[id] = s
	}
	return all, nil
}

// complete finds the source of a secret when only its ID was given, and
// checks that it is there.
func (s secretSource) complete(id string) (secretSource, error) {
	if s.env == "" && s.file == "" {
		if _, ok := os.LookupEnv(id); ok {
			s.env = id
			return s, nil
		}
		s.file = id
	}
	if s.file == "" {
		return s, nil
	}
	info, err := os.Stat(s.file)
	if err != nil {
		return s, err
	}
	if info.IsDir() {
		return s, fmt.Errorf("%s is a directory: give each file in it an id of its own", s.file)
	}
	if info.Size() > maxSecret {
		return s, fmt.Errorf("the secret has %d bytes, more than %d", info.Size(), maxSecret)
	}
	return s, nil
}

// unset returns a warning for each secret that is empty because its variable is
// not set, as in docker.
func (s secrets) unset() []string {
	var out []string
	for _, id := range slices.Sorted(maps.Keys(s)) {
		if _, ok := os.LookupEnv(s[id].env); s[id].env != "" && !ok {
			out = append(out, fmt.Sprintf("secret %s is empty: the environment variable %s is not set", id, s[id].env))
		}
	}
	return out
}

// reader returns what reads a secret's content until ctx ends; it fails with
// fs.ErrNotExist for one that nobody gave.
func (s secrets) reader(ctx context.Context, files *hostfile.Streams) func(id string) ([]byte, error) {
	return func(id string) ([]byte, error) { return s.read(ctx, files, id) }
}

func (s secrets) read(ctx context.Context, files *hostfile.Streams, id string) ([]byte, error) {
	src, ok := s[id]
	switch {
	case !ok:
		return nil, fs.ErrNotExist
	case src.env != "":
		return []byte(os.Getenv(src.env)), nil
	}
	// The file need not be a regular one, nor what it was at the start.
	data, err := files.Read(ctx, src.file, maxSecret)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("the file %s no longer exists", src.file)
	case is[*hostfile.SizeError](err):
		return nil, fmt.Errorf("the secret %s has more than %d bytes", src.file, maxSecret)
	}
	return data, err
}

// agents are what --ssh gave, by ID.
type agents map[string]ssh.Source

func parseAgents(ctx context.Context, files *hostfile.Streams, list []string) (agents, error) {
	all := agents{}
	for _, text := range list {
		src, err := ssh.Parse(text)
		if err == nil {
			src, err = src.ReadKeys(ctx, files)
		}
		if err != nil {
			return nil, badFlag("ssh", text, err)
		}
		all[src.ID] = src
	}
	return all, nil
}

// serve listens at path for a command's ssh mount.
func (a agents) serve(ctx context.Context, id, path string, m parser.Mount) (func(), error) {
	src, ok := a[id]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return ssh.Listen(ctx, path, m.UID, m.GID, m.Mode, src)
}
