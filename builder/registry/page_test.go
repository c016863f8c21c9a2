package registry

import (
	"strings"
	"testing"
)

func TestPageText(t *testing.T) {
	for page, want := range map[string]string{
		"<html><head><title>Blocked</title></head><body>by <b>policy</b></body></html>":         "Blocked by policy",
		"<!DOCTYPE html>\n<!-- <b>x</b> > --><p>seen</p><!-- never ends":                        "seen",
		"<script>if (a < b) { x('<p>no</p>') }</script>yes":                                     "yes",
		"<STYLE type=\"text/css\">p > b { }</Style>yes<script src=x>":                           "yes",
		"<a title=\"1 > 0\" href='x>y'>link</a>":                                                "link",
		"<p title = \">\">it's</p><p it's>so</p>":                                               "it's so",
		"<p>5 &lt; 6 &amp;&#32;a < b <3</p>":                                                    "5 < 6 & a < b <3",
		"<scripture>text</scripture>":                                                           "text",
		"<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code><Message>No.</Message></Error>": "AccessDenied No.",
		"<p>cut <b": "cut",
		"<":         "<",
	} {
		if got := oneLine(pageText(page)); got != want {
			t.Errorf("%q is shown as %q, want %q", page, got, want)
		}
	}
	// As much as is shown is read, of a page of any length.
	if n := len(pageText("<p>" + strings.Repeat("word <b>", 1<<16))); n > 16*longestQuote {
		t.Errorf("%d bytes of a long page", n)
	}
}
