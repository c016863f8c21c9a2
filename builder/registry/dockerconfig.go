package registry

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/configfile"
	"github.com/docker/cli/cli/config/credentials"

	"github.com/sinter-build/sinter/layers/hostfile"
)

// DockerConfig reads docker's config.json, below $DOCKER_CONFIG or in the home
// directory. Without a file the configuration is empty.
func DockerConfig() (*configfile.ConfigFile, error) {
	dir := os.Getenv(config.EnvOverrideConfigDir)
	if dir == "" {
		dir = config.Dir()
	}
	path := filepath.Join(dir, config.ConfigFileName)
	file, err := readAuthFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return configfile.New(path), nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading docker's configuration: %w", err)
	}
	return file, nil
}

// CredentialStore returns the store that file names for the credentials under key: a
// helper, or the file. It ignores $DOCKER_AUTH_CONFIG, which cannot be written to.
func CredentialStore(file *configfile.ConfigFile, key string) credentials.Store {
	if name := helperOf(file, key); name != "" {
		return credentials.NewNativeStore(file, name)
	}
	return credentials.NewFileStore(file)
}

// CredentialVariables returns the names of the variables that are set and whose
// credentials count before those of docker's config.json.
func CredentialVariables() []string {
	return slices.DeleteFunc([]string{authFileVariable, configfile.DockerEnvConfigKey}, func(name string) bool {
		return os.Getenv(name) == ""
	})
}

// authFileVariable names podman's file of credentials.
const authFileVariable = "REGISTRY_AUTH_FILE"

// readAuthFile reads a file in the form that docker and podman share.
func readAuthFile(path string) (*configfile.ConfigFile, error) {
	data, err := hostfile.Read(path, hostfile.MaxConfig)
	if err != nil {
		return nil, err
	}
	return parseAuthFile(path, data)
}

func parseAuthFile(name string, data []byte) (*configfile.ConfigFile, error) {
	file, err := config.LoadFromReader(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("parsing %s: %w", name, err)
	}
	file.Filename = name
	return file, nil
}
