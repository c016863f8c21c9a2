package parser_test

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/containerd/platforms"

	"github.com/sinter-build/sinter/parser"
)

// dump writes a graph for people: nodes by number, fields that are not zero.
func dump(g *parser.Graph) string {
	var b strings.Builder
	number := map[*parser.Node]int{}
	for i, n := range g.Nodes {
		number[n] = i
		fmt.Fprintf(&b, "%d %s\n", i, n.Name)
		if n.Platform.OS != "" {
			fmt.Fprintf(&b, "    platform %s\n", platforms.FormatAll(n.Platform))
		}
		for _, r := range n.Pos {
			fmt.Fprintf(&b, "    at %s:%d-%d\n", g.Files[r.File].Name, r.Start.Line, r.End.Line)
		}
		for j, in := range n.Inputs {
			fmt.Fprintf(&b, "    input %d: %s\n", j, dumpInput(in, number))
		}
		if n.NoCache {
			b.WriteString("    no cache\n")
		}
		if n.GroupName != "" {
			fmt.Fprintf(&b, "    group %s\n", n.GroupName)
		}
		dumpOp(&b, n.Op)
	}
	for _, t := range g.Targets {
		fmt.Fprintf(&b, "target %s: %s\n", platforms.FormatAll(t.Platform), dumpInput(parser.Input{Node: t.Node, Output: t.Output}, number))
		fmt.Fprintf(&b, "    config %s\n", t.Config)
		if t.Epoch != nil {
			fmt.Fprintf(&b, "    epoch %d\n", *t.Epoch)
		}
	}
	return b.String()
}

func dumpInput(in parser.Input, number map[*parser.Node]int) string {
	if in.Node == nil {
		return "scratch"
	}
	i, ok := number[in.Node]
	if !ok {
		return "A NODE THAT COMES LATER"
	}
	return fmt.Sprintf("%d.%d", i, in.Output)
}

func dumpOp(b *strings.Builder, op parser.Op) {
	switch op := op.(type) {
	case parser.Exec:
		mounts := op.Mounts
		op.Mounts = nil
		fmt.Fprintf(b, "    %s\n", fields(op))
		for _, m := range mounts {
			fmt.Fprintf(b, "    mount %s\n", fields(m))
		}
	case parser.FileOp:
		for _, a := range op.Actions {
			fmt.Fprintf(b, "    on %d from %d to %d: %s\n", a.Input, a.Secondary, a.Output, fields(a.Action))
		}
	default:
		fmt.Fprintf(b, "    %s\n", fields(op))
	}
}

// fields is the type's name and those fields that are not zero.
func fields(v any) string {
	rv := reflect.ValueOf(v)
	words := []string{rv.Type().Name()}
	for i := range rv.NumField() {
		if f := rv.Field(i); !f.IsZero() {
			words = append(words, rv.Type().Field(i).Name+"="+value(f))
		}
	}
	return strings.Join(words, " ")
}

func value(v reflect.Value) string {
	switch v.Kind() {
	case reflect.Pointer:
		return value(v.Elem())
	case reflect.Struct:
		return "{" + fields(v.Interface()) + "}"
	case reflect.String:
		if s := v.String(); s == "" || strings.ContainsAny(s, " \n\t\"[]{}") {
			return strconv.Quote(s)
		}
		return v.String()
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return strconv.Quote(string(v.Bytes()))
		}
		words := make([]string, v.Len())
		for i := range words {
			words[i] = value(v.Index(i))
		}
		return "[" + strings.Join(words, " ") + "]"
	}
	if v.Type().Name() == "uint32" {
		return fmt.Sprintf("%#o", v.Uint()) // a file mode
	}
	return fmt.Sprint(v.Interface())
}
