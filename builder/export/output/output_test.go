package output

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/export/annotation"
	"github.com/sinter-build/sinter/builder/export/assemble"
	"github.com/sinter-build/sinter/builder/export/exporttest"
	"github.com/sinter-build/sinter/layers/archive"
)

func TestParse(t *testing.T) {
	yes, no := true, false
	for in, want := range map[string]Spec{
		"out":                             {Type: Local, Dest: "out"},
		"-":                               {Type: Tar, Dest: "-"},
		"type=local,dest=out":             {Type: Local, Dest: "out"},
		"dest=out,type=local":             {Type: Local, Dest: "out"},
		`type=oci,"dest=a,b.tar"`:         {Type: OCI, Dest: "a,b.tar"},
		"type=oci":                        {Type: OCI, Dest: "-"},
		"type=docker":                     {Type: Docker},
		"type=docker,tar=false,dest=d":    {Type: Docker, Dest: "d", Directory: true},
		"TYPE=tar,Dest=-":                 {Type: Tar, Dest: "-"},
		"type=registry":                   {Type: Registry, Push: true},
		"type=registry,store=true":        {Type: Registry, Push: true, Keep: true},
		"type=image,name=app,push=true":   {Type: Store, Push: true, Names: []string{"docker.io/library/app:latest"}},
		`type=image,"name=a:1,b"`:         {Type: Store, Names: []string{"docker.io/library/a:1", "docker.io/library/b:latest"}, Tagged: true},
		"type=image,oci-mediatypes=false": {Type: Store, DockerTypes: &yes},
		"type=image,oci-mediatypes=1":     {Type: Store, DockerTypes: &no},
		"type=cacheonly":                  {Type: CacheOnly},
		"type=image,name=a:1":             {Type: Store, Names: []string{"docker.io/library/a:1"}, Tagged: true},
		"type=image,name=":                {Type: Store},
		"type=image,rewrite-timestamp=0":  {Type: Store, RewriteTimes: &no},
		"type=image,push=,registry.insecure=,push-by-digest=,name-canonical=,force-compression=": {Type: Store, Push: true, Insecure: true, ByDigest: true, NameCanonical: true, Force: true},
		"type=image,dangling-name-prefix=x,danging-name-empty-only=true":                         {Type: Store, Dangling: "x", DanglingOnly: true},
		"type=image,store=false,push=true":                                                       {Type: Store, Push: true},
		"type=image,unpack=true":                                                                 {Type: Store, Notes: []string{"unpack=true does nothing: a layer is unpacked when a step needs it"}},
		"type=registry,unpack=false":                                                             {Type: Registry, Push: true},
		"type=tar,platform-split=true":                                                           {Type: Tar, Dest: "-", PlatformSplit: &yes},
		"type=local,dest=d,platform-split=false,mode=delete,src=/x":                              {Type: Local, Dest: "d", PlatformSplit: &no, Delete: true, Source: "/x"},
		"type=image,annotation.A.b=c,annotation-index.d=e":                                       {Type: Store, Annotations: annotation.List{{Level: "manifest", Key: "A.b", Value: "c"}, {Level: "index", Key: "d", Value: "e"}}},
		"type=image,annotation-manifest[linux/arm64].k=v":                                        {Type: Store, Annotations: annotation.List{{Level: "manifest", Platform: &exporttest.ARM64, Key: "k", Value: "v"}}},
	} {
		want.Keep = want.Keep || want.Type == Store && !strings.Contains(in, "store=false")
		if got, err := Parse(in); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("Parse(%q) = %+v, %v; want %+v", in, got, err, want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for in, want := range map[string]string{
		"type=moon": "moon", "type=": "type is required", "dest=x,foo=y": "type is required", "type=local": "dest is required",
		"type=local,dest=-": "standard output", "type=oci,tar=false": "dest is required", "type=oci,foo": "no value",
		"type=oci,foo=bar": `option "foo"`, "type=tar,compression=zstd": "compression", "type=oci,compression=brotli": "brotli",
		"type=oci,compression-level=x": "not a level", "type=oci,compression-level=-1": "not a level", "type=oci,compression=uncompressed,compression-level=1": "out of range",
		"type=oci,compression=estargz": "lazy pulling", "type=oci,compression=zstd:3": "zstd:3", "type=oci,compression-level=10": "out of range", "type=oci,compression-level=99": "level", "type=image,push=maybe": "true or false",
		"type=image,name=UPPER": "UPPER", `type=oci,"dest`: "invalid output", "type=local,dest=x,mode=odd": "mode",
		"type=image,source-date-epoch=1": "source-date-epoch", "type=oci,attestation-inline=x": "true or false",
		"type=oci,attestation-manifest=x": "index, referrer or both", "type=local,dest=x,attestation-prefix=a/b": "without a directory", "type=tar,oci-artifact=true": `option "oci-artifact"`, "type=image,oci-mediatypes=": "true or false",
		"type=oci,push=true": "push", "type=local,dest=x,src=": "src", "type=registry,push=false": "does nothing",
		"type=image,annotation-moon.a=b": "moon", "": "invalid output",
	} {
		if o, err := Parse(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Parse(%q) = %+v, %v; want an error with %q", in, o, err, want)
		}
	}
}

func TestOutputCompression(t *testing.T) {
	for in, want := range map[string]archive.Compression{
		"type=oci":                                       {},
		"type=oci,compression=zstd":                      {Type: archive.Zstd},
		"type=oci,compression-level=9":                   {Type: archive.Gzip, Level: 9},
		"type=oci,compression-level=0":                   {Type: archive.Gzip, Level: archive.Stored},
		"type=oci,compression-level=6":                   {Type: archive.Gzip},
		"type=oci,compression-level=5,compression=zstd":  {Type: archive.Zstd, Level: 5},
		"type=oci,compression=zstd,compression-level=0":  {Type: archive.Zstd, Level: 1},
		"type=oci,compression=zstd,compression-level=22": {Type: archive.Zstd, Level: 22},
		"type=oci,compression=uncompressed":              {Type: archive.Uncompressed},
	} {
		o, err := Parse(in)
		if err != nil {
			t.Fatal(err)
		}
		if c := o.Compression(); c != want {
			t.Errorf("%s: %+v", in, c)
		}
	}
}

func TestCheck(t *testing.T) {
	one, two := []ocispec.Platform{exporttest.AMD64}, []ocispec.Platform{exporttest.AMD64, exporttest.ARM64}
	for _, c := range []struct {
		outputs string // separated by blanks
		targets []ocispec.Platform
		shared  assemble.Options
		want    string // in the error; "" is none
	}{
		{"type=oci type=local,dest=x", two, assemble.Options{}, ""},
		{"type=image,push-by-digest=true", one, assemble.Options{}, "without a push"},
		{"type=image,push-by-digest=true,push=true,name=a", one, assemble.Options{}, ""},
		{"type=image,push-by-digest=true,push=true,name=a:1", one, assemble.Options{}, "under a name with a tag"},
		{"type=image,registry.insecure=true", one, assemble.Options{}, "without a push"},
		{"type=image,store=false", one, assemble.Options{}, "does nothing"},
		{"type=image,store=false,push=true", one, assemble.Options{}, ""},
		{"type=image,dangling-name-empty-only=true", one, assemble.Options{}, "does nothing alone"},
		{"type=docker,dest=x", two, assemble.Options{}, "several platforms"},
		{"type=docker,dest=x", one, assemble.Options{Index: true}, "several platforms"},
		{"type=oci - ", one, assemble.Options{}, "several outputs go to standard output"},
		{"type=oci,annotation-index.a=b", one, assemble.Options{}, "one platform"},
		{"type=oci,annotation-index.a=b", one, assemble.Options{Index: true}, ""},
		{"type=oci,annotation-index[linux/arm64].a=b", two, assemble.Options{}, ""},
		{"type=oci,annotation[linux/arm64].a=b", one, assemble.Options{}, "not built"},
		{"type=oci,oci-mediatypes=false,annotation.a=b", one, assemble.Options{}, ""},
		{"type=oci,oci-mediatypes=false,annotation-manifest-descriptor.a=b", one, assemble.Options{}, "oci-mediatypes=false"},
		{"type=oci,oci-mediatypes=false,compression=zstd", one, assemble.Options{}, "oci-mediatypes=false"},
		{"type=local,dest=x", one, assemble.Options{Annotations: annotation.List{{Level: annotation.Index, Key: "a"}}}, ""},
		{"type=image", one, assemble.Options{Annotations: annotation.List{{Level: annotation.Index, Key: "a"}}}, "one platform"},
	} {
		var list []Spec
		for _, text := range strings.Fields(c.outputs) {
			o, err := Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, o)
		}
		err := Check(list, c.shared, c.targets)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s for %d platforms: %v; want %q", c.outputs, len(c.targets), err, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"out", "-", "type=oci,dest=x", `type=image,"name=a,b"`, "type=image,annotation-index[a/b].k=v"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		o, err := Parse(text)
		if err != nil {
			return
		}
		if o.Type.attributes() == nil && o.Type != CacheOnly {
			t.Errorf("%q has the type %q", text, o.Type)
		}
	})
}

// The files of an image do not take the place of those of this machine.
func TestRootDirectoryIsNoDestination(t *testing.T) {
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink("/usr/..", link); err != nil {
		t.Fatal(err)
	}
	for _, o := range []Spec{{Type: Local, Dest: "/"}, {Type: Local, Dest: link}, {Type: OCI, Directory: true, Dest: "/usr/../"}} {
		var hinted interface{ HintText() string }
		if err := o.CheckDest(); err == nil || !strings.Contains(err.Error(), "root directory") || !errors.As(err, &hinted) {
			t.Errorf("%+v: got %v", o, err)
		}
	}
	if err := (Spec{Type: Local, Dest: filepath.Dir(link)}).CheckDest(); err != nil {
		t.Error(err)
	}
}
