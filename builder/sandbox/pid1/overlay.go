package pid1

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/layers/hint"
)

// overlay makes a mount of directories, lowest first, with an optional upper
// one. Directories are named by their open files: paths of any length and any
// characters work, and the command does not learn the builder's paths.
func (in *sandboxInit) overlay(lower []string, upper, work string, attr int) (int, error) {
	dirs, least := slices.Clone(lower), 1
	if upper == "" {
		least = 2
	}
	for len(dirs) < least {
		empty, err := in.newStageDir()
		if err != nil {
			return -1, err
		}
		dirs = append([]string{empty}, dirs...)
	}
	open := openDirs{}
	defer open.close()
	slices.Reverse(dirs)
	var names []string
	for _, d := range dirs {
		name, err := open.name(d)
		if err != nil {
			return -1, err
		}
		names = append(names, name)
	}
	options, err := in.overlayOptions(&open, upper, work)
	if err != nil {
		return -1, err
	}
	appended := make([]string, len(names), len(names)+len(options))
	for i, n := range names {
		appended[i] = "lowerdir+=" + n
	}
	fd, err := NewMount("overlay", attr, append(appended, options...)...)
	if errors.Is(err, unix.EINVAL) && strings.Contains(err.Error(), "lowerdir+") {
		// Before Linux 6.7.
		return in.oldOverlay(names, options, attr)
	}
	if err != nil && onOverlay(upper) {
		return -1, hint.Add(
			fmt.Errorf("%s is itself on an overlay file system, on which there can be no other: %w", upper, err),
			"keep the store elsewhere; in a container, in a volume",
		)
	}
	return fd, err
}

func onOverlay(dir string) bool {
	var st unix.Statfs_t
	return dir != "" && unix.Statfs(dir, &st) == nil && st.Type == unix.OVERLAYFS_SUPER_MAGIC
}

func (in *sandboxInit) overlayOptions(open *openDirs, upper, work string) ([]string, error) {
	// "?" because old kernels lack some; none changes what the command sees.
	options := []string{"?index=off"}
	if in.plan.UserNS {
		options = append(options, "userxattr")
	} else {
		options = append(options, "redirect_dir=nofollow", "metacopy=off")
	}
	if upper == "" {
		return options, nil
	}
	u, err := open.name(upper)
	if err != nil {
		return nil, err
	}
	w, err := open.name(work)
	if err != nil {
		return nil, err
	}
	// volatile: a build that is cut off throws the directory away, so nothing
	// of it needs to reach the disk when it is unmounted.
	return append(options, "upperdir="+u, "workdir="+w, "?volatile"), nil
}

// oldOverlay mounts by mount(2), whose options must fit into a page.
func (in *sandboxInit) oldOverlay(names, options []string, attr int) (int, error) {
	data := []string{"lowerdir=" + strings.Join(names, ":")}
	for _, o := range options {
		data = append(data, strings.TrimPrefix(o, "?"))
	}
	joined := strings.Join(data, ",")
	if len(joined) >= unix.Getpagesize() {
		return -1, fmt.Errorf("this kernel cannot stack %d layers: Linux 6.7 or later is needed", len(names))
	}
	target, err := in.newStageDir()
	if err != nil {
		return -1, err
	}
	if err := unix.Mount("overlay", target, "overlay", 0, joined); err != nil {
		return -1, fmt.Errorf("mounting overlay: %w", err)
	}
	dir, err := openPath(target)
	if err != nil {
		return -1, err
	}
	defer unix.Close(dir)
	mount, err := clone(dir)
	if err != nil {
		return -1, err
	}
	return mount, restrict(mount, uint64(attr))
}

// openDirs are directories held open while they are being mounted.
type openDirs []int

func (o *openDirs) name(path string) (string, error) {
	fd, err := openPath(path)
	if err != nil {
		return "", err
	}
	*o = append(*o, fd)
	return fdPath(fd), nil
}

func (o *openDirs) close() {
	for _, fd := range *o {
		unix.Close(fd)
	}
}
