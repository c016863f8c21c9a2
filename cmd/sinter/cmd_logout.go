package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sinter-build/sinter/builder/registry"
)

func newLogoutCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "logout [HOST]",
		Short: "Log out of a registry",
		Long:  `Forget the password for a registry, by default Docker Hub.`,
		Args:  usageArgs(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			// A helper that has the password may ask somebody first.
			_, err := await(cmd.Context(), func() (none struct{}, err error) { return none, a.logout(hostArg(args)) })
			return err
		},
	}
}

func (a *app) logout(host string) error {
	file, err := dockerConfig()
	if err != nil {
		return err
	}
	key := registry.CredentialKey(host)
	a.warnOfVariables()
	store := registry.CredentialStore(file, key)
	known, err := store.Get(key)
	if err != nil {
		return fmt.Errorf("looking for the password for %s: %w", host, err)
	}
	if known.Username == "" && known.IdentityToken == "" && known.Password == "" {
		_, err := fmt.Fprintln(a.stdout, "Not logged in to", host)
		return err
	}
	if err := store.Erase(key); err != nil {
		return fmt.Errorf("removing the password for %s: %w", host, err)
	}
	_, err = fmt.Fprintln(a.stdout, "Removed the password for", host)
	return err
}
