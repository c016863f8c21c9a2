package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/sinter-build/sinter/builder"
	"github.com/sinter-build/sinter/parser"
)

// calling is what --call asks for.
type calling struct {
	// method is empty for a build.
	method parser.Method
	json   bool
	// ignoreStatus makes findings no reason to fail.
	ignoreStatus bool
}

// called reads METHOD[,format=text|json][,ignorestatus=BOOL], as docker does.
func (f *buildFlags) called() (calling, error) {
	var c calling
	for i, field := range strings.Split(f.call, ",") {
		name, value, ok := strings.Cut(field, "=")
		switch {
		case !ok && i > 0 || ok && i == 0:
			return c, wrongFlag("call", f.call, "want METHOD[,format=json]")
		case !ok:
			switch c.method = parser.Method(name); c.method {
			case "lint":
				c.method = parser.Check
			case "build":
				c.method = ""
			case parser.Check, parser.Outline, parser.Targets:
			default:
				return c, wrongFlag("call", f.call, "the methods are build, check, outline and targets")
			}
		case name == "format" && (value == "json" || value == "text"):
			c.json = value == "json"
		case name == "format":
			return c, wrongFlag("call", f.call, "want format=text or format=json")
		case name == "ignorestatus":
			var err error
			if c.ignoreStatus, err = strconv.ParseBool(value); err != nil {
				return c, wrongFlag("call", f.call, "want ignorestatus=true or ignorestatus=false")
			}
		default:
			return c, wrongFlag("call", f.call, fmt.Sprintf("unknown field %q: want format or ignorestatus", name))
		}
	}
	return c, nil
}

// call prints what the frontend has to say about the Dockerfile, as docker
// buildx does. Findings of a check make it fail.
func (b *building) call(ctx context.Context, req parser.Request, r *builder.Resolver, c calling) error {
	b.screen.show()
	answer, err := parser.Call(ctx, req, r, c.method)
	b.screen.close()
	if err != nil {
		return err
	}
	if err := b.printAnswer(answer, c); err != nil {
		return err
	}
	if answer.Mistake != nil {
		return answer.Mistake
	}
	if len(answer.Warnings) > 0 && !c.ignoreStatus {
		return &exitError{code: exitFailed}
	}
	return nil
}

func (b *building) printAnswer(a parser.Answer, c calling) error {
	if c.json {
		_, err := fmt.Fprintln(b.stdout, string(a.JSON))
		return err
	}
	head, tail := "", ""
	if c.method == parser.Check {
		switch n := len(a.Warnings); {
		case n == 1:
			head = "Check complete, 1 warning has been found!\n"
		case n > 1:
			head = fmt.Sprintf("Check complete, %d warnings have been found!\n", n)
		case a.Mistake == nil:
			tail = "Check complete, no warnings found.\n"
		}
	}
	_, err := fmt.Fprint(b.stdout, head, string(a.Text), tail)
	return err
}
