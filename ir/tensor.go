package ir

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Limits on types. They are far above any model of bytes, and low enough that
// sizes in bytes and strides never overflow an int.
const (
	MaxElements = 1 << 31
	MaxRank     = 8
)

// Validate says what is wrong with a type: unknown element type, negative or
// absurd dimensions.
func (t Type) Validate() error {
	if t.DType == Invalid || t.DType >= numDTypes {
		return fmt.Errorf("element type %s is not valid", t.DType)
	}
	_, err := ShapeLen(t.Shape)
	return err
}

// ShapeLen is NumElements with the limits checked.
func ShapeLen(shape []int) (int, error) {
	if len(shape) > MaxRank {
		return 0, fmt.Errorf("rank %d is above the limit of %d", len(shape), MaxRank)
	}
	// The bound is on the product of the non-zero dimensions, so that
	// strides can't overflow either.
	n, zero := 1, false
	for _, d := range shape {
		switch {
		case d < 0:
			return 0, fmt.Errorf("shape %v has a negative dimension", shape)
		case d == 0:
			zero = true
		case d > MaxElements/n:
			return 0, fmt.Errorf("shape %v has more than %d elements", shape, MaxElements)
		default:
			n *= d
		}
	}
	if zero {
		return 0, nil
	}
	return n, nil
}

// Equal compares element type and shape.
func (t Type) Equal(u Type) bool { return t.DType == u.DType && equalInts(t.Shape, u.Shape) }

func equalInts(a, b []int) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// NewTensor makes a tensor of zeros. The type must be valid.
func NewTensor(t Type) *Tensor {
	n := t.Len()
	x := &Tensor{Type: Type{t.DType, append([]int(nil), t.Shape...)}}
	switch t.DType {
	case F32:
		x.Data = make([]float32, n)
	case F64:
		x.Data = make([]float64, n)
	case I64:
		x.Data = make([]int64, n)
	case I32:
		x.Data = make([]int32, n)
	case I16:
		x.Data = make([]int16, n)
	case I8:
		x.Data = make([]int8, n)
	case U8:
		x.Data = make([]uint8, n)
	case U16:
		x.Data = make([]uint16, n)
	case Bool:
		x.Data = make([]bool, n)
	default:
		panic("BUG: NewTensor of " + t.String())
	}
	return x
}

// Float32s is a tensor of the given shape over data, which it keeps.
func Float32s(data []float32, shape ...int) *Tensor {
	return &Tensor{Type{F32, shape}, data}
}

// Int64s is a tensor of the given shape over data, which it keeps.
func Int64s(data []int64, shape ...int) *Tensor {
	return &Tensor{Type{I64, shape}, data}
}

// NewConst is a constant value.
func NewConst(name string, t *Tensor) *Value {
	return &Value{Name: name, Type: t.Type, Const: t}
}

// Validate checks that Data is what the type promises.
func (t *Tensor) Validate() error {
	if err := t.Type.Validate(); err != nil {
		return err
	}
	dtype, n := t.dataKind()
	if dtype != t.DType {
		return fmt.Errorf("type %s holds data of Go type %T", t.Type, t.Data)
	}
	if n != t.Len() {
		return fmt.Errorf("type %s holds %d elements", t.Type, n)
	}
	return nil
}

func (t *Tensor) dataKind() (DType, int) {
	switch d := t.Data.(type) {
	case []float32:
		return F32, len(d)
	case []float64:
		return F64, len(d)
	case []int64:
		return I64, len(d)
	case []int32:
		return I32, len(d)
	case []int16:
		return I16, len(d)
	case []int8:
		return I8, len(d)
	case []uint8:
		return U8, len(d)
	case []uint16:
		return U16, len(d)
	case []bool:
		return Bool, len(d)
	}
	return Invalid, 0
}

// Ints copies the elements of an integer tensor; ok is false for other types.
func (t *Tensor) Ints() (v []int, ok bool) {
	switch d := t.Data.(type) {
	case []int64:
		return toInts(d), true
	case []int32:
		return toInts(d), true
	case []int16:
		return toInts(d), true
	case []int8:
		return toInts(d), true
	case []uint8:
		return toInts(d), true
	case []uint16:
		return toInts(d), true
	}
	return nil, false
}

func toInts[T int64 | int32 | int16 | int8 | uint8 | uint16](d []T) []int {
	v := make([]int, len(d))
	for i, x := range d {
		v[i] = int(x)
	}
	return v
}

// Floats copies the elements as float64; ok is false for booleans.
func (t *Tensor) Floats() (v []float64, ok bool) {
	switch d := t.Data.(type) {
	case []float32:
		v = make([]float64, len(d))
		for i, x := range d {
			v[i] = float64(x)
		}
		return v, true
	case []float64:
		return append(v, d...), true
	}
	ints, ok := t.Ints()
	if !ok {
		return nil, false
	}
	v = make([]float64, len(ints))
	for i, x := range ints {
		v[i] = float64(x)
	}
	return v, true
}

// Bytes is the data, little endian and row-major; booleans are 0 and 1.
func (t *Tensor) Bytes() []byte {
	b := make([]byte, 0, t.Len()*t.DType.Size())
	le := binary.LittleEndian
	switch d := t.Data.(type) {
	case []float32:
		for _, x := range d {
			b = le.AppendUint32(b, math.Float32bits(x))
		}
	case []float64:
		for _, x := range d {
			b = le.AppendUint64(b, math.Float64bits(x))
		}
	case []int64:
		for _, x := range d {
			b = le.AppendUint64(b, uint64(x))
		}
	case []int32:
		for _, x := range d {
			b = le.AppendUint32(b, uint32(x))
		}
	case []int16:
		for _, x := range d {
			b = le.AppendUint16(b, uint16(x))
		}
	case []int8:
		for _, x := range d {
			b = append(b, byte(x))
		}
	case []uint8:
		b = append(b, d...)
	case []uint16:
		for _, x := range d {
			b = le.AppendUint16(b, x)
		}
	case []bool:
		for _, x := range d {
			if x {
				b = append(b, 1)
			} else {
				b = append(b, 0)
			}
		}
	}
	return b
}

// TensorFromBytes is the inverse of Tensor.Bytes. The length of b is checked
// before anything is allocated.
func TensorFromBytes(t Type, b []byte) (*Tensor, error) {
	if err := t.Validate(); err != nil {
		return nil, err
	}
	if len(b) != t.Len()*t.DType.Size() {
		return nil, fmt.Errorf("type %s needs %d bytes of data, has %d", t, t.Len()*t.DType.Size(), len(b))
	}
	x := NewTensor(t)
	le := binary.LittleEndian
	switch d := x.Data.(type) {
	case []float32:
		for i := range d {
			d[i] = math.Float32frombits(le.Uint32(b[4*i:]))
		}
	case []float64:
		for i := range d {
			d[i] = math.Float64frombits(le.Uint64(b[8*i:]))
		}
	case []int64:
		for i := range d {
			d[i] = int64(le.Uint64(b[8*i:]))
		}
	case []int32:
		for i := range d {
			d[i] = int32(le.Uint32(b[4*i:]))
		}
	case []int16:
		for i := range d {
			d[i] = int16(le.Uint16(b[2*i:]))
		}
	case []int8:
		for i := range d {
			d[i] = int8(b[i])
		}
	case []uint8:
		copy(d, b)
	case []uint16:
		for i := range d {
			d[i] = le.Uint16(b[2*i:])
		}
	case []bool:
		for i := range d {
			if b[i] > 1 {
				return nil, fmt.Errorf("byte %d of boolean data is %d", i, b[i])
			}
			d[i] = b[i] == 1
		}
	}
	return x, nil
}
