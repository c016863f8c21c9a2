package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/moby/buildkit/util/suggest"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/builder/export"
	"github.com/sinter-build/sinter/builder/runner"
	"github.com/sinter-build/sinter/builder/sandbox/userns"
	"github.com/sinter-build/sinter/layers/hint"
	"github.com/sinter-build/sinter/layers/hostfile"
	"github.com/sinter-build/sinter/layers/store"
)

// The exit codes, as the help of the root command and the README give them.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2 // a usageError
	exitPush        = 3 // an export.PushError: the image is in the store
	exitPlan        = 4 // a planError
	exitInterrupted = 130
)

// exitCode is the code that the program ends with because of err.
func exitCode(ctx context.Context, err error) int {
	said, _ := errors.AsType[*exitError](err)
	switch {
	case err == nil:
		return exitOK
	case said != nil:
		return said.code
	case isInterrupted(ctx, err):
		return exitInterrupted
	case is[*usageError](err):
		return exitUsage
	case is[*export.PushError](err):
		return exitPush
	case is[*planError](err):
		return exitPlan
	}
	return exitFailed
}

// is reports whether an error of a type is in the tree of err.
func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

func isInterrupted(ctx context.Context, err error) bool {
	return ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.Cause(ctx)))
}

// exitError ends the program with a code, everything having been said.
type exitError struct{ code int }

func (e *exitError) Error() string { return fmt.Sprintf("exit code %d", e.code) }

// planError says that a step would run that --fail-on names.
type planError struct{ step string }

func (e *planError) Error() string { return "would run: " + e.step }

// noImageError is a name or an ID that no image has.
type noImageError struct{ text string }

func (e *noImageError) Error() string {
	return fmt.Sprintf("image %q is not in the store", e.text)
}

// Is makes it an fs.ErrNotExist.
func (e *noImageError) Is(target error) bool { return target == fs.ErrNotExist }

// HintText says what to do.
func (e *noImageError) HintText() string {
	return "sinter images lists the images in the store; sinter pull gets one from a registry"
}

// usageError is a mistake in the command line.
type usageError struct {
	err error
	// command is the one whose help says more; "" is the one that ran.
	command string
}

func (e *usageError) Error() string { return e.err.Error() }

// Unwrap returns the error itself.
func (e *usageError) Unwrap() error { return e.err }

// usage makes err a mistake in the command line.
func usage(err error) error { return &usageError{err: err} }

// usagef is usage of a new error.
func usagef(format string, args ...any) error { return usage(fmt.Errorf(format, args...)) }

// wrongValue is a mistake in the value of a flag or a variable.
func wrongValue(name, value, why string) error {
	return usagef("invalid value %q for %s: %s", value, name, why)
}

// wrongFlag is a mistake in the value of a flag.
func wrongFlag(name, value, why string) error { return wrongValue("--"+name, value, why) }

// badFlag is wrongFlag with an error that says why, and may have a hint.
func badFlag(name, value string, err error) error {
	return usagef("invalid value %q for --%s: %w", value, name, err)
}

// hintedFlag is a flag whose value is well-formed and cannot be honoured.
func hintedFlag(name, value, why, advice string) error {
	return usage(hint.Add(fmt.Errorf("--%s %s: %s", name, value, why), advice))
}

// flagMistake makes pflag's errors usage errors, with the flag that was
// probably meant, or the kind of value that is wanted.
func flagMistake(c *cobra.Command, err error) error {
	if invalid, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		reason := invalid.Unwrap()
		if wanted, ok := map[string]string{
			"bool": "true or false", "boolfunc": "true or false", "int": "a whole number", "duration": "a duration such as 300ms or 2s",
		}[invalid.GetFlag().Value.Type()]; ok {
			reason = errors.New("want " + wanted)
		}
		return badFlag(invalid.GetFlag().Name, invalid.GetValue(), reason)
	}
	name, unknown := strings.CutPrefix(err.Error(), "unknown flag: --")
	if !unknown {
		return usage(err)
	}
	if way := otherWay(c, name); way != "" {
		return usage(hint.Add(fmt.Errorf("sinter does not have the flag --%s", name), way))
	}
	var names []string
	c.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	if meant, ok := suggest.Search(name, names, true); ok && meant != name {
		err = hint.Add(err, "did you mean --"+meant+"?")
	}
	return usage(err)
}

// commandMistake is the error for a command that root does not have.
func commandMistake(root *cobra.Command, name string) error {
	err := fmt.Errorf("unknown command %q", name)
	root.SuggestionsMinimumDistance = 2
	if meant := root.SuggestionsFor(name); len(meant) > 0 {
		way := root.CommandPath() + " "
		err = hint.Add(err, "did you mean "+way+strings.Join(meant, ", or "+way)+"?")
	}
	return &usageError{err: err, command: root.CommandPath()}
}

// unknownSubcommand checks the arguments of a command that only has others.
func unknownSubcommand(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return commandMistake(c, args[0])
	}
	return nil
}

// usageArgs marks the errors of check as mistakes in the command line, and says what
// cobra says of a wrong number of arguments the way people do.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if check(c, args) == nil {
			return nil
		}
		_, wanted, some := strings.Cut(strings.ReplaceAll(c.Use, " [flags]", ""), " ")
		if !some {
			wanted = "no argument"
		}
		switch {
		case len(args) > 1:
			return usagef("%s takes %s, not %d arguments", c.CommandPath(), wanted, len(args))
		case len(args) == 1:
			return usagef("%s takes %s, not %q", c.CommandPath(), wanted, args[0])
		}
		err := fmt.Errorf("%s needs %s", c.CommandPath(), wanted)
		if c.Name() == "build" {
			err = hint.Add(err, "the current directory as the context: sinter build .")
		}
		return usage(err)
	}
}

// exactArgs wants n arguments; another number is a mistake in the command line.
func exactArgs(n int) cobra.PositionalArgs { return usageArgs(cobra.ExactArgs(n)) }

// storeMistake adds a hint to the error of a store that cannot be opened.
func storeMistake(err error) error {
	if err == nil || isFull(err) || is[*store.ReadOnlyError](err) || is[*store.ForeignError](err) {
		return err // these have hints of their own
	}
	return hint.Add(err, "name a folder that this user can write to with --root DIR or SINTER_ROOT")
}

// hints say what to do about an error; some may be empty.
func (a *app) hints(err error) []string {
	switch full := a.fullDisk(err); {
	case isFull(err):
		return []string{full} // nothing else is the matter
	case errors.Is(err, unix.EMFILE):
		return []string{"raise the limit of open files (ulimit -n): every step that runs at the same time needs some; or run fewer at a time with --max-parallelism"}
	default:
		return []string{hint.Of(err), full}
	}
}

// fullDisk says what to do about a full disk. A command that fails on one may say
// anything, so the store's disk was checked when it ended; if it had removed by then what
// it had written, only its own message is left.
func (a *app) fullDisk(err error) string {
	var command *runner.CommandError
	switch {
	case isFull(err):
		return fullHint(a.lack(err), a.isElsewhere(err))
	case !errors.As(err, &command):
		return ""
	case command.Lack != hostfile.NoLack:
		return fullHint(command.Lack, false)
	case strings.Contains(strings.ToLower(command.Output), unix.ENOSPC.Error()):
		return "the command found a disk or a tmpfs full: if it was the store's disk, make room on it (sinter prune helps), or put the store elsewhere with SINTER_ROOT"
	}
	return ""
}

// lack is what was lacking on the disk that err is about; NoLack when there is enough
// again.
func (a *app) lack(err error) hostfile.Lack {
	var full *hostfile.FullError
	if errors.As(err, &full) {
		return full.Lack
	}
	if root, rootErr := a.root(); rootErr == nil && !a.isElsewhere(err) {
		return hostfile.LackOf(root)
	}
	var file *fs.PathError
	if errors.As(err, &file) {
		return hostfile.LackOf(filepath.Dir(file.Path))
	}
	return hostfile.NoLack
}

// fullHint says what to do about a disk that lacks something. elsewhere says that it
// is known not to be the store's.
func fullHint(lack hostfile.Lack, elsewhere bool) string {
	what := map[hostfile.Lack]string{
		hostfile.Bytes:  "the disk is full: make room on it",
		hostfile.Inodes: "the file system has no inodes left, however much space is free (see df -i): remove files on it",
		hostfile.NoLack: "the disk is full, or has no inodes left (see df and df -i): make room on it",
	}[lack]
	if elsewhere {
		return what + ", or choose another place"
	}
	return what + " (sinter prune helps when the store is there), or put the store elsewhere with SINTER_ROOT"
}

// isElsewhere reports whether err is about a file that is known not to be in the
// store.
func (a *app) isElsewhere(err error) bool {
	file, ok := errors.AsType[*fs.PathError](err)
	root, rootErr := a.root()
	if !ok || rootErr != nil || is[*hostfile.FullError](err) { // which is about the store
		return false
	}
	path, pathErr := filepath.Abs(file.Path)
	return pathErr == nil && path != root && !strings.HasPrefix(path, root+"/")
}

// isFull reports whether err is about a disk: of user namespaces the kernel says
// the same when there may be no more.
func isFull(err error) bool {
	return !is[*userns.RefusedError](err) && (errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT))
}
