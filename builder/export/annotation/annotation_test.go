package annotation

import (
	"strings"
	"testing"
)

func FuzzParse(f *testing.F) {
	for _, s := range []string{"a=b", "index,manifest[linux/amd64]:a=b", ":=", "manifest-descriptor:a.b=c=d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		list, err := Parse(text)
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

func TestParseRefuses(t *testing.T) {
	for _, text := range []string{"a", "=b", "moon:a=b", "manifest:=x", "manifest[[x]]:a=b", "manifest[a/b/c/d]:a=b", "Index:a=b"} {
		if list, err := Parse(text); err == nil {
			t.Errorf("Parse(%q) = %+v", text, list)
		}
	}
}
