package cache

import "testing"

func TestKeyTellsRecipesApart(t *testing.T) {
	recipes := map[string]Recipe{
		"empty":      nil,
		"one":        {{Name: "command", Value: "make"}},
		"other name": {{Name: "comman", Value: "dmake"}},
		"two":        {{Name: "command", Value: "make"}, {Name: "user", Value: "1"}},
		"order":      {{Name: "user", Value: "1"}, {Name: "command", Value: "make"}},
		"empty part": {{Name: "command", Value: "make"}, {Name: "", Value: ""}},
	}
	seen := map[Key]string{}
	for name, r := range recipes {
		k := r.Key()
		if k != r.Key() {
			t.Errorf("%s: the key changes", name)
		}
		if other, ok := seen[k]; ok {
			t.Errorf("%s and %s have the same key", name, other)
		}
		seen[k] = name
	}
}

func TestAddListKeepsListsApart(t *testing.T) {
	lists := [][]string{
		{}, {""}, {"a"}, {"a", "b"}, {"a\nb"}, {"a\nb\n"}, {"a\nb", ""}, {`a\n`, "b"}, {`a\nb`}, {"a", "", "b"}, {"", ""},
	}
	seen := map[string]int{}
	for i, l := range lists {
		var r Recipe
		r.AddList("list", l...)
		if j, ok := seen[r[0].Value]; ok {
			t.Errorf("%q and %q give the same part", lists[i], lists[j])
		}
		seen[r[0].Value] = i
	}
}

func TestKeyText(t *testing.T) {
	k := Recipe{{Name: "command", Value: "make"}}.Key()
	var got Key
	if err := got.UnmarshalText([]byte(k.String())); err != nil || got != k {
		t.Errorf("got %v, %v", got, err)
	}
	for _, bad := range []string{"", "abc", k.String() + "0", "z" + k.String()[1:]} {
		if err := got.UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q was taken for a key", bad)
		}
	}
}
