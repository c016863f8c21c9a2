package parser

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// options spells a request the way the frontend reads it: these are the
// attributes that docker buildx sends to the dockerfile.v0 frontend.
func options(req Request) (map[string]string, error) {
	o := map[string]string{}
	set := func(key, value string) {
		if value != "" {
			o[key] = value
		}
	}
	set(filenameOpt, req.Dockerfile)
	set("target", req.Target)
	set("cgroup-parent", req.CgroupParent)
	set("hostname", req.Hostname)
	set("build-arg:SOURCE_DATE_EPOCH", req.Epoch)
	set("build-arg:BUILDKIT_DOCKERFILE_CHECK", req.Check)
	for k, v := range req.BuildArgs {
		o["build-arg:"+k] = v
	}
	for k, v := range req.Labels {
		o["label:"+k] = v
	}
	set("platform", platformList(req.Platforms))
	index(req, set)
	if req.Pull {
		o["image-resolve-mode"] = "pull"
	}
	switch {
	case req.NoCache:
		o["no-cache"] = ""
	case len(req.NoCacheFilter) > 0:
		o["no-cache"] = strings.Join(req.NoCacheFilter, ",")
	}
	limits(req, set)
	if err := network(req.Network, set); err != nil {
		return nil, err
	}
	return o, contexts(req, o)
}

// index asks for an image index where the frontend would not make one unasked. Like the
// frontend it lets the build argument decide.
func index(req Request, set func(key, value string)) {
	switch v, given := req.BuildArgs["BUILDKIT_MULTI_PLATFORM"]; {
	case given:
		set("multi-platform", v)
	case req.MultiPlatform && len(req.Platforms) < 2:
		set("multi-platform", "true")
	}
}

func platformList(ps []ocispec.Platform) string {
	names := make([]string, len(ps))
	for i, p := range ps {
		names[i] = platforms.FormatAll(p)
	}
	return strings.Join(names, ",")
}

func network(m NetMode, set func(key, value string)) error {
	switch m {
	case "", NetDefault:
	case NetHost, NetNone:
		set("force-network-mode", string(m))
	default:
		return &Error{
			Msg:  fmt.Sprintf("invalid network mode %q", string(m)),
			Hint: "the network modes are default, host and none",
		}
	}
	return nil
}

func limits(req Request, set func(key, value string)) {
	hosts := make([]string, len(req.AddHosts))
	for i, h := range req.AddHosts {
		hosts[i] = csvField(h.Name + "=" + h.IP)
	}
	set("add-hosts", strings.Join(hosts, ","))
	ulimits := make([]string, len(req.Ulimits))
	for i, u := range req.Ulimits {
		ulimits[i] = csvField(fmt.Sprintf("%s=%d:%d", u.Name, u.Soft, u.Hard))
	}
	set("ulimit", strings.Join(ulimits, ","))

	r := req.Resources
	set("shm-size", decimal(req.ShmSize))
	set("memory", decimal(r.Memory))
	set("memswap", decimal(r.MemorySwap))
	set("cpushares", decimal(r.CPUShares))
	set("cpuperiod", decimal(r.CPUPeriod))
	set("cpuquota", decimal(r.CPUQuota))
	set("cpusetcpus", r.CPUSetCPUs)
	set("cpusetmems", r.CPUSetMems)
}

// decimal writes n, and nothing for 0.
func decimal[T int64 | uint64](n T) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}

// csvField quotes a field of the frontend's comma-separated lists if need be.
func csvField(s string) string {
	if !strings.ContainsAny(s, "\",\r\n") {
		return s
	}
	return `"` + strings.ReplaceAll(s, `"`, `""`) + `"`
}

// contexts adds the main context, when it is remote, and the named ones.
func contexts(req Request, o map[string]string) error {
	if req.Context != "" {
		o["context"] = req.Context
		if req.ContextSubdir != "" {
			o["contextsubdir"] = req.ContextSubdir
		}
	}
	if req.LocalDockerfile && (req.Context != "" || req.LoneDockerfile) {
		o["dockerfilekey"] = "dockerfile"
	}
	for _, name := range slices.Sorted(maps.Keys(req.Contexts)) {
		key, err := contextKey(name)
		if err != nil {
			return err
		}
		if value := req.Contexts[name]; !strings.HasPrefix(value, targetPrefix) {
			o["context:"+key] = remoteContext(value)
		}
	}
	return nil
}

// contextKey brings a named context's name into the form in which the frontend
// looks it up: a familiar image name without :latest, and perhaps a normalized
// platform.
func contextKey(name string) (string, error) {
	base, platform, withPlatform := strings.Cut(name, "::")
	named, err := reference.ParseNormalizedNamed(base)
	if err != nil {
		return "", &Error{
			Msg:  fmt.Sprintf("invalid context name %s: %v", strconv.Quote(name), err),
			Hint: "a context's name is that of a stage or an image: lower-case letters, digits and separators",
			Err:  err,
		}
	}
	key := strings.TrimSuffix(reference.FamiliarString(named), ":latest")
	if !withPlatform {
		return key, nil
	}
	p, err := platforms.Parse(platform)
	if err != nil {
		return "", &Error{
			Msg:  fmt.Sprintf("invalid platform in context name %s: %v", strconv.Quote(name), err),
			Hint: "a platform looks like linux/amd64 or linux/arm64/v8",
			Err:  err,
		}
	}
	return key + "::" + platforms.FormatAll(platforms.Normalize(p)), nil
}
