package cache

import "testing"

func TestCanonicalTellsValuesApart(t *testing.T) {
	type inner struct {
		Name string
		At   *int64
	}
	type outer struct {
		Action any
		List   []string
		Data   []byte
		Flag   bool
		Mode   uint32
		Inner  *inner
	}
	zero, one := int64(0), int64(1)
	values := []any{
		outer{}, outer{List: []string{""}}, outer{List: []string{"a", "b"}}, outer{List: []string{"a b"}},
		outer{List: []string{`a" "b`}}, outer{Data: []byte("a")}, outer{Data: []byte{0xff}}, outer{Data: []byte{0xfe}},
		outer{Data: []byte("\ufffd")}, outer{Flag: true}, outer{Mode: 1}, outer{Inner: &inner{}},
		outer{Inner: &inner{Name: "\xff"}}, outer{Inner: &inner{Name: "\xfe"}}, outer{Inner: &inner{Name: "\ufffd"}},
		outer{Inner: &inner{At: &zero}}, outer{Inner: &inner{At: &one}},
		outer{Action: inner{}}, outer{Action: &inner{}}, outer{Action: "inner"}, outer{Action: int64(0)}, outer{Action: int32(0)},
		"", "a", []string{}, []string{"a"},
	}
	seen := map[string]int{}
	for i, v := range values {
		text := Canonical(v)
		if j, ok := seen[text]; ok {
			t.Errorf("values %d and %d are both %s", j, i, text)
		}
		seen[text] = i
	}
	if a, b := Canonical("a", "b"), Canonical("a b"); a == b {
		t.Errorf("two values and one are both %s", a)
	}
	again := int64(1)
	if a, b := Canonical(inner{At: &one}), Canonical(inner{At: &again}); a != b {
		t.Errorf("equal values are %s and %s", a, b)
	}
}
