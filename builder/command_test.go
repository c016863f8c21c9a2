package builder

import (
	"slices"
	"strings"
	"testing"

	"github.com/sinter-build/sinter/parser"
)

func TestCommandEnvironment(t *testing.T) {
	p := parser.Proxy{HTTP: "h", No: "n"}
	for _, c := range []struct{ env, want string }{
		{"PATH=/bin no_proxy=mine", "PATH=/bin no_proxy=mine HTTP_PROXY=h http_proxy=h NO_PROXY=n no_proxy=n"},
		{"XPATH=/x", "XPATH=/x HTTP_PROXY=h http_proxy=h NO_PROXY=n no_proxy=n PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
	} {
		env := strings.Fields(c.env)
		before := slices.Clone(env)
		if got := strings.Join(withPath(withProxy(env, p)), " "); got != c.want {
			t.Errorf("%s: got %s, want %s", c.env, got, c.want)
		}
		if !slices.Equal(env, before) {
			t.Errorf("the step's own environment changed: %q", env)
		}
	}
}

func TestMountPlace(t *testing.T) {
	for _, c := range []struct{ cwd, at, want string }{
		{"/w", "/abs", "/abs"}, {"/w", "rel/x", "/w/rel/x"}, {"w", "../x", "/x"}, {"", "x", "/x"},
	} {
		if got := (mounter{cwd: c.cwd}).dest(c.at); got != c.want {
			t.Errorf("%s in %s: %s, want %s", c.at, c.cwd, got, c.want)
		}
	}
}
