package sbom

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/hint"
)

// script writes a program that is a shell script.
func script(t *testing.T, dir, text string) string {
	t.Helper()
	path := filepath.Join(dir, program)
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// private returns a directory that only its owner can write to.
func private(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestFind(t *testing.T) {
	first, second, open := private(t), private(t), private(t)
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", first+":"+second)
	if path, err := Find(); err == nil || !strings.Contains(hint.Of(err), "go install ") {
		t.Errorf("%s, %v", path, err)
	}
	want := script(t, second, "")
	if path, err := Find(); err != nil || path != want {
		t.Errorf("%s, %v; want %s", path, err, want)
	}
	want = script(t, first, "")
	if path, err := Find(); err != nil || path != want {
		t.Errorf("%s, %v; want %s", path, err, want)
	}
	if err := os.Chmod(want, 0o757); err != nil {
		t.Fatal(err)
	}
	if _, err := Find(); err == nil || !strings.Contains(err.Error(), "writable by everybody") {
		t.Error("a program that everybody can change is run:", err)
	}
	script(t, open, "")
	t.Setenv("PATH", open)
	if _, err := Find(); err == nil || !strings.Contains(err.Error(), "writable by everybody") {
		t.Error("a program that everybody can replace is run:", err)
	}
	links := private(t)
	if err := os.Symlink(filepath.Join(open, program), filepath.Join(links, program)); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", links)
	if _, err := Find(); err == nil || !strings.Contains(err.Error(), "writable by everybody") {
		t.Error("a program that everybody can replace is run by its symlink:", err)
	}
	t.Chdir(second)
	t.Setenv("PATH", ".")
	if _, err := Find(); err == nil || !strings.Contains(err.Error(), "relative path") {
		t.Error("a program of the working directory is run:", err)
	}
	if err := os.Chmod(filepath.Join(second, program), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", second)
	if path, err := Find(); err == nil {
		t.Error("a file that is not a program is found:", path)
	}
}

func request() Request {
	return Request{Store: "/store", Format: SPDX, Subjects: []Subject{{Name: "image", Layers: layers.Chain{{ID: "a"}}}}}
}

func TestRun(t *testing.T) {
	dir := private(t)
	good, err := json.Marshal(Answer{
		Handshake: Hello(), Documents: map[string]json.RawMessage{"image": json.RawMessage(`{"a":1}`)},
		Packages: map[string][]Package{"image": {{Name: "p", Version: "1", Type: "deb", Layer: 0, Path: "/x"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	// It says what it was asked on standard error; that does not matter when it succeeds.
	path := script(t, dir, `[ "$*" = --request ] || exit 9; cat >&2; cat <<'END'`+"\n"+string(good)+"\nEND\n")
	a, err := run(context.Background(), path, request())
	if err != nil || string(a.Documents["image"]) != `{"a":1}` || len(a.Packages["image"]) != 1 {
		t.Errorf("%+v, %v", a, err)
	}
	for name, c := range map[string]struct{ script, want string }{
		"failed":                {"echo 'error: no such layer' >&2; exit 1", "no such layer"},
		"failed in silence":     {"exit 3", "exit status 3"},
		"killed":                {"kill -9 $$", "signal: killed"},
		"out of memory":         {"printf 'fatal error: runtime: out of memory\\n\\ngoroutine 1' >&2; exit 2", "finding packages takes too much memory"},
		"not JSON":              {"echo hello", "reading its answer"},
		"nothing":               {":", "reading its answer"},
		"other protocol":        {`echo '{"protocol":99}'`, "protocol 99"},
		"no document":           {fmt.Sprintf(`echo '{"protocol":%d}'`, Protocol), `no document of "image"`},
		"a text for a document": {fmt.Sprintf(`echo '{"protocol":%d,"documents":{"image":"x"}}'`, Protocol), `no document of "image"`},
		"no such layer": {fmt.Sprintf(`echo '{"protocol":%d,"documents":{"image":{}},"packages":{"image":[{"name":"p","layer":1}]}}'`, Protocol),
			`package "p" in layer 1 of 1`},
		"much to say": {"head -c 1000000 /dev/zero | tr '\\0' x >&2; exit 1", "xxx"},
	} {
		a, err := run(context.Background(), script(t, dir, c.script), request())
		if err == nil || !strings.Contains(err.Error(), c.want) || len(err.Error()) > 2*maxComplaint {
			t.Errorf("%s: %v, %v; want %q", name, a, err, c.want)
		}
	}
	_, err = run(context.Background(), script(t, dir, `printf 'error: too long\nhint: be brief\n' >&2; exit 1`), request())
	if err == nil || strings.Contains(err.Error(), "brief") || hint.Of(err) != "be brief" {
		t.Errorf("got %v, with the hint %q", err, hint.Of(err))
	}
}

// TestRunEnds: a program that is told to end is not waited for.
func TestRunEnds(t *testing.T) {
	dir := private(t)
	started := filepath.Join(dir, "started")
	if err := unix.Mkfifo(started, 0o600); err != nil {
		t.Fatal(err)
	}
	path := script(t, dir, "echo >"+started+"; exec sleep 1000\n")
	ctx, end := context.WithCancelCause(context.Background())
	because := errors.New("told to end")
	go func() {
		_, err := os.ReadFile(started) // until the program opens it
		end(errors.Join(because, err))
	}()
	if a, err := run(ctx, path, request()); !errors.Is(err, because) {
		t.Errorf("%v, %v", a, err)
	}
}

func TestLimited(t *testing.T) {
	l := &limited{max: 4}
	for range 3 {
		if n, err := l.Write([]byte("abc")); n != 3 || err != nil {
			t.Error(n, err)
		}
	}
	if got := l.buf.String(); got != "abca" {
		t.Errorf("kept %q", got)
	}
	l = &limited{max: 4, fail: true}
	if _, err := l.Write([]byte("abcde")); err == nil {
		t.Error("more than the limit was taken")
	}
}

func TestHandshake(t *testing.T) {
	for _, c := range []struct {
		a, b Handshake
		ok   bool
	}{
		{Handshake{1, "v1.0.0"}, Handshake{1, "v1.0.0"}, true},
		{Handshake{1, ""}, Handshake{1, "v1.0.0"}, true},
		{Handshake{1, "v1.0.0"}, Handshake{1, "v1.0.1"}, false},
		{Handshake{1, "v1.0.0"}, Handshake{2, "v1.0.0"}, false},
		{Handshake{1, ""}, Handshake{2, ""}, false},
	} {
		if err := c.a.Check(c.b); (err == nil) != c.ok {
			t.Errorf("%v with %v: %v", c.a, c.b, err)
		}
	}
}

func TestReadRequest(t *testing.T) {
	good := request()
	good.Handshake = Hello()
	for name, change := range map[string]func(*Request){
		"protocol": func(r *Request) { r.Protocol++ },
		"format":   func(r *Request) { r.Format = "text" },
		"store":    func(r *Request) { r.Store = "here" },
		"names":    func(r *Request) { r.Subjects = append(r.Subjects, r.Subjects[0]) },
		"no name":  func(r *Request) { r.Subjects[0].Name = "" },
	} {
		r := good
		r.Subjects = append([]Subject(nil), good.Subjects...)
		change(&r)
		data, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ReadRequest(data); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	data, err := json.Marshal(good)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ReadRequest(data); err != nil {
		t.Error(err)
	}
}

func FuzzReadRequest(f *testing.F) {
	r := request()
	r.Handshake = Hello()
	data, err := json.Marshal(r)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"protocol":1,"store":"/","format":"spdx","subjects":[{"name":"a","layers":[{}]}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := ReadRequest(data)
		if err != nil {
			return
		}
		again, err := json.Marshal(r)
		if err != nil {
			return // a time that JSON cannot hold
		}
		if _, err := ReadRequest(again); err != nil {
			t.Errorf("%s: %v", again, err)
		}
	})
}

func FuzzReadAnswer(f *testing.F) {
	f.Add([]byte(`{"protocol":1,"documents":{"image":{}},"packages":{"image":[{"name":"p","layer":0}]}}`))
	f.Add([]byte(`{"protocol":1,"documents":{"image":null},"packages":{"image":[{"layer":-1}]}}`))
	r := request()
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := ReadAnswer(data, r)
		if err != nil {
			return
		}
		for _, s := range r.Subjects {
			if !json.Valid(a.Documents[s.Name]) {
				t.Errorf("a document that is not JSON: %q", a.Documents[s.Name])
			}
			for _, p := range a.Packages[s.Name] {
				_ = s.Layers[p.Layer]
			}
		}
	})
}
