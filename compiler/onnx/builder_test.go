package onnx

import (
	"encoding/binary"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// A small writer of ONNX files, so that tests need neither Python nor files.

type fields []byte

func (b *fields) msg(tag protowire.Number, sub []byte) { *b = appendMessage(*b, tag, sub) }
func (b *fields) str(tag protowire.Number, s string)   { *b = appendString(*b, tag, s) }
func (b *fields) num(tag protowire.Number, v int64)    { *b = appendVarint(*b, tag, uint64(v)) }

type testModel struct {
	opset  int64 // 0: none
	domain string
	ir     int64 // version of the format; 0: 8, -1: none
	graph  fields
}

func newModel(opset int64) *testModel { return &testModel{opset: opset} }

func (m *testModel) bytes() []byte {
	var b fields
	switch m.ir {
	case 0:
		b.num(1, 8)
	case -1:
	default:
		b.num(1, m.ir)
	}
	b.str(2, "test")
	b.msg(7, m.graph)
	if m.opset != 0 {
		var o fields
		o.str(1, m.domain)
		o.num(2, m.opset)
		b.msg(8, o)
	}
	return b
}

type attrField = []byte

func aInt(name string, v int64) attrField {
	var b fields
	b.str(1, name)
	b.num(3, v)
	b.num(20, int64(attrInt))
	return b
}

func aFloat(name string, v float32) attrField {
	var b fields
	b.str(1, name)
	b = appendFloat(b, 2, v)
	b.num(20, int64(attrFloat))
	return b
}

func aStr(name, v string) attrField {
	var b fields
	b.str(1, name)
	b.str(4, v)
	b.num(20, int64(attrString))
	return b
}

func aInts(name string, v ...int64) attrField {
	var b fields
	b.str(1, name)
	for _, x := range v {
		b.num(8, x)
	}
	b.num(20, int64(attrInts))
	return b
}

func aTensor(name string, t []byte) attrField {
	var b fields
	b.str(1, name)
	b.msg(5, t)
	b.num(20, int64(attrTensor))
	return b
}

func aGraph(name string, g []byte) attrField {
	var b fields
	b.str(1, name)
	b.msg(6, g)
	b.num(20, int64(attrGraph))
	return b
}

// node adds an operator, named after its first output.
func (m *testModel) node(op string, inputs, outputs []string, attrs ...attrField) *testModel {
	return m.nodeIn("", op, inputs, outputs, attrs...)
}

func (m *testModel) nodeIn(domain, op string, inputs, outputs []string, attrs ...attrField) *testModel {
	var b fields
	for _, s := range inputs {
		b.str(1, s)
	}
	for _, s := range outputs {
		b.str(2, s)
	}
	b.str(3, "/"+outputs[0])
	b.str(4, op)
	for _, a := range attrs {
		b.msg(5, a)
	}
	if domain != "" {
		b.str(7, domain)
	}
	m.graph.msg(1, b)
	return m
}

func (m *testModel) init(t []byte) *testModel { m.graph.msg(5, t); return m }

// dim is an int or the name of a symbolic dimension.
func valueInfoOf(name string, dtype int64, dims ...any) []byte {
	var shape, tt, ty, b fields
	for _, d := range dims {
		var f fields
		switch d := d.(type) {
		case int:
			f.num(1, int64(d))
		case string:
			f.str(2, d)
		}
		shape.msg(1, f)
	}
	tt.num(1, dtype)
	tt.msg(2, shape)
	ty.msg(1, tt)
	b.str(1, name)
	b.msg(2, ty)
	return b
}

func (m *testModel) input(name string, dtype int64, dims ...any) *testModel {
	m.graph.msg(11, valueInfoOf(name, dtype, dims...))
	return m
}

func (m *testModel) output(name string, dtype int64, dims ...any) *testModel {
	m.graph.msg(12, valueInfoOf(name, dtype, dims...))
	return m
}

func tensorHead(name string, dtype int64, dims ...int64) fields {
	var b fields
	for _, d := range dims {
		b.num(1, d)
	}
	b.num(2, dtype)
	b.str(8, name)
	return b
}

// floats32 is a raw float32 tensor.
func floats32(name string, dims []int64, v ...float32) []byte {
	b := tensorHead(name, 1, dims...)
	var raw []byte
	for _, x := range v {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(x))
	}
	b.msg(9, raw)
	return b
}

// ramp fills a float32 tensor with small distinct numbers.
func ramp(name string, dims ...int64) []byte {
	n := int64(1)
	for _, d := range dims {
		n *= d
	}
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(i%7-3) / 4
	}
	return floats32(name, dims, v...)
}

// ints64 is a 1-D int64 tensor in its typed field, packed.
func ints64(name string, v ...int64) []byte {
	b := tensorHead(name, 7, int64(len(v)))
	var p []byte
	for _, x := range v {
		p = protowire.AppendVarint(p, uint64(x))
	}
	b.msg(7, p)
	return b
}

func in(s ...string) []string { return s }

// gatedModel is a small model with most of what an export has: embedding,
// shape arithmetic, padded depthwise convolution, gate, mask, pooling.
func gatedModel(opset int64) *testModel {
	m := newModel(opset)
	m.input("src", 7, "batch", 8).input("seg", 7, "batch", 8).output("logits", 1, "batch", 3)
	m.init(ramp("emb", 11, 4)).init(ramp("w", 4, 1, 3)).init(ramp("b", 4)).init(ramp("o", 3, 4)).init(ramp("ob", 3))
	m.node("Gather", in("emb", "src"), in("e"))
	m.node("Transpose", in("e"), in("t"), aInts("perm", 0, 2, 1))
	m.node("Constant", nil, in("zero"), aTensor("value", ints64("", 0, 0, 2)))
	m.node("Constant", nil, in("zeros"), aTensor("value", ints64("", 0, 0, 0)))
	m.node("Concat", in("zero", "zeros"), in("pads"), aInt("axis", 0))
	if opset >= 11 {
		m.node("Pad", in("t", "pads", ""), in("p"), aStr("mode", "constant"))
	} else {
		m.node("Pad", in("t"), in("p"), aStr("mode", "constant"), aInts("pads", 0, 0, 2, 0, 0, 0))
	}
	m.node("Conv", in("p", "w", "b"), in("c"), aInts("dilations", 1), aInt("group", 4), aInts("kernel_shape", 3), aInts("pads", 0, 0), aInts("strides", 1))
	m.node("Sigmoid", in("c"), in("s"))
	m.node("Mul", in("t", "s"), in("g"))
	if opset >= 13 {
		m.init(ints64("axis1", 1))
		m.node("Unsqueeze", in("seg", "axis1"), in("u"))
	} else {
		m.node("Unsqueeze", in("seg"), in("u"), aInts("axes", 1))
	}
	m.node("Cast", in("u"), in("uf"), aInt("to", 1))
	m.node("Mul", in("g", "uf"), in("gm"))
	if opset >= 18 {
		m.init(ints64("axis2", 2))
		m.node("ReduceMax", in("gm", "axis2"), in("r"), aInt("keepdims", 0))
	} else {
		m.node("ReduceMax", in("gm"), in("r"), aInts("axes", 2), aInt("keepdims", 0))
	}
	m.node("Dropout", in("r"), in("d", ""))
	m.node("Gemm", in("d", "o", "ob"), in("logits"), aInt("transB", 1), aFloat("alpha", 1))
	return m
}
