package onnxmodel

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

func msg(b []byte, tag protowire.Number, sub []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, tag, protowire.BytesType), sub)
}

func str(b []byte, tag protowire.Number, s string) []byte { return msg(b, tag, []byte(s)) }

func num(b []byte, tag protowire.Number, v int64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, tag, protowire.VarintType), uint64(v))
}

func sortedKeys(a Attrs) []string { return slices.Sorted(maps.Keys(a)) }

// attribute encodes an AttributeProto; the kinds are numbered as in onnx.proto.
func attribute(name string, v any) []byte {
	b := str(nil, 1, name)
	switch v := v.(type) {
	case int:
		return num(num(b, 3, int64(v)), 20, 2)
	case float64:
		b = protowire.AppendTag(b, 2, protowire.Fixed32Type)
		return num(protowire.AppendFixed32(b, math.Float32bits(float32(v))), 20, 1)
	case string:
		return num(str(b, 4, v), 20, 3)
	case []int:
		for _, x := range v {
			b = num(b, 8, int64(x))
		}
		return num(b, 20, 7)
	case Tensor:
		return num(msg(b, 5, v.encode("")), 20, 4)
	}
	panic(fmt.Sprintf("BUG: attribute %s is of type %T", name, v))
}

func (t Tensor) encode(name string) []byte {
	var b []byte
	for _, d := range t.Dims {
		b = num(b, 1, int64(d))
	}
	var raw []byte
	dtype := t.DType
	le := binary.LittleEndian
	switch d := t.Data.(type) {
	case []float32:
		dtype = F32
		for _, x := range d {
			raw = le.AppendUint32(raw, math.Float32bits(x))
		}
	case []int64:
		dtype = I64
		for _, x := range d {
			raw = le.AppendUint64(raw, uint64(x))
		}
	case []int32:
		dtype = I32
		for _, x := range d {
			raw = le.AppendUint32(raw, uint32(x))
		}
	case []bool:
		dtype = Bool
		for _, x := range d {
			raw = append(raw, 0)
			if x {
				raw[len(raw)-1] = 1
			}
		}
	case []byte:
		raw = d
		if dtype == 0 {
			dtype = U8
		}
	default:
		panic(fmt.Sprintf("BUG: tensor of %T", t.Data))
	}
	return msg(str(num(b, 2, int64(dtype)), 8, name), 9, raw)
}

// valueInfo encodes a ValueInfoProto; nil dims leave the shape out.
func valueInfo(name string, dtype int, dims []int) []byte {
	tensor := num(nil, 1, int64(dtype))
	if dims != nil {
		var shape []byte
		for _, d := range dims {
			if d < 0 {
				shape = msg(shape, 1, str(nil, 2, "batch"))
			} else {
				shape = msg(shape, 1, num(nil, 1, int64(d)))
			}
		}
		tensor = msg(tensor, 2, shape)
	}
	return msg(str(nil, 1, name), 2, msg(nil, 1, tensor))
}
