package builder

import (
	"strconv"

	"github.com/sinter-build/sinter/builder/fileop"
	"github.com/sinter-build/sinter/parser"
)

// rootInputs are the inputs whose layers become part of the node's own root.
func rootInputs(n *parser.Node) []parser.Input {
	switch op := n.Op.(type) {
	case parser.Exec:
		for _, m := range op.Mounts {
			if m.Dest == "/" && m.Input >= 0 {
				return n.Inputs[m.Input : m.Input+1]
			}
		}
	case parser.FileOp:
		var ins []parser.Input
		for _, a := range op.Actions {
			if a.Input >= 0 && a.Input < len(n.Inputs) {
				ins = append(ins, n.Inputs[a.Input])
			}
		}
		return ins
	case parser.Merge:
		return n.Inputs
	case parser.Diff:
		return n.Inputs
	}
	return nil
}

// reading is one input of a step, and how it decides what the step yields: by
// the key of what yields the input, or by the content of what is taken of it.
type reading struct {
	// part is what the recipe calls it.
	part string
	from parser.Input
	// taken is what counts of the content; nil when the key counts.
	taken *fileop.Selection
}

// readings are the inputs of a step in the order of its recipe. This is the one
// place that says which of them count by content: what is copied or mounted from
// elsewhere, and all of the user's own files.
func readings(n *parser.Node) []reading {
	var all []reading
	add := func(part string, in parser.Input, taken *fileop.Selection) {
		if taken == nil && in.Node != nil && isFiles(in.Node) {
			whole := fileop.Subtree("/")
			taken = &whole
		}
		all = append(all, reading{part, in, taken})
	}
	switch op := n.Op.(type) {
	case parser.Exec:
		for _, m := range op.Mounts {
			if m.Input < 0 {
				continue
			}
			in, part := n.Inputs[m.Input], mountPart(m)
			switch {
			case m.Dest == "/":
				add("root", in, nil)
			case m.Type == parser.MountCache:
				add(part+" begins as", in, nil)
			default:
				sel := fileop.Subtree(m.Selector)
				add(part+" content", in, &sel)
			}
		}
	case parser.FileOp:
		for i, a := range op.Actions {
			fileReadings(n, actionPart(i), a, add)
		}
	case parser.Merge:
		for _, in := range n.Inputs {
			add("layer", in, nil)
		}
	case parser.Diff:
		for _, in := range n.Inputs {
			add("side", in, nil)
		}
	}
	return all
}

// fileReadings are those of one file action. Results of earlier actions are no
// inputs: the recipe names them already.
func fileReadings(n *parser.Node, part string, a parser.FileAction, add func(string, parser.Input, *fileop.Selection)) {
	given := func(i int) bool { return i >= 0 && i < len(n.Inputs) }
	if given(a.Input) {
		add("parent", n.Inputs[a.Input], nil)
	}
	for _, who := range ownerIDs(a.Action) {
		if who.Name != "" && given(who.Input) && who.Input != a.Input {
			add("names from", n.Inputs[who.Input], nil)
		}
	}
	if c, ok := a.Action.(parser.Copy); ok && given(a.Secondary) {
		sel := fileop.Selected(c)
		add(part+" files", n.Inputs[a.Secondary], &sel)
	}
}

// mountPart and actionPart are what recipes call mounts and file actions.
func mountPart(m parser.Mount) string { return string(m.Type) + " mount " + m.Dest }

func actionPart(i int) string { return "action " + strconv.Itoa(i+1) }

func ownerIDs(a parser.Action) []parser.ID {
	var o *parser.Owner
	switch a := a.(type) {
	case parser.Copy:
		o = a.Owner
	case parser.Mkdir:
		o = a.Owner
	case parser.Mkfile:
		o = a.Owner
	case parser.MkSymlink:
		o = a.Owner
	}
	var ids []parser.ID
	if o != nil {
		for _, id := range []*parser.ID{o.User, o.Group} {
			if id != nil {
				ids = append(ids, *id)
			}
		}
	}
	return ids
}

// isStep reports whether people would call the node a step of their build.
func isStep(n *parser.Node) bool {
	switch n.Op.(type) {
	case parser.Exec, parser.FileOp:
		return true
	}
	return false
}

// isFiles reports whether the node is a source of files rather than a chain of
// layers.
func isFiles(n *parser.Node) bool {
	switch n.Op.(type) {
	case parser.Local, parser.Git, parser.HTTP:
		return true
	}
	return false
}
