package parser

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
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
	// local is the name of the local directory that def stands for; "" for other sources.
	local string
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

// localFile begins what the frontend's questions for files of directories are
// remembered under: NAME, a zero byte and the file's path follow.
const localFile = "local "

// ReadFile implements client.Reference.
func (s *solved) ReadFile(ctx context.Context, req client.ReadRequest) ([]byte, error) {
	file, r := relative(req.Filename), client.FileRange{}
	if req.Range != nil {
		r = *req.Range
	}
	f := s.frontend
	if s.local != "" {
		data, err := f.files.get(localFile+s.local+"\x00"+file, func() ([]byte, error) {
			return f.resolver.ReadLocal(ctx, s.local, file)
		})
		if err != nil {
			f.noteIgnore(file, err)
			return nil, err
		}
		return part(data, r), nil
	}
	files, id, err := s.open(ctx)
	if err != nil {
		return nil, err
	}
	return f.files.get(fmt.Sprintf("node %s\x00%s\x00%+v", id, file, r), func() ([]byte, error) {
		return readPart(files, file, r)
	})
}

// part is the range r of data; a length of 0 means up to the end.
func part(data []byte, r client.FileRange) []byte {
	data = data[min(max(r.Offset, 0), len(data)):]
	if r.Length > 0 {
		data = data[:min(r.Length, len(data))]
	}
	return data
}

// maxRead is the most that is read of a file of a git or http context, in bytes.
const maxRead = 16 << 20

// readPart reads no more of a file, which may be large, than the range r.
func readPart(files fs.FS, name string, r client.FileRange) ([]byte, error) {
	f, err := files.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if _, err := io.CopyN(io.Discard, f, int64(r.Offset)); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if r == archiveHead {
		return readHead(f, r.Length)
	}
	if r.Length > 0 {
		return io.ReadAll(io.LimitReader(f, int64(r.Length)))
	}
	data, err := io.ReadAll(io.LimitReader(f, maxRead+1))
	if err == nil && len(data) > maxRead {
		err = &fs.PathError{Op: "read", Path: name, Err: fmt.Errorf("it has more than %d bytes", maxRead)}
	}
	return data, err
}

// archiveHead is the range by which the frontend tells an archive from a Dockerfile.
var archiveHead = client.FileRange{Length: 1024}

// maxHead is the most that is read of a tar to find its first member, in bytes.
const maxHead = 8 << 20

// readHead returns the first n bytes of r. Of a tar it returns all bytes up to its
// first member instead: extended headers and long names come before that, and the
// frontend takes only a complete header for an archive.
func readHead(r io.Reader, n int) ([]byte, error) {
	var head bytes.Buffer
	if _, err := tar.NewReader(io.TeeReader(io.LimitReader(r, maxHead), &head)).Next(); err == nil {
		return head.Bytes(), nil
	}
	if missing := n - head.Len(); missing > 0 {
		if _, err := io.CopyN(&head, r, int64(missing)); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
	}
	return head.Bytes()[:min(n, head.Len())], nil
}

// open returns the files of a definition that is not local, and the ID of the
// node that yields them.
func (s *solved) open(ctx context.Context) (fs.FS, string, error) {
	t := newTranslation(s.frontend.policy)
	in, err := t.add(s.def)
	if err == nil {
		err = t.problem(nil)
	}
	if err != nil {
		return nil, "", err
	}
	if in.Node == nil {
		return nothing{}, "", nil
	}
	id := string(in.Node.ID)
	files, err := s.frontend.trees.get(id, func() (fs.FS, error) {
		g := t.graph()
		s.frontend.found.addOpened(g)
		return s.frontend.resolver.OpenNode(ctx, g, in)
	})
	return files, id, err
}

// nothing is an empty file system.
type nothing struct{}

// Open implements fs.FS.
func (nothing) Open(name string) (fs.File, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

// StatFile implements client.Reference.
func (s *solved) StatFile(ctx context.Context, req client.StatRequest) (*fstypes.Stat, error) {
	var info fs.FileInfo
	if s.local != "" {
		var err error
		if info, err = s.frontend.resolver.StatLocal(ctx, s.local, relative(req.Path)); err != nil {
			return nil, err
		}
		return stat(info), nil
	}
	files, _, err := s.open(ctx)
	if err != nil {
		return nil, err
	}
	if info, err = fs.Stat(files, relative(req.Path)); err != nil {
		return nil, err
	}
	return stat(info), nil
}

// ReadDir implements client.Reference.
func (s *solved) ReadDir(ctx context.Context, req client.ReadDirRequest) ([]*fstypes.Stat, error) {
	var infos []fs.FileInfo
	var err error
	if s.local != "" {
		infos, err = s.frontend.resolver.ReadDirLocal(ctx, s.local, relative(req.Path), req.IncludePattern)
	} else {
		infos, err = s.list(ctx, relative(req.Path), req.IncludePattern)
	}
	if err != nil {
		return nil, err
	}
	stats := make([]*fstypes.Stat, len(infos))
	for i, info := range infos {
		stats[i] = stat(info)
	}
	return stats, nil
}

// list is a directory of a definition that is not local.
func (s *solved) list(ctx context.Context, dir, pattern string) ([]fs.FileInfo, error) {
	files, _, err := s.open(ctx)
	if err != nil {
		return nil, err
	}
	entries, err := fs.ReadDir(files, dir)
	if err != nil {
		return nil, err
	}
	var infos []fs.FileInfo
	for _, e := range entries {
		if ok, err := path.Match(pattern, e.Name()); pattern != "" && (err != nil || !ok) {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return nil, err
		}
		infos = append(infos, info)
	}
	return infos, nil
}

// findLocal sets the name of the local directory that the definition is, if it is.
func (s *solved) findLocal() error {
	if s.def == nil || len(s.def.Def) != 2 { // the source, and the end that points to it
		return nil
	}
	var op pb.Op
	if err := op.UnmarshalVT(s.def.Def[0]); err != nil || op.GetSource() == nil {
		return nil
	}
	src, err := s.frontend.policy.apply(op.GetSource())
	if err != nil {
		return err
	}
	if name, ok := strings.CutPrefix(src.Identifier, "local://"); ok {
		s.local = name
	}
	return nil
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
