package inside

import (
	"fmt"
	"io"
	"math"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"
)

// maxUserFile bounds how much of /etc/passwd and /etc/group is read, in bytes.
const maxUserFile = 10 << 20

// lookupUser finds the command's user in the root, by BuildKit's rules: numbers
// need no entry, "uid:gid" brings no further groups.
func (in *sandboxInit) lookupUser() (*user.ExecUser, error) {
	name := in.plan.User
	if name == "" {
		name = "0"
	}
	// An entry without a home directory sets an empty HOME.
	unlisted := &user.ExecUser{Home: "/"}
	passwd, err := in.userFile("/etc/passwd")
	if err != nil {
		return nil, err
	}
	group, err := in.userFile("/etc/group")
	if err != nil {
		return nil, err
	}
	if uid, gid, ok := numericUser(name); ok {
		u := &user.ExecUser{Uid: uid, Gid: gid, Sgids: []int{gid}}
		found, err := user.GetExecUser(strconv.Itoa(uid), unlisted, strings.NewReader(passwd), nil)
		if err != nil {
			found = unlisted
		}
		u.Home = found.Home
		return u, nil
	}
	u, err := user.GetExecUser(name, unlisted, strings.NewReader(passwd), strings.NewReader(group))
	if err != nil {
		if in.plan.User == "" {
			return &user.ExecUser{Sgids: []int{0}, Home: "/"}, nil
		}
		return nil, &HintError{
			Err:  fmt.Errorf("user %q: %w", in.plan.User, err),
			Hint: "USER names are looked up in the image's own /etc/passwd and /etc/group",
		}
	}
	if !slices.Contains(u.Sgids, u.Gid) {
		u.Sgids = append([]int{u.Gid}, u.Sgids...)
	}
	return u, checkIDs(u, in.plan.User)
}

// maxID is the largest number of a user or group; the next one means none.
const maxID = math.MaxUint32 - 1

// checkIDs refuses numbers that the kernel would take for others, perhaps for
// root's.
func checkIDs(u *user.ExecUser, name string) error {
	for _, id := range append([]int{u.Uid, u.Gid}, u.Sgids...) {
		if id < 0 || id > maxID {
			return &HintError{
				Err:  fmt.Errorf("user %q: the image's /etc/passwd and /etc/group give it the number %d", name, id),
				Hint: fmt.Sprintf("numbers of users and groups go from 0 to %d: correct the files in a step before", maxID),
			}
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

// userFile reads a file of the root; a missing one, or one that is no file, is
// empty, but a directory is an error, as with runc.
func (in *sandboxInit) userFile(name string) (string, error) {
	// Not blocking: what the image has there may be a pipe.
	fd, err := openBelow(in.root, name, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return "", nil
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() && !info.IsDir() {
		return "", nil
	}
	data, err := io.ReadAll(io.LimitReader(f, maxUserFile+1))
	if err != nil {
		return "", fmt.Errorf("reading the users of the image: %w", err)
	}
	if len(data) > maxUserFile {
		return "", fmt.Errorf("reading %s: it is larger than %d bytes", name, maxUserFile)
	}
	return string(data), nil
}

// makeCwd makes a missing working directory in the root, for the user. It stays
// in the layer.
func (in *sandboxInit) makeCwd(u *user.ExecUser) error {
	cwd := path.Clean("/" + in.plan.Cwd)
	made := in.points.made
	fd, err := in.points.find(cwd, true, 0)
	if err != nil {
		return fmt.Errorf("making working directory %s: %w", cwd, err)
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
