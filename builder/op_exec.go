package builder

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/platforms"

	"github.com/sinter-build/sinter/builder/fileop"
	"github.com/sinter-build/sinter/builder/progress"
	"github.com/sinter-build/sinter/builder/runner"
	"github.com/sinter-build/sinter/builder/sandbox"
	"github.com/sinter-build/sinter/cache"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/store"
	"github.com/sinter-build/sinter/parser"
)

// execOp is RUN: a command on the layers of its root.
type execOp struct {
	node *parser.Node
	op   parser.Exec
	// users tells apart the sets of user IDs that commands may have; "" is the
	// usual one.
	users string
}

func (execOp) kind() kind { return stepKind }

// run runs the command. What it changed becomes one more layer.
func (x execOp) run(ctx context.Context, e *engine) (value, error) {
	sandbox.Prepare()
	c, err := x.command(ctx, e)
	if err != nil {
		return value{}, err
	}
	if err := e.bounds.commands.Acquire(ctx, 1); err != nil {
		return value{}, err
	}
	defer e.bounds.commands.Release(1)
	r, err := e.runner.Run(ctx, c)
	e.Journal.note(x.node, func(s *noted) { s.memory = r.MaxRSS })
	if err != nil {
		return value{}, err
	}
	if r.Changed {
		e.packIfExported(x.node, r.Layer)
		return value{chains: []layers.Chain{c.Root.Append(r.Layer)}}, nil
	}
	root, err := e.unchanged(ctx, c.Root)
	return value{chains: []layers.Chain{root}}, err
}

// command is the command with all that it reads.
func (x execOp) command(ctx context.Context, e *engine) (runner.Command, error) {
	log := e.Journal.log(x.node)
	c := runner.Command{Exec: x.op, Name: x.node.Name, Below: map[int]runner.Below{}}
	c.Output = func(stream int, data []byte) {
		_, _ = log.Write(data) // it has no errors
		e.Events(progress.Output{Step: x.node.ID, Stream: stream, Data: data, Time: time.Now()})
	}
	for i, m := range x.op.Mounts {
		if m.Input < 0 {
			continue
		}
		in := x.node.Inputs[m.Input]
		var err error
		if m.Dest == "/" {
			c.Root, err = e.chainOf(ctx, in)
		} else if c.Below[i], err = x.below(ctx, e, m, in); err != nil {
			err = runner.MountError(m, err)
		}
		if err != nil {
			return c, err
		}
	}
	return c, nil
}

// below returns what a mount shows, or what a new cache mount begins with. A cache
// mount goes by the key of the step that it begins with, or by the content of the
// user's files.
func (x execOp) below(ctx context.Context, e *engine, m parser.Mount, in parser.Input) (b runner.Below, err error) {
	if e.isFiles(in.Node) {
		// A cache mount begins with a copy as a whole: its layer then has the same name
		// whatever was copied before.
		forms := store.Forms{Dir: true}
		if m.Type == parser.MountCache {
			forms = store.Forms{Tar: true}
		}
		b.Chain, err = e.copied(ctx, in, m.Selector, forms)
		b.Name = fmt.Sprint(layerNames(b.Chain))
		return b, err
	}
	if b.Chain, err = e.chainOf(ctx, in); err != nil || m.Type != parser.MountCache {
		return b, err
	}
	id, err := e.plan.final(ctx, in.Node)
	b.Name = id.key.String()
	return b, err
}

func (x execOp) inputs() []input {
	var list []input
	for _, m := range x.op.Mounts {
		if m.Input < 0 {
			continue
		}
		in := input{from: x.node.Inputs[m.Input]}
		switch {
		case m.Dest == "/":
			in.part, in.root = "root", true
		case m.Type == parser.MountCache:
			in.part = mountPart(m) + " begins as"
		default:
			sel := fileop.Subtree(m.Selector)
			in.part, in.sel = mountPart(m)+" content", &sel
		}
		list = append(list, in)
	}
	return list
}

// variablePart begins what recipes call a variable.
const variablePart = "variable "

// mountPart is what recipes call a mount.
func mountPart(m parser.Mount) string { return string(m.Type) + " mount " + m.Dest }

// describe names what decides a command's result. Proxy variables, the addresses of
// extra hosts, secrets' contents and cache mounts' contents do not: they may change
// from run to run. Nor do limits of a control group: they make a command slow or
// fail.
func (x execOp) describe(r *cache.Recipe) {
	r.Add("operation", "run")
	r.AddList("command", x.op.Args...).Kind = cache.Does
	for _, variable := range x.op.Env {
		name, text, _ := strings.Cut(variable, "=")
		r.Add(variablePart+name, text).Kind = cache.Variable
	}
	r.Add("working directory", x.op.Cwd)
	r.Add("user", x.op.User)
	r.Add("platform", platforms.FormatAll(x.node.Platform))
	r.Add("network", string(x.op.Network))
	r.Add("security", strconv.FormatBool(x.op.Insecure))
	r.Add("hostname", x.op.Hostname)
	r.Add("cgroup parent", x.op.CgroupParent)
	r.Add("users", x.users)
	for _, h := range x.op.ExtraHosts {
		r.Add("extra host", h.Name)
	}
	for _, u := range x.op.Ulimits {
		var f cache.Fields
		f.Given("soft", u.Soft)
		f.Given("hard", u.Hard)
		r.Add("ulimit "+u.Name, f.String())
	}
	for _, d := range x.op.Devices {
		var f cache.Fields
		f.Flag("optional", d.Optional)
		r.Add("device "+d.Name, f.String())
	}
	for _, s := range x.op.SecretEnv {
		var f cache.Fields
		f.Text("secret", s.ID)
		f.Flag("optional", s.Optional)
		r.Add("secret variable "+s.Name, f.String())
	}
	for _, code := range x.op.ValidExitCodes {
		r.Add("valid exit code", strconv.Itoa(code))
	}
	for _, m := range x.op.Mounts {
		if m.Dest != "/" {
			r.Add(mountPart(m), mountFields(m))
		}
	}
}

// mountFields describes a mount, but for what is mounted: that is an input. How a
// cache mount is shared decides only who waits for whom.
func mountFields(m parser.Mount) string {
	var f cache.Fields
	f.Flag("of an input", m.Input >= 0)
	f.Text("path", m.Selector)
	if m.Output >= 0 {
		f.Given("output", int64(m.Output))
	}
	f.Flag("read only", m.ReadOnly)
	f.Text("cache", m.CacheID)
	if m.Type != parser.MountCache {
		f.Text("sharing", m.Sharing)
	}
	f.Number("size", m.TmpfsSize)
	f.Text("id", m.SecretID)
	f.Number("user", int64(m.UID))
	f.Number("group", int64(m.GID))
	f.Number("mode", int64(m.Mode))
	f.Flag("optional", m.Optional)
	return f.String()
}

// users is the part of a command's key that says which user IDs it has.
func (c *Config) users() string {
	if c.SingleUser {
		return "one"
	}
	return c.UnusualIDs
}
