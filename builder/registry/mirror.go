package registry

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/opencontainers/go-digest"
)

func (c *Client) isDead(e endpoint) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dead[e.host]
}

// bury leaves out a mirror from now on if err says that it does not work: waiting
// for it again and again would make a build slow.
func (c *Client) bury(e endpoint, err error) {
	if e.mirror && !answered(err) {
		c.giveUp(e, err)
	}
}

// giveUp leaves out a mirror from now on.
func (c *Client) giveUp(e endpoint, err error) {
	c.mu.Lock()
	known := c.dead[e.host]
	c.dead[e.host] = true
	c.mu.Unlock()
	if !known {
		c.config.Warn(fmt.Sprintf("the mirror is not used: %v", err))
	}
}

// errGivenUp is about a mirror that others have given up in the meantime.
var errGivenUp = errors.New("it does not answer")

// answered reports whether err came from a registry that works: it may lack an
// image, or have another one.
func answered(err error) bool {
	var answer *transport.Error
	var request *url.Error
	switch {
	case errors.Is(err, errNotRegistry):
		return false
	case errors.As(err, &answer):
		return answer.StatusCode < http.StatusInternalServerError
	}
	return !errors.As(err, &request)
}

// wasFetched reports whether the blob was asked for before, and so may have arrived
// wrong.
func (c *Client) wasFetched(d digest.Digest) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	was := c.fetched[d]
	c.fetched[d] = true
	return was
}
