package builder

import (
	"context"
	"fmt"
	"strconv"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"

	"github.com/sinter-build/sinter/builder/source"
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
		if err == nil {
			// Also of steps below one whose record is read: when that one has to
			// run again, they are wanted.
			e.Cache.Used(id.key)
		}
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
	switch op := n.Op.(type) {
	case parser.Image, parser.OCILayout:
		if err := e.imageRecipe(ctx, n, &id); err != nil {
			return id, err
		}
	case parser.Exec:
		e.execRecipe(n, op, &id.recipe)
	case parser.FileOp:
		id.recipe.Add("operation", "file")
		for i, a := range op.Actions {
			id.recipe.Add(actionPart(i), cache.Canonical(a))
		}
	case parser.Merge:
		id.recipe.Add("operation", "merge")
	case parser.Diff:
		id.recipe.Add("operation", "diff "+cache.Canonical(op))
	default:
		return id, fmt.Errorf("%T has no key of its own", n.Op)
	}
	for _, r := range readings(n) {
		if err := e.addReading(ctx, &id, r, actual); err != nil {
			return id, err
		}
	}
	id.key = id.recipe.Key()
	return id, nil
}

func (e *engine) imageRecipe(ctx context.Context, n *parser.Node, id *identity) error {
	v, err := e.resolve(ctx, n)
	if err != nil {
		return err
	}
	id.recipe.Add("operation", "image")
	id.recipe.AddList("base layers", layerNames(v.chains[0])...)
	return nil
}

// addReading adds what counts of an input.
func (e *engine) addReading(ctx context.Context, id *identity, r reading, actual bool) error {
	switch {
	case r.from.Node == nil:
		id.recipe.AddList(r.part)
		return nil
	case r.taken != nil:
		d, remembered, err := e.content(ctx, r, actual)
		if err != nil {
			return err
		}
		id.recipe.AddList(r.part, d.String())
		id.remembered = id.remembered || remembered
		return nil
	}
	identify := e.identify
	if actual {
		identify = e.final
	}
	from, err := identify(ctx, r.from.Node)
	if err != nil {
		return err
	}
	id.recipe.AddList(r.part, from.key.String(), strconv.Itoa(r.from.Output))
	id.remembered = id.remembered || from.remembered
	return nil
}

// execRecipe names what decides a command's result. Proxy variables, the
// addresses of extra hosts, secrets' contents and cache mounts' contents do
// not: they may change from run to run. Nor do limits of a control group: they
// make a command slow or fail.
func (e *engine) execRecipe(n *parser.Node, op parser.Exec, r *cache.Recipe) {
	r.Add("operation", "run")
	r.AddList("command", op.Args...)
	r.AddList("environment", op.Env...)
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
	r.AddList("extra hosts", hosts...)
	r.Add("limits", cache.Canonical(op.Ulimits, op.CgroupParent, op.Devices))
	r.Add("secret variables", cache.Canonical(op.SecretEnv))
	r.Add("exit codes", cache.Canonical(op.ValidExitCodes))
	if e.SingleUser {
		r.Add("users", "one")
	} else if e.UnusualIDs != "" {
		r.Add("users", e.UnusualIDs)
	}
	for _, m := range op.Mounts {
		if m.Dest == "/" {
			continue
		}
		// What is mounted is named by itself; that there is something counts
		// here.
		m.Input = min(m.Input, 0)
		if m.Type == parser.MountCache {
			m.Sharing = ""
		}
		r.Add(mountPart(m), cache.Canonical(m))
	}
}

// content digests what is taken of an input. What a step yielded is not opened
// when somebody remembers the digest, unless actual is set or the step is to run
// anyway.
func (e *engine) content(ctx context.Context, r reading, actual bool) (d digest.Digest, remembered bool, err error) {
	if isFiles(r.from.Node) {
		v, err := e.resolve(ctx, r.from.Node)
		if err != nil {
			return "", false, err
		}
		d, err = e.bounds.digest(ctx, v.files, *r.taken)
		return d, false, err
	}
	if !actual {
		if d, ok := e.recall(ctx, r); ok {
			return d, true, nil
		}
	}
	c, err := e.chainOf(ctx, r.from)
	if err != nil {
		return "", false, err
	}
	files, err := source.OpenChain(ctx, e.Layers, c)
	if err != nil {
		return "", false, err
	}
	if d, err = e.bounds.digest(ctx, files, *r.taken); err != nil {
		return "", false, err
	}
	return d, false, e.Cache.PutContent(layerNames(c), r.taken.String(), d)
}
