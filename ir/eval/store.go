package eval

import "nepcoc/ir"

type float interface{ float32 | float64 }

type integer interface {
	int64 | int32 | int16 | int8 | uint8 | uint16
}

type number interface{ float | integer }

// store moves elements between tensors of one element type, whatever it is.
type store interface {
	// move sets n elements from at on to src's elements from, from+stride, ...
	move(at int, src store, from, n, stride int)
}

type elements[T any] []T

func (d elements[T]) move(at int, src store, from, n, stride int) {
	s := src.(elements[T])
	if stride == 1 {
		copy(d[at:at+n], s[from:from+n])
		return
	}
	for i := range d[at : at+n] {
		d[at+i] = s[from+i*stride]
	}
}

func storeOf(t *ir.Tensor) store {
	switch d := t.Data.(type) {
	case []float32:
		return elements[float32](d)
	case []float64:
		return elements[float64](d)
	case []int64:
		return elements[int64](d)
	case []int32:
		return elements[int32](d)
	case []int16:
		return elements[int16](d)
	case []int8:
		return elements[int8](d)
	case []uint8:
		return elements[uint8](d)
	case []uint16:
		return elements[uint16](d)
	case []bool:
		return elements[bool](d)
	}
	panic("BUG: tensor holds no known data")
}

// copyAll copies a tensor's elements to another of as many.
func copyAll(dst, src *ir.Tensor) {
	storeOf(dst).move(0, storeOf(src), 0, src.Len(), 1)
}

// stridesOf are the row-major strides of a shape.
func stridesOf(shape []int) []int {
	s := make([]int, len(shape))
	n := 1
	for i := len(shape) - 1; i >= 0; i-- {
		s[i] = n
		n *= shape[i]
	}
	return s
}

// broadcastStrides are the strides by which a tensor of shape in is read as if
// it had shape out: 0 along axes that it doesn't have or has once.
func broadcastStrides(in, out []int) []int {
	s := make([]int, len(out))
	off := len(out) - len(in)
	for i, st := range stridesOf(in) {
		if in[i] != 1 {
			s[off+i] = st
		}
	}
	return s
}

// walk visits every index of a shape, row by row along the last axis: f gets
// each operand's offset at the row's start, the row's length and each
// operand's stride along it. Axes that all operands run through without a gap
// are joined first, so that rows are long.
func walk(shape []int, strides [][]int, f func(at []int, n int, stride []int)) {
	var dims []int
	steps := make([][]int, len(strides))
	for i := len(shape) - 1; i >= 0; i-- {
		if shape[i] == 0 {
			return
		}
		if shape[i] == 1 {
			continue
		}
		if k := len(dims) - 1; k >= 0 && joins(steps, strides, dims[k], i) {
			dims[k] *= shape[i]
			continue
		}
		dims = append(dims, shape[i])
		for o := range strides {
			steps[o] = append(steps[o], strides[o][i])
		}
	}
	// dims and steps run from the innermost axis outwards.
	n, row := 1, make([]int, len(strides))
	if len(dims) > 0 {
		n = dims[0]
		for o := range row {
			row[o] = steps[o][0]
		}
	}
	at, index := make([]int, len(strides)), make([]int, len(dims))
	for {
		f(at, n, row)
		axis := 1
		for ; axis < len(dims); axis++ {
			index[axis]++
			for o := range at {
				at[o] += steps[o][axis]
			}
			if index[axis] < dims[axis] {
				break
			}
			for o := range at {
				at[o] -= steps[o][axis] * dims[axis]
			}
			index[axis] = 0
		}
		if axis >= len(dims) {
			return
		}
	}
}

func joins(steps, strides [][]int, dim, axis int) bool {
	for o := range strides {
		k := len(steps[o]) - 1
		if strides[o][axis] != steps[o][k]*dim {
			return false
		}
	}
	return true
}

// split3 cuts a shape at an axis: elements before, along and after it.
func split3(shape []int, axis int) (outer, n, inner int) {
	return ir.NumElements(shape[:axis]), shape[axis], ir.NumElements(shape[axis+1:])
}
