package files

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/sinter-build/sinter/builder/sandbox/userns"
	"github.com/sinter-build/sinter/layers"
)

// exposed collects the files of a local output that give rights to whoever reaches
// them: in an image they act inside a container, in a directory on this machine.
type exposed struct {
	mu    sync.Mutex
	paths []string
}

func (x *exposed) add(e layers.Entry) {
	if !givesRights(e) {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.paths = append(x.paths, e.Path)
}

// givesRights reports whether others who reach e get rights by it: those of its
// owner or group, capabilities (which a user namespace keeps to itself), or a
// device.
func givesRights(e layers.Entry) bool {
	const setID, execute, use = 0o6000, 0o111, 0o006
	switch e.Kind {
	case layers.File:
		capable := e.Xattrs["security.capability"] != "" && os.Geteuid() == 0 && !userns.Inside()
		return e.Mode&execute != 0 && (e.Mode&setID != 0 || capable)
	case layers.CharDevice, layers.BlockDevice:
		return e.Mode&use != 0
	}
	return false
}

// shownExposed is how many of the files are named.
const shownExposed = 3

// warn tells once of those files that others can reach below dir.
func (x *exposed) warn(dir string, tell func(text string)) {
	paths := slices.DeleteFunc(x.paths, func(p string) bool {
		return !openToOthers(filepath.Dir(filepath.Join(dir, p)))
	})
	if len(paths) == 0 {
		return
	}
	slices.Sort(paths)
	shown, more := paths[:min(len(paths), shownExposed)], ""
	if n := len(paths) - len(shown); n > 0 {
		more = fmt.Sprintf(" and %d more", n)
	}
	files := "1 file in %s gives"
	if len(paths) != 1 {
		files = strconv.Itoa(len(paths)) + " files in %s give"
	}
	tell(fmt.Sprintf(
		files+" other users rights on this machine (set-user-ID and set-group-ID programs, capabilities, devices): /%s%s; chmod 700 the directory, or write a tar with type=tar",
		dir, strings.Join(shown, ", /"), more))
}

// openToOthers reports whether others can enter dir: it and all above it are
// searchable by everybody.
func openToOthers(dir string) bool {
	dir, err := filepath.Abs(dir)
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	for err == nil {
		info, statErr := os.Stat(dir)
		if statErr != nil || info.Mode()&0o001 == 0 {
			return false
		}
		if dir == "/" {
			return true
		}
		dir = filepath.Dir(dir)
	}
	return false
}
