package builder

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"

	"github.com/sinter-build/sinter/builder/fileop"
	"github.com/sinter-build/sinter/cache"
	"github.com/sinter-build/sinter/parser"
)

// identity is a step's key with the recipe it was made from.
type identity struct {
	key    cache.Key
	recipe cache.Recipe
	// remembered: a content digest was taken from memory rather than from
	// the files, so it must be looked at again before the step runs.
	remembered bool
}

// identify returns the node's key. It runs other steps only where the content
// of their files decides and nobody remembers it.
func (e *engine) identify(ctx context.Context, n *parser.Node) (identity, error) {
	return e.jobs[n].name.get(func() (identity, error) {
		id, err := e.recipe(ctx, n, false)
		return id, e.blame(ctx, n, err)
	})
}

// final returns the key under which the result of a resolved node stands. It
// differs from what identify said when a remembered digest was out of date.
func (e *engine) final(ctx context.Context, n *parser.Node) (identity, error) {
	if _, err := e.resolve(ctx, n); err != nil {
		return identity{}, err
	}
	if f := e.jobs[n].final; f != nil {
		return *f, nil
	}
	return e.identify(ctx, n)
}

// recipe lists all that decides the node's result. With actual set, contents
// are digested from the files, whatever is remembered of them.
func (e *engine) recipe(ctx context.Context, n *parser.Node, actual bool) (identity, error) {
	var id identity
	if !actual {
		if err := e.ahead(ctx, n); err != nil {
			return id, err
		}
	}
	var err error
	switch op := n.Op.(type) {
	case parser.Image, parser.OCILayout:
		err = e.imageRecipe(ctx, n, &id)
	case parser.Exec:
		err = e.execRecipe(ctx, n, op, actual, &id)
	case parser.FileOp:
		err = e.fileRecipe(ctx, n, op, actual, &id)
	case parser.Merge:
		id.recipe.Add("operation", "merge")
		err = e.addInputs(ctx, &id, "layer", n.Inputs, actual)
	case parser.Diff:
		id.recipe.Add("operation", fmt.Sprintf("diff %+v", op))
		err = e.addInputs(ctx, &id, "side", n.Inputs, actual)
	default:
		err = fmt.Errorf("%T has no key of its own", n.Op)
	}
	id.key = id.recipe.Key()
	return id, err
}

func (e *engine) imageRecipe(ctx context.Context, n *parser.Node, id *identity) error {
	v, err := e.resolve(ctx, n)
	if err != nil {
		return err
	}
	id.recipe.Add("operation", "image")
	diffs := make([]string, 0, len(v.chains[0]))
	for _, l := range v.chains[0] {
		diffs = append(diffs, l.DiffID.String())
	}
	id.recipe.Add("base layers", diffs...)
	return nil
}

// addInputs adds the keys of inputs under the given name.
func (e *engine) addInputs(ctx context.Context, id *identity, name string, ins []parser.Input, actual bool) error {
	identify := e.identify
	if actual {
		identify = e.final
	}
	for _, in := range ins {
		if in.Node == nil {
			id.recipe.Add(name, "empty")
			continue
		}
		if isFiles(in.Node) {
			// A directory of the user's as a root file system: all of
			// it counts.
			if err := e.addContent(ctx, id, name, in, fileop.Subtree("/"), actual); err != nil {
				return err
			}
			continue
		}
		from, err := identify(ctx, in.Node)
		if err != nil {
			return err
		}
		id.recipe.Add(name, from.key.String(), strconv.Itoa(in.Output))
		id.remembered = id.remembered || from.remembered
	}
	return nil
}

// execRecipe names what decides a command's result. Proxy variables, the
// addresses of extra hosts, secrets' contents and cache mounts' contents do
// not: they may change from run to run. Nor do limits of a control group: they
// make a command slow or fail.
func (e *engine) execRecipe(ctx context.Context, n *parser.Node, op parser.Exec, actual bool, id *identity) error {
	r := &id.recipe
	r.Add("operation", "run")
	r.Add("command", op.Args...)
	r.Add("environment", op.Env...)
	r.Add("working directory", op.Cwd)
	r.Add("user", op.User)
	r.Add("platform", platforms.FormatAll(n.Platform))
	r.Add("network", string(op.Network))
	r.Add("security", strconv.FormatBool(op.Insecure))
	r.Add("hostname", op.Hostname)
	var hosts []string
	for _, h := range op.ExtraHosts {
		hosts = append(hosts, h.Name)
	}
	r.Add("extra hosts", hosts...)
	r.Add("limits", canonical(op.Ulimits, op.CgroupParent, op.Devices))
	r.Add("secret variables", canonical(op.SecretEnv))
	r.Add("exit codes", canonical(op.ValidExitCodes))
	if err := e.addInputs(ctx, id, "root", rootInputs(n), actual); err != nil {
		return err
	}
	for _, m := range op.Mounts {
		if m.Dest == "/" {
			continue
		}
		if err := e.addMount(ctx, n, m, actual, id); err != nil {
			return err
		}
	}
	return nil
}

func (e *engine) addMount(ctx context.Context, n *parser.Node, m parser.Mount, actual bool, id *identity) error {
	name := string(m.Type) + " mount " + m.Dest
	says := m
	says.Input, says.ContentKey = 0, false
	if m.Type == parser.MountCache {
		says.Sharing = ""
	}
	id.recipe.Add(name, canonical(says))
	if m.Input < 0 {
		return nil
	}
	in := n.Inputs[m.Input]
	if m.Type == parser.MountCache {
		return e.addInputs(ctx, id, name+" begins as", []parser.Input{in}, actual)
	}
	return e.addContent(ctx, id, name+" content", in, fileop.Subtree(m.Selector), actual)
}

// fileRecipe names what decides a file operation's result.
func (e *engine) fileRecipe(ctx context.Context, n *parser.Node, op parser.FileOp, actual bool, id *identity) error {
	id.recipe.Add("operation", "file")
	for i, a := range op.Actions {
		step := "action " + strconv.Itoa(i+1)
		id.recipe.Add(step, canonicalAction(a))
		if a.Input >= 0 && a.Input < len(n.Inputs) {
			if err := e.addInputs(ctx, id, "parent", []parser.Input{n.Inputs[a.Input]}, actual); err != nil {
				return err
			}
		}
		for _, who := range ownerIDs(a.Action) {
			if who.Name == "" || who.Input < 0 || who.Input >= len(n.Inputs) || who.Input == a.Input {
				continue
			}
			if err := e.addInputs(ctx, id, "names from", []parser.Input{n.Inputs[who.Input]}, actual); err != nil {
				return err
			}
		}
		c, ok := a.Action.(parser.Copy)
		if !ok || a.Secondary < 0 {
			continue
		}
		if a.Secondary >= len(n.Inputs) {
			// It copies from the result of an earlier action, which
			// this recipe names already.
			continue
		}
		if err := e.addContent(ctx, id, step+" files", n.Inputs[a.Secondary], fileop.Selected(c), actual); err != nil {
			return err
		}
	}
	return nil
}

// addContent adds the digest of the files that sel picks from in.
func (e *engine) addContent(ctx context.Context, id *identity, name string, in parser.Input, sel fileop.Selection, actual bool) error {
	d, remembered, err := e.content(ctx, in, sel, actual)
	if err != nil {
		return err
	}
	id.recipe.Add(name, d.String())
	id.remembered = id.remembered || remembered
	return nil
}

// content digests the files that sel picks from an input. What a step yielded
// is not opened when somebody remembers the digest, unless actual is set or
// the step is to run anyway.
func (e *engine) content(ctx context.Context, in parser.Input, sel fileop.Selection, actual bool) (d digest.Digest, remembered bool, err error) {
	if isFiles(in.Node) {
		v, err := e.resolve(ctx, in.Node)
		if err != nil {
			return "", false, err
		}
		d, err = fileop.Digest(ctx, v.files, sel)
		return d, false, err
	}
	from, err := e.identify(ctx, in.Node)
	if err != nil {
		return "", false, err
	}
	about := picks{in, sel}.about()
	if !actual && !e.jobs[in.Node].forced {
		if d, ok := e.Cache.Content(from.key, about); ok {
			return d, true, nil
		}
	}
	files, err := e.files(ctx, in)
	if err != nil {
		return "", false, err
	}
	if d, err = fileop.Digest(ctx, files, sel); err != nil {
		return "", false, err
	}
	// The source's key may have become another one when it was resolved.
	if from, err = e.final(ctx, in.Node); err != nil {
		return "", false, err
	}
	return d, false, e.Cache.PutContent(from.key, about, d)
}

// canonical writes values in a form that is the same for the same values.
func canonical(vs ...any) string {
	b, err := json.Marshal(vs)
	if err != nil {
		// Only functions and channels cannot be written; no op has any.
		panic(err)
	}
	return string(b)
}

// canonicalAction writes a file action without what is named elsewhere in the
// recipe, and with its kind.
func canonicalAction(a parser.FileAction) string {
	return canonical(fmt.Sprintf("%T", a.Action), a, slices.Clone(ownerIDs(a.Action)))
}
