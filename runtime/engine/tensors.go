package engine

import (
	"unsafe"

	"nepcoc/runtime/bundle"
)

// bytesOf is an i8 tensor in place: the token table is too large to copy.
func bytesOf(t *bundle.Tensor) []int8 {
	return unsafe.Slice((*int8)(unsafe.Pointer(&t.Data[0])), len(t.Data))
}

func shorts(t *bundle.Tensor) []int16 {
	v := make([]int16, t.Len())
	for i := range v {
		v[i] = int16(t.At(i))
	}
	return v
}

func words(t *bundle.Tensor) []int32 {
	v := make([]int32, t.Len())
	for i := range v {
		v[i] = t.At(i)
	}
	return v
}

// elements is where the elements of an i8 or i16 tensor lie, in place where they are bytes.
func elements(t *bundle.Tensor) unsafe.Pointer {
	if t.DType == bundle.I8 {
		return unsafe.Pointer(&bytesOf(t)[0])
	}
	return unsafe.Pointer(&shorts(t)[0])
}
