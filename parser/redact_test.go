package parser

import (
	"net/url"
	"strings"
	"testing"
)

func TestRedact(t *testing.T) {
	for text, want := range map[string]string{
		"ADD http://user:pass@host/x /":          "ADD http://xxxxx:xxxxx@host/x /",
		"https://token@host/x":                   "https://xxxxx@host/x",
		"https://:pass@host":                     "https://:xxxxx@host",
		"HTTPS://u:p@host":                       "HTTPS://xxxxx:xxxxx@host",
		"ssh://git@host/x":                       "ssh://git@host/x",
		"ssh://git:pw@host/x":                    "ssh://git:xxxxx@host/x",
		"git+ssh://git:pw@host/x":                "git+ssh://git:xxxxx@host/x",
		"pip install git+https://tok@host/x.git": "pip install git+https://xxxxx@host/x.git",
		"git+http://u:p@host/x":                  "git+http://xxxxx:xxxxx@host/x",
		"DB=postgres://me:pw@db:5432/x":          "DB=postgres://me:xxxxx@db:5432/x",
		"redis://:pw@db":                         "redis://:xxxxx@db",
		"mongodb+srv://u:p@h,v:q@i/x":            "mongodb+srv://u:xxxxx@i/x",
		"http://u:p@sha256:1/":                   "http://xxxxx:xxxxx@sha256:1/",
		"docker://host:5000/x:1@sha256:0123":     "docker://host:5000/x:1@sha256:0123",
		"skopeo copy docker://x:1@sha512:01 y":   "skopeo copy docker://x:1@sha512:01 y",
		"postgres://u:p@db,x:1@sha256:0123":      "postgres://u:xxxxx@sha256:0123",
		"\x1b[32mhttps://token@host/x":           "\x1b[32mhttps://xxxxx@host/x",
		"MIRROR_https://u:p@host":                "MIRROR_https://xxxxx:xxxxx@host",
		"%20https://u:p@host":                    "%20https://xxxxx:xxxxx@host",
		"git@host:x":                             "git@host:x",
		"http://u:p@ss@host/a@b":                 "http://xxxxx:xxxxx@host/a@b",
		"http://u:it's@host":                     "http://xxxxx:xxxxx@host",
		"http://host/a@b":                        "http://host/a@b",
		"http://host?a@b":                        "http://host?a@b",
		"http://host:80 me@x":                    "http://host:80 me@x",
		`["http://host:80","me@x"]`:              `["http://host:80","me@x"]`,
		"http://a:b@c http://d:e@f":              "http://xxxxx:xxxxx@c http://xxxxx:xxxxx@f",
		"x=http://a:b@c":                         "x=http://xxxxx:xxxxx@c",
		"docker-image://alpine:3.18@sha256:0123": "docker-image://alpine:3.18@sha256:0123",
		"oci-layout://layout0@sha256:0123":       "oci-layout://layout0@sha256:0123",
		"a@b":                                    "a@b",
		"RUN curl https://$TOKEN@host/x":         "RUN curl https://$TOKEN@host/x",
		"RUN curl https://me:${PASSWORD}@host/x": "RUN curl https://xxxxx:${PASSWORD}@host/x",
		"RUN curl https://$U:pw$TOKEN@host/x":    "RUN curl https://$U:xxxxx@host/x",
	} {
		if got := Redact(text); got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
}

// Proxies are given without a scheme, too.
func TestRedactProxies(t *testing.T) {
	args := map[string]string{"http_proxy": "user:p4ss@w@proxy:1", "HTTPS_PROXY": "tok@proxy:1", "no_proxy": "me@x", "MAIL": "me@example.com"}
	redact := Redactor(args)
	for name, want := range map[string]string{"http_proxy": "xxxxx@proxy:1", "HTTPS_PROXY": "xxxxx@proxy:1", "no_proxy": "me@x", "MAIL": "me@example.com"} {
		if got := RedactArg(name, args[name]); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
		if got := redact("x " + args[name] + " y"); got != "x "+want+" y" {
			t.Errorf("%s within a text: got %s, want %s", name, got, want)
		}
	}
}

func TestPasswordWarning(t *testing.T) {
	for address, want := range map[string]string{
		"https://user:pass@host/x": "the address of host has a password or token,",
		"https://:pass@host/x":     "the address of host has a password or token,",
		"https://ghp_1@host:1/x":   "the address of host:1 has a user name that may be a token,",
		"ssh://git@host/x":         "",
		"https://host/x":           "",
	} {
		got := PasswordWarning(address)
		if !strings.HasPrefix(got, want) || (got == "") != (want == "") {
			t.Errorf("%s: %q, not %q", address, got, want)
		}
		if want != "" && !strings.Contains(got, "HTTP_AUTH_HEADER_host,src=FILE") {
			t.Errorf("%s: %q", address, got)
		}
	}
}

// FuzzRedact: what url.Parse takes for a password is never left.
func FuzzRedact(f *testing.F) {
	for _, s := range []string{"u:hunter2@host/x", "u:p@ss@host", "u:%40@h", "u:'x'@h", ":@h", "a:b@[::1]:1/"} {
		f.Add(s, "get ", " now")
	}
	f.Fuzz(func(t *testing.T, address, before, after string) {
		u, err := url.Parse("http://" + address)
		if err != nil || u.User == nil {
			return
		}
		password, _ := u.User.Password()
		// The text itself may have it elsewhere.
		if len(password) < 4 || variable.MatchString(password) || strings.ContainsAny(password, "@/") || strings.Contains(before+after+u.Host+u.RequestURI()+u.Fragment+mask, password) {
			return
		}
		got := Redact(before + " http://" + address + " " + after)
		if strings.Contains(got, ":"+password+"@") {
			t.Errorf("%q is in %q", password, got)
		}
		if again := Redact(got); again != got {
			t.Errorf("%q became %q", got, again)
		}
	})
}
