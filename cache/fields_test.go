package cache

import "testing"

// TestFieldsTellValuesApart: values of any bytes, and lists of any length.
func TestFieldsTellValuesApart(t *testing.T) {
	writes := []func(*Fields){
		func(f *Fields) {},
		func(f *Fields) { f.Flag("link", true) },
		func(f *Fields) { f.Text("source", "a") },
		func(f *Fields) { f.Text("source", "a b") },
		func(f *Fields) { f.Text("source", "a\nlink") },
		func(f *Fields) { f.Text("source", "a"); f.Flag("link", true) },
		func(f *Fields) { f.Text("source", "\xff") },
		func(f *Fields) { f.Text("source", "\xfe") },
		func(f *Fields) { f.Text("source", "\ufffd") },
		func(f *Fields) { f.Text("source", `\xff`) },
		func(f *Fields) { f.Texts("list", []string{""}) },
		func(f *Fields) { f.Texts("list", []string{"", ""}) },
		func(f *Fields) { f.Texts("list", []string{"a", "b"}) },
		func(f *Fields) { f.Texts("list", []string{"b", "a"}) },
		func(f *Fields) { f.Texts("list", []string{`a" "b`}) },
		func(f *Fields) { f.Texts("list", []string{"a\nb"}) },
		func(f *Fields) { f.Given("time", 0) },
		func(f *Fields) { f.Given("time", -1) },
		func(f *Fields) { f.Number("time", 1) },
	}
	seen := map[string]int{}
	for i, write := range writes {
		var f Fields
		write(&f)
		if j, ok := seen[f.String()]; ok {
			t.Errorf("fields %d and %d are both %q", j, i, f.String())
		}
		seen[f.String()] = i
	}
}

// TestUnsetFieldsAreLeftOut: so a new field keeps the keys that do not have it.
func TestUnsetFieldsAreLeftOut(t *testing.T) {
	var f Fields
	f.Flag("link", false)
	f.Text("source", "")
	f.Texts("list", nil)
	f.Number("size", 0)
	if f.String() != "" {
		t.Errorf("got %q", f.String())
	}
}
