package parser_test

import (
	"strings"
	"testing"

	"github.com/sinter-build/sinter/parser"
)

// TestText: the instruction of a node is given as it is written, whatever the lines and
// comments it consists of.
func TestText(t *testing.T) {
	g := &parser.Graph{Files: []parser.SourceFile{{Name: "Dockerfile", Data: []byte("FROM a\nRUN  x \\\n  # why\n  y\nCOPY <<E /a\n#text\nE\nRUN \x1b[31m\n")}}}
	at := func(file, from, to int) *parser.Node {
		return &parser.Node{Pos: []parser.Range{{File: file, Start: parser.Position{Line: from}, End: parser.Position{Line: to}}}}
	}
	for want, n := range map[string]*parser.Node{
		"RUN x y":             at(0, 2, 4),
		"COPY <<E /a #text E": at(0, 5, 7),
		"RUN \ufffd[31m":      at(0, 8, 8),
	} {
		if got := g.Text(n); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	for _, n := range []*parser.Node{{}, at(0, 1, 1), at(0, 0, 1), at(0, 9, 10), at(0, 3, 2), at(1, 1, 1)} {
		if got := g.Text(n); got != "" {
			t.Errorf("%+v: got %q", n.Pos, got)
		}
	}
}

// TestSecretArgumentsAreHidden: what a build argument holds whose name looks like a secret
// is in no step's name, however it is quoted, and hidden in texts.
func TestSecretArgumentsAreHidden(t *testing.T) {
	req := amd64()
	req.BuildArgs = map[string]string{"API_TOKEN": "hunter2", "KEY": `a"b\c`, "AUTH": "hunter22", "PASSWORD": "yes", "MODE": "plain"}
	g, err := parser.Parse(t.Context(), req, withDockerfile("FROM scratch\nARG API_TOKEN KEY AUTH PASSWORD MODE\nCOPY x /$API_TOKEN-$MODE-$PASSWORD\nCOPY x \"/$KEY\"\nCOPY x /$AUTH/\x1b[31m\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	names := ""
	for _, n := range g.Nodes {
		names += n.Name + "\n"
	}
	for _, want := range []string{"COPY x /xxxxx-plain-yes\n", "COPY x /xxxxx/\ufffd[31m\n"} {
		if !strings.Contains(names, want) {
			t.Errorf("the names have no %q:\n%s", want, names)
		}
	}
	for text, want := range map[string]string{
		"at hunter22, hunter2":      "at xxxxx, xxxxx",
		`path "/a\"b\\c"`:           `path "/xxxxx"`,
		`/a"b\\c`:                   "/xxxxx",
		"http://u:p@host/yes/plain": "http://xxxxx:xxxxx@host/yes/plain",
	} {
		if got := g.Redact(text); got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
}

// TestIsArg: arguments are what ARG declares, in whatever stage.
func TestIsArg(t *testing.T) {
	g, err := parser.Parse(t.Context(), amd64(), withDockerfile("FROM scratch AS a\nARG ONE=1 TWO\nENV THREE=3\nFROM a\nARG FOUR\nCOPY x /\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"ONE": true, "TWO": true, "THREE": false, "FOUR": true, "FIVE": false} {
		if g.IsArg(name) != want {
			t.Errorf("%s: %t", name, !want)
		}
	}
}

// TestLooksSecretIsTheFrontendsRule: a variable is hidden where the frontend's own check
// warns of it.
func TestLooksSecretIsTheFrontendsRule(t *testing.T) {
	for name, want := range map[string]bool{
		"API_TOKEN": true, "token": true, "MY_PASSWORD": true, "Secret_MESSAGE": true, "AUTH": true, "apikey": true,
		"TOKENS": false, "MONKEY": false, "PUBLIC_KEY": false, "KEY_FILE": false, "TOKEN_VERSION": false, "NODE_ENV": false,
	} {
		warned := false
		_, err := parser.Parse(t.Context(), amd64(), withDockerfile("FROM scratch\nARG "+name+"\nCOPY x /\n"), func(parser.Warning) { warned = true })
		if err != nil {
			t.Fatal(err)
		}
		if parser.LooksSecret(name) != want || warned != want {
			t.Errorf("%s: hidden %t, warned of %t, want %t", name, parser.LooksSecret(name), warned, want)
		}
	}
}
