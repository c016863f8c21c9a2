package main

import (
	"errors"
	"strings"

	"github.com/distribution/reference"

	"github.com/sinter-build/sinter/builder/export"
)

// pushAgain says how to push an image that was built, but not pushed; "" if err is
// not about that.
func (a *app) pushAgain(err error) string {
	var e *export.PushError
	if !errors.As(err, &e) {
		return ""
	}
	var commands []string
	for _, name := range e.Names {
		command := append([]string{"sinter"}, a.registryFlags()...)
		if ref, err := reference.ParseNormalizedNamed(name); err == nil && e.Insecure {
			command = append(command, "--registry-insecure", reference.Domain(ref))
		}
		command = append(command, "push")
		if e.Platform != "" {
			command = append(command, "--platform", e.Platform)
		}
		if e.Source != "" && e.Source != name {
			command = append(command, e.Source)
		}
		for i, word := range command {
			command[i] = shellWord(word)
		}
		commands = append(commands, strings.Join(append(command, shellWord(name)), " "))
	}
	return "the image is in the store; to push it again: " + strings.Join(commands, " && ")
}

// registryFlags are the flags for all commands, as they were given, that a push
// needs again.
func (a *app) registryFlags() []string {
	var flags []string
	if a.rootFlag != "" {
		flags = append(flags, "--root", a.rootFlag)
	}
	if a.dockerConfig != "" {
		flags = append(flags, "--config", a.dockerConfig)
	}
	for _, host := range a.insecure {
		flags = append(flags, "--registry-insecure", host)
	}
	for _, file := range a.caFiles {
		flags = append(flags, "--registry-ca", file)
	}
	return flags
}

// shellWord quotes text for a shell where it must be.
func shellWord(text string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@%+=:,./_-"
	if text != "" && strings.Trim(text, plain) == "" {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}
