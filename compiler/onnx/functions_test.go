package onnx

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"nepcoc/ir"
)

// function writes a FunctionProto; nodes are written by a model that is thrown away.
func function(domain, name string, inputs, outputs, attrs []string, opset int64, body *testModel) []byte {
	var b, o fields
	b.str(1, name)
	for _, s := range inputs {
		b.str(4, s)
	}
	for _, s := range outputs {
		b.str(5, s)
	}
	for _, s := range attrs {
		b.str(6, s)
	}
	b = append(b, nodesOf(body.graph)...)
	o.num(2, opset)
	b.msg(9, o)
	b.str(10, domain)
	return b
}

// nodesOf turns field 1 of a graph into field 7 of a function.
func nodesOf(graph fields) (out fields) {
	m := &message{what: "graph", index: -1, data: graph}
	m.each(func(f *field) error { out.msg(7, f.data); return nil })
	return out
}

func aRef(name, ref string, kind attrKind) attrField {
	var b fields
	b.str(1, name)
	b.num(20, int64(kind))
	b.str(21, ref)
	return b
}

// withFunctions is a model's file with functions.
func withFunctions(m *testModel, functions ...[]byte) []byte {
	b := fields(m.bytes())
	for _, f := range functions {
		b.msg(25, f)
	}
	return b
}

func TestFunctions(t *testing.T) {
	leaky := function("my", "Leaky", in("a"), in("r"), in("slope"), 17, newModel(17).node("LeakyRelu", in("a"), in("r"), aRef("alpha", "slope", attrFloat)))
	twice := function("my", "Twice", in("a", "b"), in("s", "a"), nil, 17,
		newModel(17).nodeIn("my", "Leaky", in("a"), in("l"), aFloat("slope", 0.5)).nodeIn("my", "Leaky", in("l"), in("l2")).node("Add", in("l2", "b"), in("s")))
	self := function("my", "Self", in("a"), in("r"), nil, 17, newModel(17).nodeIn("my", "Self", in("a"), in("r")))
	old := function("my", "Old", in("a"), in("r"), nil, 13, newModel(13).node("Relu", in("a"), in("r")))
	base := func() *testModel { return newModel(17).input("x", 1, 1, 2).output("y", 1) }
	for _, c := range []struct {
		name  string
		model *testModel
		fns   [][]byte
		want  string // the result for -2, 4, or what the refusal says
	}{
		{"attribute", base().nodeIn("my", "Leaky", in("x"), in("y"), aFloat("slope", 0.25)), [][]byte{leaky}, "[-0.5 4]"},
		{"attribute left to the operator", base().nodeIn("my", "Leaky", in("x"), in("y")), [][]byte{leaky}, "[-0.02 4]"},
		{"function in a function", base().nodeIn("my", "Twice", in("x", "x"), in("y", "")), [][]byte{leaky, twice}, "[-2.01 8]"},
		{"an input handed on", base().nodeIn("my", "Twice", in("x", "x"), in("", "y")), [][]byte{twice, leaky}, "[-2 4]"},
		{"called twice", base().nodeIn("my", "Leaky", in("x"), in("h"), aFloat("slope", 0.5)).nodeIn("my", "Leaky", in("h"), in("y"), aFloat("slope", 0.5)), [][]byte{leaky}, "[-0.5 4]"},
		{"itself", base().nodeIn("my", "Self", in("x"), in("y")), [][]byte{self}, "more than 16 deep"},
		{"other opset", base().nodeIn("my", "Old", in("x"), in("y")), [][]byte{old}, "is written in opset 13, the model in opset 17"},
		{"too many inputs", base().nodeIn("my", "Leaky", in("x", "x"), in("y")), [][]byte{leaky}, "1 inputs and 1 outputs with 2 and 1"},
		{"defined twice", base().nodeIn("my", "Leaky", in("x"), in("y")), [][]byte{leaky, leaky}, "defined twice"},
		{"not among them", base().nodeIn("my", "Other", in("x"), in("y")), [][]byte{leaky}, "my::Other"},
		{"an attribute of no function", base().node("LeakyRelu", in("x"), in("y"), aRef("alpha", "slope", attrFloat)), nil, "outside of any"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g, _, err := Import("test.onnx", withFunctions(c.model, c.fns...))
			var r *Refusal
			if errors.As(err, &r) {
				if !strings.Contains(err.Error(), c.want) {
					t.Errorf("want %q, got %v", c.want, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			y := runGraph(t, g, map[string]*ir.Tensor{"x": ir.Float32s([]float32{-2, 4}, 1, 2)})["y"]
			if got := fmt.Sprint(y.Data); got != c.want {
				t.Errorf("computes %s, want %s", got, c.want)
			}
		})
	}
}

// Functions that double themselves at each level end at the limit of nodes, not of memory.
func TestFunctionsBounded(t *testing.T) {
	var fns [][]byte
	for i := range maxCalls - 1 {
		body := newModel(17)
		for k := range 8 {
			op, domain := fmt.Sprint("F", i+1), "my"
			if i == maxCalls-2 {
				op, domain = "Relu", ""
			}
			body.nodeIn(domain, op, in("a"), in(fmt.Sprint("r", k)))
		}
		fns = append(fns, function("my", fmt.Sprint("F", i), in("a"), in("r0"), nil, 17, body))
	}
	m := newModel(17).input("x", 1, 1, 2).output("y", 1).nodeIn("my", "F0", in("x"), in("y"))
	_, _, err := Import("test.onnx", withFunctions(m, fns...))
	if err == nil || !strings.Contains(err.Error(), string(TooLarge)) {
		t.Errorf("want %s, got %v", TooLarge, err)
	}
}
