package nodetest

import (
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protowire"

	"nepcoc/ir"
)

// The few parts of ONNX's protobuf messages that the suite needs: the test
// looks at and rewrites models below the importer that it tests.

type field struct {
	num  protowire.Number
	kind protowire.Type
	raw  []byte // the payload of length-delimited fields
	n    uint64 // others
}

func fields(b []byte) ([]field, error) {
	var fs []field
	for len(b) > 0 {
		num, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return nil, protowire.ParseError(n)
		}
		b = b[n:]
		f := field{num: num, kind: kind}
		switch kind {
		case protowire.BytesType:
			f.raw, n = protowire.ConsumeBytes(b)
		case protowire.VarintType:
			f.n, n = protowire.ConsumeVarint(b)
		default:
			n = protowire.ConsumeFieldValue(num, kind, b)
			if n >= 0 {
				f.raw = b[:n]
			}
		}
		if n < 0 {
			return nil, protowire.ParseError(n)
		}
		b = b[n:]
		fs = append(fs, f)
	}
	return fs, nil
}

func appendBytes(b []byte, num protowire.Number, payload []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, num, protowire.BytesType), payload)
}

func appendInt(b []byte, num protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), v)
}

// port is a graph input or output.
type port struct {
	name  string
	elem  uint64 // ONNX element type, 0 where it is no tensor
	shape []int
}

// model is a node test's model, taken apart.
type model struct {
	head    []byte // the fields of ModelProto other than the graph
	opset   uint64
	nodes   [][]byte
	ops     []string
	attrs   int    // attributes of all nodes
	kept    []byte // initializers and names
	inputs  []port
	outputs []port
}

func parseModel(b []byte) (*model, error) {
	top, err := fields(b)
	if err != nil {
		return nil, err
	}
	m := &model{}
	for _, f := range top {
		if f.num == 8 {
			if err := m.opsetImport(f.raw); err != nil {
				return nil, err
			}
			continue
		}
		if f.num != 7 {
			if f.kind == protowire.VarintType {
				m.head = appendInt(m.head, f.num, f.n)
			} else {
				m.head = appendBytes(m.head, f.num, f.raw)
			}
			continue
		}
		graph, err := fields(f.raw)
		if err != nil {
			return nil, err
		}
		for _, f := range graph {
			if err := m.graphField(f); err != nil {
				return nil, err
			}
		}
	}
	return m, nil
}

func (m *model) opsetImport(b []byte) error {
	fs, err := fields(b)
	if err != nil {
		return err
	}
	domain, version := "", uint64(0)
	for _, f := range fs {
		switch f.num {
		case 1:
			domain = string(f.raw)
		case 2:
			version = f.n
		}
	}
	if domain == "" {
		// A case declares the opset of its operator's newest form. Where
		// that is older than the oldest that we take, the form is still the
		// same in that one.
		m.opset = max(version, ir.MinOpset)
		version = m.opset
	}
	m.head = appendBytes(m.head, 8, appendInt(appendBytes(nil, 1, []byte(domain)), 2, version))
	return nil
}

func (m *model) graphField(f field) error {
	switch f.num {
	case 1:
		m.nodes = append(m.nodes, f.raw)
		fs, err := fields(f.raw)
		if err != nil {
			return err
		}
		op, domain := "", ""
		for _, f := range fs {
			switch f.num {
			case 4:
				op = string(f.raw)
			case 5:
				m.attrs++
			case 7:
				domain = string(f.raw)
			}
		}
		if domain != "" {
			op = domain + "." + op
		}
		m.ops = append(m.ops, op)
	case 11, 12:
		p, err := parsePort(f.raw)
		if err != nil {
			return err
		}
		if f.num == 11 {
			m.inputs = append(m.inputs, p)
		} else {
			m.outputs = append(m.outputs, p)
		}
	case 2, 5:
		m.kept = appendBytes(m.kept, f.num, f.raw)
	}
	return nil
}

// parsePort reads a ValueInfoProto.
func parsePort(b []byte) (p port, err error) {
	// Paths: 1 name; 2 type / 1 tensor / 1 element type, 2 shape / 1 dim / 1 value.
	err = each(b, func(f field) error {
		if f.num == 1 {
			p.name = string(f.raw)
		}
		if f.num != 2 {
			return nil
		}
		return each(f.raw, func(f field) error {
			if f.num != 1 {
				return nil
			}
			return each(f.raw, func(f field) error {
				if f.num == 1 {
					p.elem = f.n
				}
				if f.num != 2 {
					return nil
				}
				return each(f.raw, func(f field) error {
					d := 0
					err := each(f.raw, func(f field) error {
						if f.num == 1 {
							d = int(f.n)
						}
						return nil
					})
					p.shape = append(p.shape, d)
					return err
				})
			})
		})
	})
	return p, err
}

func each(b []byte, f func(field) error) error {
	fs, err := fields(b)
	if err != nil {
		return err
	}
	for _, x := range fs {
		if err := f(x); err != nil {
			return err
		}
	}
	return nil
}

func (p port) encode() []byte {
	var shape []byte
	for _, d := range p.shape {
		shape = appendBytes(shape, 1, appendInt(nil, 1, uint64(d)))
	}
	tensor := appendBytes(appendInt(nil, 1, p.elem), 2, shape)
	return appendBytes(appendBytes(nil, 1, []byte(p.name)), 2, appendBytes(nil, 1, tensor))
}

func node(op string, in, out []string, attrs ...[]byte) []byte {
	var b []byte
	for _, s := range in {
		b = appendBytes(b, 1, []byte(s))
	}
	for _, s := range out {
		b = appendBytes(b, 2, []byte(s))
	}
	b = appendBytes(b, 3, []byte(op+"/"+out[0]))
	b = appendBytes(b, 4, []byte(op))
	for _, a := range attrs {
		b = appendBytes(b, 5, a)
	}
	return b
}

func intAttr(name string, v uint64) []byte {
	return appendInt(appendInt(appendBytes(nil, 1, []byte(name)), 3, v), 20, 2)
}

// shapeTensor is an int64 TensorProto.
func shapeTensor(name string, shape []int) []byte {
	b := appendInt(appendInt(nil, 1, uint64(len(shape))), 2, 7)
	for _, d := range shape {
		b = appendInt(b, 7, uint64(d))
	}
	return appendBytes(b, 8, []byte(name))
}

var elemTypes = map[uint64]ir.DType{
	1: ir.F32, 2: ir.U8, 3: ir.I8, 4: ir.U16, 5: ir.I16, 6: ir.I32, 7: ir.I64, 9: ir.Bool, 11: ir.F64,
}

// parseTensor decodes a TensorProto of a type that the IR has.
func parseTensor(b []byte) (*ir.Tensor, error) {
	var shape []int
	var elem uint64
	var raw []byte
	var ints []int64
	var floats []float64
	fs, err := fields(b)
	if err != nil {
		return nil, err
	}
	isRaw := false
	for _, f := range fs {
		switch f.num {
		case 1:
			if f.kind == protowire.VarintType {
				shape = append(shape, int(f.n))
			} else {
				for _, v := range varints(f.raw) {
					shape = append(shape, int(v))
				}
			}
		case 2:
			elem = f.n
		case 5, 7:
			if f.kind == protowire.VarintType {
				ints = append(ints, int64(f.n))
			} else {
				ints = append(ints, varints(f.raw)...)
			}
		case 4:
			for p := f.raw; len(p) >= 4; p = p[4:] {
				v, _ := protowire.ConsumeFixed32(p)
				floats = append(floats, float64(math.Float32frombits(v)))
			}
		case 10:
			for p := f.raw; len(p) >= 8; p = p[8:] {
				v, _ := protowire.ConsumeFixed64(p)
				floats = append(floats, math.Float64frombits(v))
			}
		case 9:
			raw, isRaw = f.raw, true
		}
	}
	d, ok := elemTypes[elem]
	if !ok {
		return nil, fmt.Errorf("element type %d", elem)
	}
	t := ir.Type{DType: d, Shape: shape}
	if isRaw {
		return ir.TensorFromBytes(t, raw)
	}
	if err := t.Validate(); err != nil {
		return nil, err
	}
	x := ir.NewTensor(t)
	if len(ints)+len(floats) != x.Len() {
		return nil, fmt.Errorf("%s with %d elements", t, len(ints)+len(floats))
	}
	for i := range x.Len() {
		switch v := x.Data.(type) {
		case []float32:
			v[i] = float32(floats[i])
		case []float64:
			v[i] = floats[i]
		case []int64:
			v[i] = ints[i]
		case []int32:
			v[i] = int32(ints[i])
		case []int16:
			v[i] = int16(ints[i])
		case []int8:
			v[i] = int8(ints[i])
		case []uint8:
			v[i] = uint8(ints[i])
		case []uint16:
			v[i] = uint16(ints[i])
		case []bool:
			v[i] = ints[i] != 0
		}
	}
	return x, nil
}

func varints(b []byte) []int64 {
	var v []int64
	for len(b) > 0 {
		x, n := protowire.ConsumeVarint(b)
		if n < 0 {
			return v
		}
		v, b = append(v, int64(x)), b[n:]
	}
	return v
}
