package builder

import (
	"fmt"

	"github.com/sinter-build/sinter/builder/cdi"
	"github.com/sinter-build/sinter/layers/hint"
	"github.com/sinter-build/sinter/parser"
)

// Entitlements are what the person who builds lets commands have beyond a
// sandbox's rights.
type Entitlements struct {
	NetworkHost, Insecure, Device bool
}

// The names of entitlements, as BuildKit has them.
const (
	EntitlementNetworkHost = "network.host"
	EntitlementInsecure    = "security.insecure"
	EntitlementDevice      = "device"
)

// Check finds the first command of g that wants what is not allowed. Its error
// is a *StepError. Devices that this machine does not have need no permission.
func (e Entitlements) Check(g *parser.Graph, devices cdi.Specs) error {
	for _, n := range g.Nodes {
		op, ok := n.Op.(parser.Exec)
		if !ok {
			continue
		}
		missing := ""
		switch {
		case op.Network == parser.NetHost && !e.NetworkHost:
			missing = EntitlementNetworkHost
		case op.Insecure && !e.Insecure:
			missing = EntitlementInsecure
		case !e.Device:
			refused, err := firstRefused(op.Devices, devices)
			if err != nil {
				return &StepError{Node: n, Graph: g, Err: err}
			}
			if refused == "" {
				continue
			}
			missing = EntitlementDevice
		default:
			continue
		}
		return &StepError{Node: n, Graph: g, Err: hint.Add(fmt.Errorf("%s is not allowed", missing),
			"if you trust this Dockerfile, allow it with --allow "+missing)}
	}
	return nil
}

// firstRefused returns the name of the first device that is there and that its
// specification does not allow to everybody.
func firstRefused(asked []parser.Device, devices cdi.Specs) (string, error) {
	for _, d := range asked {
		if ok, err := devices.Allowed(d.Name); err != nil || !ok {
			return d.Name, err
		}
	}
	return "", nil
}
