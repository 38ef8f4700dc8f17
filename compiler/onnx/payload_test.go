package onnx

import (
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// A model says in which version of the format it is written; what it means in
// versions that the standard doesn't have is anybody's guess.
func TestFormatVersions(t *testing.T) {
	for _, c := range []struct {
		ir   int64
		want string // of the message; "": read
	}{
		{minIRVersion, ""}, {8, ""}, {maxIRVersion, ""},
		{maxIRVersion + 1, "IR version 14"}, {1 << 40, "IR version 1099511627776"}, {-2, "IR version -2"}, {2, "IR version 2"}, {-1, "IR version 0"},
	} {
		m := newModel(17).input("x", 1, 1, 4).output("y", 1).node("Relu", in("x"), in("y"))
		m.ir = c.ir
		_, _, err := Import("test.onnx", m.bytes())
		if c.want == "" {
			if err != nil {
				t.Errorf("version %d: %v", c.ir, err)
			}
			continue
		}
		var r *Refusal
		if !errors.As(err, &r) || len(r.Problems) != 1 || r.Problems[0].Kind != FormatVersion {
			t.Errorf("version %d: want one problem with the version, got %v", c.ir, err)
			continue
		}
		for _, part := range []string{"test.onnx", c.want, "3 to 13", "ir_version = 10"} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("version %d: message lacks %q: %v", c.ir, part, err)
			}
		}
		m.ir = 10 // the way out
		if _, _, err := Import("test.onnx", m.bytes()); err != nil {
			t.Errorf("the way out of version %d: %v", c.ir, err)
		}
	}
}

// A tensor or attribute with two values contradicts itself: readers that take one and
// readers that take the other would compute different models.
func TestTwoPayloads(t *testing.T) {
	two := []float32{1, 2}
	floats := fields(floats32("w", []int64{2}, two...))
	with := func(add func(b *fields)) []byte {
		b := append(fields(nil), floats...)
		add(&b)
		return b
	}
	pair := func(k, v string) fields {
		var b fields
		b.str(1, k)
		b.str(2, v)
		return b
	}
	for _, c := range []struct {
		name   string
		tensor []byte
		want   string // "": taken
	}{
		{"one", floats, ""},
		{"raw_data and float_data", with(func(b *fields) { b.msg(4, make([]byte, 8)) }), "raw_data and float_data"},
		{"raw_data twice", with(func(b *fields) { b.msg(9, make([]byte, 8)) }), "raw_data and raw_data"},
		{"raw_data and int32_data", with(func(b *fields) { b.msg(5, []byte{1}) }), "raw_data and int32_data"},
		{"raw_data and string_data", with(func(b *fields) { b.str(6, "one") }), "raw_data and string_data"},
		{"raw_data and int64_data", with(func(b *fields) { b.msg(7, []byte{1}) }), "raw_data and int64_data"},
		{"raw_data and double_data", with(func(b *fields) { b.msg(10, make([]byte, 16)) }), "raw_data and double_data"},
		{"raw_data and uint64_data", with(func(b *fields) { b.msg(11, []byte{1}) }), "raw_data and uint64_data"},
		{"raw_data and a second file", with(func(b *fields) { b.msg(13, pair("location", "w.bin")); b.num(14, 1) }), "raw_data and external_data"},
		{"raw_data and a file that is not meant", with(func(b *fields) { b.msg(13, pair("location", "w.bin")) }), "raw_data and external_data"},
		{"an empty list beside the value", with(func(b *fields) { b.msg(5, nil) }), ""},
		{"strings for floats", func() []byte {
			b := tensorHead("w", 1, 2)
			b.str(6, "1")
			b.str(6, "2")
			return b
		}(), "string_data, which float32 has none of"},
		{"integers for floats", func() []byte {
			b := tensorHead("w", 1, 2)
			b.msg(5, []byte{1, 2})
			return b
		}(), "int32_data, which float32 has none of"},
		{"integers of another width", func() []byte {
			b := tensorHead("w", 7, 2)
			b.msg(5, []byte{1, 2})
			return b
		}(), "int32_data, which int64 has none of"},
		{"floats for nothing", func() []byte {
			b := tensorHead("w", 7, 0)
			b.msg(4, make([]byte, 8))
			return b
		}(), "float_data, which int64 has none of"},
	} {
		t.Run(c.name, func(t *testing.T) {
			initializer := newModel(17).input("x", 1, 1, 2).output("y", 1).init(c.tensor).node("Mul", in("x", "w"), in("y"))
			constant := newModel(17).input("x", 1, 1, 2).output("y", 1).node("Constant", nil, in("w"), aTensor("value", c.tensor)).node("Mul", in("x", "w"), in("y"))
			for _, m := range []*testModel{initializer, constant} {
				damagedBy(t, m, c.want, `"w"`)
			}
		})
	}
}

func TestTwoAttributeValues(t *testing.T) {
	twice := aFloat("alpha", 0.5)
	var b fields = twice
	b.msg(8, protowire.AppendVarint(nil, 3))
	for _, c := range []struct {
		name  string
		model *testModel
		want  string
	}{
		{"float and integers", newModel(17).input("x", 1, 1, 2).output("y", 1).node("LeakyRelu", in("x"), in("y"), b), "f and ints"},
		{"float alone", newModel(17).input("x", 1, 1, 2).output("y", 1).node("LeakyRelu", in("x"), in("y"), aFloat("alpha", 0.5)), ""},
	} {
		damagedBy(t, c.model, c.want, `"alpha"`)
	}
	m := newModel(17).input("x", 1, 1, 2).output("y", 1).
		node("Constant", nil, in("w"), aFloat("value_float", 1), aTensor("value", floats32("", nil, 2))).node("Mul", in("x", "w"), in("y"))
	_, _, err := Import("test.onnx", m.bytes())
	if err == nil || !strings.Contains(err.Error(), "one attribute") {
		t.Errorf("a Constant of two values: %v", err)
	}
}

// damagedBy expects a model to be refused for one reason, or taken.
func damagedBy(t *testing.T, m *testModel, want, place string) {
	t.Helper()
	_, _, err := Import("test.onnx", m.bytes())
	if want == "" {
		if err != nil {
			t.Error(err)
		}
		return
	}
	var r *Refusal
	if !errors.As(err, &r) || len(r.Problems) != 1 || r.Problems[0].Kind != Damaged {
		t.Errorf("want one problem of damaged bytes, got %v", err)
		return
	}
	for _, part := range []string{"test.onnx", want, place, "way out"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("message lacks %q: %v", part, err)
		}
	}
}
