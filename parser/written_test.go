package parser_test

import (
	"testing"

	"github.com/sinter-build/sinter/parser"
)

// TestText: the instruction of a node is given as it is written.
func TestText(t *testing.T) {
	g := &parser.Graph{Files: []parser.SourceFile{{Name: "Dockerfile", Data: []byte("FROM a\nRUN x \\\n  y\nCOPY <<E /a\ntext\nE")}}}
	at := func(file, from, to int) *parser.Node {
		return &parser.Node{Pos: []parser.Range{{File: file, Start: parser.Position{Line: from}, End: parser.Position{Line: to}}}}
	}
	for want, n := range map[string]*parser.Node{
		"RUN x \\\n  y":        at(0, 2, 3),
		"COPY <<E /a\ntext\nE": at(0, 4, 6),
	} {
		if got := g.Text(n); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	for _, n := range []*parser.Node{{}, at(0, 1, 1), at(0, 0, 1), at(0, 6, 7), at(0, 3, 2), at(1, 1, 1)} {
		if got := g.Text(n); got != "" {
			t.Errorf("%+v: got %q", n.Pos, got)
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
