package registry

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/docker/cli/cli/config/configfile"
	"github.com/docker/cli/cli/config/credentials"
	"github.com/docker/cli/cli/config/types"
	"github.com/google/go-containerregistry/pkg/authn"
)

// storedCredentials reads what docker login, podman login and sinter login have
// stored, in this order: $REGISTRY_AUTH_FILE, $DOCKER_AUTH_CONFIG, docker's config.json
// with its credential helpers, podman's auth files. The first that knows the repository,
// a part of its path or its host decides.
type storedCredentials struct {
	// say gets what helpers have to say to people.
	say func(string)
	// process says how to start helpers; nil means as this process.
	process func() *syscall.SysProcAttr
}

// Resolve implements authn.Keychain.
func (c storedCredentials) Resolve(target authn.Resource) (authn.Authenticator, error) {
	return c.ResolveContext(context.Background(), target)
}

// ResolveContext implements authn.ContextKeychain. With an error it returns what the
// other places know.
func (c storedCredentials) ResolveContext(ctx context.Context, target authn.Resource) (authn.Authenticator, error) {
	var fault error
	for _, place := range credentialPlaces() {
		file, err := place.read()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var found types.AuthConfig
		if err == nil {
			found, err = c.lookUp(ctx, file, target)
		}
		if err != nil && fault == nil {
			fault = credentialFault(target.RegistryStr(), err, place.name, file)
		}
		if found != (types.AuthConfig{}) {
			return authn.FromConfig(authn.AuthConfig{
				Username: found.Username, Password: found.Password, Auth: found.Auth,
				IdentityToken: found.IdentityToken, RegistryToken: found.RegistryToken,
			}), fault
		}
	}
	return authn.Anonymous, fault
}

// credentialFault is why it is not known whether there are credentials in a place.
// file is nil when it could not be read.
func credentialFault(host string, err error, place string, file *configfile.ConfigFile) error {
	hint := "repair or remove " + place
	switch {
	case file != nil:
		hint = "see credsStore and credHelpers in " + file.Filename + ": the helper must be installed and work"
	case errors.Is(err, fs.ErrPermission):
		hint = "HOME or DOCKER_CONFIG seems to be that of another user: set DOCKER_CONFIG to a directory of your own"
	}
	if host == dockerHub {
		host = "docker.io"
	}
	return &Error{Msg: fmt.Sprintf("the credentials for %s cannot be read: %v", host, err), Hint: hint, Err: err}
}

// credentialPlace is where credentials may be. read's error is fs.ErrNotExist when
// nothing is there.
type credentialPlace struct {
	name string
	read func() (*configfile.ConfigFile, error)
}

// credentialPlaces are the places to look, the first that knows decides.
func credentialPlaces() []credentialPlace {
	var list []credentialPlace
	add := func(path ...string) {
		if path[0] != "" {
			name := filepath.Join(path...)
			list = append(list, credentialPlace{name, func() (*configfile.ConfigFile, error) { return readAuthFile(name) }})
		}
	}
	add(os.Getenv(authFileVariable))
	if text := os.Getenv(configfile.DockerEnvConfigKey); text != "" {
		list = append(list, credentialPlace{"$" + configfile.DockerEnvConfigKey, func() (*configfile.ConfigFile, error) {
			return parseAuthFile("$"+configfile.DockerEnvConfigKey, []byte(text))
		}})
	}
	list = append(list, credentialPlace{"docker's config.json: it is in $DOCKER_CONFIG, else in ~/.docker", DockerConfig})
	add(os.Getenv("XDG_RUNTIME_DIR"), "containers", "auth.json")
	if dir, err := os.UserConfigDir(); err == nil {
		add(dir, "containers", "auth.json")
	}
	return list
}

// lookUp searches for the repository, then for each parent of its path, then
// for the host.
func (c storedCredentials) lookUp(ctx context.Context, file *configfile.ConfigFile, target authn.Resource) (types.AuthConfig, error) {
	host := target.RegistryStr()
	path := strings.Trim(strings.TrimPrefix(target.String(), host), "/")
	// Helpers know hosts only, so what is longer can only be in the file.
	for ; path != ""; path = parent(path) {
		for _, h := range hostNames(host) {
			if a, ok := file.AuthConfigs[h+"/"+path]; ok {
				return cleared(a), nil
			}
		}
	}
	a, err := c.ofHost(ctx, file, CredentialKey(host))
	// Podman has another name for Docker Hub than docker.
	for _, h := range hostNames(host) {
		name := file.CredentialHelpers[h]
		if name == "" || h == CredentialKey(host) || err != nil || cleared(a) != (types.AuthConfig{}) {
			continue
		}
		a, err = c.askHelper(ctx, name, h)
	}
	if err == nil && cleared(a) != (types.AuthConfig{}) {
		return cleared(a), nil
	}
	// What is in the file counts also if its helper fails.
	for _, h := range append(hostNames(host), CredentialKey(host)) {
		if a, ok := file.AuthConfigs[h]; ok {
			return cleared(a), err
		}
	}
	return types.AuthConfig{}, err
}

// ofHost returns what is stored under a host's key: by a helper, or in the file, where
// the key may have a scheme and a path.
func (c storedCredentials) ofHost(ctx context.Context, file *configfile.ConfigFile, key string) (types.AuthConfig, error) {
	if name := helperOf(file, key); name != "" {
		return c.askHelper(ctx, name, key)
	}
	return credentials.NewFileStore(file).Get(key)
}

// hostNames are the names of a registry that credentials may be stored under.
func hostNames(host string) []string {
	if host == dockerHub {
		return []string{"docker.io", dockerHub}
	}
	return []string{host}
}

// parent is a path without its last component.
func parent(p string) string { return p[:max(strings.LastIndexByte(p, '/'), 0)] }

// cleared leaves out what is set even when nothing is stored.
func cleared(a types.AuthConfig) types.AuthConfig {
	a.ServerAddress = ""
	return a
}
