package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/spf13/pflag"

	"github.com/sinter-build/sinter/builder"
	"github.com/sinter-build/sinter/builder/cdi"
	"github.com/sinter-build/sinter/builder/runner"
	"github.com/sinter-build/sinter/layers/hint"
	"github.com/sinter-build/sinter/parser"
)

// registerRun registers what RUN commands see and may do.
func (f *buildFlags) registerRun(s *pflag.FlagSet) {
	s.StringArrayVar(&f.secrets, "secret", nil, "`SECRET` for RUN --mount=type=secret: id=ID[,src=FILE|,env=VARIABLE] (repeatable)")
	s.StringArrayVar(&f.ssh, "ssh", nil, "agent or keys (files or pipes) for RUN --mount=type=ssh: `ID`[=SOCKET|KEY[,KEY]], where ID is usually default (repeatable)")
	s.StringArrayVarP(&f.volumes, "volume", "v", nil, "mount `DIR:PATH[:ro]`, where DIR is on this machine; it is not part of the image and does not affect the cache (repeatable)")
	s.StringVar(&f.network, "network", "default", "`MODE` of the network: default uses this machine's, host is in its network namespace, none has only a loopback interface")
	s.StringSliceVar(&f.addHosts, "add-host", nil, "add `NAME:IP` to /etc/hosts; NAME:host-gateway is this machine (repeatable)")
	s.StringSliceVar(&f.allow, "allow", nil, "allow `PRIVILEGE`: network.host for RUN --network=host, security.insecure for RUN --security=insecure, device for RUN --device (repeatable)")
	s.StringSliceVar(&f.cdiDirs, "cdi-spec-dir", cdi.DefaultDirs(), "`DIR` with CDI specifications for RUN --device (repeatable)")
	s.IntVar(&f.maxParallelism, "max-parallelism", 0, "run at most `N` commands concurrently (default maxParallelism of the configuration, else as many as the stages and the limit on open files allow)")
}

// registerLimits registers limits of RUN commands.
func (f *buildFlags) registerLimits(s *pflag.FlagSet) {
	s.StringVar(&f.shmSize, "shm-size", "", "`SIZE` of /dev/shm, such as 64m")
	s.StringArrayVar(&f.ulimits, "ulimit", nil, "resource limit `NAME=SOFT[:HARD]` (repeatable)")
	s.StringVar(&f.cgroupParent, "cgroup-parent", "", "parent `CGROUP` of RUN commands")
	s.StringSliceVar(&f.resources, "resource", nil, "limit `NAME=VALUE` of the control group, where NAME is one of the following flags (repeatable)")
	for _, l := range []struct{ name, short, usage string }{
		{"memory", "m", "`SIZE` of memory, such as 512m"},
		{"memory-swap", "", "`SIZE` of memory and swap together; -1 means no limit"},
		{"cpu-shares", "c", "relative CPU `WEIGHT`"},
		{"cpu-period", "", "`MICROSECONDS` for which cpu-quota holds"},
		{"cpu-quota", "", "`MICROSECONDS` of CPU time in each cpu-period"},
		{"cpuset-cpus", "", "`CPUS` to run on, such as 0-3 or 0,1"},
		{"cpuset-mems", "", "memory `NODES` to use, such as 0-3 or 0,1"},
	} {
		s.FuncP(l.name, l.short, l.usage, func(value string) error {
			limit := l.name + "=" + value
			f.resources = append(f.resources, limit)
			_, err := parseResources([]string{limit})
			return err
		})
	}
}

// runRequest adds to a request what the flags say about RUN.
func (f *buildFlags) runRequest(r *parser.Request) (err error) {
	r.CgroupParent = f.cgroupParent
	switch mode := parser.NetMode(f.network); mode {
	case "", parser.NetDefault:
		r.Network = parser.NetDefault
	case parser.NetHost, parser.NetNone:
		r.Network = mode
	default:
		return wrongFlag("network", f.network, "want default, host or none: sinter does not have the networks of an engine")
	}
	if r.AddHosts, err = f.hosts(); err != nil {
		return err
	}
	if f.shmSize != "" {
		if r.ShmSize, err = units.RAMInBytes(f.shmSize); err != nil || r.ShmSize < 0 {
			return wrongFlag("shm-size", f.shmSize, "want a size such as 64m")
		}
	}
	if r.Ulimits, err = f.ulimitList(); err != nil {
		return err
	}
	if r.Resources, err = parseResources(f.resources); err != nil {
		return badFlag("resource", strings.Join(f.resources, ","), err)
	}
	if r.Resources.MemorySwap > 0 && r.Resources.Memory == 0 {
		return wrongFlag("memory-swap", strconv.FormatInt(r.Resources.MemorySwap, 10), "it includes memory, so it needs --memory")
	}
	return nil
}

// ulimitList reads --ulimit NAME=SOFT[:HARD].
func (f *buildFlags) ulimitList() ([]parser.Ulimit, error) {
	var list []parser.Ulimit
	for _, text := range f.ulimits {
		l, err := units.ParseUlimit(text)
		var number *strconv.NumError
		switch {
		case errors.As(err, &number):
			return nil, wrongFlag("ulimit", text, fmt.Sprintf("%q is not a number: want NAME=SOFT[:HARD], such as nofile=1024:2048", number.Num))
		case err != nil:
			return nil, badFlag("ulimit", text, hint.Add(err, "write NAME=SOFT[:HARD], such as nofile=1024:2048; the names are "+
				"core, cpu, data, fsize, locks, memlock, msgqueue, nice, nofile, nproc, rss, rtprio, rttime, sigpending and stack"))
		case l.Soft < -1 || l.Hard < -1:
			return nil, wrongFlag("ulimit", text, "a limit is a number, or -1 for none")
		}
		list = append(list, parser.Ulimit{Name: l.Name, Soft: l.Soft, Hard: l.Hard})
	}
	return list, nil
}

// hostGateway is docker's name for the address of the machine that builds.
// Commands share its network, so that is the loopback address.
const (
	hostGateway   = "host-gateway"
	hostGatewayIP = "127.0.0.1"
)

// hosts reads NAME:IP and NAME=IP, with or without brackets around an IPv6
// address, and with several addresses with commas between them.
func (f *buildFlags) hosts() ([]parser.Host, error) {
	var list []parser.Host
	for _, text := range f.addHosts {
		name, addresses, ok := strings.Cut(text, "=")
		if !ok {
			name, addresses, ok = strings.Cut(text, ":")
		}
		if !ok || name == "" {
			return nil, wrongFlag("add-host", text, "want NAME:IP")
		}
		for ip := range strings.SplitSeq(addresses, ",") {
			ip = strings.TrimSuffix(strings.TrimPrefix(ip, "["), "]")
			if ip == hostGateway {
				ip = hostGatewayIP
			}
			if net.ParseIP(ip) == nil {
				return nil, wrongFlag("add-host", text, fmt.Sprintf("%q is not an IP address", ip))
			}
			list = append(list, parser.Host{Name: name, IP: ip})
		}
	}
	return list, nil
}

// entitlements are what RUN may ask for. As in docker, --network host allows
// itself.
func (f *buildFlags) entitlements() (builder.Entitlements, error) {
	e := builder.Entitlements{NetworkHost: f.network == string(parser.NetHost)}
	for _, text := range f.allow {
		switch name, _, _ := strings.Cut(text, "="); name {
		case builder.EntitlementNetworkHost:
			e.NetworkHost = true
		case builder.EntitlementInsecure:
			e.Insecure = true
		case builder.EntitlementDevice:
			e.Device = true
		default:
			return e, wrongFlag("allow", text, "want network.host, security.insecure or device")
		}
	}
	return e, nil
}

// volumeList reads --volume HOST:PATH[:OPTIONS]. Of Buildah's options ro and rw
// change something, and z and Z have nothing to change, since commands carry no
// label of their own; those about ownership and overlays are refused.
func (f *buildFlags) volumeList() ([]runner.Volume, error) {
	var list []runner.Volume
	for _, text := range f.volumes {
		fields := strings.Split(text, ":")
		if len(fields) < 2 || len(fields) > 3 || fields[0] == "" {
			return nil, wrongFlag("volume", text, "want HOST:PATH or HOST:PATH:ro")
		}
		v := runner.Volume{Path: path.Clean(fields[1])}
		if !path.IsAbs(v.Path) || v.Path == "/" {
			return nil, wrongFlag("volume", text, "the path in the container must be absolute and not /")
		}
		var err error
		if v.Host, err = filepath.Abs(fields[0]); err != nil {
			return nil, err
		}
		if _, err := os.Stat(v.Host); err != nil {
			return nil, badFlag("volume", text, err)
		}
		if len(fields) == 3 {
			for option := range strings.SplitSeq(fields[2], ",") {
				switch option {
				case "ro":
					v.ReadOnly = true
				case "rw", "z", "Z":
				default:
					return nil, wrongFlag("volume", text, fmt.Sprintf("unknown option %q: want ro or rw", option))
				}
			}
		}
		list = append(list, v)
	}
	return list, nil
}

// parseResources reads NAME=VALUE limits; later ones win.
func parseResources(list []string) (parser.Resources, error) {
	var r parser.Resources
	for _, text := range list {
		name, value, ok := strings.Cut(text, "=")
		if !ok {
			return r, errors.New("want NAME=VALUE")
		}
		var err error
		switch name = strings.TrimSpace(name); name {
		case "memory":
			if r.Memory, err = units.RAMInBytes(value); err != nil || r.Memory <= 0 {
				return r, errors.New("want a size such as 512m")
			}
		case "memory-swap":
			if r.MemorySwap = -1; value != "-1" {
				if r.MemorySwap, err = units.RAMInBytes(value); err != nil || r.MemorySwap < 0 {
					return r, errors.New("want a size such as 1g, or -1")
				}
			}
		case "cpu-shares":
			r.CPUShares, err = positive(value)
		case "cpu-period":
			if r.CPUPeriod, err = positive(value); err == nil && (r.CPUPeriod < minCPUTime || r.CPUPeriod > maxCPUPeriod) {
				return r, fmt.Errorf("want from %d to %d microseconds", minCPUTime, maxCPUPeriod)
			}
		case "cpu-quota":
			if r.CPUQuota, err = strconv.ParseInt(value, 10, 64); err == nil && r.CPUQuota >= 0 && r.CPUQuota < minCPUTime {
				return r, fmt.Errorf("want %d microseconds or more, or -1 for no limit", minCPUTime)
			}
		case "cpuset-cpus":
			r.CPUSetCPUs, err = value, checkSet(value)
		case "cpuset-mems":
			r.CPUSetMems, err = value, checkSet(value)
		default:
			return r, fmt.Errorf("unknown resource %q: want memory, memory-swap, cpu-shares, cpu-period, cpu-quota, cpuset-cpus or cpuset-mems", name)
		}
		if is[*strconv.NumError](err) {
			return r, errors.New("want a number")
		}
		if err != nil {
			return r, err
		}
	}
	if r.MemorySwap > 0 && r.MemorySwap < r.Memory {
		return r, errors.New("memory-swap includes memory, so it must not be less than memory")
	}
	return r, nil
}

// What the kernel takes for cpu-period and cpu-quota, in microseconds.
const (
	minCPUTime   = 1000
	maxCPUPeriod = 1000000
)

// checkSet wants numbers and ranges of them, with commas between: 0-3,5.
func checkSet(value string) error {
	for part := range strings.SplitSeq(value, ",") {
		first, last, isRange := strings.Cut(part, "-")
		a, err := strconv.ParseUint(first, 10, 31)
		b := a
		if err == nil && isRange {
			b, err = strconv.ParseUint(last, 10, 31)
		}
		if err != nil || b < a {
			return errors.New("want numbers and ranges with commas between them, such as 0-3 or 0,1")
		}
	}
	return nil
}

func positive(value string) (uint64, error) { return strconv.ParseUint(value, 10, 63) }
