package parser

import (
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/dfgitutil"
)

// IsRemote reports whether a context is the address of a repository or of a
// download rather than a path.
func IsRemote(context string) bool {
	if IsHTTP(context) {
		return true
	}
	// With a mistake in it, too: the frontend says what is wrong.
	_, isGit, _ := dfgitutil.ParseGitRef(context)
	return isGit
}

// IsHTTP reports whether s is a web address.
func IsHTTP(s string) bool {
	return strings.HasPrefix(s, "http://") || strings.HasPrefix(s, "https://")
}

// remoteContext spells the address of a named context as the frontend wants it:
// unlike the main context it must have a scheme.
func remoteContext(value string) string {
	rest, ok := strings.CutPrefix(value, "github.com/")
	if !ok {
		return value
	}
	path, options := rest, ""
	if i := strings.IndexAny(rest, "#?"); i >= 0 {
		path, options = rest[:i], rest[i:]
	}
	return "https://github.com/" + strings.TrimSuffix(path, ".git") + ".git" + options
}
