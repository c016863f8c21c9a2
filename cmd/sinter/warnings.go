package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/moby/buildkit/client"
)

// printWarnings shows what the build warned of: what the checks of the Dockerfile
// found as a list with a line for each, everything else as it is.
func printWarnings(w io.Writer, warnings []client.VertexWarning) {
	var found []string
	for _, v := range warnings {
		if text := warningText(v); v.URL != "" {
			found = append(found, text)
		} else {
			fmt.Fprintf(w, "warning: %s\n", text)
		}
	}
	if len(found) == 0 {
		return
	}
	fmt.Fprintf(w, "%s found (--check shows more):\n", count(len(found), "warning"))
	for _, text := range found {
		fmt.Fprintf(w, " - %s\n", text)
	}
}

func warningText(w client.VertexWarning) string {
	text := string(w.Short)
	if w.SourceInfo != nil && len(w.Range) > 0 {
		line := w.Range[0].Start.Line
		// The checks say the line as well.
		text = fmt.Sprintf("%s:%d: %s", w.SourceInfo.Filename, line, strings.TrimSuffix(text, fmt.Sprintf(" (line %d)", line)))
	}
	return text
}

// count is a number of things, whose name takes an s where there is not one.
func count(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return fmt.Sprintf("%d %s", n, thing)
}
