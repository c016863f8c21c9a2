package web

import (
	"bufio"
	"bytes"
	"context"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sinter-build/sinter/builder/source/remote"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/parser"
)

// rawAnswers answers every request with the same bytes.
type rawAnswers []byte

func (a rawAnswers) RoundTrip(req *http.Request) (*http.Response, error) {
	return http.ReadResponse(bufio.NewReader(bytes.NewReader(a)), req)
}

// FuzzHTTPAnswer: a server's answer is refused, or gives one file with a name
// of one part.
func FuzzHTTPAnswer(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Disposition: attachment; filename=\"../../x\"\r\nLast-Modified: Mon, 02 Jan 2006 15:04:05 GMT\r\n\r\nhello",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nETag: W/\"1\"\r\nContent-Disposition: inline; filename*=UTF-8''..%2f..%2fx\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
		"HTTP/1.1 503 Wait\r\nRetry-After: 99999999999999999999\r\n\r\n",
		"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\n\r\n",
		"HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
	} {
		f.Add([]byte(s), "a/b")
	}
	f.Fuzz(func(t *testing.T, answer []byte, path string) {
		dir := t.TempDir()
		r := New(remote.Config{Root: dir})
		r.backoff.Wait = func(context.Context, time.Duration) error { return nil }
		r.client.Transport = rawAnswers(answer)
		files, err := r.Files(t.Context(), parser.HTTP{URL: "http://host.invalid/" + path})
		if err == nil {
			e, _ := readOnly(t, files)
			if !layers.IsClean(e.Path) || e.Path == "" || strings.Contains(e.Path, "/") {
				t.Errorf("the file's name is %q", e.Path)
			}
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "downloads", "*", remote.TempPrefix+"*")); len(left) > 0 {
			t.Errorf("left: %q", left)
		}
	})
}
