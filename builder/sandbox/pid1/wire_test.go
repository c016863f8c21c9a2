package pid1

import (
	"bytes"
	"reflect"
	"testing"
	"testing/quick"
)

// Every field arrives, whatever is in it.
func TestMessages(t *testing.T) {
	plans := func(p Plan) bool {
		var b bytes.Buffer
		var got Plan
		if err := WritePlan(&b, &p); err != nil {
			t.Fatal(err)
		}
		if err := readPlan(&b, &got); err != nil {
			t.Fatal(err)
		}
		return reflect.DeepEqual(normal(p), normal(got))
	}
	if err := quick.Check(plans, nil); err != nil {
		t.Error(err)
	}
	reports := func(r Report) bool {
		var b bytes.Buffer
		var got Report
		if err := writeReport(&b, &r); err != nil {
			t.Fatal(err)
		}
		if err := ReadReport(&b, &got); err != nil {
			t.Fatal(err)
		}
		return reflect.DeepEqual(normal(r), normal(got))
	}
	if err := quick.Check(reports, nil); err != nil {
		t.Error(err)
	}
}

// normal makes empty lists nil, at any depth.
func normal[T any](v T) T {
	empty(reflect.ValueOf(&v).Elem())
	return v
}

func empty(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			empty(v.Field(i))
		}
	case reflect.Slice:
		if v.Len() == 0 {
			v.SetZero()
		}
		for i := range v.Len() {
			empty(v.Index(i))
		}
	}
}

// The report comes from a process that a hostile command may have reached.
func FuzzReport(f *testing.F) {
	var b bytes.Buffer
	if err := writeReport(&b, &Report{Err: "e", Stubs: []string{"/a", "/a/b"}, ExitCode: 3}); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes()[8:])
	f.Fuzz(func(t *testing.T, data []byte) {
		var r Report
		c := codec{reading: true, buf: data}
		r.code(&c)
		if c.err != nil {
			return
		}
		again := codec{}
		r.code(&again)
		if len(again.buf) > len(data) {
			t.Fatalf("%d bytes were read from %d", len(again.buf), len(data))
		}
	})
}
