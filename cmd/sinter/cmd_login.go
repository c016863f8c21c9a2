package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/docker/cli/cli/config/configfile"
	"github.com/docker/cli/cli/config/types"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/sinter-build/sinter/builder/export/place"
	"github.com/sinter-build/sinter/builder/registry"
	"github.com/sinter-build/sinter/layers/hint"
)

type loginFlags struct {
	username, password string
	passwordStdin      bool
}

// dockerHub is the registry of names without one.
const dockerHub = "docker.io"

func newLoginCmd(a *app) *cobra.Command {
	f := &loginFlags{}
	c := &cobra.Command{
		Use:   "login [flags] [HOST]",
		Short: "Log in to a registry",
		Long: `Log in to a registry, by default Docker Hub. The password is verified with the
registry and then kept where docker keeps it: with the credential helper of
docker's config.json, or else in that file ($DOCKER_CONFIG, ~/.docker).`,
		Args: usageArgs(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			return a.login(c.Context(), f, hostArg(args))
		},
	}
	c.Flags().StringVarP(&f.username, "username", "u", "", "user `NAME`")
	c.Flags().StringVarP(&f.password, "password", "p", "", "`PASSWORD` or token (better: --password-stdin)")
	c.Flags().BoolVar(&f.passwordStdin, "password-stdin", false, "read the password from standard input")
	return c
}

// hostArg is the registry in the arguments. docker takes a URL as well.
func hostArg(args []string) string {
	if len(args) == 0 {
		return dockerHub
	}
	host := strings.TrimPrefix(strings.TrimPrefix(args[0], "https://"), "http://")
	host, _, _ = strings.Cut(host, "/")
	if registry.CredentialKey(host) == registry.CredentialKey(dockerHub) {
		return dockerHub
	}
	return host
}

func (a *app) login(ctx context.Context, f *loginFlags, host string) error {
	if err := a.credentials(ctx, f, host); err != nil {
		return err
	}
	client, err := a.registry()
	if err != nil {
		return err
	}
	if err := client.Check(ctx, host, f.username, f.password); err != nil {
		return err
	}
	file, err := dockerConfig()
	if err != nil {
		return err
	}
	key := registry.CredentialKey(host)
	// It may be a helper that stores it, which may ask somebody first.
	_, err = await(ctx, func() (none struct{}, err error) {
		return none, registry.CredentialStore(file, key).Store(types.AuthConfig{
			ServerAddress: key, Username: f.username, Password: f.password,
		})
	})
	if ctx.Err() != nil {
		return err
	}
	if err != nil {
		return hint.Add(
			fmt.Errorf("keeping the password for %s: %w", host, err),
			"name a folder that this user can write to with DOCKER_CONFIG, or repair the credential helper that docker's config.json names",
		)
	}
	a.warnOfVariables()
	_, err = fmt.Fprintln(a.stdout, "Login Succeeded")
	return err
}

// warnOfVariables says what may make a login or logout have no effect.
func (a *app) warnOfVariables() {
	for _, name := range registry.CredentialVariables() {
		a.warn(fmt.Sprintf("$%s is set: credentials there are used before those in docker's config.json, and do not change", name))
	}
}

// dockerConfig reads docker's configuration in order to change it.
func dockerConfig() (*configfile.ConfigFile, error) {
	file, err := registry.DockerConfig()
	if err != nil {
		return nil, err
	}
	// It is written by way of the symlink that it may be.
	if err := place.Check(file.Filename); err != nil {
		return nil, fmt.Errorf("docker's configuration: %w", err)
	}
	return file, nil
}

// credentials completes user name and password, asking for them at a terminal.
func (a *app) credentials(ctx context.Context, f *loginFlags, host string) error {
	switch {
	case f.passwordStdin && f.password != "":
		return usagef("--password and --password-stdin exclude each other")
	case f.passwordStdin && f.username == "":
		return usagef("--password-stdin needs --username")
	case f.password != "":
		a.warn("a password on the command line can be seen by others; --password-stdin is better")
	}
	if f.passwordStdin {
		data, err := await(ctx, func() ([]byte, error) { return io.ReadAll(a.stdin) })
		if err != nil {
			return fmt.Errorf("reading the password: %w", err)
		}
		f.password = strings.TrimRight(string(data), "\r\n")
	}
	if f.username == "" || f.password == "" && !f.passwordStdin {
		if err := a.ask(ctx, f, host); err != nil {
			return err
		}
	}
	if f.username == "" || f.password == "" {
		return usagef("user name and password must not be empty")
	}
	return nil
}

func (a *app) ask(ctx context.Context, f *loginFlags, host string) error {
	in, ok := a.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return usage(hint.Add(errors.New("user name or password is missing, and stdin is not a terminal"), "use --username NAME --password-stdin"))
	}
	if f.username == "" {
		fmt.Fprintf(a.stderr, "User name for %s: ", host)
		line, err := readLine(ctx, in)
		if err != nil {
			return fmt.Errorf("reading the user name: %w", err)
		}
		f.username = strings.TrimSpace(line)
	}
	if f.password == "" {
		fmt.Fprint(a.stderr, "Password: ")
		var err error
		f.password, err = readPassword(ctx, in)
		fmt.Fprintln(a.stderr)
		if err != nil {
			return fmt.Errorf("reading the password: %w", err)
		}
	}
	return nil
}
