package parser

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	fstypes "github.com/tonistiigi/fsutil/types"
)

// solved is what the frontend holds in place of a solved definition. Its files
// are read when they are asked for, which are few: the Dockerfile and ignore
// files.
type solved struct {
	frontend *frontend
	def      *pb.Definition
}

// ToState implements client.Reference.
func (s *solved) ToState() (llb.State, error) {
	op, err := llb.NewDefinitionOp(s.def)
	if err != nil {
		return llb.State{}, err
	}
	return llb.NewState(op), nil
}

// Evaluate implements client.Reference.
func (s *solved) Evaluate(context.Context) error { return nil }

// ReadFile implements client.Reference.
func (s *solved) ReadFile(ctx context.Context, req client.ReadRequest) ([]byte, error) {
	data, err := s.read(ctx, relative(req.Filename))
	if err != nil {
		return nil, err
	}
	if r := req.Range; r != nil {
		data = data[min(max(r.Offset, 0), len(data)):]
		if r.Length > 0 {
			data = data[:min(r.Length, len(data))]
		}
	}
	return data, nil
}

func (s *solved) read(ctx context.Context, file string) ([]byte, error) {
	f := s.frontend
	if name, ok := s.local(); ok {
		return f.files.get("local "+name+"\x00"+file, func() ([]byte, error) {
			return f.resolver.ReadLocal(ctx, name, file)
		})
	}
	t := newTranslation()
	in, err := t.add(s.def)
	if err != nil {
		return nil, err
	}
	if in.Node == nil {
		return nil, &fs.PathError{Op: "open", Path: file, Err: fs.ErrNotExist}
	}
	return f.files.get("node "+string(in.Node.ID)+"\x00"+file, func() ([]byte, error) {
		return f.resolver.ReadNode(ctx, t.graph(), in, file)
	})
}

// StatFile implements client.Reference.
func (s *solved) StatFile(ctx context.Context, req client.StatRequest) (*fstypes.Stat, error) {
	name, ok := s.local()
	if !ok {
		return nil, fmt.Errorf("describing %s in a remote context: %w", req.Path, errors.ErrUnsupported)
	}
	info, err := s.frontend.resolver.StatLocal(ctx, name, relative(req.Path))
	if err != nil {
		return nil, err
	}
	return stat(info), nil
}

// ReadDir implements client.Reference.
func (s *solved) ReadDir(ctx context.Context, req client.ReadDirRequest) ([]*fstypes.Stat, error) {
	name, ok := s.local()
	if !ok {
		return nil, fmt.Errorf("listing %s in a remote context: %w", req.Path, errors.ErrUnsupported)
	}
	infos, err := s.frontend.resolver.ReadDirLocal(ctx, name, relative(req.Path), req.IncludePattern)
	if err != nil {
		return nil, err
	}
	stats := make([]*fstypes.Stat, len(infos))
	for i, info := range infos {
		stats[i] = stat(info)
	}
	return stats, nil
}

// local is the name of the local directory that the definition is, if it is.
func (s *solved) local() (string, bool) {
	if s.def == nil || len(s.def.Def) != 2 { // the source, and the end that points to it
		return "", false
	}
	var op pb.Op
	if err := op.UnmarshalVT(s.def.Def[0]); err != nil || op.GetSource() == nil {
		return "", false
	}
	return strings.CutPrefix(op.GetSource().Identifier, "local://")
}

// relative is p below the root, without a leading slash; "." is the root.
func relative(p string) string {
	if p = path.Clean("/" + p); p == "/" {
		return "."
	}
	return p[1:]
}

func stat(info fs.FileInfo) *fstypes.Stat {
	return &fstypes.Stat{
		Path:    info.Name(),
		Mode:    uint32(info.Mode()),
		Size:    info.Size(),
		ModTime: info.ModTime().UnixNano(),
	}
}
