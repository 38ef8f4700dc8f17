//go:build !purego

package rescale

import "nepcoc/runtime/cpu"

// hasBytes tells whether scaleBytes does rows of cols channels.
func hasBytes(path cpu.Path, cols int) bool {
	return path == cpu.AVX512 || path == cpu.AVX2 && cols >= Lanes
}

func scaleBytes(path cpu.Path, dst []int8, x []int32, rows, cols int, mult []int32, k *packed) {
	if path == cpu.AVX512 {
		scaleBytesAVX512(&dst[0], &x[0], rows, cols, len(mult), &mult[0], k)
		return
	}
	scaleBytesAVX2(&dst[0], &x[0], rows, cols, len(mult), &mult[0], k)
}

func lookupBytes(dst []int8, x []int32, t *ByteTable) {
	n := int(2 * t.half)
	switch {
	case t.path != cpu.AVX512:
		lookupBytesAMD64(&dst[0], &x[0], len(dst), &t.bytes[t.half])
	case n > smallByteTable:
		lookupWideAVX512(&dst[0], &x[0], len(dst), t, n/128)
	default:
		lookupBytesAVX512(&dst[0], &x[0], len(dst), t)
	}
}

// splitLanes is what sumBytes and productBytes do multiples of.
const splitLanes = 16

func hasSplit(path cpu.Path) bool { return path.HasAVX2() }

func sumBytes(path cpu.Path, dst, a, b []int8, k *split) {
	if path == cpu.AVX512 {
		sumBytesAVX512(&dst[0], &a[0], &b[0], len(dst), k)
		return
	}
	sumBytesAVX2(&dst[0], &a[0], &b[0], len(dst), k)
}

func productBytes(path cpu.Path, dst, a, b []int8, k *split) {
	if path == cpu.AVX512 {
		productBytesAVX512(&dst[0], &a[0], &b[0], len(dst), k)
		return
	}
	productBytesAVX2(&dst[0], &a[0], &b[0], len(dst), k)
}

//go:noescape
func scaleBytesAVX512(dst *int8, x *int32, rows, cols, stride int, mult *int32, k *packed)

//go:noescape
func scaleBytesAVX2(dst *int8, x *int32, rows, cols, stride int, mult *int32, k *packed)

//go:noescape
func lookupBytesAVX512(dst *int8, x *int32, n int, t *ByteTable)

//go:noescape
func lookupBytesAMD64(dst *int8, x *int32, n int, middle *int8)

//go:noescape
func lookupWideAVX512(dst *int8, x *int32, n int, t *ByteTable, pieces int)

//go:noescape
func sumBytesAVX512(dst, a, b *int8, n int, k *split)

//go:noescape
func sumBytesAVX2(dst, a, b *int8, n int, k *split)

//go:noescape
func productBytesAVX512(dst, a, b *int8, n int, k *split)

//go:noescape
func productBytesAVX2(dst, a, b *int8, n int, k *split)
