// Package ir is the compiler's intermediate representation: a graph of typed
// operations over tensors of static shape.
//
// The same Graph carries a model from the imported ONNX operators (names in
// CamelCase, ONNX semantics) over our canonical float operators (snake_case,
// time-major) to the integer operators that the backends lower. ops.go has the
// table of operators; print.go and parse.go the textual form; check.go the
// invariants that hold between passes.
//
// The package imports nothing of this module: everything may depend on it, it
// depends on nobody.
package ir

import (
	"fmt"
	"strings"
)

// DType is an element type.
type DType uint8

// The element types.
const (
	Invalid DType = iota
	F32
	F64
	I64
	I32
	I16
	I8
	U8
	U16
	Bool
	numDTypes
)

var dtypeNames = [numDTypes]string{"invalid", "f32", "f64", "i64", "i32", "i16", "i8", "u8", "u16", "bool"}
var dtypeSizes = [numDTypes]int{0, 4, 8, 8, 4, 2, 1, 1, 2, 1}

func (d DType) String() string {
	if int(d) < len(dtypeNames) {
		return dtypeNames[d]
	}
	return fmt.Sprintf("dtype(%d)", uint8(d))
}

// Size is the number of bytes of one element.
func (d DType) Size() int { return dtypeSizes[d] }

// ParseDType is the inverse of DType.String; ok is false for an unknown name.
func ParseDType(s string) (d DType, ok bool) {
	for i, n := range dtypeNames {
		if n == s && i != 0 {
			return DType(i), true
		}
	}
	return Invalid, false
}

// Type is an element type and a static shape. A scalar has an empty shape.
type Type struct {
	DType DType
	Shape []int
}

func (t Type) String() string {
	var b strings.Builder
	b.WriteString(t.DType.String())
	b.WriteByte('[')
	for i, d := range t.Shape {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprint(&b, d)
	}
	b.WriteByte(']')
	return b.String()
}

// Len is the number of elements.
func (t Type) Len() int { return NumElements(t.Shape) }

// NumElements multiplies the dimensions of a shape.
func NumElements(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}

// Tensor is constant data in row-major order. Data is []float32 for F32,
// []float64 for F64, []int64, []int32, []int16, []int8, []uint8, []uint16 or
// []bool, with exactly Type.Len() elements.
type Tensor struct {
	Type
	Data any
}

// Value is what an operation reads or writes: a graph input (Def == nil,
// Const == nil), a constant (Const != nil) or an output of the node Def.
// Names are unique in a graph.
type Value struct {
	Name  string
	Type  Type
	Const *Tensor
	Def   *Node
}

// Attrs are a node's static attributes. Allowed dynamic types: int, float64,
// string, []int, []float64.
type Attrs map[string]any

// Node applies one operator. Inputs may hold nil for an omitted optional
// input (never at the end). Origin names what the node came from (an ONNX node
// name), for messages and reports.
type Node struct {
	Op      string
	Origin  string
	Inputs  []*Value
	Outputs []*Value
	Attrs   Attrs
}

// Graph is a straight-line program: Nodes are in topological order.
// Constants have no node; they are reachable through Inputs of nodes.
// OutputNames[i] is the name the model gave to Outputs[i]; it survives passes
// that replace the value.
type Graph struct {
	Name        string
	Inputs      []*Value
	Outputs     []*Value
	OutputNames []string
	Nodes       []*Node
}

// Int returns an integer attribute, or def where it is absent.
func (n *Node) Int(key string, def int) int {
	if v, ok := n.Attrs[key].(int); ok {
		return v
	}
	return def
}

// Float returns a float attribute, or def where it is absent.
func (n *Node) Float(key string, def float64) float64 {
	if v, ok := n.Attrs[key].(float64); ok {
		return v
	}
	return def
}

// Params reads the parameters of an activation: the float attributes prefix+name.
func (n *Node) Params(prefix string) func(name string) (x float64, given bool) {
	return func(name string) (float64, bool) {
		x, ok := n.Attrs[prefix+name].(float64)
		return x, ok
	}
}

// Str returns a string attribute, or def where it is absent.
func (n *Node) Str(key, def string) string {
	if v, ok := n.Attrs[key].(string); ok {
		return v
	}
	return def
}

// Ints returns an integer-list attribute, or nil where it is absent.
func (n *Node) Ints(key string) []int {
	v, _ := n.Attrs[key].([]int)
	return v
}

// Input returns input i, or nil where it is omitted.
func (n *Node) Input(i int) *Value {
	if i < len(n.Inputs) {
		return n.Inputs[i]
	}
	return nil
}

// Out is the single output of a node that has one.
func (n *Node) Out() *Value { return n.Outputs[0] }

// Consumers maps each value to the nodes that read it, in graph order; a node
// that reads a value twice is listed once.
func (g *Graph) Consumers() map[*Value][]*Node {
	uses := make(map[*Value][]*Node)
	for _, n := range g.Nodes {
		for i, v := range n.Inputs {
			if v == nil || seenBefore(n.Inputs[:i], v) {
				continue
			}
			uses[v] = append(uses[v], n)
		}
	}
	return uses
}

func seenBefore(vs []*Value, v *Value) bool {
	for _, w := range vs {
		if w == v {
			return true
		}
	}
	return false
}

// Replace makes every reader of old, and the graph's outputs, read new instead.
func (g *Graph) Replace(old, new *Value) {
	for _, n := range g.Nodes {
		for i, v := range n.Inputs {
			if v == old {
				n.Inputs[i] = new
			}
		}
	}
	for i, v := range g.Outputs {
		if v == old {
			g.Outputs[i] = new
		}
	}
}

// Sweep drops nodes none of whose outputs are used, keeping the order of the
// rest. Graph inputs stay, used or not.
func (g *Graph) Sweep() {
	live := make(map[*Value]bool)
	for _, v := range g.Outputs {
		live[v] = true
	}
	keep := make([]bool, len(g.Nodes))
	for i := len(g.Nodes) - 1; i >= 0; i-- {
		n := g.Nodes[i]
		for _, o := range n.Outputs {
			keep[i] = keep[i] || live[o]
		}
		if keep[i] {
			for _, v := range n.Inputs {
				if v != nil {
					live[v] = true
				}
			}
		}
	}
	kept := g.Nodes[:0]
	for i, n := range g.Nodes {
		if keep[i] {
			kept = append(kept, n)
		}
	}
	clear(g.Nodes[len(kept):])
	g.Nodes = kept
}
