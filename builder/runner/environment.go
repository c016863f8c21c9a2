package runner

import (
	"slices"
	"strings"

	"github.com/sinter-build/sinter/builder/cdi"
	"github.com/sinter-build/sinter/builder/sandbox"
	"github.com/sinter-build/sinter/parser"
)

// environment returns what a command's environment is, but for HOME, which the root's
// /etc/passwd says. Later ones count more: the Dockerfile's variables, those of
// proxies (as with BuildKit), docker's PATH if there is none (shells would look
// elsewhere), secrets, and those of devices.
func (r *Runner) environment(x parser.Exec, devices cdi.Edits) ([]string, error) {
	env := append(slices.Clone(x.Env), proxyVariables(x.Proxy)...)
	if !slices.ContainsFunc(env, func(kv string) bool { return strings.HasPrefix(kv, "PATH=") }) {
		env = append(env, "PATH="+sandbox.DefaultPath)
	}
	for _, v := range x.SecretEnv {
		// An optional one that was not given leaves its variable empty, as in BuildKit.
		data, _, err := r.secret(v.ID, v.Optional)
		if err != nil {
			return nil, err
		}
		env = append(env, v.Name+"="+string(data))
	}
	return append(env, devices.Env...), nil
}

// proxyVariables are the proxies' variables, in both spellings.
func proxyVariables(p parser.Proxy) []string {
	var env []string
	for _, v := range []struct{ name, value string }{
		{"HTTP_PROXY", p.HTTP}, {"HTTPS_PROXY", p.HTTPS}, {"FTP_PROXY", p.FTP}, {"NO_PROXY", p.No}, {"ALL_PROXY", p.All},
	} {
		if v.value != "" {
			env = append(env, v.name+"="+v.value, strings.ToLower(v.name)+"="+v.value)
		}
	}
	return env
}
