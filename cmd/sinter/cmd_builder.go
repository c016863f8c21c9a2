package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"text/tabwriter"

	"github.com/containerd/platforms"
	"github.com/spf13/cobra"
)

// builderName is what the only builder is called where buildx lists builders.
const builderName = "sinter"

func newBuilderLsCmd(a *app) *cobra.Command {
	var format string
	c := &cobra.Command{
		Use:   "ls [flags]",
		Short: "List the builder, which is sinter itself",
		Args:  exactArgs(0),
		RunE: func(c *cobra.Command, _ []string) error {
			l := listing{format: format, headers: row{
				"Name": "NAME/NODE", "DriverEndpoint": "DRIVER/ENDPOINT", "Status": "STATUS", "Buildkit": "BUILDKIT", "Platforms": "PLATFORMS",
			}, table: []string{"Name", "DriverEndpoint", "Status", "Buildkit", "Platforms"}}
			name := builderName
			if isTable(format) {
				name += "*" // the one in use
			}
			return l.print(a.stdout, []row{{
				"Name": name, "DriverEndpoint": builderName, "Status": "running",
				"Buildkit": frontendVersion(), "Platforms": strings.Join(runnable(), ", "),
			}})
		},
	}
	c.Flags().StringVar(&format, "format", "", fmt.Sprintf(formatUsage, "Name"))
	c.Flags().Bool("no-trunc", false, noEffect+"everything is printed in full")
	hide(c.Flags(), "no-trunc")
	return c
}

func newBuilderInspectCmd(a *app) *cobra.Command {
	var bootstrap bool
	c := &cobra.Command{
		Use:   "inspect [flags] [NAME]",
		Short: "Show the builder, which is sinter itself",
		Args:  usageArgs(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 0 && args[0] != builderName && args[0] != "default" {
				return usagef("builder %q not found: sinter is its own builder", args[0])
			}
			if bootstrap {
				a.warn("--bootstrap does nothing: sinter is always there")
			}
			tw := tabwriter.NewWriter(a.stdout, 0, 0, 1, ' ', 0)
			fmt.Fprintf(tw, "Name:\t%s\nDriver:\t%s\n\nNodes:\nName:\t%s\nEndpoint:\t%s\nStatus:\trunning\nBuildKit version:\t%s\nPlatforms:\t%s\n",
				builderName, builderName, builderName, builderName, frontendVersion(), strings.Join(runnable(), ", "))
			return tw.Flush()
		},
	}
	c.Flags().BoolVar(&bootstrap, "bootstrap", false, noEffect+"sinter is always there")
	hide(c.Flags(), "bootstrap")
	return c
}

// frontendVersion is the version of BuildKit whose Dockerfile frontend is in sinter.
func frontendVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return unknown
	}
	for _, m := range info.Deps {
		if m.Path == "github.com/moby/buildkit" {
			return m.Version
		}
	}
	return unknown
}

// emulated maps qemu's names of architectures to Go's, where they differ.
var emulated = map[string]string{
	"aarch64": "arm64", "i386": "386", "x86_64": "amd64", "mipsel": "mipsle", "mips64el": "mips64le", "loongarch64": "loong64",
}

// runnable are the platforms for which this machine runs commands: its own, and
// those for which the kernel knows an emulator of qemu.
func runnable() []string {
	list := []string{platforms.Format(hostPlatform())}
	// Where the kernel has no such directory, it has no emulators.
	entries, _ := os.ReadDir("/proc/sys/fs/binfmt_misc")
	for _, e := range entries {
		arch, ok := strings.CutPrefix(e.Name(), "qemu-")
		if !ok {
			continue
		}
		if name, ok := emulated[arch]; ok {
			arch = name
		}
		if arch != runtime.GOARCH {
			list = append(list, "linux/"+arch)
		}
	}
	return list
}
