package parser

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/moby/buildkit/solver/pb"
)

// exec translates a command with the limits that its metadata gives it.
func exec(e *pb.ExecOp, inputs int, limits *pb.LinuxResources) (Exec, error) {
	m := e.Meta
	if m == nil {
		return Exec{}, fmt.Errorf("a command without arguments")
	}
	x := Exec{
		Args: m.Args, Env: m.Env, Cwd: m.Cwd, User: m.User, Hostname: m.Hostname,
		CgroupParent: m.CgroupParent,
		Insecure:     e.Security == pb.SecurityMode_INSECURE,
		Resources: Resources{
			Memory: limits.GetMemory(), MemorySwap: limits.GetMemorySwap(),
			CPUShares: limits.GetCpuShares(), CPUPeriod: limits.GetCpuPeriod(), CPUQuota: limits.GetCpuQuota(),
			CPUSetCPUs: limits.GetCpusetCpus(), CPUSetMems: limits.GetCpusetMems(),
		},
	}
	if p := m.ProxyEnv; p != nil {
		x.Proxy = Proxy{HTTP: p.HttpProxy, HTTPS: p.HttpsProxy, FTP: p.FtpProxy, No: p.NoProxy, All: p.AllProxy}
	}
	for _, h := range m.ExtraHosts {
		x.ExtraHosts = append(x.ExtraHosts, Host{Name: h.Host, IP: h.IP})
	}
	for _, u := range m.Ulimit {
		x.Ulimits = append(x.Ulimits, Ulimit{Name: u.Name, Soft: u.Soft, Hard: u.Hard})
	}
	for _, c := range m.ValidExitCodes {
		x.ValidExitCodes = append(x.ValidExitCodes, int(c))
	}
	for _, s := range e.Secretenv {
		x.SecretEnv = append(x.SecretEnv, SecretEnv{ID: s.ID, Name: s.Name, Optional: s.Optional})
	}
	for _, d := range e.CdiDevices {
		x.Devices = append(x.Devices, Device{Name: d.Name, Optional: d.Optional})
	}
	return x, environment(&x, e, inputs)
}

// environment sets the network and the mounts.
func environment(x *Exec, e *pb.ExecOp, inputs int) error {
	switch e.Network {
	case pb.NetMode_UNSET:
		x.Network = NetDefault
	case pb.NetMode_HOST:
		x.Network = NetHost
	case pb.NetMode_NONE:
		x.Network = NetNone
	default:
		return fmt.Errorf("unknown network mode %v", e.Network)
	}
	for _, pm := range e.Mounts {
		m, err := mount(pm, inputs)
		if err != nil {
			return fmt.Errorf("mount at %s: %w", pm.Dest, err)
		}
		x.Mounts = append(x.Mounts, m)
	}
	return nil
}

func mount(pm *pb.Mount, inputs int) (Mount, error) {
	if pm.Input < -1 || int(pm.Input) >= inputs {
		return Mount{}, fmt.Errorf("input %d of %d", pm.Input, inputs)
	}
	m := Mount{
		Dest: pm.Dest, Input: int(pm.Input), Output: int(pm.Output),
		Selector: pm.Selector, ReadOnly: pm.Readonly,
	}
	switch pm.MountType {
	case pb.MountType_BIND:
		m.Type = MountBind
	case pb.MountType_CACHE:
		m.Type = MountCache
		m.CacheID = pm.CacheOpt.GetID()
		m.Sharing = strings.ToLower(pm.CacheOpt.GetSharing().String())
	case pb.MountType_TMPFS:
		m.Type, m.Output = MountTmpfs, -1
		m.TmpfsSize = pm.TmpfsOpt.GetSize()
	case pb.MountType_SECRET:
		s := pm.SecretOpt
		m.Type, m.Output = MountSecret, -1
		m.SecretID, m.Optional = s.GetID(), s.GetOptional()
		m.UID, m.GID, m.Mode = int(s.GetUid()), int(s.GetGid()), s.GetMode()
	case pb.MountType_SSH:
		s := pm.SSHOpt
		m.Type, m.Output = MountSSH, -1
		m.SecretID, m.Optional = cmp.Or(s.GetID(), "default"), s.GetOptional()
		m.UID, m.GID, m.Mode = int(s.GetUid()), int(s.GetGid()), s.GetMode()
	default:
		return Mount{}, fmt.Errorf("unknown mount type %v", pm.MountType)
	}
	return m, nil
}
