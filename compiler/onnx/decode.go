package onnx

import (
	"fmt"
	"math"
	"slices"

	onnxgo "github.com/owulveryck/onnx-go"
	"gonum.org/v1/gonum/graph"
	"google.golang.org/protobuf/encoding/protowire"
)

// decoded is the graph as onnx-go builds it: operators in file order with
// their operands and plain attributes, and the inputs that no initializer
// replaces.
type decoded struct {
	inputs, outputs []string
	ops             []decodedOp
}

type decodedOp struct {
	op              string
	inputs, outputs []string
	attrs           map[string]any // int64, float32, string, []int64, []float32, []string
}

// decodeGraph lets onnx-go build the graph of m and checks that it is the one
// on the wire.
//
// onnx-go is not given the file but a small encoding of what wire.go read and
// checked, without payloads, value infos, tensor and graph attributes: it would
// copy every weight twice, allocate whatever shape a file claims, fail on
// int8, uint8 and graph attributes, and misread bool. Those come from the wire.
func decodeGraph(m *modelProto) (d *decoded, err error) {
	defer func() {
		if p := recover(); p != nil {
			d, err = nil, fmt.Errorf("onnx-go gives up on this graph: %v", p)
		}
	}()
	b := newBackend()
	model := onnxgo.NewModel(b)
	if err := model.UnmarshalBinary(encodeStructure(m)); err != nil {
		return nil, fmt.Errorf("onnx-go can't decode this graph: %w", err)
	}
	d = &decoded{ops: b.ops}
	for _, id := range model.Input {
		d.inputs = append(d.inputs, b.tensors[id].name)
	}
	for _, id := range model.Output {
		d.outputs = append(d.outputs, b.tensors[id].name)
	}
	return d, d.agree(m.graph)
}

// agree compares what onnx-go built with what wire.go read; both readers must
// see one graph, or neither is believed.
func (d *decoded) agree(g *graphProto) error {
	if len(d.ops) != len(g.nodes) {
		return fmt.Errorf("onnx-go sees %d nodes, the wire has %d", len(d.ops), len(g.nodes))
	}
	for i := range d.ops {
		o, n := &d.ops[i], &g.nodes[i]
		if len(n.inputs) == 0 && len(o.inputs) == 1 {
			o.inputs = nil // onnx-go gives an operator without inputs a made-up one
		}
		if o.op != n.op || !slices.Equal(o.inputs, n.inputs) || !slices.Equal(o.outputs, n.outputs) {
			return fmt.Errorf("node %d: onnx-go sees %s %q -> %q, the wire has %s %q -> %q",
				i, o.op, o.inputs, o.outputs, n.op, n.inputs, n.outputs)
		}
		plain := 0
		for j := range n.attrs {
			if n.attrs[j].plain() {
				plain++
			}
		}
		if plain != len(o.attrs) {
			return fmt.Errorf("node %d (%s): onnx-go sees %d attributes, the wire has %d", i, n.op, len(o.attrs), plain)
		}
	}
	if len(d.outputs) != len(g.outputs) {
		return fmt.Errorf("onnx-go sees %d outputs, the wire has %d", len(d.outputs), len(g.outputs))
	}
	for i, name := range d.outputs {
		if name != g.outputs[i].name {
			return fmt.Errorf("output %d: onnx-go sees %q, the wire has %q", i, name, g.outputs[i].name)
		}
	}
	return nil
}

// plain says whether onnx-go carries an attribute of this kind faithfully.
func (a *attrProto) plain() bool {
	switch a.kind {
	case attrFloat, attrInt, attrString, attrFloats, attrInts, attrStrings:
		return a.ref == ""
	}
	return false
}

// encodeStructure writes a ModelProto with the structure of m only.
func encodeStructure(m *modelProto) []byte {
	var g []byte
	for i := range m.graph.nodes {
		g = appendMessage(g, 1, encodeNode(&m.graph.nodes[i]))
	}
	for i := range m.graph.inits {
		g = appendMessage(g, 5, appendString(nil, 8, m.graph.inits[i].name))
	}
	for i := range m.graph.inputs {
		g = appendMessage(g, 11, appendString(nil, 1, m.graph.inputs[i].name))
	}
	for i := range m.graph.outputs {
		g = appendMessage(g, 12, appendString(nil, 1, m.graph.outputs[i].name))
	}
	return appendMessage(nil, 7, g)
}

func encodeNode(n *nodeProto) []byte {
	var b []byte
	for _, s := range n.inputs {
		b = appendString(b, 1, s)
	}
	for _, s := range n.outputs {
		b = appendString(b, 2, s)
	}
	b = appendString(b, 3, n.name)
	b = appendString(b, 4, n.op)
	for i := range n.attrs {
		if n.attrs[i].plain() {
			b = appendMessage(b, 5, encodeAttr(&n.attrs[i]))
		}
	}
	return b
}

func encodeAttr(a *attrProto) []byte {
	b := appendString(nil, 1, a.name)
	b = appendVarint(b, 20, uint64(a.kind))
	switch a.kind {
	case attrFloat:
		b = appendFloat(b, 2, a.f)
	case attrInt:
		b = appendVarint(b, 3, uint64(a.i))
	case attrString:
		b = appendMessage(b, 4, a.s)
	case attrFloats:
		for _, v := range a.floats {
			b = appendFloat(b, 7, v)
		}
	case attrInts:
		for _, v := range a.ints {
			b = appendVarint(b, 8, uint64(v))
		}
	case attrStrings:
		for _, v := range a.strings {
			b = appendMessage(b, 9, v)
		}
	}
	return b
}

func appendMessage(b []byte, tag protowire.Number, sub []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, tag, protowire.BytesType), sub)
}

func appendString(b []byte, tag protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, tag, protowire.BytesType), s)
}

func appendVarint(b []byte, tag protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, tag, protowire.VarintType), v)
}

func appendFloat(b []byte, tag protowire.Number, v float32) []byte {
	return protowire.AppendFixed32(protowire.AppendTag(b, tag, protowire.Fixed32Type), math.Float32bits(v))
}

// backend receives the graph from onnx-go. To onnx-go every tensor is a node
// and every operand an edge from result to operand, weighted by its position.
// A tensor read twice by one operator makes two equal edges, so edges are kept
// in a list: a gonum graph would merge them.
//
// backendTensor implements neither DataCarrier nor Documenter, so onnx-go
// never touches payloads.
type backend struct {
	graph.Directed // nil: the decoder only builds, it never reads
	tensors        map[int64]*backendTensor
	pending        []backendEdge // edges set since the last operation
	ops            []decodedOp
}

type backendTensor struct {
	id   int64
	name string
}

func (t *backendTensor) ID() int64        { return t.id }
func (t *backendTensor) SetName(s string) { t.name = s }
func (t *backendTensor) GetName() string  { return t.name }
func newBackend() *backend                { return &backend{tensors: make(map[int64]*backendTensor)} }
func (b *backend) NewNode() graph.Node    { return &backendTensor{id: int64(len(b.tensors))} }
func (b *backend) AddNode(n graph.Node)   { b.tensors[n.ID()] = n.(*backendTensor) }

type backendEdge struct {
	from, to *backendTensor
	weight   float64
}

func (e backendEdge) From() graph.Node { return e.from }
func (e backendEdge) To() graph.Node   { return e.to }
func (e backendEdge) Weight() float64  { return e.weight }
func (e backendEdge) ReversedEdge() graph.Edge {
	return backendEdge{e.to, e.from, e.weight}
}

func (b *backend) NewWeightedEdge(from, to graph.Node, w float64) graph.WeightedEdge {
	return backendEdge{from.(*backendTensor), to.(*backendTensor), w}
}

func (b *backend) SetWeightedEdge(e graph.WeightedEdge) {
	b.pending = append(b.pending, e.(backendEdge))
}

// ApplyOperation closes one operator: the edges set since the previous one are
// its operands, once per output, in the order of the outputs.
func (b *backend) ApplyOperation(op onnxgo.Operation, results ...graph.Node) error {
	o := decodedOp{op: op.Name, attrs: op.Attributes}
	for _, r := range results {
		o.outputs = append(o.outputs, r.(*backendTensor).name)
	}
	edges := b.pending
	b.pending = nil
	if len(results) > 0 {
		if len(edges)%len(results) != 0 {
			return fmt.Errorf("%s: %d edges for %d results", op.Name, len(edges), len(results))
		}
		edges = edges[:len(edges)/len(results)]
		o.inputs = make([]string, len(edges))
		for i, e := range edges {
			if e.from != results[0] || int(e.weight) != i {
				return fmt.Errorf("%s: operand %d is out of order", op.Name, i)
			}
			o.inputs[i] = e.to.name
		}
	}
	b.ops = append(b.ops, o)
	return nil
}
