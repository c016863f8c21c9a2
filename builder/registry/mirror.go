package registry

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

func (c *Client) isDead(e endpoint) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dead[e.host]
}

// bury leaves out a mirror from now on if err says that it does not work: waiting
// for it again and again would make a build slow.
func (c *Client) bury(e endpoint, err error) {
	if !e.mirror || answered(err) {
		return
	}
	c.mu.Lock()
	known := c.dead[e.host]
	c.dead[e.host] = true
	c.mu.Unlock()
	if !known {
		c.config.Warn(fmt.Sprintf("the mirror is not used: %v", err))
	}
}

// answered reports whether err is the answer of a registry that works: it may have
// other images.
func answered(err error) bool {
	var answer *transport.Error
	var corrupt *corruptError
	return errors.As(err, &corrupt) || errors.As(err, &answer) && answer.StatusCode < http.StatusInternalServerError
}
