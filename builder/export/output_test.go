package export

import (
	"reflect"
	"strings"
	"testing"

	"github.com/sinter-build/sinter/layers/archive"
)

func TestParseOutput(t *testing.T) {
	yes, no := true, false
	for in, want := range map[string]Output{
		"out":                             {Type: Local, Dest: "out"},
		"-":                               {Type: Tar, Dest: "-"},
		"type=local,dest=out":             {Type: Local, Dest: "out"},
		"dest=out,type=local":             {Type: Local, Dest: "out"},
		`type=oci,"dest=a,b.tar"`:         {Type: OCI, Dest: "a,b.tar"},
		"type=oci":                        {Type: OCI, Dest: "-"},
		"type=docker":                     {Type: Docker},
		"type=docker,tar=false,dest=d":    {Type: Docker, Dest: "d", Directory: true},
		"TYPE=tar,Dest=-":                 {Type: Tar, Dest: "-"},
		"type=registry":                   {Type: Registry},
		"type=image,name=app,push=true":   {Type: Store, Push: true, Names: []string{"docker.io/library/app:latest"}},
		`type=image,"name=a:1,b"`:         {Type: Store, Names: []string{"docker.io/library/a:1", "docker.io/library/b:latest"}},
		"type=image,oci-mediatypes=false": {Type: Store, DockerTypes: &yes},
		"type=image,oci-mediatypes=1":     {Type: Store, DockerTypes: &no},
		"type=cacheonly":                  {Type: CacheOnly},
		"type=local,dest=d,platform-split=false,mode=delete,source=/x": {Type: Local, Dest: "d", PlatformSplit: &no, Delete: true, Source: "/x"},
		"type=image,annotation.A.b=c,annotation-index.d=e":             {Type: Store, Annotations: Annotations{{Level: "manifest", Key: "A.b", Value: "c"}, {Level: "index", Key: "d", Value: "e"}}},
		"type=image,annotation-manifest[linux/arm64].k=v":              {Type: Store, Annotations: Annotations{{Level: "manifest", Platform: &arm64, Key: "k", Value: "v"}}},
	} {
		want.Keep = true
		if got, err := ParseOutput(in); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("ParseOutput(%q) = %+v, %v; want %+v", in, got, err, want)
		}
	}
}

func TestParseOutputRefuses(t *testing.T) {
	for in, want := range map[string]string{
		"type=moon": "moon", "type=": "type is required", "dest=x,foo=y": "type is required", "type=local": "dest is required",
		"type=local,dest=-": "standard output", "type=oci,tar=false": "dest is required", "type=oci,foo": "no value",
		"type=oci,foo=bar": `option "foo"`, "type=tar,compression=zstd": "compression", "type=oci,compression=brotli": "brotli",
		"type=oci,compression-level=x": "number", "type=oci,compression-level=99": "level", "type=image,push=maybe": "true or false",
		"type=image,name=UPPER": "UPPER", `type=oci,"dest`: "invalid output", "type=local,dest=x,mode=odd": "mode",
		"type=image,store=false": "does nothing", "type=image,push-by-digest=true": "push=true", "type=registry,push=false": "does nothing",
		"type=image,annotation-moon.a=b": "moon", "type=image,rewrite-timestamp=false": "rewrite-timestamp", "": "invalid output",
	} {
		if o, err := ParseOutput(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseOutput(%q) = %+v, %v; want an error with %q", in, o, err, want)
		}
	}
}

func TestOutputCompression(t *testing.T) {
	for in, want := range map[string]archive.Compression{
		"type=oci,compression=zstd":                     {Type: archive.Zstd},
		"type=oci,compression-level=9":                  {Type: archive.Gzip, Level: 9},
		"type=oci,compression=zstd,compression-level=3": {Type: archive.Zstd, Level: 3},
	} {
		o, err := ParseOutput(in)
		if err != nil {
			t.Fatal(err)
		}
		if c, ok, err := o.Compression(); !ok || err != nil || c != want {
			t.Errorf("%s: %+v, %v, %v", in, c, ok, err)
		}
	}
	if _, ok, err := (Output{Type: OCI}).Compression(); ok || err != nil {
		t.Errorf("without: %v, %v", ok, err)
	}
}

func FuzzParseOutput(f *testing.F) {
	for _, s := range []string{"out", "-", "type=oci,dest=x", `type=image,"name=a,b"`, "type=image,annotation-index[a/b].k=v"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		o, err := ParseOutput(text)
		if err != nil {
			return
		}
		if o.Type.options() == nil && o.Type != CacheOnly {
			t.Errorf("%q has the type %q", text, o.Type)
		}
	})
}

func FuzzParseAnnotation(f *testing.F) {
	for _, s := range []string{"a=b", "index,manifest[linux/amd64]:a=b", ":=", "manifest-descriptor:a.b=c=d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		list, err := ParseAnnotation(text)
		if err != nil {
			return
		}
		for _, a := range list {
			if a.Key == "" || !strings.HasSuffix(text, "="+a.Value) {
				t.Errorf("%q is %+v", text, a)
			}
		}
	})
}

func TestParseAnnotationRefuses(t *testing.T) {
	for _, text := range []string{"a", "=b", "moon:a=b", "manifest:=x", "manifest[[x]]:a=b", "manifest[a/b/c/d]:a=b", "Index:a=b"} {
		if list, err := ParseAnnotation(text); err == nil {
			t.Errorf("ParseAnnotation(%q) = %+v", text, list)
		}
	}
}
