package layers

import (
	"fmt"
	"strings"
	"syscall"
)

// maxSymlinks is how many symlinks a path may lead through, as in BuildKit.
const maxSymlinks = 255

// Resolve follows the symlinks in name as a process does whose root directory is that
// of what lookup sees: an absolute target begins there, and ".." does not lead out of
// it. The last component is followed only if followLast. What does not exist stays as it
// is. A component below something that is not a directory is an error
// (syscall.ENOTDIR), as are more than 255 symlinks (syscall.ELOOP).
func Resolve(lookup func(path string) (Entry, bool, error), name string, followLast bool) (string, error) {
	name = strings.Trim(name, "/")
	clean := IsClean(name)
	at, rest, links := "", name, 0
	for rest != "" {
		next, after, more := strings.Cut(rest, "/")
		rest = after
		switch next {
		case "", ".":
			continue
		case "..":
			at = Parent(at)
			continue
		}
		p := ""
		if clean && links == 0 { // name begins with it: a deep path costs no string for each directory
			p = name[:len(at)+min(len(at), 1)+len(next)]
		} else {
			p = Child(at, next)
		}
		e, ok, err := lookup(p)
		switch {
		case err != nil:
			return "", err
		case ok && e.Kind == Symlink && (followLast || more):
			if links++; links > maxSymlinks {
				return "", fmt.Errorf("following the links of /%s: %w", name, syscall.ELOOP)
			}
			if strings.HasPrefix(e.Target, "/") {
				at = ""
			}
			rest = e.Target
			if more {
				rest += "/" + after
			}
		case ok && e.Kind != Dir && more:
			return "", fmt.Errorf("/%s: %w", p, syscall.ENOTDIR)
		default:
			at = p
		}
	}
	return at, nil
}

// Parent returns the directory that holds p; of the root, the root.
func Parent(p string) string {
	if i := strings.LastIndexByte(p, '/'); i >= 0 {
		return p[:i]
	}
	return ""
}

// Child returns the path of what is called name in the directory dir.
func Child(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}
