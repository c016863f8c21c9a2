package cache

import (
	"fmt"
	"reflect"
	"strconv"
)

// Canonical writes values so that those that differ in anything are written
// differently and equal ones alike, on every machine. Unlike in JSON that holds
// for strings of any bytes. Pointers stand for what they point to, and a value
// in an interface has its type before it. The values are made of booleans,
// integers, strings, slices, structs, pointers and interfaces: anything else is a
// mistake of the program's, and panics.
func Canonical(values ...any) string {
	var b []byte
	for i, v := range values {
		if i > 0 {
			b = append(b, ' ')
		}
		b = appendCanonical(b, reflect.ValueOf(v))
	}
	return string(b)
}

func appendCanonical(b []byte, v reflect.Value) []byte {
	switch v.Kind() {
	case reflect.Bool:
		return strconv.AppendBool(b, v.Bool())
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return strconv.AppendInt(b, v.Int(), 10)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return strconv.AppendUint(b, v.Uint(), 10)
	case reflect.String:
		return strconv.AppendQuote(b, v.String())
	case reflect.Interface:
		if v.IsNil() {
			return append(b, "nil"...)
		}
		b = append(b, v.Elem().Type().String()...)
		return appendCanonical(b, v.Elem())
	case reflect.Pointer:
		if v.IsNil() {
			return append(b, "nil"...)
		}
		return appendCanonical(append(b, '&'), v.Elem())
	case reflect.Slice:
		return appendSlice(b, v)
	case reflect.Struct:
		b = append(b, '{')
		for i := range v.NumField() {
			b = append(append(b, v.Type().Field(i).Name...), ':')
			b = append(appendCanonical(b, v.Field(i)), ' ')
		}
		return append(b, '}')
	}
	panic(fmt.Sprintf("a %s has no canonical form", v.Kind()))
}

func appendSlice(b []byte, v reflect.Value) []byte {
	if v.Type().Elem().Kind() == reflect.Uint8 {
		return strconv.AppendQuote(b, string(v.Bytes()))
	}
	b = append(b, '[')
	for i := range v.Len() {
		b = append(appendCanonical(b, v.Index(i)), ' ')
	}
	return append(b, ']')
}
