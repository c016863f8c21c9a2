package registry

import (
	"context"
	"fmt"
	"net/http"

	"github.com/google/go-containerregistry/pkg/authn"

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
	scheme, err := schemeOf(ctx, reg, e, base)
	if err != nil {
		return s.explain(err, nil)
	}
	auth := &authn.Basic{Username: user, Password: password}
	s.auth = &authorizer{inner: base, registry: reg, scheme: scheme, auth: auth}
	client := &http.Client{Transport: s.auth, CheckRedirect: redirect.Check}
	err = ping(ctx, client, serverName(host))
	if err == nil && s.auth.header == "" {
		// The registry did not ask. It may verify what it is told nevertheless.
		s.auth.header = basicHeader(&authn.AuthConfig{Username: user, Password: password})
		err = ping(ctx, client, serverName(host))
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
	return checkStatus(resp, http.StatusOK)
}
