package git

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sinter-build/sinter/parser"
)

// These tests try the vectors of the sandbox's ADVISORIES.md that no other test
// tries.

// hostileSubmodule is a .gitmodules file that means harm.
type hostileSubmodule struct {
	name string
	// modules is the file; MARKER is a file that must not be made.
	modules string
	// paths are the places of the submodule.
	paths []string
	// links are symlinks of the repository, with their targets.
	links map[string]string
}

var hostileSubmodules = []hostileSubmodule{
	{name: "name climbs", modules: "[submodule \"../../../../evil\"]\n\tpath = mod\n\turl = ../sub.git\n", paths: []string{"mod"}},
	{name: "name climbs within", modules: "[submodule \"x/../../hooks\"]\n\tpath = mod\n\turl = ../sub.git\n", paths: []string{"mod"}},
	{name: "name is a directory of another", modules: "[submodule \"mod\"]\n\tpath = mod\n\turl = ../sub.git\n[submodule \"mod/hooks\"]\n\tpath = other\n\turl = ../sub.git\n", paths: []string{"mod", "other"}},
	{name: "same name twice", modules: "[submodule \"mod\"]\n\tpath = mod\n\turl = ../sub.git\n\tpath = other\n", paths: []string{"mod", "other"}},
	{name: "address is an option", modules: "[submodule \"mod\"]\n\tpath = mod\n\turl = \"--upload-pack=touch MARKER\"\n", paths: []string{"mod"}},
	{name: "address of ssh is an option", modules: "[submodule \"mod\"]\n\tpath = mod\n\turl = \"ssh://-oProxyCommand=touch%20MARKER/x\"\n", paths: []string{"mod"}},
	{name: "address is a command", modules: "[submodule \"mod\"]\n\tpath = mod\n\turl = \"ext::touch MARKER\"\n", paths: []string{"mod"}},
	{name: "path is an option", modules: "[submodule \"mod\"]\n\tpath = \"-u./touch\"\n\turl = ../sub.git\n", paths: []string{"-u./touch"}},
	{name: "update is a command", modules: "[submodule \"mod\"]\n\tpath = mod\n\turl = ../sub.git\n\tupdate = \"!touch MARKER\"\n", paths: []string{"mod"}},
	{name: "file system monitor", modules: "[submodule \"mod\"]\n\tpath = mod\n\turl = ../sub.git\n[core]\n\tfsmonitor = \"touch MARKER\"\n", paths: []string{"mod"}},
	{name: "carriage return, hooks", modules: "[submodule \"mod\"]\n\tpath = \"mod\r\"\n\turl = ../sub.git\n", paths: []string{"mod\r"}, links: map[string]string{"mod": ".git/modules/mod/hooks"}},
	{name: "carriage return, hooks beside the tree", modules: "[submodule \"mod\"]\n\tpath = \"mod\r\"\n\turl = ../sub.git\n", paths: []string{"mod\r"}, links: map[string]string{"mod": "../git/modules/mod/hooks"}},
	{name: "carriage return, configuration", modules: "[submodule \"mod\"]\n\tpath = \"mod\r\"\n\turl = ../sub.git\n", paths: []string{"mod\r"}, links: map[string]string{"mod": "../git/modules/mod"}},
	{name: "symlink of that name", modules: "[submodule \"mod\"]\n\tpath = real\n\turl = ../sub.git\n", paths: []string{"real"}, links: map[string]string{"REAL": "../git/modules/mod", "mod": "/"}},
}

// serveSubmodule gives an origin a repository sub.git whose files are what a
// repository's own directory has: hooks that make a file, and a configuration
// that runs a command.
func serveSubmodule(o *origin, marker string) (commit string) {
	o.t.Helper()
	sub := &origin{t: o.t, dir: filepath.Join(filepath.Dir(o.dir), "sub"), bare: filepath.Join(filepath.Dir(o.bare), "sub.git")}
	sub.make(sub.dir, sub.bare)
	hook := "#!/bin/sh\ntouch " + marker + "\n"
	files := map[string]string{
		"touch": hook, "post-checkout": hook, "hooks/post-checkout": hook, "f": "f\n", ".gitattributes": "* filter=evil\n",
		"config": "[filter \"evil\"]\n\tsmudge = touch " + marker + "; cat\n[core]\n\tfsmonitor = touch " + marker + "\n",
	}
	sub.write(files)
	sub.git("update-index", "--chmod=+x", "touch", "post-checkout", "hooks/post-checkout")
	return sub.write(nil)
}

// A repository's submodules run no command here, and write nothing outside of
// their checkout.
func TestGitHostileSubmodules(t *testing.T) {
	for _, h := range hostileSubmodules {
		t.Run(h.name, func(t *testing.T) {
			t.Parallel()
			o, top := serveGit(t, smart), t.TempDir()
			marker := filepath.Join(top, "marker")
			commit := serveSubmodule(o, marker)
			for name, target := range h.links {
				if err := os.Symlink(target, filepath.Join(o.dir, name)); err != nil {
					t.Fatal(err)
				}
				o.git("add", name)
			}
			for _, path := range h.paths {
				o.git("update-index", "--add", "--cacheinfo", "160000,"+commit+","+path)
			}
			o.write(map[string]string{".gitmodules": strings.ReplaceAll(h.modules, "MARKER", marker)})
			for i, keep := range []bool{false, true} {
				// git may refuse it; what counts is what else it does.
				_, err := fetcher(t, filepath.Join(top, fmt.Sprint("store", i)), nil).Files(t.Context(), parser.Git{FullURL: o.url(), KeepGitDir: keep})
				t.Logf("keep %t: %v", keep, err)
			}
			if _, err := os.Lstat(marker); !errors.Is(err, os.ErrNotExist) {
				t.Error("a command of the repository ran")
			}
			if left, err := filepath.Glob(filepath.Join(top, "*")); err != nil || len(left) != 2 {
				t.Errorf("beside the stores there is %q, %v", left, err)
			}
			if left, err := filepath.Glob(filepath.Join(top, "store*", "git", "*", "*")); err != nil || strings.Contains(fmt.Sprint(left), "evil") {
				t.Errorf("in the stores there is %q, %v", left, err)
			}
		})
	}
}

// Hooks that a fault of git lets a repository bring do not run, in the repository
// and in its submodules: here a template brings them.
func TestGitPlantedHooks(t *testing.T) {
	o, top := serveGit(t, smart), t.TempDir()
	marker := filepath.Join(top, "marker")
	commit := serveSubmodule(o, marker)
	o.git("update-index", "--add", "--cacheinfo", "160000,"+commit+",mod")
	o.write(map[string]string{"f": "f", ".gitmodules": "[submodule \"mod\"]\n\tpath = mod\n\turl = ../sub.git\n"})
	hooks, bin := filepath.Join(top, "template", "hooks"), filepath.Join(top, "bin")
	if err := errors.Join(os.MkdirAll(hooks, 0o755), os.Mkdir(bin, 0o755)); err != nil {
		t.Fatal(err)
	}
	program, err := exec.LookPath("git")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{filepath.Join(bin, "git"): "export GIT_TEMPLATE_DIR=" + filepath.Dir(hooks) + "\nexec " + program + ` "$@"` + "\n"}
	for _, name := range []string{"post-checkout", "reference-transaction", "post-index-change", "post-merge", "fsmonitor-watchman"} {
		files[filepath.Join(hooks, name)] = "touch " + marker + "\n"
	}
	for name, script := range files {
		if err := os.WriteFile(name, []byte("#!/bin/sh\n"+script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	for _, keep := range []bool{false, true} {
		got, err := gitFile(t, fetcher(t, filepath.Join(top, fmt.Sprint("store", keep)), nil), parser.Git{FullURL: o.url(), KeepGitDir: keep}, "mod/f")
		if got != "f\n" || err != nil {
			t.Errorf("keep %t: got %q, %v", keep, got, err)
		}
	}
	if _, err := os.Lstat(marker); !errors.Is(err, os.ErrNotExist) {
		t.Error("a hook ran")
	}
}

// A symlink in the place of .gitmodules is not followed.
func TestGitLinkedModules(t *testing.T) {
	o, top := serveGit(t, smart), t.TempDir()
	marker := filepath.Join(top, "marker")
	commit := serveSubmodule(o, marker)
	modules := filepath.Join(top, "modules")
	if err := os.WriteFile(modules, []byte("[submodule \"mod\"]\n\tpath = mod\n\turl = ../sub.git\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	id := o.git("hash-object", "-w", modules)
	if err := os.WriteFile(filepath.Join(o.dir, "target"), []byte(modules), 0o644); err != nil {
		t.Fatal(err)
	}
	link := o.git("hash-object", "-w", "target")
	tree := fmt.Sprintf("120000 blob %s\t.gitmodules\n100644 blob %s\tmodules\n160000 commit %s\tmod\n", link, id, commit)
	list := filepath.Join(top, "list")
	if err := os.WriteFile(list, []byte(tree), 0o644); err != nil {
		t.Fatal(err)
	}
	object := o.run(o.dir, "-c", "alias.make=!git mktree --missing <"+list, "make")
	o.git("update-ref", "refs/heads/main", o.git("commit-tree", "-m", "m", object))
	o.push()
	got, err := gitFile(t, fetcher(t, filepath.Join(top, "store"), nil), parser.Git{FullURL: o.url()}, "mod/f")
	if err == nil && got != "(none)" {
		t.Errorf("mod/f is %q", got)
	}
	t.Logf("%q, %v", got, err)
}

// A ref is a ref to git, and nothing else.
func TestGitRefIsNoOption(t *testing.T) {
	o := serveGit(t, smart)
	o.write(map[string]string{"f": "f"})
	marker := filepath.Join(t.TempDir(), "marker")
	for _, ref := range []string{
		"--upload-pack=touch " + marker + ";:", "--upload-pack=touch\t" + marker, "-u", "--exec=x", "a:b", "+refs/heads/main:refs/heads/x",
		"a..b", "main^{/x}", "@{-1}~", "*", "main\nx",
	} {
		_, err := fetcher(t, t.TempDir(), nil).Files(t.Context(), parser.Git{FullURL: o.url(), Ref: ref})
		if err == nil || !strings.Contains(err.Error(), "invalid git ref") {
			t.Errorf("%q: got %v", ref, err)
		}
	}
	if _, err := os.Lstat(marker); !errors.Is(err, os.ErrNotExist) {
		t.Error("a command ran")
	}
}

// A server's word for its default branch goes into commands: it is a branch, or
// is not used.
func TestGitDefaultBranchOfServer(t *testing.T) {
	const object = "0123456789012345678901234567890123456789"
	for _, branch := range []string{"refs/heads/../../../config", "refs/heads/--upload-pack=x y", "refs/heads/a:b", "refs/tags/x", "--exec=x"} {
		rev, err := chosen("ref: "+branch+"\tHEAD\n"+object+"\tHEAD\n", request{})
		if err != nil || rev.ref != "" || rev.object != object {
			t.Errorf("%s: got %+v, %v", branch, rev, err)
		}
	}
}
