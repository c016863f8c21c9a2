package parser

import (
	"reflect"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// translateState translates a definition that no Dockerfile makes.
func translateState(t *testing.T, s llb.State) (*Graph, Input) {
	t.Helper()
	def, err := s.Marshal(t.Context(), llb.Platform(ocispec.Platform{OS: "linux", Architecture: "amd64"}))
	if err != nil {
		t.Fatal(err)
	}
	tr := newTranslation(nil)
	end, err := tr.add(def.ToPB())
	if err != nil {
		t.Fatal(err)
	}
	return tr.graph(), end
}

func TestTranslateDiff(t *testing.T) {
	a, b := llb.Image("a"), llb.Image("b")
	g, end := translateState(t, llb.Diff(a, b))
	if end.Node.Op != (Diff{HasLower: true, HasUpper: true}) || len(end.Node.Inputs) != 2 || len(g.Nodes) != 3 {
		t.Errorf("got %+v", end.Node)
	}
	if end.Node.Name != "diff (docker-image://docker.io/library/a:latest) -> (docker-image://docker.io/library/b:latest)" {
		t.Errorf("name %q", end.Node.Name)
	}
	_, end = translateState(t, llb.Diff(a, llb.Scratch()))
	if end.Node.Op != (Diff{HasLower: true}) || end.Node.Inputs[1].Node != nil || !strings.HasSuffix(end.Node.Name, "-> scratch") {
		t.Errorf("got %+v", end.Node)
	}
}

func TestTranslateFileActions(t *testing.T) {
	at := time.Unix(7, 0)
	s := llb.Scratch().File(
		llb.Mkdir("/d", 0o750, llb.WithParents(true), llb.WithCreatedTime(at)).
			Mkfile("/d/f", 0o640, []byte("text"), llb.WithUIDGID(1, 2)).
			Symlink("/d/f", "/d/l").
			Rm("/d/g*", llb.WithAllowNotFound(true), llb.WithAllowWildcard(true)),
	)
	_, end := translateState(t, s)
	ns := at.UnixNano()
	want := FileOp{Actions: []FileAction{
		{-1, -1, -1, Mkdir{Path: "/d", Mode: 0o750, MakeParents: true, Timestamp: &ns}},
		{0, -1, -1, Mkfile{Path: "/d/f", Mode: 0o640, Data: []byte("text"), Owner: &Owner{&ID{Number: 1, Input: -1}, &ID{Number: 2, Input: -1}}}},
		{1, -1, -1, MkSymlink{Old: "/d/f", New: "/d/l"}},
		{2, -1, 0, Remove{Path: "/d/g*", AllowNotFound: true, AllowWildcard: true}},
	}}
	if !reflect.DeepEqual(end.Node.Op, want) {
		t.Errorf("got %+v\nwant %+v", end.Node.Op, want)
	}
	if end.Node.Name != "mkdir /d, mkfile /d/f, symlink /d/l -> /d/f, rm /d/g*" {
		t.Errorf("name %q", end.Node.Name)
	}
}

func TestTranslateHTTP(t *testing.T) {
	s := llb.HTTP("https://example.com/f", llb.Chmod(0o755), llb.Chown(3, 4), llb.Filename("g"),
		llb.AuthHeaderSecret("s"), llb.Header(llb.HTTPHeader{Accept: "text/plain"}))
	_, end := translateState(t, s)
	perm, uid, gid := uint32(0o755), 3, 4
	want := HTTP{
		URL: "https://example.com/f", Filename: "g", Perm: &perm, UID: &uid, GID: &gid, AuthHeaderSecret: "s",
		Attrs: map[string]string{"http.header.accept": "text/plain"},
	}
	if !reflect.DeepEqual(end.Node.Op, want) || end.Node.Name != "https://example.com/f" {
		t.Errorf("got %q %+v", end.Node.Name, end.Node.Op)
	}
}

func TestTranslateNames(t *testing.T) {
	for want, s := range map[string]llb.State{
		"local://x":              llb.Local("x", llb.SessionID("s"), llb.IncludePatterns([]string{"a"})),
		"oci-layout://a@" + zero: llb.OCILayout("a@"+zero, llb.OCILayerLimit(2)),
		"git://example.com/r":    llb.Git("https://example.com/r", ""),
		"echo a":                 llb.Image("a").Run(llb.Args([]string{"echo", "a"})).Root(),
		"copy /a /b":             llb.Image("a").File(llb.Copy(llb.Image("b"), "/a", "/b")),
		"merge (docker-image://docker.io/library/a:latest, docker-image://docker.io/library/b:latest)": llb.Merge([]llb.State{llb.Image("a"), llb.Image("b")}),
	} {
		if _, end := translateState(t, s); end.Node.Name != want {
			t.Errorf("name %q, want %q", end.Node.Name, want)
		}
	}
}

const zero = "sha256:0000000000000000000000000000000000000000000000000000000000000000"

// TestTranslateBroken: what cannot be understood is an error, not a guess.
func TestTranslateBroken(t *testing.T) {
	end := &pb.Op{Inputs: []*pb.Input{{Digest: zero}}}
	exec := func(change func(*pb.ExecOp)) *pb.Op {
		e := &pb.ExecOp{Meta: &pb.Meta{Args: []string{"x"}}, Mounts: []*pb.Mount{{Dest: "/", Input: -1}}}
		change(e)
		return &pb.Op{Op: &pb.Op_Exec{Exec: e}}
	}
	source := func(id string, attrs map[string]string) *pb.Op {
		return &pb.Op{Op: &pb.Op_Source{Source: &pb.SourceOp{Identifier: id, Attrs: attrs}}}
	}
	for want, op := range map[string]*pb.Op{
		"comes after its use":             end,
		"an operation of an unknown kind": {Op: &pb.Op_Build{Build: &pb.BuildOp{}}},
		"without arguments":               exec(func(e *pb.ExecOp) { e.Meta = nil }),
		"unknown network mode":            exec(func(e *pb.ExecOp) { e.Network = 9 }),
		"unknown mount type":              exec(func(e *pb.ExecOp) { e.Mounts[0].MountType = 9 }),
		"input 0 of 0":                    exec(func(e *pb.ExecOp) { e.Mounts[0].Input = 0 }),
		"a source of unknown kind":        source("blob://x", nil),
		"without a scheme":                source("x", nil),
		"attribute http.uid":              source("https://x", map[string]string{"http.uid": "x"}),
		"attribute http.perm":             source("https://x", map[string]string{"http.perm": "9x"}),
		"attribute local.followpaths":     source("local://x", map[string]string{"local.followpaths": "["}),
		"file action 0: input 3":          {Op: &pb.Op_File{File: &pb.FileOp{Actions: []*pb.FileAction{{Input: 3, Action: &pb.FileAction_Rm{Rm: &pb.FileActionRm{}}}}}}},
		"a file action of an unknown":     {Op: &pb.Op_File{File: &pb.FileOp{Actions: []*pb.FileAction{{Input: -1, SecondaryInput: -1}}}}},
		"merge of input 1 of 0":           {Op: &pb.Op_Merge{Merge: &pb.MergeOp{Inputs: []*pb.MergeInput{{Input: 1}}}}},
		"diff of input 1 of 0":            {Op: &pb.Op_Diff{Diff: &pb.DiffOp{Lower: &pb.LowerDiffInput{Input: 1}, Upper: &pb.UpperDiffInput{Input: -1}}}},
	} {
		data, err := op.MarshalVT()
		if err != nil {
			t.Fatal(err)
		}
		last, err := end.MarshalVT()
		if err != nil {
			t.Fatal(err)
		}
		_, err = newTranslation(nil).add(&pb.Definition{Def: [][]byte{data, last}})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
}

func TestFrontendNames(t *testing.T) {
	for ref, want := range map[string]bool{
		"docker/dockerfile:1": true, "docker/dockerfile-upstream:master-labs": true, "": true,
		"docker.io/docker/dockerfile:1@" + zero: true, "registry.example.com/hub/docker/dockerfile:1.4": true,
		"other/dockerfile": false, "mydocker/dockerfile": false, "docker/dockerfile-x": false, "BAD": false,
	} {
		if isDockerfileFrontend(ref) != want {
			t.Errorf("%q: not %t", ref, want)
		}
	}
}

// TestContextFileHasALimit: a Dockerfile of a remote context cannot fill the
// memory.
func TestContextFileHasALimit(t *testing.T) {
	files := fstest.MapFS{"Dockerfile": {Data: make([]byte, maxRead+1)}}
	if data, err := readPart(files, "Dockerfile", client.FileRange{}); err == nil {
		t.Errorf("read %d bytes", len(data))
	}
	if data, err := readPart(files, "Dockerfile", client.FileRange{Offset: 1, Length: 9}); err != nil || len(data) != 9 {
		t.Errorf("read %d bytes, %v", len(data), err)
	}
}
