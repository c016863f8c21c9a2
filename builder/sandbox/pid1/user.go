package pid1

import (
	"errors"
	"fmt"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/layers/hint"
)

// maxUserFile bounds how much of /etc/passwd and /etc/group is read, in bytes.
const maxUserFile = 10 << 20

// lookupUser finds the command's user in the root, by BuildKit's rules: numbers
// need no entry, "uid:gid" brings no further groups. The home directory is
// found later.
func (in *sandboxInit) lookupUser() (*user.ExecUser, error) {
	if uid, gid, ok := numericUser(in.plan.User); ok {
		return &user.ExecUser{Uid: uid, Gid: gid, Sgids: []int{gid}}, nil
	}
	name := in.plan.User
	if name == "" {
		name = "0"
	}
	u, err := findUser(in.root, name, &user.ExecUser{})
	if err != nil {
		if in.plan.User == "" {
			return &user.ExecUser{Sgids: []int{0}}, nil
		}
		return nil, hint.Add(
			fmt.Errorf("user %q: %w", in.plan.User, err),
			"USER names are looked up in the image's own /etc/passwd and /etc/group: make the user or group in a RUN before, or give its number",
		)
	}
	if !slices.Contains(u.Sgids, u.Gid) {
		u.Sgids = append([]int{u.Gid}, u.Sgids...)
	}
	return u, checkIDs(u, in.plan.User)
}

// homeOf returns a user's home directory. As with runc, it is found by number
// and in the files that the command sees, mounts included; a user without an
// entry has "/", one whose entry names none has "".
func homeOf(root, uid int) (string, error) {
	// By no name is by the number that is given otherwise.
	u, err := findUser(root, "", &user.ExecUser{Uid: uid, Home: "/"})
	if err != nil {
		return "", fmt.Errorf("looking up the home directory of user %d: %w", uid, err)
	}
	return u.Home, nil
}

// findUser looks up a user, by name or number, in a root's files. What they do
// not say of it is as in otherwise.
func findUser(root int, name string, otherwise *user.ExecUser) (*user.ExecUser, error) {
	passwd, err := userFile(root, "/etc/passwd")
	if err != nil {
		return nil, err
	}
	group, err := userFile(root, "/etc/group")
	if err != nil {
		return nil, err
	}
	return user.GetExecUser(userAndGroup(name), otherwise, strings.NewReader(passwd), strings.NewReader(group))
}

// userAndGroup leaves out what follows the group in "user:group:more", as BuildKit
// does.
func userAndGroup(name string) string {
	fields := strings.SplitN(name, ":", 3)
	return strings.Join(fields[:min(len(fields), 2)], ":")
}

// maxID is the largest number of a user or group; the next one means none.
const maxID = math.MaxUint32 - 1

// checkIDs refuses numbers that the kernel would take for others, perhaps for
// root's.
func checkIDs(u *user.ExecUser, name string) error {
	for _, id := range append([]int{u.Uid, u.Gid}, u.Sgids...) {
		if id < 0 || id > maxID {
			return hint.Add(
				fmt.Errorf("user %q: the image's /etc/passwd and /etc/group give it the number %d", name, id),
				fmt.Sprintf("numbers of users and groups go from 0 to %d: correct the files in a step before", maxID),
			)
		}
	}
	return nil
}

// numericUser reads "uid:gid".
func numericUser(s string) (uid, gid int, ok bool) {
	u, g, ok := strings.Cut(s, ":")
	if !ok {
		return 0, 0, false
	}
	uid, err := parseID(u)
	if err != nil {
		return 0, 0, false
	}
	gid, err = parseID(g)
	return uid, gid, err == nil
}

func parseID(s string) (int, error) {
	if s == "root" {
		return 0, nil
	}
	id, err := strconv.ParseUint(s, 10, 32)
	if err == nil && id > maxID {
		err = strconv.ErrRange
	}
	return int(id), err
}

// userFile reads a file of a root; a missing one, or one that is not a regular file,
// counts as empty, but a directory is an error, as with runc.
func userFile(root int, name string) (string, error) {
	data, err := readBelow(root, name, maxUserFile+1)
	for _, none := range []error{errNotRegular, unix.ENOENT, unix.ENOTDIR, unix.ELOOP, unix.EXDEV, unix.EACCES, unix.ENAMETOOLONG, unix.ENXIO} {
		if errors.Is(err, none) {
			return "", nil
		}
	}
	if err != nil {
		return "", fmt.Errorf("reading %s: %w", name, err)
	}
	if len(data) > maxUserFile {
		return "", fmt.Errorf("reading %s: it is larger than %d bytes", name, maxUserFile)
	}
	return string(data), nil
}

func (in *sandboxInit) cwd() string { return path.Clean("/" + in.plan.Cwd) }

// openCwd opens the working directory. It is made where it is missing: a mount may
// hide the one that was made in the root.
func (in *sandboxInit) openCwd() (int, error) {
	fd, err := in.points.find(in.cwd(), true, 0)
	if err == nil {
		return fd, nil
	}
	reason := fmt.Errorf("making working directory %s: %w", in.cwd(), err)
	if errors.Is(err, unix.ELOOP) || strings.HasPrefix(in.cwd(), "/proc/") {
		return -1, hint.Add(
			reason,
			"nothing can be made in /proc, and its symlinks that stand for open files, such as /proc/self/fd/3 and /proc/self/cwd, are not followed; other symlinks must not form a loop",
		)
	}
	return -1, reason
}

// makeCwd makes a missing working directory in the root, for the user. It stays
// in the layer.
func (in *sandboxInit) makeCwd(u *user.ExecUser) error {
	made := in.points.made
	fd, err := in.openCwd()
	if err != nil {
		return err
	}
	unix.Close(fd)
	for _, dir := range in.points.made[len(made):] {
		fd, err := openBelow(in.root, dir, unix.O_PATH|unix.O_NOFOLLOW)
		if err != nil {
			return fmt.Errorf("making working directory %s: %w", dir, err)
		}
		err = unix.Fchownat(fd, "", u.Uid, u.Gid, unix.AT_EMPTY_PATH)
		unix.Close(fd)
		if err != nil && !in.plan.Single {
			return fmt.Errorf("giving working directory %s to the user: %w", dir, err)
		}
	}
	in.points.made = made
	return nil
}
