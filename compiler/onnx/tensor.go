package onnx

import (
	"encoding/binary"
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protowire"

	"nepcoc/ir"
)

// store says in which typed field of a TensorProto an element type lies when
// it is not in raw_data.
type store uint8

const (
	inFloats store = iota
	inDoubles
	inInt32s
	inInt64s
	inUint64s
	inStrings
	inRaw
	inFile
)

// storeNames are the fields' own names.
var storeNames = [...]string{"float_data", "double_data", "int32_data", "int64_data", "uint64_data", "string_data", "raw_data", "external_data"}

// onnxDType is one of TensorProto.DataType. ir is Invalid for the types that
// models of this compiler can't have; the two halves of a float are read as floats, which hold
// all their values; bits is 0 for those without fixed size;
// unit is the number of payload bits per stored value (two int4 share one).
type onnxDType struct {
	name  string
	ir    ir.DType
	bits  int
	unit  int
	store store
}

var onnxDTypes = [...]onnxDType{
	1:  {"float32", ir.F32, 32, 32, inFloats},
	2:  {"uint8", ir.U8, 8, 8, inInt32s},
	3:  {"int8", ir.I8, 8, 8, inInt32s},
	4:  {"uint16", ir.U16, 16, 16, inInt32s},
	5:  {"int16", ir.I16, 16, 16, inInt32s},
	6:  {"int32", ir.I32, 32, 32, inInt32s},
	7:  {"int64", ir.I64, 64, 64, inInt64s},
	8:  {"string", ir.Invalid, 0, 0, inStrings},
	9:  {"bool", ir.Bool, 8, 8, inInt32s},
	10: {"float16", ir.F32, 16, 16, inInt32s},
	11: {"float64", ir.F64, 64, 64, inDoubles},
	12: {"uint32", ir.Invalid, 32, 32, inUint64s},
	13: {"uint64", ir.Invalid, 64, 64, inUint64s},
	14: {"complex64", ir.Invalid, 0, 0, inFloats},
	15: {"complex128", ir.Invalid, 0, 0, inDoubles},
	16: {"bfloat16", ir.F32, 16, 16, inInt32s},
	17: {"float8e4m3fn", ir.Invalid, 8, 8, inInt32s},
	18: {"float8e4m3fnuz", ir.Invalid, 8, 8, inInt32s},
	19: {"float8e5m2", ir.Invalid, 8, 8, inInt32s},
	20: {"float8e5m2fnuz", ir.Invalid, 8, 8, inInt32s},
	21: {"uint4", ir.Invalid, 4, 8, inInt32s},
	22: {"int4", ir.Invalid, 4, 8, inInt32s},
	23: {"float4e2m1", ir.Invalid, 4, 8, inInt32s},
	24: {"float8e8m0", ir.Invalid, 8, 8, inInt32s},
	25: {"uint2", ir.Invalid, 2, 8, inInt32s},
	26: {"int2", ir.Invalid, 2, 8, inInt32s},
}

// lookupDType returns nil for a number that ONNX does not define.
func lookupDType(n int32) *onnxDType {
	if n <= 0 || int(n) >= len(onnxDTypes) {
		return nil
	}
	return &onnxDTypes[n]
}

// shape converts dims that elements has accepted.
func (t *tensorProto) shape() []int {
	s := make([]int, len(t.dims))
	for i, d := range t.dims {
		s[i] = int(d)
	}
	return s
}

// decode copies the payload, whose length check has proved, into an IR tensor.
func (t *tensorProto) decode() (*ir.Tensor, error) {
	d := lookupDType(t.dtype)
	if d == nil || d.ir == ir.Invalid || t.external {
		return nil, fmt.Errorf("tensor %q can't be read", t.name)
	}
	out := &ir.Tensor{Type: ir.Type{DType: d.ir, Shape: t.shape()}}
	n := out.Len()
	if widen := halves[t.dtype]; widen != nil {
		v, err := t.decodeHalves(widen, n)
		if err != nil {
			return nil, fmt.Errorf("tensor %q (%s): %v", t.name, d.name, err)
		}
		out.Data = v
		return out, nil
	}
	if t.hasRaw {
		out.Data = decodeRaw(d.ir, t.raw, n)
		return out, nil
	}
	switch d.store {
	case inFloats:
		out.Data = decodeRaw(ir.F32, t.floats, n)
	case inDoubles:
		out.Data = decodeRaw(ir.F64, t.doubles, n)
	case inInt64s:
		v, err := varints(t.int64s)
		if err != nil {
			return nil, fmt.Errorf("tensor %q: %v", t.name, err)
		}
		if v == nil {
			v = []int64{}
		}
		out.Data = v
	default:
		v, err := decodeNarrow(d.ir, t.int32s, n)
		if err != nil {
			return nil, fmt.Errorf("tensor %q (%s): %v", t.name, d.name, err)
		}
		out.Data = v
	}
	return out, nil
}

// halves are the floats of 16 bits, and how they become float32 without loss.
var halves = map[int32]func(uint16) float32{10: ir.Float16, 16: bfloat16}

// bfloat16 is the upper half of a float32.
func bfloat16(h uint16) float32 { return math.Float32frombits(uint32(h) << 16) }

// decodeHalves reads n floats of 16 bits; in the typed field each is the number that its bits are.
func (t *tensorProto) decodeHalves(widen func(uint16) float32, n int) ([]float32, error) {
	var bits []uint16
	if t.hasRaw {
		bits = decodeRaw(ir.U16, t.raw, n).([]uint16)
	} else {
		v, err := decodeNarrow(ir.U16, t.int32s, n)
		if err != nil {
			return nil, err
		}
		bits = v.([]uint16)
	}
	v := make([]float32, n)
	for i, h := range bits {
		v[i] = widen(h)
	}
	return v, nil
}

// decodeRaw reads n little-endian elements.
func decodeRaw(d ir.DType, b []byte, n int) any {
	le := binary.LittleEndian
	switch d {
	case ir.F32:
		v := make([]float32, n)
		for i := range v {
			v[i] = math.Float32frombits(le.Uint32(b[4*i:]))
		}
		return v
	case ir.F64:
		v := make([]float64, n)
		for i := range v {
			v[i] = math.Float64frombits(le.Uint64(b[8*i:]))
		}
		return v
	case ir.I64:
		v := make([]int64, n)
		for i := range v {
			v[i] = int64(le.Uint64(b[8*i:]))
		}
		return v
	case ir.I32:
		v := make([]int32, n)
		for i := range v {
			v[i] = int32(le.Uint32(b[4*i:]))
		}
		return v
	case ir.I16:
		v := make([]int16, n)
		for i := range v {
			v[i] = int16(le.Uint16(b[2*i:]))
		}
		return v
	case ir.U16:
		v := make([]uint16, n)
		for i := range v {
			v[i] = le.Uint16(b[2*i:])
		}
		return v
	case ir.I8:
		v := make([]int8, n)
		for i := range v {
			v[i] = int8(b[i])
		}
		return v
	case ir.U8:
		return append(make([]uint8, 0, n), b[:n]...)
	case ir.Bool:
		v := make([]bool, n)
		for i := range v {
			v[i] = b[i] != 0
		}
		return v
	}
	panic(fmt.Sprintf("BUG: decodeRaw of %v", d))
}

// decodeNarrow reads the int32_data form, in which ONNX keeps every integer
// type of at most 32 bits as a varint.
func decodeNarrow(d ir.DType, b []byte, n int) (any, error) {
	next := func(lo, hi int64) (int64, error) {
		u, k := protowire.ConsumeVarint(b)
		if k < 0 {
			return 0, protowire.ParseError(k)
		}
		b = b[k:]
		if v := int64(u); v >= lo && v <= hi {
			return v, nil
		}
		return 0, fmt.Errorf("value %d is out of range", int64(u))
	}
	switch d {
	case ir.I32:
		return narrow[int32](n, next, math.MinInt32, math.MaxInt32)
	case ir.I16:
		return narrow[int16](n, next, math.MinInt16, math.MaxInt16)
	case ir.U16:
		return narrow[uint16](n, next, 0, math.MaxUint16)
	case ir.I8:
		return narrow[int8](n, next, math.MinInt8, math.MaxInt8)
	case ir.U8:
		return narrow[uint8](n, next, 0, math.MaxUint8)
	case ir.Bool:
		v := make([]bool, n)
		for i := range v {
			x, err := next(0, 1)
			if err != nil {
				return nil, err
			}
			v[i] = x != 0
		}
		return v, nil
	}
	panic(fmt.Sprintf("BUG: decodeNarrow of %v", d))
}

func narrow[T int8 | int16 | int32 | uint8 | uint16](n int, next func(lo, hi int64) (int64, error), lo, hi int64) ([]T, error) {
	v := make([]T, n)
	for i := range v {
		x, err := next(lo, hi)
		if err != nil {
			return nil, err
		}
		v[i] = T(x)
	}
	return v, nil
}
