package fileop

import (
	"cmp"
	"context"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sinter-build/sinter/layers"
)

// goldenFS is a view whose files hold their own paths.
type goldenFS struct{ viewFS }

func (goldenFS) Digest(_ context.Context, e layers.Entry) (digest.Digest, error) {
	first := map[string]string{"d/again": "d/a.txt", "d/sub/far": "o/x"}
	return digest.FromString(cmp.Or(first[e.Path], e.Path)), nil
}

// everyKind has an entry of every kind, with all that may count of it.
func everyKind() goldenFS {
	caps := map[string]string{capability: "\x01\x00\x00\x02"}
	attrs := map[string]string{capability: "\x01\x00\x00\x02", "user.one": "x", "user.two": "y"}
	return goldenFS{viewFS{View: layers.NewView([]*layers.Tree{{Entries: []layers.Entry{
		{Path: "d", Kind: layers.Dir, Mode: 0o750, UID: 1, GID: 2, ModTime: 3e9},
		{Path: "d/a.txt", Mode: 0o644, UID: 5, GID: 6, ModTime: 7_500_000_000, Size: 4},
		{Path: "d/again", Kind: layers.Hardlink, Link: "d/a.txt"},
		{Path: "d/block", Kind: layers.BlockDevice, Mode: 0o600, DevMajor: 8, DevMinor: 1},
		{Path: "d/char", Kind: layers.CharDevice, Mode: 0o666, DevMajor: 1, DevMinor: 3},
		{Path: "d/pipe", Kind: layers.Fifo, Mode: 0o620},
		{Path: "d/sub", Kind: layers.Dir, Mode: 0o2755, Xattrs: map[string]string{"user.dir": "z"}},
		{Path: "d/sub/b.txt", Mode: 0o4755, Xattrs: caps},
		{Path: "d/sub/c.go", Mode: 0o600, Xattrs: attrs, ModTime: -1},
		{Path: "d/sub/far", Kind: layers.Hardlink, Link: "o/x"},
		{Path: "l", Kind: layers.Symlink, Target: "d/sub", UID: 9},
		{Path: "o", Kind: layers.Dir, Mode: 0o755},
		{Path: "o/x", Mode: 0o644},
	}}})}}
}

// TestGoldenDigests: the digest of what a selection picks is part of keys that
// stores hold. A change here makes every COPY run again: raise the version of keys.
func TestGoldenDigests(t *testing.T) {
	for _, tc := range []struct {
		name string
		sel  Selection
		want digest.Digest
	}{
		{"everything", Selection{Source: "/"}, "sha256:5de4a53f45a3b260cc159f83fe6d39bb9a55286003adea283290fcc7c7c40fa7"},
		{"a mount", Subtree("/d"), "sha256:56f35ee16d5349ac5f2f1b67e227a25dbd9e8268275b3b91ebad6cce5c8161c4"},
		{"a directory itself", Selection{Source: "/d"}, "sha256:1c4d9dcaf7f896da0024c1c373e3a862d1453a4f097d279470edf8798ca4a03e"},
		{"a directory's content", Selection{Source: "/d", Contents: true}, "sha256:dc31686cff9d5647d05a135f389c96231d7bccb32fd74c7584384689ff43fda5"},
		{"a file", Selection{Source: "/d/a.txt"}, "sha256:7e27439113572d36a5a9e9909de9285f5dc276ac82595689b6f6b66b4f712dd8"},
		{"another name of a file", Selection{Source: "/d/again"}, "sha256:cd8bfa0fa5ba9f26fe09b66e068b461aadb88c07c71d18b89328b92a72d08c89"},
		{"a link to a file elsewhere", Selection{Source: "/d/sub"}, "sha256:c6fd044efa439a980fcfa98e39163df183e667dbd099e67be3c1843b506c513c"},
		{"wildcards", Selection{Source: "/d/*", Wildcard: true}, "sha256:809e0178c01e77f637fb52f026403d117a7cb54429bfb4eda3bb1165ec5aa352"},
		{"wildcards in a directory's name", Selection{Source: "/?/[a-z]*", Wildcard: true}, "sha256:3404eebb5b02ffc10740b8113bf6167239a3489c68d25c863af1723689750e64"},
		{"wildcards that match nothing", Selection{Source: "/none*", Wildcard: true}, "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
		{"a symlink", Selection{Source: "/l"}, "sha256:f093f697e6779bae211a430d0f853fc0e30a6204c48f2f7304c5cf5909541610"},
		{"a symlink followed", Selection{Source: "/l", Follow: true, Contents: true}, "sha256:c93a5ba7cbcc999b78a86e5b71f09518039543a2e9155b70889002e6c036a736"},
		{"a wildcard symlink followed", Selection{Source: "/l*", Wildcard: true, Follow: true}, "sha256:934c54a08c349adad48064baa963905462218e2e962aaf0e7c431732c19d6a77"},
		{"include", Selection{Source: "/", Include: []string{"**/*.txt"}}, "sha256:112fbb6ef74879afff3dfc4cceaadf014214e5557333ae5022ce228b50b763ce"},
		{"exclude", Selection{Source: "/", Exclude: []string{"d/sub", "!d/sub/c.go"}}, "sha256:abbe77eb8f6f14512455482781ab0b220e2c03a0415ff1bdb61f58cd63a75e2f"},
		{"include and exclude", Selection{Source: "/d", Include: []string{"sub"}, Exclude: []string{"**/*.go"}}, "sha256:4dc1611952a92dfb774c8eb62e1d31bc9911912afa4e3953c63aaf0da082d431"},
		{"parents", Selection{Source: "/", Include: []string{"d/sub/b.txt"}, Required: []string{"/d/sub/b.txt"}, Contents: true}, "sha256:cbf4de913bb6512128f15b11d8391d899c39a0cc25f084e022a9270cdafb1f15"},
		{"owners", Selection{Source: "/d", Owners: true}, "sha256:0c98ba78f269c9e3fa448d8524d37bc2626fd942f50b1164fc31d05f4b1e8962"},
		{"attributes", Selection{Source: "/d", Xattrs: true}, "sha256:d2e1057c2ca6df5a8b694bb91a77fa7f4e2c7562c6dad1b196a2a3e0a31f0fb6"},
		{"times", Selection{Source: "/d", Times: true}, "sha256:3ca4c85389015a2bf8cedad6ae82c98b5b195cb2e31911a07de1b12014a7f1af"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := digestOf(t, everyKind(), tc.sel); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}
