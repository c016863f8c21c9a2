package registry

import (
	"bytes"
	"html"
	"strings"
)

// isPage reports whether data looks like HTML or XML.
func isPage(data []byte) bool {
	return bytes.HasPrefix(bytes.TrimLeft(data, "\ufeff \t\r\n"), []byte("<"))
}

// pageText is what a person sees of a web page, title first, or the beginning of that.
// It knows as much of HTML as a line of an error needs: golang.org/x/net/html costs
// every start of the program 0.3 ms.
func pageText(page string) string {
	var b strings.Builder
	for b.Len() < 8*longestQuote {
		text, rest, isMarkup := strings.Cut(page, "<")
		b.WriteString(html.UnescapeString(text))
		if !isMarkup {
			break
		}
		if !beginsTag(rest) {
			b.WriteByte('<')
			page = rest
			continue
		}
		b.WriteByte(' ')
		page = afterTag(rest)
	}
	return b.String()
}

// beginsTag reports whether this, after a "<", is markup and not text.
func beginsTag(s string) bool {
	return s != "" && (strings.IndexByte("!/?", s[0]) >= 0 || isLetter(s[0]))
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

// afterTag is what comes after a tag, whose "<" is cut off; after the end of the element
// where nobody sees what is in it.
func afterTag(s string) string {
	if comment, ok := strings.CutPrefix(s, "!--"); ok {
		_, rest, _ := strings.Cut(comment, "-->")
		return rest
	}
	rest := afterAttributes(s)
	for _, name := range []string{"script", "style"} {
		if hasPrefixFold(s, name) && (len(s) == len(name) || !isLetter(s[len(name)])) {
			return afterElement(rest, name)
		}
	}
	return rest
}

// afterAttributes is what comes after the ">" of a tag; one in quotes is not it.
func afterAttributes(s string) string {
	var quote byte
	for i := range len(s) {
		switch c := s[i]; {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '>':
			return s[i+1:]
		// A quote that does not begin a value is an odd character of a name.
		case (c == '"' || c == '\'') && strings.HasSuffix(strings.TrimRight(s[:i], " \t\r\n"), "="):
			quote = c
		}
	}
	return ""
}

// afterElement is what comes after the end tag of an element.
func afterElement(s, name string) string {
	for {
		_, rest, ok := strings.Cut(s, "</")
		if !ok {
			return ""
		}
		if hasPrefixFold(rest, name) {
			return afterAttributes(rest)
		}
		s = rest
	}
}

// hasPrefixFold is strings.HasPrefix in any case of ASCII letters.
func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}
