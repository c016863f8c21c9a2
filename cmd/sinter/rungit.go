package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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
	out, err := gitOutput(ctx, os.Environ(), dir, args...)
	return strings.TrimSpace(out), err
}

// gitOutput is runGit with the output as it is, and an environment. args may begin with
// -c.
func gitOutput(ctx context.Context, env []string, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", append(append([]string{"-C", dir}, trustless...), args...)...)
	cmd.Env = append(slices.Clone(env), "LC_ALL=C", "GIT_OPTIONAL_LOCKS=0", "GIT_TERMINAL_PROMPT=0",
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
		err = fmt.Errorf("git %s: %w", args[0], err)
		if line != "" { // it is when git is not installed
			err = fmt.Errorf("%w: %s", err, line)
		}
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
	return hasChangedIn(ctx, os.Environ(), root)
}

func hasChangedIn(ctx context.Context, env []string, root string) (bool, error) {
	args, err := withoutFilters(ctx, env, root)
	if err != nil {
		return false, err
	}
	// git would ask submodules with their own filters, and to find renames want contents that
	// a partial clone has not.
	changes, err := gitOutput(ctx, env, root, append(args, "status", "--porcelain", "--ignored=no", "--no-renames", "--ignore-submodules=dirty")...)
	if err != nil || changes != "" {
		return changes != "", err
	}
	files, err := gitOutput(ctx, env, root, "ls-files", "--stage", "-z")
	if err != nil {
		return false, err
	}
	inner := withoutRepository(env)
	for entry := range strings.SplitSeq(files, "\x00") {
		about, name, _ := strings.Cut(entry, "\t")
		dir := filepath.Join(root, name)
		if !strings.HasPrefix(about, "160000 ") || !filepath.IsLocal(name) || !isCheckout(dir) {
			continue
		}
		top, err := gitOutput(ctx, inner, dir, "rev-parse", "--show-toplevel")
		if err != nil {
			return false, err
		}
		// With a .git of no use git finds the repository around it, with this entry again.
		if !isSameDir(strings.TrimSuffix(top, "\n"), dir) {
			continue
		}
		if changed, err := hasChangedIn(ctx, inner, dir); err != nil || changed {
			return changed, err
		}
	}
	return false, nil
}

// withoutRepository is an environment without the variables that tell git which
// repository it works in: they are not for submodules.
func withoutRepository(env []string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		switch name {
		case "GIT_DIR", "GIT_COMMON_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX",
			"GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_SHALLOW_FILE", "GIT_GRAFT_FILE":
			return true
		}
		return false
	})
}

func isSameDir(a, b string) bool {
	infoA, errA := os.Stat(a)
	infoB, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(infoA, infoB)
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
// Git LFS, also where the repository configures one of the same name.
func withoutFilters(ctx context.Context, env []string, root string) ([]string, error) {
	// One setting at least is always listed: git would fail without any.
	list, err := gitOutput(ctx, env, root, "config", "--show-scope", "--includes", "-z", "--get-regexp", `^(filter\.|core\.fsmonitor$)`)
	if err != nil {
		return nil, err
	}
	var own []string              // the repository's settings
	others := map[string]string{} // those of everybody else
	fields := strings.Split(list, "\x00")
	for i := 0; i+1 < len(fields); i += 2 {
		key, value, hasValue := strings.Cut(fields[i+1], "\n")
		name := key[:max(0, strings.LastIndexByte(key, '.'))]
		switch {
		case !strings.HasPrefix(key, "filter."):
			continue
		case fields[i] != "local" && fields[i] != "worktree":
			if !hasValue {
				value = "true"
			}
			others[key] = value
		case strings.Contains(name, "="): // an option could not name it
			return nil, fmt.Errorf("the repository at %s has a filter of the name %q", root, name)
		default:
			own = append(own, key)
		}
	}
	slices.Sort(own)
	var args []string
	for _, key := range slices.Compact(own) {
		value := others[key]
		if value == "" && strings.HasSuffix(key, ".required") {
			value = "false"
		}
		args = append(args, "-c", key+"="+value)
	}
	return args, nil
}
