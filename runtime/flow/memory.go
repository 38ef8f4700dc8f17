package flow

import (
	"math/bits"
	"unsafe"

	"nepcoc/runtime/traffic"
)

// Memory is the bytes that a table of so many flows takes: its entries with their buffers, the buckets by which they are found, and what it
// remembers of evicted ones.
func Memory(enc *traffic.Encoder, capacity int) int64 {
	buckets := int64(1) << bits.Len(uint(max(capacity, 1)-1))
	return int64(capacity)*int64(int(unsafe.Sizeof(entry{}))+enc.BufferSize()) + buckets*(4+2*goneBits/8)
}
