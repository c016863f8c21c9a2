package builder

import (
	"context"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/sinter-build/sinter/builder/fileop"
	"github.com/sinter-build/sinter/cache"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/store"
	"github.com/sinter-build/sinter/parser"
)

// copyName is what records call copies for mounts.
const copyName = "files for a mount"

// copied makes layers of what selector names in a directory of the user's: a
// command never sees, and can never change, the directory itself. The copy is
// known by its content, so it is made once, in the forms given.
func (e *engine) copied(ctx context.Context, in parser.Input, selector string, forms store.Forms) (layers.Chain, error) {
	files, err := e.files(ctx, in)
	if err != nil {
		return nil, err
	}
	from := fileop.Input{FS: files}
	sel := fileop.Subtree(selector)
	// What a command sees has the times that the files have now, although they decide
	// no step: make and its kin go by them.
	sel.Times = forms.Dir
	content, err := e.bounds.digest(ctx, from.FS, sel)
	if err != nil {
		return nil, err
	}
	var recipe cache.Recipe
	operation := "copy of a directory"
	if forms.Dir {
		// Its layers depend on earlier copies, so no image may hold them.
		operation = "copy for a mount"
	}
	recipe.Add("operation", operation)
	recipe.AddList("files", selector, content.String())
	key := recipe.Key()
	unlock, err := e.Cache.Lock(ctx, key, "copying files for a mount")
	if err != nil {
		return nil, err
	}
	defer unlock()
	if v, ok := e.lookUp(key); ok {
		return v.chain(0)
	}
	start := time.Now()
	op, err := mountCopy(from, selector)
	if err != nil {
		return nil, err
	}
	id := identity{key: key, recipe: recipe}
	var earlier *earlierCopies
	if forms.Dir {
		earlier = e.earlierCopies(in, selector)
	}
	v, whole, err := e.copyOver(ctx, earlier, op, from, forms)
	if err != nil {
		return nil, err
	}
	if err := e.put(id, copyName, v, since(start)); err != nil {
		return nil, err
	}
	if err := e.replaceCopy(earlier, id, v, whole); err != nil {
		return nil, err
	}
	return v.chain(0)
}

// mountCopy is the operation that copies what selector names to the same path.
func mountCopy(from fileop.Input, selector string) (parser.FileOp, error) {
	at := path.Clean("/" + selector)
	found, err := from.FS.Resolve(strings.TrimPrefix(at, "/"), true)
	if err != nil {
		return parser.FileOp{}, err
	}
	entry, ok, err := from.FS.Lookup(found)
	if err != nil {
		return parser.FileOp{}, err
	}
	if !ok {
		return parser.FileOp{}, fmt.Errorf("%q is not there: it does not exist, or an ignore rule leaves it out", selector)
	}
	return parser.FileOp{Actions: []parser.FileAction{{
		Input: -1, Secondary: 0, Output: 0,
		Action: parser.Copy{
			Src: "/" + found, Dest: at, FollowSymlinks: true, CreateDestPath: true,
			DirContents: entry.Kind == layers.Dir && at == "/",
		},
	}}}, nil
}
