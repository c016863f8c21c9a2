package parser

import (
	"fmt"
	"time"

	"github.com/moby/buildkit/solver/pb"
)

// fileOp translates a list of file actions. What these make at the epoch, such as
// a WORKDIR, gets no time: outputs give it the epoch, and with another one the step
// is the same.
func fileOp(f *pb.FileOp, inputs int, epoch *time.Time) (FileOp, error) {
	timestamp := func(ns int64) *int64 {
		if ns == -1 || epoch != nil && ns == epoch.UnixNano() {
			return nil
		}
		return &ns
	}
	actions := make([]FileAction, len(f.Actions))
	for i, pa := range f.Actions {
		a := FileAction{Input: int(pa.Input), Secondary: -1, Output: int(pa.Output)}
		var err error
		switch pt := pa.Action.(type) {
		case *pb.FileAction_Copy:
			a.Secondary = int(pa.SecondaryInput)
			a.Action = copyAction(pt.Copy, timestamp(pt.Copy.Timestamp))
		case *pb.FileAction_Mkdir:
			p := pt.Mkdir
			a.Action = Mkdir{
				Path: p.Path, Mode: uint32(p.Mode), MakeParents: p.MakeParents,
				Owner: owner(p.Owner), Timestamp: timestamp(p.Timestamp),
			}
		case *pb.FileAction_Mkfile:
			p := pt.Mkfile
			a.Action = Mkfile{
				Path: p.Path, Mode: uint32(p.Mode), Data: p.Data,
				Owner: owner(p.Owner), Timestamp: timestamp(p.Timestamp),
			}
		case *pb.FileAction_Symlink:
			p := pt.Symlink
			a.Action = MkSymlink{
				Old: p.Oldpath, New: p.Newpath,
				Owner: owner(p.Owner), Timestamp: timestamp(p.Timestamp),
			}
		case *pb.FileAction_Rm:
			p := pt.Rm
			a.Action = Remove{Path: p.Path, AllowNotFound: p.AllowNotFound, AllowWildcard: p.AllowWildcard}
		default:
			err = fmt.Errorf("a file action of an unknown kind (%T)", pa.Action)
		}
		for _, in := range []int{a.Input, a.Secondary} {
			if in < -1 || in >= inputs+i {
				err = fmt.Errorf("input %d of %d, and %d earlier actions", in, inputs, i)
			}
		}
		if err != nil {
			return FileOp{}, fmt.Errorf("file action %d: %w", i, err)
		}
		actions[i] = a
	}
	return FileOp{Actions: actions}, nil
}

func copyAction(p *pb.FileActionCopy, timestamp *int64) Copy {
	mode := p.ModeStr
	if mode == "" && p.Mode >= 0 {
		mode = fmt.Sprintf("%04o", p.Mode)
	}
	return Copy{
		Src: p.Src, Dest: p.Dest, Owner: owner(p.Owner), Mode: mode,
		FollowSymlinks:     p.FollowSymlink,
		DirContents:        p.DirCopyContents,
		Unpack:             p.AttemptUnpackDockerCompatibility,
		CreateDestPath:     p.CreateDestPath,
		AllowWildcard:      p.AllowWildcard,
		AllowEmptyWildcard: p.AllowEmptyWildcard,
		AlwaysReplace:      p.AlwaysReplaceExistingDestPaths,
		Include:            p.IncludePatterns,
		Exclude:            p.ExcludePatterns,
		RequiredPaths:      p.RequiredPaths,
		Timestamp:          timestamp,
	}
}

func owner(p *pb.ChownOpt) *Owner {
	o := Owner{User: id(p.GetUser()), Group: id(p.GetGroup())}
	if o.User == nil && o.Group == nil {
		return nil
	}
	return &o
}

func id(p *pb.UserOpt) *ID {
	switch u := p.GetUser().(type) {
	case *pb.UserOpt_ByID:
		return &ID{Number: int(u.ByID), Input: -1}
	case *pb.UserOpt_ByName:
		return &ID{Name: u.ByName.GetName(), Input: int(u.ByName.GetInput())}
	}
	return nil
}
