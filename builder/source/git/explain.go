package git

import (
	"errors"
	"fmt"
	"net"
	"regexp"

	"github.com/sinter-build/sinter/layers/hint"
)

// explain says what to do about a git that failed with a remote.
func explain(what string, q request, err error) error {
	var failed *failure
	if !errors.As(err, &failed) {
		return err
	}
	var help string
	switch {
	case says(err, "response 407", "returned error: 407"):
		help = "the proxy wants a name and a password: write NAME:PASSWORD@ before the host in HTTPS_PROXY or HTTP_PROXY, or correct what is there"
	case says(err, "Could not resolve proxy"):
		help = "check the proxy's address in HTTPS_PROXY and HTTP_PROXY"
	case says(err, "certificate verification failed", "SSL certificate problem", "SSL: no alternative certificate", "SSL: certificate subject name"):
		help = fmt.Sprintf("the certificate of %s has expired, is for another name, or its authority is not known here: "+
			"then name a PEM file in GIT_SSL_CAINFO that has the authority's certificate and those of the system", q.remote.host)
	case says(err, "could not read Username", "could not read Password", "Authentication failed", "requested URL returned error: 403"):
		help = "for a private repository give a token: --secret id=GIT_AUTH_TOKEN,env=VARIABLE (or src=FILE)"
	case says(err, "Permission denied ("):
		help = hintOfKey(q)
	case says(err, "REMOTE HOST IDENTIFICATION HAS CHANGED"):
		help = "the key of the host is not the one in known_hosts: make sure that it is the right host before you replace the key there"
	case says(err, "Host key verification failed"):
		help = hintOfHostKey(failed.stderr)
	case redirects(err):
		help = "the repository or a submodule has moved, and tokens are not sent to another server: write the new address"
	case says(err, "Could not resolve host", "Failed to connect", "Could not connect", "Connection refused", "Connection timed out", "unable to connect"):
		help = fmt.Sprintf("check that %s is up, the network and the variables HTTP_PROXY, HTTPS_PROXY, NO_PROXY", q.remote.host)
	case says(err, "not found", "does not appear to be a git repository", "does not exist"):
		help = "check the address of the repository"
	}
	return hint.Add(fmt.Errorf("%s: %w", what, err), help)
}

// hintOfKey is what to do when ssh had no key that the server takes.
func hintOfKey(q request) string {
	if q.agent == "" {
		return "keys are used only when the repository itself has an SSH address: write USER@HOST:PATH.git and give an agent or a key " +
			"with --ssh default, or give the submodule an HTTPS address"
	}
	return fmt.Sprintf("give an agent that has the key, or the key itself: --ssh %s, --ssh %[1]s=FILE", q.agent)
}

var hostOfKey = regexp.MustCompile(`(?:host key is known for|The authenticity of host) '?([^' ]+)`)

// hintOfHostKey is what to do when ssh does not know the key of a host.
func hintOfHostKey(said string) string {
	host := "HOST"
	if m := hostOfKey.FindStringSubmatch(said); m != nil {
		host = m[1]
	}
	scan := host
	if name, port, err := net.SplitHostPort(host); err == nil {
		scan = "-p " + port + " " + name
	}
	return fmt.Sprintf("no known_hosts file has the key of %s: ssh-keyscan %s shows it; compare it with the one that the owner of the host publishes, then add it to ~/.ssh/known_hosts", host, scan)
}
