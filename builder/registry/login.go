package registry

import (
	"context"
	"fmt"
	"net/http"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/sinter-build/sinter/builder/redirect"
)

// Check asks a registry whether it accepts a user's password (or token). It
// stores nothing.
func (c *Client) Check(ctx context.Context, host, user, password string) error {
	host = canonicalHost(host)
	e := c.upstream(host, "")
	reg, err := registryName(host, e.schemes != onlyTLS)
	if err != nil {
		return err
	}
	base, err := c.transport(e)
	if err != nil {
		return err
	}
	s := &session{endpoint: e}
	rt, err := transport.NewWithContext(ctx, reg, &authn.Basic{Username: user, Password: password}, base, nil)
	if err == nil {
		err = ping(ctx, &http.Client{Transport: rt, CheckRedirect: redirect.Check}, serverName(host))
	}
	if err == nil {
		return nil
	}
	if isDenied(err) {
		return &Error{Msg: fmt.Sprintf("registry %s does not accept the password of %s", host, user), Hint: "check the user name and the password; many registries want an access token instead of the password", Err: err}
	}
	return s.explain(err, nil)
}

func ping(ctx context.Context, client *http.Client, server string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+server+"/v2/", nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return transport.CheckError(resp, http.StatusOK)
}
