package catalog

import (
	"archive/zip"
	"bytes"
	"compress/zlib"
	"debug/elf"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
)

// ecosystem is a layer with packages of one kind, and what is found in it.
type ecosystem struct {
	files files
	want  []string
}

const osRelease = "ID=debian\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\nPRETTY_NAME=\"Debian 12\"\n"

const dpkgHello = `Package: hello
Status: install ok installed
Maintainer: A <a@example.com>
Architecture: amd64
Version: 2.10-3
Description: greets

`

const dpkgWorld = `Package: world
Status: install ok installed
Maintainer: A <a@example.com>
Architecture: all
Version: 1.0
Depends: hello
Description: is greeted

Package: removed
Status: deinstall ok config-files
Maintainer: A <a@example.com>
Architecture: all
Version: 9
Description: was here

`

const apkInstalled = `C:Q1qKcZ+j23xssAXmgQhkOO8dHnbWw=
P:musl
V:1.2.5-r0
A:x86_64
S:383459
I:622592
T:the musl c library
U:https://musl.libc.org/
L:MIT
o:musl
m:A <a@example.com>
t:1709918411
c:a2d1b1e1d9d5e8cba8f4e5f4b3d1a1d7c8e2a9a1
F:lib
R:ld-musl-x86_64.so.1
a:0:0:755
Z:Q1m6yFzYqtj3PKBNdC1+4pnYqnFls=

`

// ecosystems returns layers by the names of their ecosystems.
func ecosystems(t *testing.T) map[string]ecosystem {
	t.Helper()
	return map[string]ecosystem{
		"empty": {files{}, nil},
		"dpkg": {files{
			"/etc/os-release": osRelease, "/var/lib/dpkg/status": dpkgHello + dpkgWorld, "/usr/bin/hello*": "#!/bin/sh\n",
			"/var/lib/dpkg/info/hello.list": "/.\n/usr/bin/hello\n", "/var/lib/dpkg/info/hello.md5sums": "d41d8cd98f00b204e9800998ecf8427e  usr/bin/hello\n",
			"/usr/share/doc/hello/copyright": "License: GPL-3+\n",
		}, []string{"deb hello 2.10-3 0", "deb world 1.0 0"}},
		"apk": {files{
			"/etc/os-release": "ID=alpine\nVERSION_ID=3.20.1\n", "/lib/apk/db/installed": apkInstalled, "/lib/ld-musl-x86_64.so.1*": "x",
		}, []string{"apk musl 1.2.5-r0 0"}},
		"go": {files{"/usr/local/bin/app*": goProgram(t)}, []string{"go-module example.com/app UNKNOWN 0", "go-module stdlib " + runtime.Version() + " 0"}},
		"npm": {files{
			"/app/node_modules/left-pad/package.json": `{"name":"left-pad","version":"1.3.0","license":"MIT"}`,
			"/app/node_modules/broken/package.json":   `{"name":`, "/app/package-lock.json": `{"name":"app","lockfileVersion":3,"packages":{"node_modules/declared":{"version":"9.9.9"}}}`,
		}, []string{"npm left-pad 1.3.0 0"}},
		"python": {files{
			"/usr/lib/python3/dist-packages/six-1.16.0.dist-info/METADATA":      "Metadata-Version: 2.1\nName: six\nVersion: 1.16.0\nLicense: MIT\n",
			"/usr/lib/python3/dist-packages/six-1.16.0.dist-info/RECORD":        "six.py,sha256=abc,34549\n",
			"/usr/lib/python3/dist-packages/six-1.16.0.dist-info/top_level.txt": "six\n",
			"/usr/lib/python3/dist-packages/old-1.0.egg-info/PKG-INFO":          "Metadata-Version: 1.0\nName: old\nVersion: 1.0\n",
		}, []string{"python old 1.0 0", "python six 1.16.0 0"}},
		"gem": {files{
			"/usr/lib/ruby/gems/3.1.0/specifications/rake-13.0.6.gemspec": "Gem::Specification.new do |s|\n  s.name = \"rake\".freeze\n  s.version = \"13.0.6\"\n  s.licenses = [\"MIT\".freeze]\nend\n",
		}, []string{"gem rake 13.0.6 0"}},
		"java":  {files{"/opt/app.jar": jar(t)}, []string{"java-archive app 4.5.6 0", "java-archive example-core 4.5.6 0"}},
		"cargo": {files{"/usr/bin/rusty*": auditable(t)}, []string{"rust-crate libc 0.2.1 0", "rust-crate rusty 0.1.0 0"}},
		"nix": {files{
			"/nix/store/h0cnbmfcn93xm5dg2x27ixhag1cwndga-glibc-2.34-210-bin/": "", "/nix/store/h0cnbmfcn93xm5dg2x27ixhag1cwndga-glibc-2.34-210-bin/man/glibc.1": "x",
		}, []string{"nix glibc 2.34-210 0"}},
		"composer": {files{"/app/vendor/composer/installed.json": `{"packages":[{"name":"psr/log","version":"3.0.0"}]}`},
			[]string{"php-composer psr/log 3.0.0 0"}},
	}
}

// jar returns a Java archive that says what it is.
func jar(t *testing.T) string {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, f := range [][2]string{
		{"META-INF/MANIFEST.MF", "Manifest-Version: 1.0\nImplementation-Title: example-core\nImplementation-Version: 4.5.6\n\n"},
		{"META-INF/maven/org.example/example-core/pom.properties", "groupId=org.example\nartifactId=example-core\nversion=4.5.6\n"},
	} {
		w, err := z.Create(f[0])
		if err == nil {
			_, err = w.Write([]byte(f[1]))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// auditable returns a program with the list of crates that cargo-auditable puts into a
// section of it.
func auditable(t *testing.T) string {
	t.Helper()
	var list bytes.Buffer
	z := zlib.NewWriter(&list)
	_, err := z.Write([]byte(`{"packages":[{"name":"libc","version":"0.2.1","source":"crates.io"},` +
		`{"name":"rusty","version":"0.1.0","source":"local","dependencies":[0],"root":true}]}`))
	if err != nil || z.Close() != nil {
		t.Fatal(err)
	}
	const names = "\x00.shstrtab\x00.dep-v0\x00"
	const head = 64
	h := elf.Header64{
		Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: uint32(elf.EV_CURRENT), Ehsize: head,
		Shoff: uint64(head + len(names) + list.Len()), Shentsize: 64, Shnum: 3, Shstrndx: 1,
	}
	copy(h.Ident[:], elf.ELFMAG+"\x02\x01\x01")
	var b bytes.Buffer
	for _, part := range []any{
		h, []byte(names), list.Bytes(), elf.Section64{},
		elf.Section64{Name: 1, Type: uint32(elf.SHT_STRTAB), Off: head, Size: uint64(len(names))},
		elf.Section64{Name: 11, Type: uint32(elf.SHT_PROGBITS), Off: head + uint64(len(names)), Size: uint64(list.Len())},
	} {
		if err := binary.Write(&b, binary.LittleEndian, part); err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

// goProgram returns a Go program, which is built once.
func goProgram(t *testing.T) string {
	t.Helper()
	program, err := buildGo()
	if err != nil {
		t.Fatal(err)
	}
	return program
}

var buildGo = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "sinter-sbom-test-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	for name, text := range map[string]string{"go.mod": "module example.com/app\n", "main.go": "package main\n\nfunc main() {}\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return "", err
		}
	}
	c := exec.Command("go", "build", "-o", "app", ".")
	c.Dir = dir
	c.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
	if err := c.Run(); err != nil {
		return "", err
	}
	program, err := os.ReadFile(filepath.Join(dir, "app"))
	return string(program), err
})
