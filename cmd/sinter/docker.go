package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sinter-build/sinter/layers/hint"
)

// newDockerCmds are docker's other names for commands of sinter, so that scripts
// and people with "alias docker=sinter" find them. The commands are the same, with
// the same flags.
func newDockerCmds(a *app) []*cobra.Command {
	list := []*cobra.Command{
		group("image", named(newBuildCmd(a), "build"), newHistoryCmd(a), newInspectCmd(a),
			newLoadCmd(a), named(newImagesCmd(a), "ls", "list"), newImagePruneCmd(a), newPullCmd(a),
			newPushCmd(a), named(newRmiCmd(a), "rm", "remove", "rmi"), newSaveCmd(a), newTagCmd(a)),
		group("system", named(newDuCmd(a), "df"), newSystemPruneCmd(a)),
		group("manifest", newManifestInspectCmd(a)),
	}
	for _, name := range []string{"buildx", "builder"} {
		c := group(name, named(newBuildCmd(a), "build", "b"), newImagetoolsCmd(a), newBuildxDuCmd(a), newBuilderPruneCmd(a),
			newVersionCmd(a), newBuilderLsCmd(a), newBuilderInspectCmd(a))
		// Where it stands before the command's name; build has one of its own.
		c.PersistentFlags().String("builder", "", "no effect: `NAME` of a builder")
		hide(c.PersistentFlags(), "builder")
		list = append(list, c)
	}
	for _, r := range absences() {
		for _, words := range r.commands {
			list = refuse(list, strings.Fields(words), r.why)
		}
	}
	for _, c := range list {
		c.Hidden = true
	}
	return list
}

// named gives a command docker's name for it, in place of its own.
func named(c *cobra.Command, name string, aliases ...string) *cobra.Command {
	_, rest, _ := strings.Cut(c.Use, " ")
	c.Use, c.Aliases = strings.TrimSpace(name+" "+rest), aliases
	return c
}

// group is a command that only has others.
func group(name string, commands ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use: name, Short: "The commands of docker " + name + " that sinter has",
		Args: unknownSubcommand,
		RunE: showHelp,
	}
	c.AddCommand(commands...)
	return c
}

// absence says of commands of docker why sinter does not have them.
type absence struct {
	why      string
	commands []string
}

func absences() []absence {
	return []absence{
		{"sinter builds images and does not run containers", []string{
			"attach", "commit", "compose", "container", "cp", "create", "diff", "exec", "export", "kill", "logs", "pause", "port", "ps",
			"rename", "restart", "rm", "run", "start", "stats", "stop", "top", "unpause", "update", "wait",
		}},
		{"sinter has images and a cache, but no daemon, networks, volumes or swarm", []string{
			"config", "context", "events", "info", "network", "node", "plugin", "secret", "service", "stack", "swarm", "volume",
			"system dial-stdio", "system events", "system info", "buildx dial-stdio", "builder dial-stdio",
		}},
		{"sinter is its own builder, which need not be created or chosen", []string{
			"buildx create", "buildx install", "buildx rm", "buildx stop", "buildx uninstall", "buildx use",
			"builder create", "builder rm", "builder stop", "builder use",
		}},
		{"sinter does not read bake files, but builds one target at a time with sinter build", []string{"bake", "buildx bake", "builder bake"}},
		{"sinter lists builds with sinter builds, and shows one with sinter explain and sinter builds logs", []string{"buildx history", "builder history"}},
		{"sinter makes and pushes an index with sinter imagetools create", []string{
			"manifest annotate", "manifest create", "manifest push", "manifest rm",
		}},
		{"sinter loads archives of images, with sinter load, and not those of file systems", []string{"image import", "import"}},
		{"sinter does not search registries", []string{"search"}},
		{"sinter does not check or make signatures", []string{"trust"}},
		{"sinter does not look for vulnerabilities; sinter sbom lists the packages in an image", []string{"scout", "scan"}},
		{"sinter builds images, and has none of docker's other tools", []string{
			"agent", "ai", "app", "checkpoint", "debug", "desktop", "dev", "extension", "init", "mcp", "model", "offload",
			"pass", "sandbox",
		}},
		{"sinter builds from Dockerfiles and has no working containers", []string{
			"add", "containers", "copy", "from", "mount", "umount", "unmount", "unshare",
		}},
		{"sinter has no debugger of builds", []string{"buildx debug", "builder debug", "buildx dap", "builder dap"}},
		{"sinter does not read source policies", []string{"buildx policy", "builder policy"}},
	}
}

// refuse adds a command that says why it is not there, whatever its flags are.
func refuse(list []*cobra.Command, words []string, why string) []*cobra.Command {
	c := &cobra.Command{
		Use: words[len(words)-1], Short: "Not in sinter: " + why, Hidden: true, DisableFlagParsing: true,
		RunE: func(c *cobra.Command, _ []string) error {
			return &usageError{err: fmt.Errorf("%q is not a command: %s", c.CommandPath(), why), command: c.Root().Name()}
		},
	}
	if len(words) == 1 {
		return append(list, c)
	}
	for _, parent := range list {
		if parent.Name() == words[0] {
			parent.AddCommand(c)
		}
	}
	return list
}

// dockerFlags are docker's own flags, which stand before a command.
type dockerFlags struct {
	logLevel string
	debug    bool
}

// daemonFlags say how docker reaches its daemon.
var daemonFlags = [...]string{"host", "context", "tls", "tlsverify", "tlscacert", "tlscert", "tlskey"}

// tlsVerify is a flag of podman's and Buildah's for all registries at once.
const tlsVerify = "tls-verify"

// checkTLSVerify refuses to leave TLS unverified wherever a command leads to.
func checkTLSVerify(given *pflag.FlagSet) error {
	verify, err := given.GetBool(tlsVerify)
	if err != nil || verify {
		return err
	}
	return usage(hint.Add(fmt.Errorf("--%s=false: TLS is verified unless a registry is named", tlsVerify),
		"name those that need not be verified with --registry-insecure HOST"))
}

func (f *dockerFlags) register(a *app, s *pflag.FlagSet) {
	s.StringVar(&a.dockerConfig, "config", "", "`DIR` of docker's config.json (default $DOCKER_CONFIG, else ~/.docker)")
	s.BoolVarP(&f.debug, "debug", "D", false, "no effect: sinter keeps no log")
	s.StringVarP(&f.logLevel, "log-level", "l", "", "no effect: `LEVEL` of a log")
	s.Bool(tlsVerify, true, "no effect: TLS is verified unless a registry is named with --registry-insecure")
	for _, name := range daemonFlags {
		if name == "tls" || name == "tlsverify" {
			s.Bool(name, false, "not supported: sinter has no daemon")
		} else {
			s.String(name, "", "not supported: sinter has no daemon")
		}
	}
	hide(s, append(daemonFlags[:], "debug", "log-level", tlsVerify)...)
}

// apply makes the flags count, and says so where they do nothing.
func (f *dockerFlags) apply(a *app, given *pflag.FlagSet) error {
	for _, name := range daemonFlags {
		if given.Changed(name) {
			err := fmt.Errorf("--%s: sinter has no daemon to connect to", name)
			if name == "context" {
				err = hint.Add(err, "a build context is given without a flag: sinter build DIR")
			}
			return usage(err)
		}
	}
	if err := checkTLSVerify(given); err != nil {
		return err
	}
	if f.logLevel != "" && !slices.Contains([]string{"debug", "info", "warn", "error", "fatal"}, f.logLevel) {
		return wrongFlag("log-level", f.logLevel, "want debug, info, warn, error or fatal")
	}
	if f.debug {
		a.warn("--debug does nothing in sinter")
	}
	if f.logLevel != "" {
		a.warn("--log-level does nothing in sinter")
	}
	if b := given.Lookup("builder"); b != nil && b.Changed {
		a.warn(fmt.Sprintf("--builder %s does nothing: sinter is the builder", b.Value))
	}
	if a.dockerConfig == "" {
		return nil
	}
	return os.Setenv("DOCKER_CONFIG", a.dockerConfig)
}

// newSystemPruneCmd is prune with docker's flag for volumes.
func newSystemPruneCmd(a *app) *cobra.Command {
	c := newPruneCmd(a)
	volumes := c.Flags().Bool("volumes", false, noEffect+"sinter has no volumes")
	hide(c.Flags(), "volumes")
	return before(c, func() {
		if *volumes {
			a.warn("--volumes does nothing: sinter has no volumes")
		}
	})
}

// newBuildxDuCmd is du with every piece of the cache, as buildx lists it.
func newBuildxDuCmd(a *app) *cobra.Command {
	c := newDuCmd(a)
	verbose := c.Flags().Lookup("verbose")
	verbose.DefValue = "true"
	// The value is one that the flag takes.
	_ = verbose.Value.Set(verbose.DefValue)
	return c
}

// before does something before a command runs.
func before(c *cobra.Command, do func()) *cobra.Command {
	run := c.RunE
	c.RunE = func(c *cobra.Command, args []string) error {
		do()
		return run(c, args)
	}
	return c
}
