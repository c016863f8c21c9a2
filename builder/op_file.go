package builder

import (
	"context"
	"strconv"

	"github.com/sinter-build/sinter/builder/fileop"
	"github.com/sinter-build/sinter/cache"
	"github.com/sinter-build/sinter/parser"
)

// fileOp is COPY, ADD, WORKDIR: file actions, one after the other.
type fileOp struct {
	node *parser.Node
	op   parser.FileOp
}

func (fileOp) kind() kind { return stepKind }

func (o fileOp) run(ctx context.Context, e *engine) (value, error) {
	return e.file(ctx, o.node, o.op)
}

// inputs are those of all actions. Results of earlier actions are none: the recipe
// names these actions already.
func (o fileOp) inputs() []input {
	var list []input
	given := func(i int) bool { return i >= 0 && i < len(o.node.Inputs) }
	for i, a := range o.op.Actions {
		if given(a.Input) {
			list = append(list, input{part: "parent", from: o.node.Inputs[a.Input], root: true})
		}
		for _, who := range ownerIDs(a.Action) {
			if who.Name != "" && given(who.Input) && who.Input != a.Input {
				list = append(list, input{part: "names from", from: o.node.Inputs[who.Input]})
			}
		}
		if c, ok := a.Action.(parser.Copy); ok && given(a.Secondary) {
			sel := fileop.Selected(c)
			list = append(list, input{part: actionPart(i) + " files", from: o.node.Inputs[a.Secondary], sel: &sel})
		}
	}
	return list
}

// actionPart is what recipes call a file action.
func actionPart(i int) string { return "action " + strconv.Itoa(i+1) }

func (o fileOp) describe(r *cache.Recipe) {
	r.Add("operation", "file")
	for i, a := range o.op.Actions {
		r.Add(actionPart(i), actionFields(a)).Kind = cache.Does
	}
}

// actionFields describes an action. Inputs are named by their index.
func actionFields(a parser.FileAction) string {
	var f cache.Fields
	switch o := a.Action.(type) {
	case parser.Copy:
		f.Flag("copy", true)
		f.Text("source", o.Src)
		f.Text("destination", o.Dest)
		ownerFields(&f, o.Owner)
		f.Text("mode", o.Mode)
		f.Flag("follow symlinks", o.FollowSymlinks)
		f.Flag("contents of directories", o.DirContents)
		f.Flag("unpack", o.Unpack)
		f.Flag("make destination", o.CreateDestPath)
		f.Flag("wildcard", o.AllowWildcard)
		f.Flag("wildcard may match nothing", o.AllowEmptyWildcard)
		f.Flag("replace", o.AlwaysReplace)
		f.Texts("include", o.Include)
		f.Texts("exclude", o.Exclude)
		f.Texts("required", o.RequiredPaths)
		timeField(&f, o.Timestamp)
	case parser.Mkdir:
		f.Flag("mkdir", true)
		f.Text("path", o.Path)
		f.Given("mode", int64(o.Mode))
		f.Flag("make parents", o.MakeParents)
		ownerFields(&f, o.Owner)
		timeField(&f, o.Timestamp)
	case parser.Mkfile:
		f.Flag("mkfile", true)
		f.Text("path", o.Path)
		f.Given("mode", int64(o.Mode))
		f.Text("data", string(o.Data))
		ownerFields(&f, o.Owner)
		timeField(&f, o.Timestamp)
	case parser.MkSymlink:
		f.Flag("symlink", true)
		f.Text("target", o.Old)
		f.Text("path", o.New)
		ownerFields(&f, o.Owner)
		timeField(&f, o.Timestamp)
	case parser.Remove:
		f.Flag("remove", true)
		f.Text("path", o.Path)
		f.Flag("may be missing", o.AllowNotFound)
		f.Flag("wildcard", o.AllowWildcard)
	}
	f.Given("on", int64(a.Input))
	f.Given("from", int64(a.Secondary))
	f.Given("output", int64(a.Output))
	return f.String()
}

func timeField(f *cache.Fields, at *int64) {
	if at != nil {
		f.Given("time", *at)
	}
}

func ownerFields(f *cache.Fields, o *parser.Owner) {
	if o == nil {
		return
	}
	idFields(f, "user", o.User)
	idFields(f, "group", o.Group)
}

func idFields(f *cache.Fields, kind string, id *parser.ID) {
	switch {
	case id == nil:
	case id.Name == "":
		f.Given(kind, int64(id.Number))
	default:
		f.Text(kind+" name", id.Name)
		f.Given(kind+" names from", int64(id.Input))
	}
}

// ownerIDs are the user and group that an action names.
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
