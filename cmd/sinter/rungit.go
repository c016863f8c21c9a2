package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// trustless makes git start nothing that the configuration of a repository names. It may
// be somebody else's: a context can be an unpacked archive, and a clone can have a
// directory that looks like a bare repository.
var trustless = []string{"-c", "core.fsmonitor=false", "-c", "core.hooksPath=" + os.DevNull, "-c", "safe.bareRepository=explicit"}

// runGit asks git about the repository in a directory. git reaches no other repository
// for that: a missing object is an error, since to fetch it would start the programs that
// the repository configures for transports.
func runGit(ctx context.Context, dir string, args ...string) (string, error) {
	out, err := gitOutput(ctx, dir, args...)
	return strings.TrimSpace(out), err
}

// gitOutput is runGit with the output as it is. args may begin with -c.
func gitOutput(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", append(append([]string{"-C", dir}, trustless...), args...)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "GIT_OPTIONAL_LOCKS=0", "GIT_TERMINAL_PROMPT=0",
		"GIT_NO_LAZY_FETCH=1",
		"GIT_ALLOW_PROTOCOL=", // for versions of git that do not know the other
	)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		for len(args) > 2 && args[0] == "-c" {
			args = args[2:]
		}
		line, _, _ := strings.Cut(strings.TrimSpace(said.String()), "\n")
		err = fmt.Errorf("git %s: %w: %s", args[0], err, line)
		if strings.Contains(line, "dubious ownership") {
			err = fmt.Errorf("%w; it belongs to another user: git config --global --add safe.directory DIR trusts it", err)
		}
		return "", err
	}
	return string(out), nil
}

// hasChanged reports whether files of a worktree differ from its commit, or files of its
// submodules from theirs.
func hasChanged(ctx context.Context, root string) (bool, error) {
	args, err := withoutFilters(ctx, root)
	if err != nil {
		return false, err
	}
	// git would ask submodules with their own filters.
	changes, err := gitOutput(ctx, root, append(args, "status", "--porcelain", "--ignored=no", "--ignore-submodules=dirty")...)
	if err != nil || changes != "" {
		return changes != "", err
	}
	files, err := gitOutput(ctx, root, "ls-files", "--stage", "-z")
	if err != nil {
		return false, err
	}
	for entry := range strings.SplitSeq(files, "\x00") {
		about, name, _ := strings.Cut(entry, "\t")
		dir := filepath.Join(root, name)
		if !strings.HasPrefix(about, "160000 ") || !filepath.IsLocal(name) || !isCheckout(dir) {
			continue
		}
		if changed, err := hasChanged(ctx, dir); err != nil || changed {
			return changed, err
		}
	}
	return false, nil
}

// isCheckout reports whether a submodule is checked out at dir.
func isCheckout(dir string) bool {
	info, err := os.Lstat(dir)
	if err != nil || !info.IsDir() {
		return false
	}
	_, err = os.Lstat(filepath.Join(dir, ".git"))
	return err == nil
}

// withoutFilters are options that turn off the filters which a repository configures
// itself: git status runs them on files. Those of the user and the machine stay, such as
// Git LFS.
func withoutFilters(ctx context.Context, root string) ([]string, error) {
	// One setting at least is always listed: git would fail without any.
	list, err := gitOutput(ctx, root, "config", "--show-scope", "--includes", "-z", "--get-regexp", `^(filter\.|core\.fsmonitor$)`)
	if err != nil {
		return nil, err
	}
	var args []string
	told := map[string]bool{}
	fields := strings.Split(list, "\x00")
	for i := 0; i+1 < len(fields); i += 2 {
		key, _, _ := strings.Cut(fields[i+1], "\n")
		name := key[:max(0, strings.LastIndexByte(key, '.'))]
		switch {
		case fields[i] != "local" && fields[i] != "worktree", told[name], !strings.HasPrefix(key, "filter."):
			continue
		case strings.Contains(name, "="): // an option could not name it
			return nil, fmt.Errorf("the repository at %s has a filter of the name %q", root, name)
		}
		told[name] = true
		args = append(args, "-c", name+".clean=", "-c", name+".process=", "-c", name+".required=false")
	}
	return args, nil
}
