package cache

import (
	"strconv"
	"strings"
)

// Fields writes the value of a part that has several fields, one on each line:
// the field's name, and its value where the name does not say all. A field with
// its zero value is left out, so a new field changes no key where nobody sets it.
//
// Names consist of letters and spaces. Then two different sets of fields are written
// differently, whatever bytes their values have.
type Fields struct{ lines strings.Builder }

// Flag writes a field that is set or not.
func (f *Fields) Flag(name string, set bool) {
	if set {
		f.lines.WriteString(name)
		f.lines.WriteByte('\n')
	}
}

// Text writes a field that is "" when nobody sets it.
func (f *Fields) Text(name, value string) {
	if value != "" {
		f.Flag(name+" "+strconv.Quote(value), true)
	}
}

// Texts writes a list, an element on each line.
func (f *Fields) Texts(name string, values []string) {
	for _, v := range values {
		f.Flag(name+" "+strconv.Quote(v), true)
	}
}

// Number writes a field that is 0 when nobody sets it.
func (f *Fields) Number(name string, n int64) {
	if n != 0 {
		f.Given(name, n)
	}
}

// Given writes a number that counts also when it is 0.
func (f *Fields) Given(name string, n int64) {
	f.Flag(name+" "+strconv.FormatInt(n, 10), true)
}

// String returns all fields in the order in which they were written.
func (f *Fields) String() string { return f.lines.String() }
