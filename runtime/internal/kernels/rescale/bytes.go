package rescale

import "nepcoc/runtime/cpu"

// What follows goes from 32-bit sums, or from bytes, to bytes in one pass, where most values
// of most programs are bytes.

// Bytes is Apply on the first cols channels of rows rows of x, whose results, which must fit bytes, go to dst without
// the rows' padding. x is used up.
func (s *Scale) Bytes(dst []int8, x []int32, rows, cols int) {
	n := len(s.mult)
	if rows == 0 {
		return
	}
	dst, x = dst[:rows*cols], x[:rows*n]
	if s.fast && hasBytes(s.path, cols) {
		scaleBytes(s.path, dst, x, rows, cols, s.mult, &s.packed)
		return
	}
	s.Apply(x, rows)
	if n == cols {
		Narrow(s.path, dst, x)
		return
	}
	for i := range rows {
		Narrow(s.path, dst[i*cols:][:cols], x[i*n:][:cols])
	}
}

// ByteTable is a table of bytes for Lookup's indices.
type ByteTable struct {
	bytes [maxByteTable]int8
	half  int32
	path  cpu.Path
}

// maxByteTable is how many bytes a table has at most; registers hold smallByteTable.
const maxByteTable, smallByteTable = 4096, 1024

// NewByteTable makes a ByteTable of entries, a power of two, as Lookup takes them; nil where they are too many
// or no bytes.
func NewByteTable(path cpu.Path, entries []int16) *ByteTable {
	if len(entries) > maxByteTable {
		return nil
	}
	t := &ByteTable{half: int32(len(entries) / 2), path: path}
	for i, v := range entries {
		t.bytes[i] = int8(v)
		if int16(t.bytes[i]) != v {
			return nil
		}
	}
	return t
}

// ByteSlack is what Map may read of x beyond its end, in elements.
const ByteSlack = 63

// Map is dst = the entries that x stands for. x has ByteSlack more elements in its capacity.
func (t *ByteTable) Map(dst []int8, x []int32) {
	n := len(x)
	if n == 0 {
		return
	}
	_ = x[:n+ByteSlack]
	if t.path.HasAVX2() {
		lookupBytes(dst[:n], x, t)
		return
	}
	dst = dst[:n]
	for i, v := range x {
		dst[i] = t.bytes[uint32(v+t.half)%maxByteTable]
	}
}

// split are the constants of a sum of two bytes, or of one 16-bit number, times 31-bit factors, in products of 16 bits: a factor is m1*2^15 + m0, and so is what
// is added; see SumBytes.
type split struct {
	m0, m1 uint32 // of a in the lower half, of b in the upper
	b0, b1 int32
	shift  uint64 // after the first 15
	lo, hi int16
}

// splitShift is how far the lower parts of factors are below the upper.
const splitShift = 15

// newSplit tells whether multA*a + multB*b + bias >> shift can be done so, where |a| and |b| are at most bound.
func newSplit(multA, multB int32, bias int64, shift int, lo, hi int32, bound int64) (k split, ok bool) {
	const limit = 1 << 30
	upper := func(m int32) int32 { return m >> splitShift }
	lower := func(m int32) int32 { return m & (1<<splitShift - 1) }
	if shift < splitShift {
		return k, false
	}
	add := bias + 1<<(shift-1)
	abs := func(v int32) int64 { return max(int64(v), -int64(v)) }
	ok = max(abs(multA), abs(multB)) < limit && lo >= -128 && hi <= 127 &&
		max(add, -add)>>splitShift < limit && bound*(abs(upper(multA))+abs(upper(multB))+1) < limit && bound*int64(lower(multA)+lower(multB)+1) < limit
	pair := func(a, b int32) uint32 { return uint32(uint16(a)) | uint32(b)<<16 }
	return split{
		pair(lower(multA), lower(multB)), pair(upper(multA), upper(multB)),
		int32(add & (1<<splitShift - 1)), int32(add >> splitShift), uint64(shift - splitShift), int16(lo), int16(hi),
	}, ok
}

// SumBytes is Sum for bytes.
type SumBytes struct {
	path cpu.Path
	k    split
}

// NewSumBytes makes a SumBytes of s; nil where Sum has to do.
func NewSumBytes(path cpu.Path, s *Sum) *SumBytes {
	k, ok := newSplit(s.MultA, s.MultB, s.Bias, s.Shift, s.Lo, s.Hi, 128)
	if !ok || !hasSplit(path) {
		return nil
	}
	return &SumBytes{path, k}
}

// Apply is dst = sum of a and b, element by element.
func (s *SumBytes) Apply(dst, a, b []int8) {
	n := len(dst) &^ (splitLanes - 1)
	if n > 0 {
		sumBytes(s.path, dst[:n], a[:n], b[:n], &s.k)
	}
	for i := n; i < len(dst); i++ {
		dst[i] = s.k.one(int32(a[i]), int32(b[i]))
	}
}

// one is the sum for a single element.
func (k *split) one(a, b int32) int8 {
	s0 := a*int32(int16(k.m0)) + b*(int32(k.m0)>>16) + k.b0
	s1 := a*int32(int16(k.m1)) + b*(int32(k.m1)>>16) + k.b1
	return int8(min(max((s1+s0>>splitShift)>>min(k.shift, 31), int32(k.lo)), int32(k.hi)))
}

// ProductBytes is clamp(a*b*mult >> shift) for bytes, rounded once.
type ProductBytes struct {
	path cpu.Path
	k    split
}

// NewProductBytes makes a ProductBytes; nil where the path has none or the numbers don't fit.
func NewProductBytes(path cpu.Path, mult int32, shift int, lo, hi int32) *ProductBytes {
	k, ok := newSplit(mult, 0, 0, shift, lo, hi, 1<<14)
	if !ok || !hasSplit(path) {
		return nil
	}
	return &ProductBytes{path, k}
}

// Apply is dst = product of a and b, element by element.
func (s *ProductBytes) Apply(dst, a, b []int8) {
	n := len(dst) &^ (splitLanes - 1)
	if n > 0 {
		productBytes(s.path, dst[:n], a[:n], b[:n], &s.k)
	}
	for i := n; i < len(dst); i++ {
		dst[i] = s.k.one(int32(a[i])*int32(b[i]), 0)
	}
}
