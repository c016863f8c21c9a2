package parser

import (
	"fmt"
	"strings"
	"time"

	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// translation turns the frontend's definitions into one graph: steps that
// several targets share become one node. Nodes are in the order in which they
// are added, inputs first.
type translation struct {
	nodes  []*Node
	byID   map[digest.Digest]*Node
	files  []SourceFile
	fileAt map[string]int
	// epoch is SOURCE_DATE_EPOCH, which no operation tells.
	epoch   *time.Time
	policy  Policy
	refused *refusal // the first
}

func newTranslation(p Policy) *translation {
	return &translation{policy: p, byID: map[digest.Digest]*Node{}, fileAt: map[string]int{}}
}

func (t *translation) graph() *Graph {
	t.placeSources()
	return &Graph{Nodes: t.nodes, Files: t.files}
}

// placeSources gives the repositories and downloads of ADD, which the frontend
// gives no place, that of the instruction.
func (t *translation) placeSources() {
	for _, n := range t.nodes {
		for _, in := range n.Inputs {
			if in.Node == nil || in.Node.Internal || len(in.Node.Pos) > 0 {
				continue
			}
			switch in.Node.Op.(type) {
			case Git, HTTP:
				in.Node.Pos = n.Pos
			}
		}
	}
}

// add adds the nodes of def and returns its end: a zero Input for an empty file
// system.
func (t *translation) add(def *pb.Definition) (Input, error) {
	if def == nil || len(def.Def) == 0 {
		return Input{}, nil
	}
	places := t.places(def.Source)
	last := len(def.Def) - 1
	for _, data := range def.Def[:last] {
		id := digest.FromBytes(data)
		meta := def.Metadata[string(id)]
		if n := t.byID[id]; n != nil {
			n.NoCache = n.NoCache || meta.GetIgnoreCache()
			continue
		}
		n, err := t.node(data, meta)
		if err != nil {
			return Input{}, fmt.Errorf("translating step %s: %w", id, err)
		}
		n.ID, n.Pos = id, places[string(id)]
		t.byID[id] = n
		t.nodes = append(t.nodes, n)
	}
	return t.end(def.Def[last])
}

// end is what the last operation of a definition points to.
func (t *translation) end(data []byte) (Input, error) {
	var op pb.Op
	if err := op.UnmarshalVT(data); err != nil {
		return Input{}, fmt.Errorf("reading the end of a definition: %w", err)
	}
	if op.Op != nil || len(op.Inputs) != 1 {
		return Input{}, fmt.Errorf("a definition that does not end in one step")
	}
	ins, err := t.inputs(op.Inputs)
	if err != nil {
		return Input{}, err
	}
	return ins[0], nil
}

func (t *translation) inputs(refs []*pb.Input) ([]Input, error) {
	ins := make([]Input, len(refs))
	for i, r := range refs {
		n := t.byID[digest.Digest(r.Digest)]
		if n == nil {
			return nil, fmt.Errorf("input %d (%s) comes after its use", i, r.Digest)
		}
		ins[i] = Input{Node: n, Output: int(r.Index)}
	}
	return ins, nil
}

// node translates one operation, but for its ID and positions.
func (t *translation) node(data []byte, meta *pb.OpMetadata) (*Node, error) {
	var op pb.Op
	if err := op.UnmarshalVT(data); err != nil {
		return nil, err
	}
	ins, err := t.inputs(op.Inputs)
	if err != nil {
		return nil, err
	}
	n := &Node{Inputs: ins, Platform: platformOf(op.Platform), NoCache: meta.GetIgnoreCache()}
	switch o := op.Op.(type) {
	case *pb.Op_Source:
		n.Op, err = t.source(n, o.Source)
	case *pb.Op_Exec:
		n.Op, err = exec(o.Exec, len(ins), meta.GetLinuxResources())
	case *pb.Op_File:
		n.Op, err = fileOp(o.File, len(ins), t.epoch)
	case *pb.Op_Merge:
		n.Op = Merge{}
		n.Inputs, err = mergeInputs(o.Merge, ins)
	case *pb.Op_Diff:
		n.Op, n.Inputs, err = diff(o.Diff, ins)
	default:
		err = fmt.Errorf("an operation of an unknown kind (%T)", op.Op)
	}
	if err != nil {
		return nil, err
	}
	describe(n, meta)
	return n, nil
}

func platformOf(p *pb.Platform) ocispec.Platform {
	if p == nil {
		return ocispec.Platform{}
	}
	return ocispec.Platform{
		OS: p.OS, Architecture: p.Architecture, Variant: p.Variant,
		OSVersion: p.OSVersion, OSFeatures: p.OSFeatures,
	}
}

func mergeInputs(m *pb.MergeOp, ins []Input) ([]Input, error) {
	out := make([]Input, len(m.Inputs))
	for i, mi := range m.Inputs {
		if mi.Input < 0 || int(mi.Input) >= len(ins) {
			return nil, fmt.Errorf("merge of input %d of %d", mi.Input, len(ins))
		}
		out[i] = ins[mi.Input]
	}
	return out, nil
}

func diff(d *pb.DiffOp, ins []Input) (Diff, []Input, error) {
	side := func(i int64) (Input, bool, error) {
		if i == int64(pb.Empty) {
			return Input{}, false, nil
		}
		if i < 0 || int(i) >= len(ins) {
			return Input{}, false, fmt.Errorf("diff of input %d of %d", i, len(ins))
		}
		return ins[i], true, nil
	}
	lower, hasLower, err := side(d.GetLower().GetInput())
	if err != nil {
		return Diff{}, nil, err
	}
	upper, hasUpper, err := side(d.GetUpper().GetInput())
	return Diff{HasLower: hasLower, HasUpper: hasUpper}, []Input{lower, upper}, err
}

// describe sets what is shown of a node.
func describe(n *Node, meta *pb.OpMetadata) {
	if n.Name = meta.GetDescription()["llb.customname"]; n.Name == "" {
		n.Name = defaultName(n)
	}
	n.Internal = strings.HasPrefix(n.Name, "[internal]")
	if g := meta.GetProgressGroup(); g != nil {
		n.Group, n.GroupName = g.Id, g.Name
	}
}

// places are the positions of a definition's operations, by their digest.
func (t *translation) places(src *pb.Source) map[string][]Range {
	if src == nil {
		return nil
	}
	files := make([]int, len(src.Infos))
	for i, info := range src.Infos {
		files[i] = t.file(info)
	}
	places := make(map[string][]Range, len(src.Locations))
	for id, locs := range src.Locations {
		for _, l := range locs.Locations {
			if l.SourceIndex >= 0 && int(l.SourceIndex) < len(files) {
				places[id] = append(places[id], ranges(l.Ranges, files[l.SourceIndex])...)
			}
		}
	}
	return places
}

// file is the index of a text in Graph.Files.
func (t *translation) file(info *pb.SourceInfo) int {
	key := info.Filename + "\x00" + string(info.Data)
	i, ok := t.fileAt[key]
	if !ok {
		i = len(t.files)
		t.fileAt[key] = i
		t.files = append(t.files, sourceFile(info.Filename, info.Data))
	}
	return i
}

// ranges translates positions in the text Graph.Files[file].
func ranges(rs []*pb.Range, file int) []Range {
	var out []Range
	for _, r := range rs {
		out = append(out, Range{File: file, Start: position(r.Start), End: position(r.End)})
	}
	return out
}

func position(p *pb.Position) Position {
	return Position{Line: int(p.GetLine()), Character: int(p.GetCharacter())}
}
