package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// Limits, in characters. A server may send anything.
const (
	longestReason = 2000 // of a registry's own words
	longestQuote  = 200  // of what is not a registry's
	longestURL    = 300
)

// reason says in one line why a request failed, then which request it was. The
// query of an address is left out: it may be long, and signed.
func reason(err error) string {
	var answer *transport.Error
	var request *url.Error
	switch {
	case errors.As(err, &answer) && answer.Request != nil:
		return words(answer) + asked(answer.Request.Method, answer.Request.URL.String())
	case errors.As(err, &answer):
		return words(answer)
	case errors.As(err, &request):
		return clip(oneLine(request.Err.Error()), longestReason) + asked(request.Op, request.URL)
	}
	return clip(oneLine(err.Error()), longestReason)
}

// asked is a request in parentheses.
func asked(method, address string) string {
	if u, err := url.Parse(address); err == nil {
		if u.RawQuery != "" {
			u.RawQuery = "…"
		}
		address = u.Redacted()
	}
	return fmt.Sprintf(" (%s %s)", strings.ToUpper(method), clip(address, longestURL))
}

// words are what a server says with a refusal: the errors of a registry with their
// codes, or else the status and what is in the body.
func words(answer *transport.Error) string {
	if text := diagnostics(answer); text != "" {
		return text
	}
	text := fmt.Sprintf("%d %s", answer.StatusCode, http.StatusText(answer.StatusCode))
	if body := quoted(bodyText(answer)); body != "" {
		text += ": " + body
	}
	return text
}

// said is words in parentheses, or "" if there is nothing but a status.
func said(answer *transport.Error) string {
	if text := diagnostics(answer); text != "" {
		return fmt.Sprintf(" (the registry says: %s)", text)
	}
	if text := quoted(bodyText(answer)); text != "" {
		return fmt.Sprintf(" (the server says: %s)", text)
	}
	return ""
}

func diagnostics(answer *transport.Error) string {
	var list []string
	for _, d := range answer.Errors {
		text := oneLine(d.Message)
		if d.Code != "" && !strings.EqualFold(text, string(d.Code)) {
			text = strings.TrimSuffix(fmt.Sprintf("%s: %s", d.Code, text), ": ")
		}
		detail, err := json.Marshal(d.Detail)
		if s, ok := d.Detail.(string); ok {
			detail = []byte(s)
		}
		if err == nil && len(detail) > 0 && len(detail) <= longestQuote && !bytes.ContainsAny(detail[:1], "n{[") {
			text += "; " + oneLine(string(detail))
		}
		if text != "" {
			list = append(list, text)
		}
	}
	return clip(strings.Join(list, "; "), longestReason)
}

// bodyText is the body of an answer that is not a registry's.
func bodyText(answer *transport.Error) string {
	bare := transport.Error{StatusCode: answer.StatusCode}
	whole := *answer
	whole.Errors, whole.Request = nil, nil
	return strings.TrimSpace(strings.TrimPrefix(strings.TrimPrefix(whole.Error(), bare.Error()), ":"))
}

// quoted is the beginning of a document in quotes; of a web page, of its text. It
// is "" if there is none.
func quoted(document string) string {
	if isPage([]byte(document)) {
		document = pageText(document)
	}
	if document = oneLine(document); document == "" {
		return ""
	}
	return fmt.Sprintf("%q", clip(document, longestQuote))
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

func clip(text string, most int) string {
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return text
}
