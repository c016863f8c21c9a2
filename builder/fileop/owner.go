package fileop

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/moby/sys/user"

	"github.com/sinter-build/sinter/builder/source"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/parser"
)

// ids are the owner and the group of a file.
type ids struct{ uid, gid int }

// unknownName notes that a name given with --chown, or as USER, is not in the
// file that should tell its number. As in BuildKit that means root; but
// there it goes unsaid.
func (r *run) unknownName(kind, name, file string) {
	r.warnings = append(r.warnings, fmt.Sprintf("%s %q is not in %s: 0 is used; create the %s before, or give the number", kind, name, file, kind))
}

// owner finds the numbers that o stands for; nil when o is. A user alone
// brings a group: with a number the same, with a name that of passwd.
func (r *run) owner(ctx context.Context, o *parser.Owner) (*ids, error) {
	if o == nil {
		return nil, nil
	}
	var own ids
	if u := o.User; u != nil {
		own = ids{given(u.Number), given(u.Number)}
		if u.Name != "" {
			var err error
			if own, err = r.passwd(ctx, u); err != nil {
				return nil, err
			}
		}
	}
	if g := o.Group; g != nil {
		before := own.gid
		own.gid = given(g.Number)
		if g.Name != "" {
			gid, ok, err := r.group(ctx, g)
			if err != nil {
				return nil, err
			}
			if !ok {
				gid = before
			}
			own.gid = gid
		}
	}
	return &own, nil
}

func (r *run) passwd(ctx context.Context, id *parser.ID) (ids, error) {
	const file = "/etc/passwd"
	if id.Input < 0 {
		return ids{}, noNames("user", id.Name)
	}
	var found []user.User
	err := r.readNames(ctx, id.Input, file, func(f io.Reader) (err error) {
		found, err = user.ParsePasswdFilter(f, func(u user.User) bool { return u.Name == id.Name })
		return err
	})
	if err != nil {
		return ids{}, err
	}
	if len(found) == 0 {
		r.unknownName("user", id.Name, file)
		return ids{}, nil
	}
	own := ids{found[0].Uid, found[0].Gid}
	return own, errors.Join(checkID(own.uid, "user", id.Name, file), checkID(own.gid, "user", id.Name, file))
}

// maxID is the largest number of a user or group; the next one means none.
const maxID = math.MaxUint32 - 1

// given returns the number that files get. The one that means none leaves a new
// file as it was made: root's.
func given(n int) int {
	if n > maxID {
		return 0
	}
	return n
}

// checkID refuses a number that the kernel would take for another one.
func checkID(n int, kind, name, file string) error {
	if n >= 0 && n <= maxID {
		return nil
	}
	return fmt.Errorf("%s says %d of the %s %q: numbers go from 0 to %d", file, n, kind, name, maxID)
}

// group returns the number of a group; ok is false when nobody knows the name.
func (r *run) group(ctx context.Context, id *parser.ID) (gid int, ok bool, err error) {
	const file = "/etc/group"
	if id.Input < 0 {
		return 0, false, noNames("group", id.Name)
	}
	var found []user.Group
	err = r.readNames(ctx, id.Input, file, func(f io.Reader) (err error) {
		found, err = user.ParseGroupFilter(f, func(g user.Group) bool { return g.Name == id.Name })
		return err
	})
	if err != nil {
		return 0, false, err
	}
	if len(found) == 0 {
		r.unknownName("group", id.Name, file)
		return 0, false, nil
	}
	return found[0].Gid, true, checkID(found[0].Gid, "group", id.Name, file)
}

// maxNames is how long a passwd or group file may be, in bytes.
const maxNames = 10 << 20

// readNames reads a file of the file system that the index stands for. That it
// is missing is the same as that it is empty.
func (r *run) readNames(ctx context.Context, input int, file string, read func(io.Reader) error) error {
	var files source.FS = r.from(input).FS
	at, err := files.Resolve(file[1:], true)
	if err != nil {
		if missing(err) {
			return nil
		}
		return err
	}
	e, ok, err := files.Lookup(at)
	if err != nil || !ok {
		return err
	}
	if e.Kind != layers.File || e.Size > maxNames {
		return fmt.Errorf("%s is not a regular file of at most %d bytes", file, maxNames)
	}
	f, err := files.Open(ctx, e)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := read(f); err != nil {
		return fmt.Errorf("reading %s: %w", file, err)
	}
	return nil
}
