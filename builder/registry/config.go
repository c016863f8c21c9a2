package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/sinter-build/sinter/layers/hostfile"
)

// Config says how registries are reached. The zero value is good: credentials
// from docker's or podman's files, certificates of the system.
type Config struct {
	// Mirrors maps a registry ("docker.io") to places that are asked before
	// it: HOST[:PORT][/PREFIX], with http:// for plain HTTP. Those on this
	// machine may speak plain HTTP anyway.
	Mirrors map[string][]string
	// Insecure registries (HOST or HOST:PORT) may speak plain HTTP, or TLS
	// with any certificate.
	Insecure []string
	// CAFiles are PEM files of authorities trusted beside the system's.
	CAFiles []string
	// CertDirs are folders such as /etc/docker/certs.d: in the folder
	// HOST[:PORT] below, *.crt are authorities, and *.cert with *.key are
	// the client's certificate.
	CertDirs []string
	// MaxParallelism is how many commands a build runs at once at most; 0 is no
	// limit. It is here since it stands in the same files.
	MaxParallelism int
	// Pull is the policy for tags that the store knows; nil means DefaultPolicy.
	Pull *Policy
	// Keychain knows credentials; nil means docker's config file with its
	// credential helpers, or podman's auth file.
	Keychain authn.Keychain
	// HelperProcess says how to start credential helpers; nil, or a nil result, means
	// as this process.
	HelperProcess func() *syscall.SysProcAttr
	// UserAgent is what registries are told; "" means "sinter".
	UserAgent string
	// Attempts is how often a request is sent that fails for a reason that
	// may pass; 0 means 5, and that a registry that never answered is not
	// waited for. RetryDelay is the pause before the second, which doubles
	// each time; 0 means 300ms.
	Attempts   int
	RetryDelay time.Duration
	// Warn gets a line when a registry makes us wait or a mirror fails;
	// may be nil.
	Warn func(text string)
}

// file is the configuration file.
type file struct {
	Mirrors  map[string][]string `json:"mirrors,omitempty"`
	Insecure []string            `json:"insecure,omitempty"`
	CAFiles  []string            `json:"caFiles,omitempty"`
	Pull     string              `json:"pull,omitempty"`

	MaxParallelism int `json:"maxParallelism,omitempty"`
}

// DefaultPaths are the configuration files, the system's first.
func DefaultPaths() []string {
	paths := []string{"/etc/sinter/config.json"}
	if dir, err := os.UserConfigDir(); err == nil {
		paths = append(paths, filepath.Join(dir, "sinter", "config.json"))
	}
	return paths
}

// DefaultCertDirs are the folders where docker and podman look for certificates
// of registries, and our own.
func DefaultCertDirs() []string {
	dirs := []string{"/etc/docker/certs.d", "/etc/containers/certs.d", "/etc/sinter/certs.d"}
	if dir, err := os.UserConfigDir(); err == nil {
		dirs = append(dirs,
			filepath.Join(dir, "docker", "certs.d"),
			filepath.Join(dir, "containers", "certs.d"),
			filepath.Join(dir, "sinter", "certs.d"))
	}
	return dirs
}

// LoadConfig reads configuration files, by default those of DefaultPaths. One
// that does not exist is left out, and so is one that cannot be read or parsed, for
// which there is an error. Of several, lists are joined: the mirrors of
// a later file come first. Of maxParallelism and pull the last counts. $SINTER_CERTS adds a PEM file, or a folder like
// /etc/docker/certs.d.
//
//	{
//	  "mirrors":  {"docker.io": ["mirror.example.com/hub", "http://10.0.0.1:5000"]},
//	  "insecure": ["registry.lan:5000"],
//	  "caFiles":  ["/etc/ssl/company.pem"],
//	  "maxParallelism": 4,
//	  "pull":     "missing"
//	}
func LoadConfig(paths ...string) (Config, []error) {
	if len(paths) == 0 {
		paths = DefaultPaths()
	}
	c := Config{Mirrors: map[string][]string{}, CertDirs: DefaultCertDirs()}
	var faults []error
	for _, p := range paths {
		if err := c.load(p); err != nil {
			faults = append(faults, err)
		}
	}
	if p := os.Getenv("SINTER_CERTS"); p != "" {
		if info, err := os.Stat(p); err == nil && info.IsDir() {
			c.CertDirs = append(c.CertDirs, p)
		} else {
			c.CAFiles = append(c.CAFiles, p)
		}
	}
	return c, faults
}

func (c *Config) load(path string) error {
	data, err := hostfile.Read(path, hostfile.MaxConfig)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	f, err := decodeFile(data)
	if err != nil {
		return &Error{
			Msg:  fmt.Sprintf("parsing %s: %v", path, err),
			Hint: `it is JSON with "mirrors", "insecure", "caFiles", "maxParallelism" and "pull"`, Err: err,
		}
	}
	for _, host := range slices.Sorted(maps.Keys(f.Mirrors)) {
		host, mirrors := canonicalHost(host), f.Mirrors[host]
		c.Mirrors[host] = append(slices.Clone(mirrors), c.Mirrors[host]...)
	}
	c.Insecure = append(c.Insecure, f.Insecure...)
	c.CAFiles = append(c.CAFiles, f.CAFiles...)
	if f.MaxParallelism > 0 {
		c.MaxParallelism = f.MaxParallelism
	}
	if f.Pull != "" {
		policy, err := ParsePolicy(f.Pull)
		if err != nil {
			return err
		}
		c.Pull = &policy
	}
	return nil
}

func decodeFile(data []byte) (file, error) {
	var f file
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return f, err
	}
	if d.More() {
		return f, errors.New("there is more than one value")
	}
	if f.MaxParallelism < 0 {
		return f, errors.New("maxParallelism must not be negative")
	}
	for _, mirrors := range f.Mirrors {
		for _, m := range mirrors {
			if _, _, _, err := splitMirror(m); err != nil {
				return f, err
			}
		}
	}
	if f.Pull != "" {
		if _, err := ParsePolicy(f.Pull); err != nil {
			return f, fmt.Errorf("pull policy %q: %w", f.Pull, err)
		}
	}
	return f, nil
}

// AddMirror reads HOST=MIRROR, as --registry-mirror gives it. A mirror added
// later comes after those added before, all of them before those of files.
func (c *Config) AddMirrors(flags []string) error {
	added := map[string][]string{}
	for _, text := range flags {
		host, mirror, ok := strings.Cut(text, "=")
		if !ok || host == "" {
			return &Error{Msg: fmt.Sprintf("registry mirror %q: want HOST=MIRROR", text), Hint: mirrorHint}
		}
		if _, _, _, err := splitMirror(mirror); err != nil {
			return err
		}
		host = canonicalHost(host)
		added[host] = append(added[host], mirror)
	}
	if c.Mirrors == nil {
		c.Mirrors = map[string][]string{}
	}
	for host, mirrors := range added {
		c.Mirrors[host] = append(mirrors, c.Mirrors[host]...)
	}
	return nil
}

const mirrorHint = "write HOST=MIRROR, such as docker.io=mirror.example.com or docker.io=http://10.0.0.1:5000/hub"

// canonicalHost is docker.io for all its names.
func canonicalHost(host string) string {
	switch host {
	case dockerHub, "registry-1.docker.io", "registry.hub.docker.com":
		return "docker.io"
	}
	return host
}

// splitMirror reads [http://|https://]HOST[:PORT][/PREFIX].
func splitMirror(s string) (scheme, host, prefix string, err error) {
	rest := s
	for _, known := range []string{"http", "https"} {
		if r, ok := strings.CutPrefix(rest, known+"://"); ok {
			scheme, rest = known, r
			break
		}
	}
	host, prefix, _ = strings.Cut(rest, "/")
	prefix = strings.Trim(prefix, "/")
	if _, regErr := registryName(host, false); host == "" || regErr != nil {
		return "", "", "", &Error{Msg: fmt.Sprintf("registry mirror %q: it has no host", s), Hint: mirrorHint}
	}
	return scheme, host, prefix, nil
}

// mirror is where a mirror keeps the repository at path.
func (c *Client) mirror(text, path string) (endpoint, error) {
	scheme, host, prefix, err := splitMirror(text)
	if err != nil {
		return endpoint{}, err
	}
	if prefix != "" {
		path = prefix + "/" + path
	}
	e := endpoint{host: host, path: path, mirror: true, schemes: c.schemes(host)}
	switch {
	case scheme == "http":
		e.schemes = onlyPlain
	case scheme == "https" && e.schemes == tlsOrPlain:
		e.schemes = onlyTLS
	}
	return e, nil
}
