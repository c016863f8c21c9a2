package main

import (
	"bytes"
	"encoding/json"
	"testing"
)

// hostile has what terminals obey: escapes of C0 and C1, and changes of direction.
const hostile = "a\x1b]0;x\x07\u009b31m\u202eb\r\nc"

func TestFieldsOfServersDoNotReachTheTerminal(t *testing.T) {
	var b bytes.Buffer
	rows := columns(&b)
	printFields(rows, "", [][2]string{{"k" + hostile, "v" + hostile}})
	rows.Flush()
	const shown = "a\ufffd]0;x\ufffd\ufffd31m\ufffdb c"
	if got, want := b.String(), "k"+shown+": v"+shown+"\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestJSONHasNothingThatATerminalObeys(t *testing.T) {
	text, err := indentedJSON(map[string]string{"k": hostile})
	if want := "{\n  \"k\": \"a\\u001b]0;x\\u0007\\u009b31m\\u202eb\\r\\nc\"\n}"; err != nil || text != want {
		t.Errorf("got %q, %v; want %q", text, err, want)
	}
	var line bytes.Buffer
	if err := printJSON(&line, hostile); err != nil || line.String() != `"a\u001b]0;x\u0007\u009b31m\u202eb\r\nc"`+"\n" {
		t.Errorf("on a line it is %q, %v", line.String(), err)
	}
	var back map[string]string
	if err := json.Unmarshal([]byte(text), &back); err != nil || back["k"] != hostile {
		t.Errorf("it is read as %q, %v", back["k"], err)
	}
	if got := escapeObeyed("\"\x9b31m\""); got != "\"\ufffd31m\"" {
		t.Errorf("bytes that are not UTF-8 became %q", got)
	}
}
