package registry

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/configfile"

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
