package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/sinter-build/sinter/builder/sandbox/ssh"
	"github.com/sinter-build/sinter/builder/sandbox/userns"
	"github.com/sinter-build/sinter/layers/hint"
	"github.com/sinter-build/sinter/layers/hostfile"
)

// enterForPipes starts the build in a user namespace, where it may need one and has
// a pipe to read: what is read here, nobody can read there again. done says that the
// build is over.
func (a *app) enterForPipes(ctx context.Context, f *buildFlags) (done bool, err error) {
	if !userns.Needed() || !f.namesPipe() {
		return false, nil
	}
	stdin, _ := a.stdin.(*os.File)
	done, err = a.reexec(ctx, stdin)
	if is[*userns.RefusedError](err) {
		return false, nil // not every build needs one
	}
	return done, err
}

// A namedInput is a file from which a build reads, and the flag that names it.
type namedInput struct{ flag, path string }

// namedInputs are the files that the flags name, without those of standard input.
func (f *buildFlags) namedInputs() []namedInput {
	list := []namedInput{{"-f", f.file}, {"--ignorefile", f.ignoreFile}, {policyVariable, os.Getenv(policyVariable)}}
	for _, path := range f.buildArgFiles {
		list = append(list, namedInput{"--build-arg-file", path})
	}
	if all, err := parseSecrets(f.secrets); err == nil {
		for _, id := range slices.Sorted(maps.Keys(all)) {
			list = append(list, namedInput{"--secret", all[id].file})
		}
	}
	for _, text := range f.ssh {
		if src, err := ssh.Parse(text); err == nil {
			for _, path := range src.Keys {
				list = append(list, namedInput{"--ssh", path})
			}
		}
	}
	return slices.DeleteFunc(list, func(in namedInput) bool { return in.path == "" || in.path == "-" })
}

// namesPipe reports whether the flags name a file that can be read once.
func (f *buildFlags) namesPipe() bool {
	return slices.ContainsFunc(f.namedInputs(), func(in namedInput) bool { return hostfile.ReadOnce(in.path) })
}

// checkPipes refuses a pipe that is named for two purposes. Two secrets may have the
// same one: both get its content.
func (a *app) checkPipes(f *buildFlags) error {
	list := f.namedInputs()
	if stdin, ok := a.stdin.(*os.File); ok && (f.context == "-" || f.file == "-") {
		list = append(list, namedInput{"-", fmt.Sprintf("/proc/self/fd/%d", stdin.Fd())})
	}
	for i, in := range list {
		for _, other := range list[:i] {
			if in.flag == other.flag || !hostfile.SameStream(in.path, other.path) {
				continue
			}
			return usage(hint.Add(
				fmt.Errorf("%s and %s name the same pipe, %s, which can be read only once", other.flag, in.flag, other.path),
				"give each a pipe or a file of its own",
			))
		}
	}
	return nil
}
