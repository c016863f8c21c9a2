package provenance

import (
	"encoding/base64"
	"unicode/utf8"
)

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
	if err != nil || !utf8.Valid(data) {
		return redact(text)
	}
	return base64.StdEncoding.EncodeToString([]byte(redact(string(data))))
}
