package parser

import (
	"fmt"
	"strings"
)

// defaultName names a node that the frontend gave no name, in BuildKit's words.
func defaultName(n *Node) string {
	switch op := n.Op.(type) {
	case Image:
		return "docker-image://" + op.Ref
	case OCILayout:
		return "oci-layout://" + op.Ref
	case Local:
		return "local://" + op.Name
	case Git:
		return "git://" + op.Remote
	case HTTP:
		return op.URL
	case Exec:
		return strings.Join(op.Args, " ")
	case FileOp:
		names := make([]string, len(op.Actions))
		for i, a := range op.Actions {
			names[i] = actionName(a.Action)
		}
		return strings.Join(names, ", ")
	case Merge:
		names := make([]string, len(n.Inputs))
		for i, in := range n.Inputs {
			names[i] = in.Node.Name
		}
		return "merge (" + strings.Join(names, ", ") + ")"
	case Diff:
		return "diff " + sideName(n.Inputs[0]) + " -> " + sideName(n.Inputs[1])
	}
	return fmt.Sprintf("%T", n.Op)
}

func sideName(in Input) string {
	if in.Node == nil {
		return "scratch"
	}
	return "(" + in.Node.Name + ")"
}

func actionName(a Action) string {
	switch a := a.(type) {
	case Copy:
		return "copy " + a.Src + " " + a.Dest
	case Mkdir:
		return "mkdir " + a.Path
	case Mkfile:
		return "mkfile " + a.Path
	case MkSymlink:
		return "symlink " + a.New + " -> " + a.Old
	case Remove:
		return "rm " + a.Path
	}
	return fmt.Sprintf("%T", a)
}
