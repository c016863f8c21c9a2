package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"slices"
	"testing"

	"github.com/sinter-build/sinter/layers"
)

// TestParentsResolveAsInView: a layer's tar is read as if its entries were written to
// a root directory one after the other, so a parent that leads through symlinks is
// where layers.Resolve finds it, and what that refuses is refused.
func TestParentsResolveAsInView(t *testing.T) {
	before := []tar.Header{
		{Name: "d/", Typeflag: tar.TypeDir}, {Name: "d/e/", Typeflag: tar.TypeDir}, {Name: "f"},
		{Name: "rel", Typeflag: tar.TypeSymlink, Linkname: "d/e"}, {Name: "abs", Typeflag: tar.TypeSymlink, Linkname: "/d/./e"},
		{Name: "d/up", Typeflag: tar.TypeSymlink, Linkname: "../../../rel"}, {Name: "slash", Typeflag: tar.TypeSymlink, Linkname: "d/"},
		{Name: "root", Typeflag: tar.TypeSymlink, Linkname: "/"}, {Name: "dotdot", Typeflag: tar.TypeSymlink, Linkname: "rel/.."},
		{Name: "dangling", Typeflag: tar.TypeSymlink, Linkname: "no/where"}, {Name: "back", Typeflag: tar.TypeSymlink, Linkname: "no/../d"},
		{Name: "tofile", Typeflag: tar.TypeSymlink, Linkname: "f"}, {Name: "loop", Typeflag: tar.TypeSymlink, Linkname: "d/../loop"},
		{Name: "through", Typeflag: tar.TypeSymlink, Linkname: "f/.."},
	}
	for _, parent := range []string{
		"d", "rel", "abs", "d/up", "slash", "root", "root/rel", "dotdot", "dangling", "dangling/x", "back", "new/er",
		"f", "f/x", "tofile", "loop", "through", "through/d", "rel/f",
	} {
		headers := append(slices.Clone(before), tar.Header{Name: parent + "/new"})
		got, _, _, err := Read(context.Background(), bytes.NewReader(foreign(t, before...)))
		if err != nil {
			t.Fatal(err)
		}
		want, refused := layers.NewView([]*layers.Tree{got}).Resolve(parent+"/new", false)
		got, _, _, err = Read(context.Background(), bytes.NewReader(foreign(t, headers...)))
		if (err != nil) != (refused != nil) {
			t.Errorf("%s: %v, in a view %v", parent, err, refused)
			continue
		}
		if err != nil {
			continue
		}
		if _, there := got.Find(want); !there {
			t.Errorf("%s: there is no %s", parent, want)
		}
	}
}
