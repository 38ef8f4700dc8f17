// Package onnxmodel writes small ONNX files, so that tests of the whole
// compiler need neither Python nor stored files.
//
// It is for tests only and knows nothing of the compiler. What it writes is
// valid as far as the caller asks for valid things: refusals are tested with it, too.
package onnxmodel

import (
	"fmt"
	"math"
	"math/rand/v2"
)

// Element types of ONNX.
const (
	F32  = 1
	U8   = 2
	I8   = 3
	I32  = 6
	I64  = 7
	Bool = 9
	F16  = 10
	F8   = 17
)

// Attrs are a node's attributes: int, float64, string, []int or Tensor.
type Attrs map[string]any

// Tensor is constant data; Data is []float32, []int64, []int32, []uint8 or []bool.
// DType overrides the element type that follows from Data; then Data are raw bytes.
type Tensor struct {
	DType int
	Dims  []int
	Data  any
}

// Model is a model being written.
type Model struct {
	Opset int
	graph []byte
	names int
	rng   *rand.Rand
	// domains are operator sets besides the standard's.
	domains []string
	ops     []string
}

// New begins a model. Its random weights are always the same.
func New(opset int) *Model {
	return &Model{Opset: opset, rng: rand.New(rand.NewPCG(uint64(opset), 17))}
}

// Bytes is the file.
func (m *Model) Bytes() []byte {
	b := num(nil, 1, 8) // IR version
	b = str(b, 2, "onnxmodel")
	b = msg(b, 7, m.graph)
	b = msg(b, 8, num(str(nil, 1, ""), 2, int64(m.Opset)))
	for _, d := range m.domains {
		b = msg(b, 8, num(str(nil, 1, d), 2, 1))
	}
	return b
}

// Ops are the operators of the nodes so far, in their order.
func (m *Model) Ops() []string { return m.ops }

// Fresh returns a name that no other value has.
func (m *Model) Fresh(base string) string {
	m.names++
	return fmt.Sprintf("%s_%d", base, m.names)
}

// Input declares a model input. A dimension of -1 is the symbol "batch".
func (m *Model) Input(name string, dtype int, dims ...int) string {
	m.graph = msg(m.graph, 11, valueInfo(name, dtype, dims))
	return name
}

// Output declares a model output of unknown shape.
func (m *Model) Output(name string, dtype int) {
	m.graph = msg(m.graph, 12, valueInfo(name, dtype, nil))
}

// Const adds an initializer and returns its name.
func (m *Model) Const(t Tensor) string {
	name := m.Fresh("const")
	m.graph = msg(m.graph, 5, t.encode(name))
	return name
}

// External adds a float initializer whose data lie at the beginning of another file.
func (m *Model) External(dims []int, location string) string {
	name := m.Fresh("const")
	t := Tensor{Dims: dims, Data: []float32{}}.encode(name)
	t = msg(t, 13, str(str(nil, 1, "location"), 2, location))
	m.graph = msg(m.graph, 5, num(t, 14, 1))
	return name
}

// Random adds normally distributed weights whose variance suits a layer of
// that fan-in: 1 over the product of all dimensions but the first.
func (m *Model) Random(dims ...int) string {
	fan := 1
	for _, d := range dims[min(1, len(dims)-1):] {
		fan *= d
	}
	return m.RandomScaled(1/math.Sqrt(float64(fan)), 0, dims...)
}

// RandomScaled adds weights of the given deviation and mean.
func (m *Model) RandomScaled(deviation, mean float64, dims ...int) string {
	n := 1
	for _, d := range dims {
		n *= d
	}
	data := make([]float32, n)
	for i := range data {
		data[i] = float32(m.rng.NormFloat64()*deviation + mean)
	}
	return m.Const(Tensor{Dims: dims, Data: data})
}

// Uniform adds weights between lo and hi.
func (m *Model) Uniform(lo, hi float64, dims ...int) string {
	n := 1
	for _, d := range dims {
		n *= d
	}
	data := make([]float32, n)
	for i := range data {
		data[i] = float32(lo + m.rng.Float64()*(hi-lo))
	}
	return m.Const(Tensor{Dims: dims, Data: data})
}

// Scalar adds a float constant without dimensions.
func (m *Model) Scalar(x float64) string { return m.Const(Tensor{Data: []float32{float32(x)}}) }

// Ints adds a 1-D int64 constant.
func (m *Model) Ints(v ...int) string {
	data := make([]int64, len(v))
	for i, x := range v {
		data[i] = int64(x)
	}
	return m.Const(Tensor{Dims: []int{len(v)}, Data: data})
}

// Int adds an int64 constant without dimensions.
func (m *Model) Int(v int) string { return m.Const(Tensor{Data: []int64{int64(v)}}) }

// Op adds a node with one result and returns the result's name. An input ""
// is omitted.
func (m *Model) Op(op string, attrs Attrs, inputs ...string) string {
	out := m.Fresh(op)
	m.Node("", op, attrs, inputs, []string{out})
	return out
}

// Node adds a node, named after its first result.
func (m *Model) Node(domain, op string, attrs Attrs, inputs, outputs []string) {
	m.ops = append(m.ops, op)
	var b []byte
	for _, s := range inputs {
		b = str(b, 1, s)
	}
	for _, s := range outputs {
		b = str(b, 2, s)
	}
	b = str(b, 3, "/"+outputs[0])
	b = str(b, 4, op)
	for _, name := range sortedKeys(attrs) {
		b = msg(b, 5, attribute(name, attrs[name]))
	}
	if domain != "" {
		b = str(b, 7, domain)
		m.domains = append(m.domains, domain)
	}
	m.graph = msg(m.graph, 1, b)
}

// Squeeze, Unsqueeze, Reduce and Split take lists as an attribute before, and
// as an input from a certain opset on.

// Unsqueeze inserts axes.
func (m *Model) Unsqueeze(x string, axes ...int) string {
	return m.withAxes("Unsqueeze", 13, x, axes, nil)
}

// Squeeze drops axes of size 1, all of them where none are given.
func (m *Model) Squeeze(x string, axes ...int) string { return m.withAxes("Squeeze", 13, x, axes, nil) }

// Reduce is one of the Reduce operators.
func (m *Model) Reduce(op, x string, keepdims int, axes ...int) string {
	since := 18
	if op == "ReduceSum" {
		since = 13
	}
	return m.withAxes(op, since, x, axes, Attrs{"keepdims": keepdims})
}

func (m *Model) withAxes(op string, since int, x string, axes []int, attrs Attrs) string {
	switch {
	case len(axes) == 0:
		return m.Op(op, attrs, x)
	case m.Opset >= since:
		return m.Op(op, attrs, x, m.Ints(axes...))
	}
	all := Attrs{"axes": axes}
	for k, v := range attrs {
		all[k] = v
	}
	return m.Op(op, all, x)
}

// Split cuts an axis into parts of the given sizes.
func (m *Model) Split(x string, axis int, sizes ...int) []string {
	outs := make([]string, len(sizes))
	for i := range outs {
		outs[i] = m.Fresh("Split")
	}
	if m.Opset >= 13 {
		m.Node("", "Split", Attrs{"axis": axis}, []string{x, m.Ints(sizes...)}, outs)
	} else {
		m.Node("", "Split", Attrs{"axis": axis, "split": sizes}, []string{x}, outs)
	}
	return outs
}
