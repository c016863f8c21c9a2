package parser

import (
	"testing"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/solver/pb"
)

// What git fetches is what the identifier names, by which a policy allows or denies it.
func TestGitFetchesWhatItsIdentifierNames(t *testing.T) {
	for address, want := range map[string]Git{
		"https://example.com/a/app.git":                   {Remote: "example.com/a/app.git", FullURL: "https://example.com/a/app.git"},
		"https://example.com/a%20b.git":                   {Remote: "example.com/a b.git", FullURL: "https://example.com/a%20b.git"},
		"https://example.com/a%2520b.git":                 {Remote: "example.com/a%20b.git", FullURL: "https://example.com/a%2520b.git"},
		"https://u:p@Example.com:1/x/":                    {Remote: "Example.com:1/x", FullURL: "https://u:p@Example.com:1/x"},
		"https://example.com/evil.git/..%2fgood.git":      {Remote: "example.com/good.git", FullURL: "https://example.com/good.git"},
		"https://example.com/evil.git/..%2fgood.git%25zz": {Remote: "example.com/good.git%zz", FullURL: "https://example.com/good.git%25zz"},
		"https://example.com/%65vil.git":                  {Remote: "example.com/evil.git", FullURL: "https://example.com/evil.git"},
		"https://example.com//x/../evil.git":              {Remote: "example.com/evil.git", FullURL: "https://example.com/evil.git"},
		"https://example.com/good.git%23/../../evil.git":  {Remote: "example.com/evil.git", FullURL: "https://example.com/evil.git"},
		"https://example.com/good.git%23evil.git":         {Remote: "example.com/good.git", FullURL: "https://example.com/good.git", Ref: "evil.git"},
		"git://example.com/x.git":                         {Remote: "example.com/x.git", FullURL: "git://example.com/x.git"},
		"git@example.com:a/../x.git":                      {Remote: "example.com/x.git", FullURL: "git@example.com:x.git"},
		"me@example.com:/x//y.git":                        {Remote: "example.com/x/y.git", FullURL: "me@example.com:/x/y.git"},
	} {
		def, err := llb.Git(address, "", llb.KnownSSHHosts("none")).Marshal(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var op pb.Op
		if err := op.UnmarshalVT(def.Def[0]); err != nil {
			t.Fatal(err)
		}
		got, err := source(op.GetSource())
		if err != nil {
			t.Errorf("%s: %v", address, err)
			continue
		}
		g := got.(Git)
		if g.Remote != want.Remote || g.FullURL != want.FullURL || g.Ref != want.Ref {
			t.Errorf("%s: got %q, %q, ref %q; want %q, %q, ref %q", address, g.Remote, g.FullURL, g.Ref, want.Remote, want.FullURL, want.Ref)
		}
	}
}
