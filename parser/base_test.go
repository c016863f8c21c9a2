package parser

import "testing"

func TestReplaceBase(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"plain", "FROM debian\nRUN x\n", "FROM new:1\nRUN x\n"},
		{"flag and name", "from --platform=$P debian as a\nFROM a\n", "FROM --platform=$P new:1 as a\nFROM a\n"},
		{"after arguments", "# syntax=docker/dockerfile:1\nARG V=1\nFROM debian:$V\n", "# syntax=docker/dockerfile:1\nARG V=1\nFROM new:1\n"},
		{"several lines", "FROM \\\n # why\n debian \\\n AS a\nRUN x\n", "FROM new:1 AS a\n\n\n\nRUN x\n"},
		{"other escape", "# escape=`\nFROM `\n debian\nRUN x\n", "# escape=`\nFROM new:1\n\nRUN x\n"},
		{"carriage returns", "FROM debian\r\nRUN x\r\n", "FROM new:1\nRUN x\r\n"},
		{"no end of line", "FROM debian", "FROM new:1"},
		{"only the first", "FROM a\nFROM b\n", "FROM new:1\nFROM b\n"},
		{"none", "RUN x\n", "RUN x\n"},
		{"incomplete", "FROM\n", "FROM\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := replaceBase([]byte(c.text), "new:1")
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
