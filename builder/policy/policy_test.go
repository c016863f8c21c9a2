package policy

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"strings"
	"testing"

	spb "github.com/moby/buildkit/sourcepolicy/pb"

	"github.com/sinter-build/sinter/layers/hint"
	"github.com/sinter-build/sinter/parser"
)

const (
	alpine  = "docker-image://docker.io/library/alpine:latest"
	busybox = "docker-image://docker.io/library/busybox:latest"
	debian  = "docker-image://docker.io/library/debian:12"
	pinned  = alpine + "@sha256:c0d488a800e4127c334ad20d61d7bc21b4097540327217dfab52262adc02380c"
	file    = "https://example.com/f"
)

// rule spells a rule: an action, an identifier, and what the selector and the rule have
// besides, as JSON.
func rule(action, identifier, selector, more string) string {
	return fmt.Sprintf(`{"action": %q, "selector": {"identifier": %q%s}%s}`, action, identifier, selector, more)
}

func allow(id string) string { return rule("ALLOW", id, "", "") }
func deny(id string) string  { return rule("DENY", id, "", "") }
func convert(from, to string) string {
	return rule("CONVERT", from, "", fmt.Sprintf(`, "updates": {"identifier": %q}`, to))
}

// matching is a selector's match type, and constrained its one constraint.
func matching(kind string) string { return fmt.Sprintf(`, "match_type": %q`, kind) }
func constrained(key, condition, value string) string {
	return fmt.Sprintf(`, "constraints": [{"key": %q, "condition": %q, "value": %q}]`, key, condition, value)
}

// setting is what a CONVERT makes of an attribute.
func setting(key, value string) string {
	return fmt.Sprintf(`, "updates": {"attrs": {%q: %q}}`, key, value)
}

func parse(t *testing.T, rules ...string) *Policy {
	t.Helper()
	p, ignored, err := Parse("p.json", []byte(`{"rules": [`+strings.Join(rules, ",")+`]}`))
	if err != nil || ignored != "" {
		t.Fatalf("ignored %q, error %v", ignored, err)
	}
	return p
}

// TestEvaluate has the cases of BuildKit's engine_test.go, and of matcher_test.go and
// mutate_test.go beside it. A want that begins with ! is a pattern of the error.
func TestEvaluate(t *testing.T) {
	for name, test := range map[string]struct {
		rules []string
		of    string
		want  string
	}{
		"no rule":                    {nil, alpine, alpine},
		"no rule matches":            {[]string{deny(busybox)}, alpine, alpine},
		"denied":                     {[]string{deny(alpine)}, alpine, `!^source "` + alpine + `" denied by policy: rule 1 of the source policy p.json \(DENY ` + alpine + `\)$`},
		"all denied":                 {[]string{deny("*")}, file, "!denied by policy: rule 1 of"},
		"denied, then allowed":       {[]string{deny("*"), allow(alpine)}, alpine, alpine},
		"allowed, then denied":       {[]string{allow(alpine), deny("docker-image://*")}, alpine, "!rule 2 of"},
		"the last counts":            {[]string{allow(alpine), deny(alpine), allow(alpine)}, alpine, alpine},
		"the last of two denials":    {[]string{deny(alpine), deny("*"), allow(busybox)}, alpine, "!rule 2 of"},
		"a tag is not its digest":    {[]string{deny("*"), allow(alpine)}, pinned, "!rule 1 of"},
		"a tag with any digest":      {[]string{deny("*"), allow(alpine + "*")}, pinned, pinned},
		"to another image":           {[]string{convert(busybox, alpine)}, busybox, alpine},
		"to a digest":                {[]string{convert(alpine, pinned)}, alpine, pinned},
		"to itself":                  {[]string{convert(alpine, alpine)}, alpine, alpine},
		"through several":            {[]string{convert(busybox, alpine), convert(alpine, debian)}, busybox, debian},
		"through several, backwards": {[]string{convert(alpine, debian), convert(busybox, alpine)}, busybox, debian},
		"in a circle":                {[]string{convert(busybox, alpine), convert(alpine, busybox)}, busybox, "!: the source policy p.json: too many mutations"},
		"on and on":                  {[]string{convert("https://*", "https://a/${1}")}, file, "!: rule 1 of the source policy p.json .*: too many mutations"},
		"converted, then denied":     {[]string{deny(alpine), convert(busybox, alpine)}, busybox, `!^source "` + alpine + `" \(in place of "` + busybox + `"\) denied by policy: rule 1 of`},
		"denied before converted":    {[]string{deny(busybox), convert(busybox, alpine)}, busybox, alpine},
		"allowed when converted":     {[]string{convert(busybox, alpine), allow(alpine), deny("docker-image://*:latest")}, busybox, "!rule 3 of"},
		"wildcards are put in":       {[]string{convert("docker-image://docker.io/*:*", "docker-image://mirror.lan/${1}:x-${2}")}, busybox, "docker-image://mirror.lan/library/busybox:x-latest"},
		"a group is put in":          {[]string{rule("CONVERT", "docker-image://docker.io/(.*)", matching("REGEX"), `, "updates": {"identifier": "docker-image://mirror.lan/${1}"}`)}, busybox, "docker-image://mirror.lan/library/busybox:latest"},
		"a part of it matches":       {[]string{rule("DENY", "busy", matching("REGEX"), "")}, busybox, "!denied"},
		"the whole has to match":     {[]string{deny("busy*")}, busybox, busybox},
		"exactly":                    {[]string{rule("DENY", "docker-image://*", matching("EXACT"), "")}, busybox, busybox},
		"exactly it":                 {[]string{rule("DENY", busybox, matching("EXACT"), "")}, busybox, "!denied"},
		"not a pattern":              {[]string{rule("DENY", "(", matching("REGEX"), "")}, busybox, "!rule 1 of the source policy p.json .*missing closing"},
		"to nothing":                 {[]string{rule("CONVERT", busybox, "", "")}, busybox, "!rule 1 of .*: missing destination"},
		"equal":                      {[]string{rule("DENY", file, constrained("http.checksum", "EQUAL", ""), "")}, file, "!denied"},
		"not equal":                  {[]string{rule("DENY", file, constrained("http.checksum", "NOTEQUAL", ""), "")}, file, file},
		"matches":                    {[]string{rule("DENY", "*", constrained("given", "MATCHES", "^y.s$"), "")}, file, "!denied"},
		"matches not":                {[]string{rule("DENY", "*", constrained("given", "MATCHES", "^no$"), "")}, file, file},
		"half a repository":          {[]string{convert("git://example.com/r.git", "git://example.com/s.git")}, "git://example.com/r.git", "!in place of .*git.fullurl does not match"},
		"another branch":             {[]string{convert("git://example.com/r.git", "git://example.com/r#b:d")}, "git://example.com/r.git", "git://example.com/r#b:d"},
		"a password":                 {[]string{deny("*")}, "https://me:secret@example.com/f", `!^source "https://xxxxx:xxxxx@example.com/f" denied`},
	} {
		t.Run(name, func(t *testing.T) {
			attrs := map[string]string{"given": "yes"}
			if strings.HasPrefix(test.of, "git:") {
				attrs["git.fullurl"] = "https://example.com/r.git"
			}
			before := maps.Clone(attrs)
			got, err := parse(t, test.rules...).Evaluate(parser.Source{Identifier: test.of, Attrs: attrs})
			pattern, fails := strings.CutPrefix(test.want, "!")
			switch {
			case !fails && (err != nil || got.Identifier != test.want || !maps.Equal(got.Attrs, before)):
				t.Errorf("got %+v, %v", got, err)
			case fails && (err == nil || !regexp.MustCompile(pattern).MatchString(err.Error()) || hint.Of(err) == ""):
				t.Errorf("error %v, hint %q", err, hint.Of(err))
			}
			if !maps.Equal(attrs, before) {
				t.Errorf("the attributes that were given became %v", attrs)
			}
		})
	}
}

func TestConvertedAttributes(t *testing.T) {
	got, err := parse(t, rule("CONVERT", file, "", setting("http.checksum", "sha256:1"))).Evaluate(parser.Source{Identifier: file})
	if err != nil || got.Identifier != file || got.Attrs["http.checksum"] != "sha256:1" {
		t.Errorf("a checksum: %+v, %v", got, err)
	}
	both := rule("CONVERT", "git://example.com/r.git", "", `, "updates": {"identifier": "git://Example.com/s", "attrs": {"git.fullurl": "ssh://git@example.com/s.git"}}`)
	got, err = parse(t, both).Evaluate(parser.Source{Identifier: "git://example.com/r.git", Attrs: map[string]string{"git.fullurl": "https://example.com/r.git"}})
	if err != nil || got.Identifier != "git://Example.com/s" || got.Attrs["git.fullurl"] != "ssh://git@example.com/s.git" {
		t.Errorf("a repository: %+v, %v", got, err)
	}
}

func TestParse(t *testing.T) {
	message, err := (&spb.Policy{Rules: []*spb.Rule{{Action: spb.PolicyAction_DENY, Selector: &spb.Selector{Identifier: "*"}}}}).MarshalVT()
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		data                string
		rules               int
		ignored, wantsError string
	}{
		"nothing":             {data: ""},
		"no rules":            {data: "{}"},
		"null":                {data: "null"},
		"the action is ALLOW": {data: `{"version": 1, "rules": [{"selector": {"identifier": "*"}}]}`, rules: 1},
		"numbers":             {data: `{"rules": [{"action": 1, "selector": {"identifier": "*", "match_type": 2}}]}`, rules: 1},
		"protobuf":            {data: string(message), rules: 1},
		"as protobuf has it":  {data: `{"rules": [{"selector": {"identifier": "*", "matchType": "REGEX"}}]}`, rules: 1, ignored: `unknown field "matchType"`},
		"a comment":           {data: `{"why": "x", "rules": []}`, ignored: `unknown field "why"`},
		"not closed":          {data: `{"rules": [`, wantsError: "unexpected end of JSON input"},
		"more than one":       {data: `{} {}`, wantsError: "invalid character"},
		"text":                {data: "deny all", wantsError: "invalid character"},
		"a number":            {data: "7", wantsError: "cannot unmarshal number"},
		"protobuf of others":  {data: "\x18\x01", wantsError: "invalid character"},
		"an action":           {data: `{"rules": [{"action": "BAN", "selector": {}}]}`, wantsError: `"BAN"`},
		"an action's number":  {data: `{"rules": [{"action": 9, "selector": {}}]}`, wantsError: "invalid PolicyAction value: 9"},
		"a match type":        {data: `{"rules": [{"selector": {"match_type": "GLOB"}}]}`, wantsError: `"GLOB"`},
		"a condition":         {data: `{"rules": [{"selector": {"constraints": [{"condition": "LESS"}]}}]}`, wantsError: `"LESS"`},
		"no rule":             {data: `{"rules": [{"selector": {}}, null]}`, wantsError: "rule 2 is null"},
		"no selector":         {data: `{"rules": [{"action": "DENY"}]}`, wantsError: "rule 1 has no selector"},
		"no constraint":       {data: `{"rules": [{"selector": {"constraints": [null]}}]}`, wantsError: "rule 1 has a constraint that is null"},
	} {
		t.Run(name, func(t *testing.T) {
			p, ignored, err := Parse("p.json", []byte(test.data))
			if test.wantsError != "" {
				if err == nil || !strings.HasPrefix(err.Error(), "the source policy p.json: ") || !strings.Contains(err.Error(), test.wantsError) || hint.Of(err) == "" {
					t.Errorf("error %v, hint %q", err, hint.Of(err))
				}
				return
			}
			if err != nil || len(p.rules) != test.rules || ignored != test.ignored {
				t.Errorf("ignored %q, error %v, policy %+v", ignored, err, p)
			}
		})
	}
}

// FuzzParse: whatever a file holds, it is refused or it decides, the same each time, and
// JSON that is read says the same when it is written again.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"rules": [`+deny("*")+","+allow(alpine)+`]}`), alpine)
	f.Add([]byte(`{"rules": [`+convert("docker-image://*:*", "${2}${1}")+`]}`), busybox)
	f.Add([]byte(`{"rules": [`+rule("DENY", "(a|b)*", matching("REGEX"), "")+`]}`), file)
	f.Add([]byte(`{"rules": [`+rule("DENY", "*", constrained("given", "MATCHES", "["), "")+`]}`), file)
	f.Add([]byte("\x12\x07\x08\x01\x12\x03\x0a\x01*"), "git://example.com/r.git#main")
	f.Fuzz(func(t *testing.T, data []byte, identifier string) {
		p, _, err := Parse("p.json", data)
		if err != nil {
			return
		}
		s := parser.Source{Identifier: identifier, Attrs: map[string]string{"given": "yes", "git.fullurl": "https://example.com/r.git"}}
		first, firstErr := p.Evaluate(s)
		again, err := p.Evaluate(s)
		if first.Identifier != again.Identifier || !maps.Equal(first.Attrs, again.Attrs) || fmt.Sprint(firstErr) != fmt.Sprint(err) {
			t.Errorf("decided %+v, %v; then %+v, %v", first, firstErr, again, err)
		}
		written, err := json.Marshal(&spb.Policy{Rules: p.rules})
		if err != nil {
			t.Fatal(err)
		}
		q, ignored, err := Parse("p.json", written)
		if err != nil || ignored != "" || len(q.rules) != len(p.rules) {
			t.Fatalf("written again: %s: %q, %v", written, ignored, err)
		}
	})
}
