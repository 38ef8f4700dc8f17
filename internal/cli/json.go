package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"reflect"
	"strings"
)

// JSON writes v as indented JSON. A figure that is no number, which JSON does not
// have, becomes null: a report is never lost to one of its figures.
func JSON(w io.Writer, v any) error {
	b, err := json.Marshal(finite{reflect.ValueOf(v)})
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := json.Indent(&out, b, "", "  "); err != nil {
		return err
	}
	out.WriteByte('\n')
	_, err = io.WriteString(w, escapeJSON(out.String()))
	return err
}

// finite marshals a value as encoding/json does, but for floats. That package has no hook
// for a type, and a float type with a method in every report would be forgotten in the next.
type finite struct{ v reflect.Value }

var marshaler = reflect.TypeFor[json.Marshaler]()

func (f finite) MarshalJSON() ([]byte, error) {
	v := f.v
	for v.IsValid() && (v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface) && !v.IsNil() && !v.Type().Implements(marshaler) {
		v = v.Elem()
	}
	if !v.IsValid() {
		return []byte("null"), nil
	}
	if !v.Type().Implements(marshaler) {
		switch v.Kind() {
		case reflect.Float32, reflect.Float64:
			if x := v.Float(); math.IsNaN(x) || math.IsInf(x, 0) {
				return []byte("null"), nil
			}
		case reflect.Struct:
			return object(v)
		case reflect.Slice, reflect.Array:
			if v.Kind() == reflect.Slice && (v.IsNil() || v.Type().Elem().Kind() == reflect.Uint8) {
				break
			}
			list := make([]finite, v.Len())
			for i := range list {
				list[i].v = v.Index(i)
			}
			return json.Marshal(list)
		case reflect.Map:
			if v.IsNil() {
				break
			}
			m := reflect.MakeMapWithSize(reflect.MapOf(v.Type().Key(), reflect.TypeFor[finite]()), v.Len())
			for it := v.MapRange(); it.Next(); {
				m.SetMapIndex(it.Key(), reflect.ValueOf(finite{it.Value()}))
			}
			return json.Marshal(m.Interface())
		}
	}
	return json.Marshal(v.Interface())
}

// object marshals a struct by the tags that reports use: a name, omitempty, omitzero, -. Fields of
// embedded structs stand among the struct's own, as in encoding/json.
func object(v reflect.Value) ([]byte, error) {
	out := []byte{'{'}
	for _, field := range reflect.VisibleFields(v.Type()) {
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		inner := reflect.Indirect(reflect.Zero(field.Type))
		if field.Anonymous && name == "" && (inner.Kind() == reflect.Struct || field.Type.Kind() == reflect.Pointer) {
			continue // its fields follow
		}
		value, err := v.FieldByIndexErr(field.Index)
		if !field.IsExported() || name == "-" || err != nil { // err: within an embedded nil
			continue
		}
		if strings.Contains(options, "omitempty") && empty(value) || strings.Contains(options, "omitzero") && zero(value) {
			continue
		}
		if name == "" {
			name = field.Name
		}
		text, err := finite{value}.MarshalJSON()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		key, err := json.Marshal(name)
		if err != nil {
			return nil, err
		}
		out = append(append(append(out, key...), ':'), text...)
	}
	return append(out, '}'), nil
}

// empty is what omitempty leaves out.
func empty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Array, reflect.Map, reflect.Slice, reflect.String:
		return v.Len() == 0
	case reflect.Struct:
		return false
	}
	return v.IsZero()
}

// zero is what omitzero leaves out: what the value's own method says, where it has one.
func zero(v reflect.Value) bool {
	if z, ok := v.Interface().(interface{ IsZero() bool }); ok && (v.Kind() != reflect.Pointer || !v.IsNil()) {
		return z.IsZero()
	}
	return v.IsZero()
}
