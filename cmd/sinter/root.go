package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"

	"github.com/spf13/cobra"
)

func newRootCmd(a *app) *cobra.Command {
	var docker dockerFlags
	root := &cobra.Command{
		Use:   "sinter",
		Short: "Build OCI images from Dockerfiles, without a daemon and without root",
		Long: `sinter builds OCI images from Dockerfiles, without a daemon and without root.

Docker's names of these commands work as well: sinter buildx build, image ls,
system df, builder prune, manifest inspect, and so on.

Exit codes:
  0    done
  1    the build or the command failed
  2    the command line is wrong
  3    the image could not be pushed; it is in the store, and the error says how to
       push it again
  4    the plan has a step that --fail-on names
  130  interrupted`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          unknownSubcommand,
		PersistentPreRunE: func(c *cobra.Command, _ []string) error {
			if p := c.Flags().Lookup("progress"); p != nil {
				a.rawJSON = displayMode(p.Value.String()) == rawJSON
			}
			if err := docker.apply(a, c.Flags()); err != nil {
				return err
			}
			return a.checkRegistryFlags()
		},
		RunE: showHelp,
	}
	root.SetFlagErrorFunc(flagMistake)
	flags := root.PersistentFlags()
	flags.StringVar(&a.rootFlag, "root", "", "`DIR` of images and cache (default $SINTER_ROOT, else /var/lib/sinter for root, else $XDG_DATA_HOME/sinter)")
	flags.StringArrayVar(&a.mirrors, "registry-mirror", nil, "`HOST=MIRROR`: pulls from HOST ask MIRROR first (repeatable)")
	flags.StringArrayVar(&a.insecure, "registry-insecure", nil, "speak plain HTTP, or do not verify TLS, with `HOST` (repeatable)")
	flags.StringArrayVar(&a.caFiles, "registry-ca", nil, "trust the certificates in `FILE` (not a pipe; repeatable)")
	flags.IntVar(&a.retries, "retry", -1, "`N` retries after transient registry errors; when given, also wait for a registry that cannot be reached")
	flags.Lookup("retry").DefValue = "4"
	flags.DurationVar(&a.retryDelay, "retry-delay", 0, "wait this `PAUSE` before the first retry; it doubles each time (default 300ms)")
	docker.register(a, flags)
	own := []*cobra.Command{
		newBuildCmd(a), newPlanCmd(a), newExplainCmd(a), newBuildsCmd(a), newImagesCmd(a), newTagCmd(a), newRmiCmd(a), newPushCmd(a), newPullCmd(a),
		newSaveCmd(a), newLoadCmd(a), newInspectCmd(a), newImagetoolsCmd(a), newHistoryCmd(a), newSBOMCmd(a), newDuCmd(a), newPruneCmd(a),
		newVerifyCmd(a), newLoginCmd(a), newLogoutCmd(a), newVersionCmd(a),
	}
	// Building docker's command tree takes longer than some commands run.
	if len(a.args) == 0 || !slices.ContainsFunc(own, func(c *cobra.Command) bool { return c.Name() == a.args[0] }) {
		root.AddCommand(newDockerCmds(a)...)
	}
	root.AddCommand(own...)
	root.Version = version()
	root.SetVersionTemplate("sinter {{.Version}}\n")
	root.SetHelpCommand(newHelpCmd(root))
	fixCompletionCmd(root)
	root.SetUsageFunc(printUsage)
	return root
}

// showHelp is what a command does that only has others.
func showHelp(c *cobra.Command, _ []string) error { return c.Help() }

// newHelpCmd is cobra's help, but an unknown command is a mistake.
func newHelpCmd(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Help about any command",
		RunE: func(_ *cobra.Command, args []string) error {
			c, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				return commandMistake(root, args[len(args)-1])
			}
			return c.Help()
		},
	}
}

func newVersionCmd(a *app) *cobra.Command {
	var format string
	c := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  exactArgs(0),
		RunE: func(*cobra.Command, []string) error {
			r := row{"Version": version(), "GitCommit": commit(), "GoVersion": runtime.Version(), "Os": runtime.GOOS, "Arch": runtime.GOARCH}
			if format == "" {
				format = "sinter {{.Version}}, commit {{.GitCommit}}, {{.GoVersion}} {{.Os}}/{{.Arch}}"
			}
			headers := row{"Version": "VERSION", "GitCommit": "COMMIT", "GoVersion": "GO", "Os": "OS", "Arch": "ARCHITECTURE"}
			l := listing{format: format, headers: headers, table: []string{"Version", "GitCommit", "GoVersion", "Os", "Arch"}}
			return l.print(a.stdout, []row{r})
		},
	}
	c.Flags().StringVarP(&format, "format", "f", "", fmt.Sprintf(formatUsage, "Version"))
	return c
}

// version is what the build system knows of the source.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return unknown
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	return "devel"
}

// commit is the commit that the program was built from, if Go recorded it.
func commit() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return unknown
	}
	revision, dirty := unknown, ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "-dirty"
		}
	}
	return revision + dirty
}

const unknown = "unknown"

// fixCompletionCmd makes a shell that cobra's command does not know a mistake.
func fixCompletionCmd(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	if c, _, err := root.Find([]string{"completion"}); err == nil {
		c.Args, c.RunE = unknownSubcommand, showHelp
	}
}
