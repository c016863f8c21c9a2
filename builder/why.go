package builder

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/sinter-build/sinter/builder/fileop"
	"github.com/sinter-build/sinter/builder/progress"
	"github.com/sinter-build/sinter/cache"
	"github.com/sinter-build/sinter/parser"
)

// explain finds out why a step runs, while it runs, and tells it. What it reads is listed
// for builds to come. The function that it returns waits for that.
func (e *engine) explain(ctx context.Context, n *parser.Node, id identity, why Why) (wait func()) {
	if e.Began != nil {
		e.began.Do(e.Began)
	}
	if e.Journal == nil {
		return func() {}
	}
	var done sync.WaitGroup
	done.Go(func() {
		e.list(ctx, n, id)
		reasons := e.reasons(n, id, why, e.Cache.Listing)
		if ctx.Err() != nil || len(reasons) == 0 {
			return
		}
		e.Journal.note(n, func(s *noted) { s.why = reasons })
		e.Events(progress.Explained{Step: n.ID, Why: cache.Text(reasons)})
	})
	return done.Wait
}

// list writes down what the contents that a step reads consist of. It is for people:
// nothing depends on it.
func (e *engine) list(ctx context.Context, n *parser.Node, id identity) {
	parts := id.recipe[len(id.recipe)-len(e.plan.nodes[n].inputs):]
	for i, in := range e.plan.nodes[n].inputs {
		content := contentOf(parts[i])
		if in.sel == nil || e.Cache.HasListing(content) {
			continue
		}
		err := e.Cache.PutListing(content, func(add func(cache.File) error) (string, error) {
			files, err := e.files(ctx, in.from)
			if err != nil {
				return "", err
			}
			end, err := e.bounds.beginWork(ctx)
			if err != nil {
				return "", err
			}
			defer end()
			d, err := fileop.List(ctx, files, *in.sel, add)
			return d.String(), err
		})
		if err != nil && ctx.Err() == nil {
			e.warn("changes of files cannot be explained in later builds: " + err.Error())
		}
	}
}

// contentOf is the digest that a part holds which is about files.
func contentOf(p cache.Part) string { return strings.TrimSpace(p.Value) }

// reasons says why a step runs: by the verdict alone, or by comparison with the last build
// of the same, or else with that of another build which is most like it.
func (e *engine) reasons(n *parser.Node, id identity, why Why, listing func(string) cache.Listing) []cache.Reason {
	switch {
	case why == NotAsked && n.NoCache:
		return []cache.Reason{{Kind: cache.NoCacheAsked}}
	case why == NotAsked:
		return []cache.Reason{{Kind: cache.NoCacheAsked, Name: e.below(n)}}
	case why == Lost:
		return []cache.Reason{{Kind: cache.Pruned}}
	}
	now := e.stepNamed(n)
	now.Key, now.Parts = id.key, shownParts(e.graph, id.recipe)
	last := e.Journal.last()
	var before cache.BuildStep
	if last != nil {
		var ok bool
		if before, ok = e.before(n, last); !ok {
			return []cache.Reason{{Kind: cache.NewStep}}
		}
	}
	if len(before.Parts) == 0 {
		// The last build did not get there, if there was one.
		near, ok := cache.Nearest(now, e.Journal.builds())
		if !ok {
			return []cache.Reason{{Kind: cache.FirstTime}}
		}
		return e.named(cache.Explain(now, near, listing))
	}
	return e.replaced(n, last, e.named(cache.Explain(now, before, listing)), listing)
}

// replaced says of a step that stands on another one than before, whose instruction was
// changed in its place, that this one changed; and of one that stands on several that were
// put together which of these did. One that changed but is cached is nothing to look at:
// its own reasons count.
func (e *engine) replaced(n *parser.Node, last *cache.Build, list []cache.Reason, listing func(string) cache.Listing) []cache.Reason {
	var out []cache.Reason
	for _, r := range list {
		reasons := []cache.Reason{r}
		for _, in := range e.plan.nodes[n].inputs {
			if r.Kind != cache.StepChanged || in.sel != nil || in.from.Node == nil {
				continue
			}
			same := r.Was == "" && r.Name == cache.ShortName(e.plan.addedLast(in.from.Node).Name)
			if on := e.changed(in.from.Node, last); on == nil && same {
				// Such as one that went, or the base image of steps with --link.
				reasons[0].Name = "a step or base image"
			} else if was, ok := e.before(on, last); same || ok && was.Says() == r.Was {
				reasons = []cache.Reason{{Kind: cache.StepChanged, Name: cache.ShortName(on.Name)}}
				if e.jobs[on].shown.now() == showCached && ok {
					reasons = e.compared(on, was, last, listing)
				}
			}
		}
		for _, one := range reasons {
			told := func(r cache.Reason) bool { return cache.Text([]cache.Reason{r}) == cache.Text([]cache.Reason{one}) }
			if !slices.ContainsFunc(out, told) {
				out = append(out, one)
			}
		}
	}
	return out
}

// compared says how a step differs from what it was in the last build.
func (e *engine) compared(n *parser.Node, was cache.BuildStep, last *cache.Build, listing func(string) cache.Listing) []cache.Reason {
	now := e.stepNamed(n)
	if id, ok := e.plan.nodes[n].known(); ok {
		now.Key, now.Parts = id.key, shownParts(e.graph, id.recipe)
	}
	return e.replaced(n, last, e.named(cache.Explain(now, was, listing)), listing)
}

// changed returns n, or of what n was put together the last step, that has another key
// than in the last build; nil if none has.
func (e *engine) changed(n *parser.Node, last *cache.Build) *parser.Node {
	if n == nil {
		return nil
	}
	s := e.plan.nodes[n]
	if s.op.kind() == chainKind {
		for _, in := range slices.Backward(n.Inputs) {
			if of := e.changed(in.Node, last); of != nil {
				return of
			}
		}
		return nil
	}
	was, ok := e.before(n, last)
	if id, known := s.known(); s.op.kind() != stepKind || ok && known && was.Key == id.key {
		return nil
	}
	return n
}

// below is the lowest step that n stands on and that is not to be cached, so that n is not
// either.
func (e *engine) below(n *parser.Node) string {
	for {
		i := slices.IndexFunc(e.plan.nodes[n].inputs, func(in input) bool {
			return in.sel == nil && in.from.Node != nil && e.plan.nodes[in.from.Node].forced
		})
		if n.NoCache || i < 0 {
			return cache.ShortName(n.Name)
		}
		n = e.plan.nodes[n].inputs[i].from.Node
	}
}

// named calls variables what they are in the Dockerfile.
func (e *engine) named(list []cache.Reason) []cache.Reason {
	for i, r := range list {
		if name, ok := strings.CutPrefix(r.Name, variablePart); ok && r.Kind == cache.VariableChanged && e.graph.IsArg(name) {
			list[i].Name = "argument " + name
		}
	}
	return list
}

// before returns what n was in the last build of the same.
func (e *engine) before(n *parser.Node, last *cache.Build) (cache.BuildStep, bool) {
	e.match.Do(func() {
		var now []cache.BuildStep
		var nodes []*parser.Node
		for _, n := range e.graph.Nodes {
			if e.plan.nodes[n].op.kind() == stepKind {
				now, nodes = append(now, e.stepNamed(n)), append(nodes, n)
			}
		}
		e.was = map[*parser.Node]int{}
		for i, at := range cache.Matching(now, last.Steps) {
			e.was[nodes[i]] = at
		}
	})
	at, ok := e.was[n]
	if !ok || at < 0 {
		return cache.BuildStep{}, false
	}
	return last.Steps[at], true
}

// stepNamed is a step of which there is only what people call it.
func (e *engine) stepNamed(n *parser.Node) cache.BuildStep {
	return cache.BuildStep{Name: n.Name, Text: parser.Redact(e.graph.Text(n))}
}
