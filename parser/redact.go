package parser

import (
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
)

// withUser is an address with a user, and the algorithm of a digest if that is what
// follows. The user ends at the last @ before the path; passwords may have nearly all
// characters. A list of an address and a mail address without a slash is taken for one,
// too: better than to show a password.
var withUser = regexp.MustCompile("(?i)([a-z][a-z0-9+.-]*)(://)([^\\s/?#\"<>\\\\`]*)@(sha[0-9]+:)?")

// variable is the name of a variable, in whose place something stands later.
var variable = regexp.MustCompile(`^\$(\w+|\{\w+\})$`)

const mask = "xxxxx"

// Redact hides the passwords of all addresses in a text. Over HTTP, where a
// token may stand for the user, both are hidden, as BuildKit does; other users,
// as in ssh://git@host, stay. Digests are not hosts: docker-image://debian:12@sha256:…
func Redact(text string) string {
	if !strings.Contains(text, "@") || !strings.Contains(text, "://") {
		return text
	}
	return withUser.ReplaceAllStringFunc(text, func(match string) string {
		m := withUser.FindStringSubmatch(match)
		scheme := strings.ToLower(m[1])
		isHTTP := strings.HasSuffix(scheme, "http") || strings.HasSuffix(scheme, "https") // git+https, too
		if m[4] != "" && !isHTTP && !strings.Contains(m[3], "@") {
			return match
		}
		user, secret, password := strings.Cut(m[3], ":")
		if isHTTP {
			user = masked(user)
		}
		if password {
			user += ":" + masked(secret)
		}
		return m[1] + m[2] + user + "@" + m[4]
	})
}

// Redact hides what Redactor hides for the arguments of the build.
func (g *Graph) Redact(text string) string {
	if g.redact == nil {
		return Redact(text)
	}
	return g.redact(text)
}

// Redactor returns a function that does what Redact does, and hides also the values of
// those build arguments whose names look like secrets.
func Redactor(args map[string]string) func(string) string {
	secrets := secretValues(args)
	return func(text string) string { return Redact(secrets.Replace(text)) }
}

// RedactArg hides the value of a build argument whose name looks like a secret, however
// short it is.
func RedactArg(name, value string) string {
	if shown, ok := proxyWithoutUser(name, value); ok {
		return shown
	}
	if !LooksSecret(name) || value == "" || value == "true" || value == "false" {
		return value
	}
	return mask
}

// proxyWithoutUser hides the user and the password of a proxy that is given without a
// scheme, as USER:PASSWORD@HOST:PORT, in which Redact sees no address.
func proxyWithoutUser(name, value string) (shown string, ok bool) {
	at := strings.LastIndexByte(value, '@')
	if at < 0 || strings.Contains(value, "://") {
		return value, false
	}
	switch strings.ToLower(name) {
	case "http_proxy", "https_proxy", "ftp_proxy", "all_proxy":
		return mask + value[at:], true
	}
	return value, false
}

// shortestSecret is the least length in bytes of a value that is hidden within other
// text. Shorter ones, such as 1 or yes, stand there by chance.
const shortestSecret = 4

// secretValues hides values of arguments as they are, as they stand between quotes, and as
// they stand in addresses.
func secretValues(args map[string]string) *strings.Replacer {
	var values, proxies []string
	for name, value := range args {
		if shown, ok := proxyWithoutUser(name, value); ok {
			proxies = append(proxies, value, shown)
		}
		if len(value) < shortestSecret || value == "true" || value == "false" || !LooksSecret(name) {
			continue
		}
		quoted := strconv.Quote(value)
		values = append(values, value, quoted[1:len(quoted)-1], strings.NewReplacer(`\`, `\\`, "\n", `\n`).Replace(value),
			url.PathEscape(value), url.QueryEscape(value), (&url.URL{Path: value}).EscapedPath())
	}
	// Of two that begin alike the longer one is looked for first.
	slices.SortFunc(values, func(a, b string) int { return len(b) - len(a) })
	pairs := proxies
	for _, v := range values {
		pairs = append(pairs, v, mask)
	}
	return strings.NewReplacer(pairs...)
}

// onOneLine replaces line breaks, and what a terminal would obey.
func onOneLine(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case unicode.IsControl(r):
			return unicode.ReplacementChar
		}
		return r
	}, text)
}

// masked hides a part of an address, if that says anything.
func masked(part string) string {
	if part == "" || part == mask || variable.MatchString(part) {
		return part
	}
	return mask
}

func redact(text []byte) []byte { return []byte(Redact(string(text))) }

func sourceFile(name string, data []byte) SourceFile {
	return SourceFile{Name: name, Data: redact(data)}
}

// redactHistory hides passwords in the entries that the Dockerfile adds.
func redactHistory(res *dockerfile2llb.Result) {
	base := 0
	if res.BaseImage != nil {
		base = len(res.BaseImage.History)
	}
	for i := base; i < len(res.Image.History); i++ {
		res.Image.History[i].CreatedBy = Redact(res.Image.History[i].CreatedBy)
	}
}

// warnOfPasswords tells of addresses with passwords, once for each host.
func (f *frontend) warnOfPasswords(req Request, g *Graph) {
	told := map[string]bool{}
	tell := func(address string, pos []Range) {
		w := Warning{Short: PasswordWarning(address), Level: 1}
		if w.Short == "" || told[w.Short] {
			return
		}
		told[w.Short] = true
		if len(pos) > 0 {
			w.Source, w.Ranges = &g.Files[pos[0].File], pos
		}
		f.tell(w)
	}
	// Those with a place tell more.
	nodes := slices.Clone(g.Nodes)
	slices.SortStableFunc(nodes, func(a, b *Node) int { return min(len(b.Pos), 1) - min(len(a.Pos), 1) })
	for _, n := range nodes {
		switch op := n.Op.(type) {
		case Git:
			tell(op.FullURL, n.Pos)
		case HTTP:
			tell(op.URL, n.Pos)
		}
	}
	tell(req.Context, nil)
	for _, name := range slices.Sorted(maps.Keys(req.Contexts)) {
		tell(req.Contexts[name], nil)
	}
}

// PasswordWarning says what to do about an address with a password; it is ""
// for one without.
func PasswordWarning(address string) string {
	u, err := url.Parse(Redact(address))
	if err != nil || u.User == nil || !strings.Contains(u.User.String(), mask) {
		return ""
	}
	what := "a user name that may be a token"
	if _, ok := u.User.Password(); ok {
		what = "a password or token"
	}
	return fmt.Sprintf("the address of %s has %s, which whoever sees the command or the Dockerfile can read; give it as a secret: "+
		"--secret id=GIT_AUTH_TOKEN.%[1]s,src=FILE for a repository, --secret id=HTTP_AUTH_HEADER_%[3]s,src=FILE for a download", u.Host, what, u.Hostname())
}
