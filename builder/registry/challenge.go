package registry

import (
	"net/http"
	"strings"
)

// challenge is one way to log in that a registry offers with a 401.
type challenge struct {
	scheme     string // in lower case: "bearer", "basic"
	parameters map[string]string
}

// challenges reads all WWW-Authenticate headers (RFC 9110, section 11.6.1). A
// header may hold several challenges. What cannot be read is left out.
func challenges(h http.Header) []challenge {
	var list []challenge
	for _, line := range h.Values("WWW-Authenticate") {
		first := len(list)
		for {
			line = strings.TrimLeft(line, " \t,")
			var word string
			if word, line = cutToken(line); word == "" {
				break
			}
			value, isParameter := strings.CutPrefix(strings.TrimLeft(line, " \t"), "=")
			if !isParameter {
				list = append(list, challenge{strings.ToLower(word), map[string]string{}})
				continue
			}
			value, line = cutValue(strings.TrimLeft(value, " \t"))
			if len(list) > first {
				list[len(list)-1].parameters[strings.ToLower(word)] = value
			}
		}
	}
	return list
}

// choose returns the challenge to answer: a token for this repository goes before
// a password for everything, as in containerd.
func choose(list []challenge) (challenge, bool) {
	var chosen challenge
	rank := 0
	for _, c := range list {
		r := 0
		switch {
		case c.scheme == "bearer" && c.parameters["realm"] != "":
			r = 3
		case c.scheme == "basic":
			r = 2
		case c.scheme == "bearer":
			r = 1
		}
		if r > rank {
			chosen, rank = c, r
		}
	}
	return chosen, rank > 0
}

// cutToken cuts a token (RFC 9110, section 5.6.2) off the beginning of s.
func cutToken(s string) (token, rest string) {
	end := strings.IndexFunc(s, func(r rune) bool {
		return r <= ' ' || r > '~' || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
	})
	if end < 0 {
		end = len(s)
	}
	return s[:end], s[end:]
}

// cutValue cuts a parameter's value off the beginning of s: a quoted string, or
// whatever ends at a comma or space.
func cutValue(s string) (value, rest string) {
	quoted, ok := strings.CutPrefix(s, `"`)
	if !ok {
		if end := strings.IndexAny(s, ", \t"); end >= 0 {
			return s[:end], s[end:]
		}
		return s, ""
	}
	var b strings.Builder
	for i := 0; i < len(quoted); i++ {
		switch c := quoted[i]; {
		case c == '"':
			return b.String(), quoted[i+1:]
		case c == '\\' && i+1 < len(quoted):
			i++
			b.WriteByte(quoted[i])
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), ""
}
