package registry

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/docker/cli/cli/config/configfile"
	"github.com/docker/cli/cli/config/types"
)

// Docker's credential helpers are programs: docker-credential-NAME get reads the
// name of a registry and prints JSON.
// https://github.com/docker/docker-credential-helpers

const (
	// notInHelper is what a helper prints when it does not know the registry.
	notInHelper = "credentials not found in native keychain"
	// tokenUser is the name that marks a secret as an identity token.
	tokenUser = "<token>"
	// maxHelperOutput is the most bytes that are taken of a helper's answer.
	maxHelperOutput = 1 << 20
	// helperGrace is how long a helper may go on, or hold our pipes, after it was
	// told to end.
	helperGrace = 300 * time.Millisecond
	// helperSilence is how long a helper may take before that is told. It may be
	// asking somebody.
	helperSilence = 15 * time.Second
)

// helperOf is the name of the helper that has the credentials under key, or "".
func helperOf(file *configfile.ConfigFile, key string) string {
	if name, ok := file.CredentialHelpers[key]; ok {
		return name
	}
	return file.CredentialsStore
}

// askHelper returns what a helper knows under key; nothing is not an error. The
// helper ends with ctx. What it writes to standard error goes to c.say, by lines.
func (c storedCredentials) askHelper(ctx context.Context, name, key string) (types.AuthConfig, error) {
	program := "docker-credential-" + name
	answer, messages := &helperOutput{}, &helperMessages{say: func(line string) { c.say(program + ": " + line) }}
	slow := time.AfterFunc(helperSilence, func() { c.say(fmt.Sprintf("%s has not answered for %s", program, helperSilence)) })
	err := c.runHelper(ctx, program, key, answer, messages)
	slow.Stop()
	messages.flush()
	switch text := strings.TrimSpace(string(answer.data)); {
	case ctx.Err() != nil:
		return types.AuthConfig{}, context.Cause(ctx)
	case err != nil && text == notInHelper:
		return types.AuthConfig{}, nil
	case err != nil && text != "":
		return types.AuthConfig{}, fmt.Errorf("%s: %w: %s", program, err, clip(oneLine(text), longestQuote))
	case err != nil:
		return types.AuthConfig{}, fmt.Errorf("%s: %w", program, cmp.Or(errors.Unwrap(err), err))
	}
	found, err := parseHelperAnswer(answer.data)
	if err != nil {
		return found, fmt.Errorf("%s: its answer is not that of a credential helper: %w", program, err)
	}
	return found, nil
}

// runHelper runs a helper as c.process says, or as this process where the kernel
// refuses that.
func (c storedCredentials) runHelper(ctx context.Context, program, key string, answer, messages io.Writer) error {
	run := func(attr *syscall.SysProcAttr) error {
		cmd := exec.CommandContext(ctx, program, "get")
		cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(key), answer, messages
		cmd.SysProcAttr = attr
		cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
		cmd.WaitDelay = helperGrace
		err := cmd.Run()
		if errors.Is(err, exec.ErrWaitDelay) {
			return nil // the helper has ended well, and an agent that it started has our pipes
		}
		return err
	}
	var attr *syscall.SysProcAttr
	if c.process != nil {
		attr = c.process()
	}
	err := run(attr)
	if attr != nil && isRefused(err) {
		return run(nil)
	}
	return err
}

// isRefused reports whether the kernel refused to start a process in a namespace.
func isRefused(err error) bool {
	return errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EUSERS)
}

func parseHelperAnswer(data []byte) (types.AuthConfig, error) {
	var a struct{ Username, Secret string }
	// Docker does not look at what comes after the value either.
	if err := json.NewDecoder(bytes.NewReader(data)).Decode(&a); err != nil {
		return types.AuthConfig{}, err
	}
	if a.Username == tokenUser {
		return types.AuthConfig{IdentityToken: a.Secret}, nil
	}
	return types.AuthConfig{Username: a.Username, Password: a.Secret}, nil
}

// helperOutput keeps an answer that is not too long.
type helperOutput struct{ data []byte }

func (o *helperOutput) Write(p []byte) (int, error) {
	if len(o.data)+len(p) > maxHelperOutput {
		return 0, fmt.Errorf("it prints more than %d bytes", maxHelperOutput)
	}
	o.data = append(o.data, p...)
	return len(p), nil
}

// helperMessages passes on lines as they come.
type helperMessages struct {
	say  func(string)
	line []byte
}

func (m *helperMessages) Write(p []byte) (int, error) {
	m.line = append(m.line, p...)
	for {
		line, rest, ok := bytes.Cut(m.line, []byte("\n"))
		if !ok && len(m.line) < longestReason {
			return len(p), nil
		}
		m.line = line
		m.flush()
		m.line = rest
	}
}

func (m *helperMessages) flush() {
	if text := oneLine(string(m.line)); text != "" {
		m.say(clip(text, longestReason))
	}
	m.line = nil
}
