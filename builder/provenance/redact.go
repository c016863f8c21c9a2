package provenance

import (
	"encoding/base64"
	"strings"

	"github.com/sinter-build/sinter/parser"
)

// redact hides what may be secret in a text, which may be an argument in the environment
// of a step.
func (b Build) redact(text string) string {
	name, value, ok := strings.Cut(text, "=")
	if arg := b.Graph.Asked().Options[buildArg+name]; ok && arg == value {
		text = name + "=" + parser.RedactArg(name, value)
	}
	return b.Graph.Redact(text)
}

// hide applies redact to all texts in decoded JSON, also to those that BuildKit writes
// in base64: the Dockerfile, and files that are given in it.
func hide(v any, redact func(string) string) any {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			if text, ok := value.(string); ok && key == "data" {
				v[key] = hideData(text, redact)
				continue
			}
			v[key] = hide(value, redact)
		}
	case []any:
		for i, value := range v {
			v[i] = hide(value, redact)
		}
	case string:
		return redact(v)
	}
	return v
}

func hideData(text string, redact func(string) string) string {
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return redact(text)
	}
	return base64.StdEncoding.EncodeToString([]byte(redact(string(data))))
}
