package builder

import "github.com/sinter-build/sinter/parser"

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

// keyInputs are the inputs whose keys are part of the node's key. The others
// count by the content of what is taken from them.
func keyInputs(n *parser.Node) []parser.Input {
	ins := rootInputs(n)
	switch op := n.Op.(type) {
	case parser.Exec:
		for _, m := range op.Mounts {
			if m.Type == parser.MountCache && m.Input >= 0 {
				ins = append(ins[:len(ins):len(ins)], n.Inputs[m.Input])
			}
		}
	case parser.FileOp:
		for _, a := range op.Actions {
			for _, id := range ownerIDs(a.Action) {
				if id.Name != "" && id.Input >= 0 && id.Input < len(n.Inputs) {
					ins = append(ins[:len(ins):len(ins)], n.Inputs[id.Input])
				}
			}
		}
	}
	return ins
}

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
