package layout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sinter-build/sinter/layers/hint"
)

// engine is the HTTP API of a Docker engine, or of what behaves like one.
type engine struct {
	address string // for people
	client  *http.Client
	base    string
}

const engineHint = "start Docker or set DOCKER_HOST; without an engine write a file: -o type=docker,dest=image.tar"

// engineTimeout is how long an engine may take to answer at all.
const engineTimeout = 5 * time.Second

// LoadIntoEngine gives images to the Docker engine of DOCKER_HOST, or else of
// this machine, as docker load does. It returns where that was.
func LoadIntoEngine(ctx context.Context, list []Named) (place string, err error) {
	e, err := findEngine(ctx)
	if err != nil {
		return "", err
	}
	defer e.client.CloseIdleConnections()
	if err := e.load(ctx, list); err != nil {
		return "", fmt.Errorf("loading into the Docker engine at %s: %w", e.address, err)
	}
	return "the Docker engine at " + e.address, nil
}

// engineHosts are the addresses to try.
func engineHosts() []string {
	if h := os.Getenv("DOCKER_HOST"); h != "" {
		return []string{h}
	}
	hosts := []string{"unix:///var/run/docker.sock"}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		hosts = append(hosts, "unix://"+filepath.Join(dir, "docker.sock"))
	}
	return hosts
}

// findEngine returns the first engine that answers.
func findEngine(ctx context.Context) (*engine, error) {
	var all []error
	for _, host := range engineHosts() {
		e, err := newEngine(host)
		if err == nil {
			if err = e.ping(ctx); err == nil {
				return e, nil
			}
		}
		all = append(all, fmt.Errorf("%s: %w", host, err))
	}
	return nil, hint.Add(fmt.Errorf("no Docker engine answers: %w", errors.Join(all...)), engineHint)
}

func newEngine(host string) (*engine, error) {
	u, err := url.Parse(host)
	if err != nil {
		return nil, err
	}
	var network, address string
	e := &engine{address: host, base: "http://docker"}
	switch u.Scheme {
	case "unix":
		network, address = "unix", u.Path
	case "tcp", "http":
		if os.Getenv("DOCKER_TLS_VERIFY") != "" {
			return nil, errors.New("an engine behind TLS is not supported")
		}
		network, address, e.base = "tcp", u.Host, "http://"+u.Host
	default:
		return nil, fmt.Errorf("%s:// is not supported: only unix:// and tcp:// are", u.Scheme)
	}
	dialer := &net.Dialer{Timeout: engineTimeout}
	e.client = &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, address)
		},
	}}
	return e, nil
}

func (e *engine) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, engineTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, e.base+"/_ping", nil)
	if err != nil {
		return err
	}
	res, err := e.client.Do(req)
	if err != nil {
		// The URL in it means nothing to people.
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err
		}
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("it answers %s", res.Status)
	}
	return nil
}

func (e *engine) load(ctx context.Context, list []Named) error {
	r, w := io.Pipe()
	go func() { w.CloseWithError(WriteArchive(ctx, w, list, true)) }()
	defer r.Close()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.base+"/images/load?quiet=1", r)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-tar")
	res, err := e.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode/100 != 2 {
		text, _ := io.ReadAll(io.LimitReader(res.Body, 4096))
		return fmt.Errorf("it answers %s: %s", res.Status, engineMessage(text))
	}
	return readLoad(res.Body)
}

// engineMessage is the text of an error that an engine answers.
func engineMessage(body []byte) string {
	var m struct{ Message string }
	if json.Unmarshal(body, &m) == nil && m.Message != "" {
		return m.Message
	}
	return strings.TrimSpace(string(body))
}

// readLoad reads what an engine tells while it loads: JSON objects, of which
// one with an error means that it failed.
func readLoad(r io.Reader) error {
	for d := json.NewDecoder(r); ; {
		var line struct {
			Error string `json:"error"`
		}
		err := d.Decode(&line)
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return fmt.Errorf("reading its answer: %w", err)
		case line.Error != "":
			return errors.New(line.Error)
		}
	}
}
