package onnx

import (
	"fmt"
	"math"
	"slices"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// Limits that keep the decoded form a small multiple of the file. A protobuf
// message can be two bytes long, its decoded struct is hundreds; real models
// of this compiler's kind have a few hundred nodes.
const (
	maxNodes       = 1 << 14
	maxMessages    = 1 << 16 // nodes, attributes, tensors, value infos together
	maxNodeInputs  = 1 << 10
	maxNodeOutputs = 1 << 8
	maxNodeAttrs   = 1 << 8
	maxPorts       = 1 << 10 // inputs, and outputs, of a graph; onnx-go looks each initializer up among them
	maxEdges       = 1 << 16 // onnx-go makes inputs x outputs edges per node
	maxRank        = 16
	maxDepth       = 8       // subgraphs inside subgraphs
	maxElements    = 1 << 29 // of one tensor
	maxOpsets      = 64
	maxMetadata    = 1 << 10
)

type modelProto struct {
	irVersion       int64
	producer        string
	producerVersion string
	modelVersion    int64
	doc             string
	opsets          []opsetImport
	metadata        [][2]string
	functions       []functionProto
	graph           *graphProto
}

type opsetImport struct {
	domain  string
	version int64
}

type graphProto struct {
	name        string
	nodes       []nodeProto
	inits       []tensorProto
	sparseInits int
	inputs      []valueInfo
	outputs     []valueInfo
}

type nodeProto struct {
	name, op, domain string
	overload         string // which of the functions of this name is called
	inputs, outputs  []string
	attrs            []attrProto
}

// attrKind is AttributeProto.AttributeType.
type attrKind int32

const (
	attrUndefined attrKind = iota
	attrFloat
	attrInt
	attrString
	attrTensor
	attrGraph
	attrFloats
	attrInts
	attrStrings
	attrTensors
	attrGraphs
	attrSparse
	attrSparses
	attrType
	attrTypes
	numAttrKinds
)

var attrKindNames = [numAttrKinds]string{"undefined", "float", "int", "string", "tensor", "graph", "floats",
	"ints", "strings", "tensors", "graphs", "sparse tensor", "sparse tensors", "type", "types"}

func (k attrKind) String() string {
	if k >= 0 && k < numAttrKinds {
		return attrKindNames[k]
	}
	return fmt.Sprintf("kind %d", int32(k))
}

type attrProto struct {
	name    string
	ref     string
	kind    attrKind
	f       float32
	i       int64
	s       []byte
	tensor  *tensorProto
	graph   *graphProto
	floats  []float32
	ints    []int64
	strings [][]byte
}

type valueInfo struct {
	name     string
	elemType int32
	isTensor bool
	hasShape bool
	dims     []Dim
}

// reader counts what it has decoded over the whole file, subgraphs included.
type reader struct {
	messages, nodes, edges int
}

func (r *reader) count(f *field) error {
	if r.messages++; r.messages > maxMessages {
		return tooMuch(f.errorf("more than %d messages", maxMessages))
	}
	return nil
}

// readModel decodes and checks a ModelProto.
func readModel(data []byte) (*modelProto, error) {
	if len(data) == 0 {
		return nil, &wireError{place: "model", reason: "the file is empty"}
	}
	var r reader
	m := new(modelProto)
	root := &message{what: "model", index: -1, data: data}
	err := root.each(func(f *field) error {
		switch f.tag {
		case 1:
			return f.varint(&m.irVersion)
		case 2:
			return f.string(&m.producer)
		case 3:
			return f.string(&m.producerVersion)
		case 4: // domain of the model itself
			return f.want(protowire.BytesType)
		case 5:
			return f.varint(&m.modelVersion)
		case 6:
			return f.string(&m.doc)
		case 7:
			if m.graph != nil {
				return f.errorf("a second graph")
			}
			sub, err := f.message("graph", -1)
			if err != nil {
				return err
			}
			m.graph, err = r.graph(sub, 0)
			return err
		case 8:
			return r.opset(f, &m.opsets)
		case 14:
			return r.metadata(f, m)
		case 20, 26: // training_info, configuration: nothing an inference needs
			return f.want(protowire.BytesType)
		case 25:
			return r.function(f, m)
		}
		return f.unknown()
	})
	if err != nil {
		return nil, err
	}
	if m.graph == nil {
		return nil, &wireError{place: "model", offset: len(data), reason: "no graph in it: not an ONNX model"}
	}
	return m, nil
}

func (r *reader) opset(f *field, opsets *[]opsetImport) error {
	sub, err := f.message("opset_import", len(*opsets))
	if err != nil {
		return err
	}
	if len(*opsets) == maxOpsets {
		return tooMuch(f.errorf("more than %d opset imports", maxOpsets))
	}
	*opsets = append(*opsets, opsetImport{})
	p := &(*opsets)[len(*opsets)-1]
	return sub.each(func(f *field) error {
		switch f.tag {
		case 1:
			return f.string(&p.domain)
		case 2:
			return f.varint(&p.version)
		}
		return f.unknown()
	})
}

func (r *reader) metadata(f *field, m *modelProto) error {
	sub, err := f.message("metadata_props", len(m.metadata))
	if err != nil {
		return err
	}
	if len(m.metadata) == maxMetadata {
		return tooMuch(f.errorf("more than %d metadata entries", maxMetadata))
	}
	m.metadata = append(m.metadata, [2]string{})
	return readPair(sub, &m.metadata[len(m.metadata)-1])
}

func readPair(m *message, kv *[2]string) error {
	return m.each(func(f *field) error {
		switch f.tag {
		case 1:
			return f.string(&kv[0])
		case 2:
			return f.string(&kv[1])
		}
		return f.unknown()
	})
}

func (r *reader) graph(m *message, depth int) (*graphProto, error) {
	if depth > maxDepth {
		return nil, tooMuch(m.errorf(0, "graphs nested more than %d deep", maxDepth))
	}
	g := new(graphProto)
	err := m.each(func(f *field) error {
		switch f.tag {
		case 1:
			return r.node(f, g, depth)
		case 2:
			return f.string(&g.name)
		case 5:
			sub, err := f.message("initializer", len(g.inits))
			if err != nil {
				return err
			}
			if err := r.count(f); err != nil {
				return err
			}
			t, err := r.tensor(sub)
			if err != nil {
				return err
			}
			g.inits = append(g.inits, *t)
			return nil
		case 11:
			return r.valueInfo(f, "input", &g.inputs)
		case 12:
			return r.valueInfo(f, "output", &g.outputs)
		case 15:
			g.sparseInits++
			return f.want(protowire.BytesType)
		case 10, 13, 14, 16: // doc_string, value_info (shapes are inferred, not believed), quantization_annotation, metadata_props
			return f.want(protowire.BytesType)
		}
		return f.unknown()
	})
	return g, err
}

func (r *reader) node(f *field, g *graphProto, depth int) error {
	sub, err := f.message("node", len(g.nodes))
	if err != nil {
		return err
	}
	if err := r.count(f); err != nil {
		return err
	}
	if r.nodes++; r.nodes > maxNodes {
		return tooMuch(f.errorf("more than %d nodes", maxNodes))
	}
	var n nodeProto
	err = sub.each(func(f *field) error {
		switch f.tag {
		case 1:
			return appendName(f, &n.inputs, maxNodeInputs)
		case 2:
			return appendName(f, &n.outputs, maxNodeOutputs)
		case 3:
			return f.string(&n.name)
		case 4:
			return f.string(&n.op)
		case 5:
			return r.attr(f, &n.attrs, depth)
		case 7:
			return f.string(&n.domain)
		case 8:
			return f.string(&n.overload)
		case 6, 9, 10: // doc_string, metadata_props, device_configurations
			return f.want(protowire.BytesType)
		}
		return f.unknown()
	})
	if err != nil {
		return err
	}
	if n.op == "" {
		return sub.errorf(0, "node %q has no operator", n.name)
	}
	if !slices.ContainsFunc(n.outputs, func(o string) bool { return o != "" }) {
		return sub.errorf(0, "node %q (%s) has no outputs", n.name, n.op)
	}
	if r.edges += max(len(n.inputs), 1) * len(n.outputs); r.edges > maxEdges {
		return tooMuch(sub.errorf(0, "more than %d edges", maxEdges))
	}
	if n.domain == "ai.onnx" {
		n.domain = ""
	}
	g.nodes = append(g.nodes, n)
	return nil
}

func appendName(f *field, dst *[]string, limit int) error {
	if len(*dst) == limit {
		return tooMuch(f.errorf("more than %d of them in one node", limit))
	}
	var s string
	if err := f.string(&s); err != nil {
		return err
	}
	*dst = append(*dst, s)
	return nil
}

// attrValues are the fields of an AttributeProto in which its value can lie.
var attrValues = map[protowire.Number]string{2: "f", 3: "i", 4: "s", 5: "t", 6: "g", 7: "floats", 8: "ints", 9: "strings",
	10: "tensors", 11: "graphs", 14: "tp", 15: "type_protos", 22: "sparse_tensor", 23: "sparse_tensors"}

func (r *reader) attr(f *field, attrs *[]attrProto, depth int) error {
	sub, err := f.message("attribute", len(*attrs))
	if err != nil {
		return err
	}
	if err := r.count(f); err != nil {
		return err
	}
	if len(*attrs) == maxNodeAttrs {
		return tooMuch(f.errorf("more than %d of them in one node", maxNodeAttrs))
	}
	var a attrProto
	var floats, ints []byte
	var values []protowire.Number
	err = sub.each(func(f *field) error {
		if attrValues[f.tag] != "" && !slices.Contains(values, f.tag) {
			values = append(values, f.tag)
		}
		switch f.tag {
		case 1:
			return f.string(&a.name)
		case 2:
			a.f = math.Float32frombits(uint32(f.num))
			return f.want(protowire.Fixed32Type)
		case 3:
			return f.varint(&a.i)
		case 4:
			return f.bytes(&a.s)
		case 5:
			t, err := f.message("t", -1)
			if err != nil {
				return err
			}
			a.tensor, err = r.tensor(t)
			return err
		case 6:
			g, err := f.message("g", -1)
			if err != nil {
				return err
			}
			a.graph, err = r.graph(g, depth+1)
			return err
		case 7:
			return f.packed(&floats, protowire.Fixed32Type)
		case 8:
			return f.packed(&ints, protowire.VarintType)
		case 9:
			if err := r.count(f); err != nil {
				return err
			}
			a.strings = append(a.strings, f.data)
			return f.want(protowire.BytesType)
		case 20:
			return f.varint32((*int32)(&a.kind))
		case 21:
			return f.string(&a.ref)
		case 10, 11, 13, 14, 15, 22, 23: // tensors, graphs, doc_string, types, sparse: refused by kind
			return f.want(protowire.BytesType)
		}
		return f.unknown()
	})
	if err != nil {
		return err
	}
	switch {
	case a.name == "":
		return sub.errorf(0, "an attribute without a name")
	case a.kind <= attrUndefined || a.kind >= numAttrKinds:
		return sub.errorf(0, "attribute %q has no valid type (%d)", a.name, a.kind)
	case len(values) > 1:
		return sub.errorf(0, "attribute %q has values in %s and %s: which of them is meant, nobody can say", a.name, attrValues[values[0]], attrValues[values[1]])
	case a.ref != "" && len(values) > 0:
		return sub.errorf(0, "attribute %q has a value, and refers to attribute %q: which of them is meant, nobody can say", a.name, a.ref)
	case a.ref != "": // its value is the caller's
	case a.kind == attrTensor && a.tensor == nil:
		return sub.errorf(0, "attribute %q is said to be a tensor, but has none", a.name)
	case a.kind == attrGraph && a.graph == nil:
		return sub.errorf(0, "attribute %q is said to be a graph, but has none", a.name)
	case (a.kind == attrString && !utf8.Valid(a.s)):
		return sub.errorf(0, "attribute %q: text is not UTF-8", a.name)
	}
	for _, b := range *attrs {
		if b.name == a.name {
			return sub.errorf(0, "attribute %q given twice", a.name)
		}
	}
	for ; len(floats) > 0; floats = floats[4:] {
		v, _ := protowire.ConsumeFixed32(floats)
		a.floats = append(a.floats, math.Float32frombits(v))
	}
	if a.ints, err = varints(ints); err != nil {
		return sub.errorf(0, "attribute %q: %v", a.name, err)
	}
	*attrs = append(*attrs, a)
	return nil
}

func (r *reader) valueInfo(f *field, what string, dst *[]valueInfo) error {
	sub, err := f.message(what, len(*dst))
	if err != nil {
		return err
	}
	if err := r.count(f); err != nil {
		return err
	}
	if len(*dst) == maxPorts {
		return tooMuch(f.errorf("more than %d graph %ss", maxPorts, what))
	}
	var v valueInfo
	err = sub.each(func(f *field) error {
		switch f.tag {
		case 1:
			return f.string(&v.name)
		case 2:
			t, err := f.message("type", -1)
			if err != nil {
				return err
			}
			return readType(t, &v)
		case 3, 4: // doc_string, metadata_props
			return f.want(protowire.BytesType)
		}
		return f.unknown()
	})
	if err != nil {
		return err
	}
	if v.name == "" {
		return sub.errorf(0, "a graph %s without a name", what)
	}
	*dst = append(*dst, v)
	return nil
}

func readType(m *message, v *valueInfo) error {
	return m.each(func(f *field) error {
		switch f.tag {
		case 1:
			v.isTensor = true
			t, err := f.message("tensor_type", -1)
			if err != nil {
				return err
			}
			return t.each(func(f *field) error {
				switch f.tag {
				case 1:
					return f.varint32(&v.elemType)
				case 2:
					v.hasShape = true
					s, err := f.message("shape", -1)
					if err != nil {
						return err
					}
					return readShape(s, v)
				}
				return f.unknown()
			})
		case 4, 5, 7, 8, 9: // sequence, map, opaque, sparse, optional: isTensor stays false
			return f.want(protowire.BytesType)
		case 6: // denotation
			return f.want(protowire.BytesType)
		}
		return f.unknown()
	})
}

func readShape(m *message, v *valueInfo) error {
	return m.each(func(f *field) error {
		if f.tag != 1 {
			return f.unknown()
		}
		if len(v.dims) == maxRank {
			return tooMuch(f.errorf("more than %d dimensions", maxRank))
		}
		sub, err := f.message("dim", len(v.dims))
		if err != nil {
			return err
		}
		d := Dim{}
		err = sub.each(func(f *field) error {
			switch f.tag {
			case 1:
				var n int64
				if err := f.varint(&n); err != nil {
					return err
				}
				if n < 0 || n > maxElements {
					return f.errorf("dimension of size %d", n)
				}
				d = Dim{Size: int(n), Known: true}
				return nil
			case 2:
				d = Dim{}
				return f.string(&d.Param)
			case 3: // denotation
				return f.want(protowire.BytesType)
			}
			return f.unknown()
		})
		v.dims = append(v.dims, d)
		return err
	})
}
