package builder

import (
	"context"
	"strconv"
	"strings"

	"github.com/containerd/platforms"

	"github.com/sinter-build/sinter/builder/fileop"
	"github.com/sinter-build/sinter/cache"
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

func (x execOp) run(ctx context.Context, e *engine) (value, error) {
	return e.exec(ctx, x.node, x.op)
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
