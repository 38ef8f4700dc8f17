package bundle

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Range is the smallest and the largest number of the type.
func (d DType) Range() (lo, hi int32) {
	switch d {
	case I8:
		return math.MinInt8, math.MaxInt8
	case U8:
		return 0, math.MaxUint8
	case I16:
		return math.MinInt16, math.MaxInt16
	case U16:
		return 0, math.MaxUint16
	}
	return math.MinInt32, math.MaxInt32
}

// Len is the number of elements.
func (t *Tensor) Len() int {
	n := 1
	for _, d := range t.Shape {
		n *= d
	}
	return n
}

// At is element i in row-major order.
func (t *Tensor) At(i int) int32 {
	switch t.DType {
	case I8:
		return int32(int8(t.Data[i]))
	case U8:
		return int32(t.Data[i])
	case I16:
		return int32(int16(binary.LittleEndian.Uint16(t.Data[2*i:])))
	case U16:
		return int32(binary.LittleEndian.Uint16(t.Data[2*i:]))
	}
	return int32(binary.LittleEndian.Uint32(t.Data[4*i:]))
}

// Ints are all elements in row-major order.
func (t *Tensor) Ints() []int32 {
	v := make([]int32, t.Len())
	for i := range v {
		v[i] = t.At(i)
	}
	return v
}

// NewTensor stores v, which must fit the type, as constant data.
func NewTensor(name string, d DType, shape []int, v []int32) Tensor {
	data := make([]byte, len(v)*d.Size())
	for i, x := range v {
		switch d.Size() {
		case 1:
			data[i] = byte(x)
		case 2:
			binary.LittleEndian.PutUint16(data[2*i:], uint16(x))
		case 4:
			binary.LittleEndian.PutUint32(data[4*i:], uint32(x))
		}
	}
	return Tensor{Name: name, DType: d, Shape: shape, Data: data}
}

// bytes is the number of bytes of the tensor's data by its type and shape.
func (t *Tensor) bytes() (uint64, error) {
	n := uint64(t.DType.Size())
	if n == 0 {
		return 0, fmt.Errorf("unknown element type %q", t.DType)
	}
	if len(t.Shape) < 1 || len(t.Shape) > 3 {
		return 0, fmt.Errorf("shape %v has not 1 to 3 dimensions", t.Shape)
	}
	for _, d := range t.Shape {
		if d < 1 || d > MaxFileSize {
			return 0, fmt.Errorf("shape %v: dimension %d", t.Shape, d)
		}
		if n *= uint64(d); n > MaxFileSize {
			return 0, fmt.Errorf("shape %v is more than %d bytes", t.Shape, MaxFileSize)
		}
	}
	return n, nil
}
