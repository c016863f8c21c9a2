package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/docker/go-units"

	"github.com/sinter-build/sinter/parser"
)

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
				return r, fmt.Errorf("the kernel takes from %d to %d microseconds", minCPUTime, maxCPUPeriod)
			}
		case "cpu-quota":
			if r.CPUQuota, err = strconv.ParseInt(value, 10, 64); err == nil && r.CPUQuota >= 0 && r.CPUQuota < minCPUTime {
				return r, fmt.Errorf("the kernel takes %d microseconds or more, or -1 for no limit", minCPUTime)
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
		return r, errors.New("memory-swap counts memory as well, so it must not be less than memory")
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
