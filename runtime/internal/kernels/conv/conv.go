// Package conv runs general convolutions over the positions of time-major rows, linear
// layers among them, and rescales their sums to outputs.
//
// A few positions are done at a time, so that their accumulators stay in the
// first-level cache between the two. Sums wrap in 32 bits, which is exact because the
// compiler has proved that the final ones fit. There are two ways to the sums: kernels over
// packed weights (packed.go), and the portable one, position by position (generic.go), whose
// products go through gemv and which single vectors take, too.
package conv

//go:generate go run ../internal/armgen -kernel conv -o conv_arm64.s -go decl_arm64.go

import (
	"slices"

	"nepcoc/runtime/cpu"
	"nepcoc/runtime/internal/kernels/rescale"
)

// Params are the constants of a layer; see bundle.Conv. One of W8 and W16 is set.
type Params struct {
	Rows, Cin, Out, Cout                 int // positions and channels of the input and of the output
	K, Stride, Dilation, PadLeft, Groups int
	Wide                                 bool    // the input is int16, not int8
	W8                                   []int8  // [Cout,K,Cin/Groups]
	W16                                  []int16 // the same
	Bias                                 []int32 // [Cout]
	Pad                                  []int16 // [Cin]; nil for zeros
}

// Requant turns accumulators into outputs; see bundle.Requant. Without Mult
// they are the outputs.
type Requant struct {
	Mult   []int32
	Shift  int
	Lo, Hi int32
	Table  []int16 // nil for a clamp
}

// Layer is a layer packed for one path. It is read-only and may be shared.
type Layer struct {
	p             Params
	path          cpu.Path
	perIn, perOut int
	byTap         []int32 // depthwise: [K][Cout]
	pad           []int16
	scale         *rescale.Scale     // nil: the accumulators are the outputs
	table         []int16            // for rescale.Lookup
	bytes         *rescale.ByteTable // the same, for outputs that are bytes; nil: Lookup does
	stride        int                // of a row of accumulators
	block         int                // positions done at a time
	packed        *packed
}

// accBytes is how much of the first-level cache accumulators may take.
const accBytes = 16 << 10

// New packs a layer, whose slices it keeps.
func New(p Params, r Requant, path cpu.Path) *Layer {
	l := &Layer{p: p, path: path, perIn: p.Cin / p.Groups, perOut: p.Cout / p.Groups, pad: p.Pad, stride: rescale.Pad(p.Cout)}
	if l.pad == nil {
		l.pad = make([]int16, p.Cin)
	}
	if l.perIn == 1 && l.perOut == 1 {
		l.byTap = make([]int32, p.K*p.Cout)
		for i := range l.byTap {
			l.byTap[i] = l.weight(i%p.Cout*p.K + i/p.Cout)
		}
	}
	// For a single vector the weights are read once: in 8 bits that is half the work.
	if has(path) && !(p.W8 != nil && p.Groups == 1 && p.Out == 1) {
		l.pack()
	}
	// Kernels do up to eight positions at a time.
	l.block = max(8, accBytes/4/l.stride&^7)
	if r.Mult != nil {
		mult := make([]int32, l.stride)
		copy(mult, r.Mult)
		lo, hi := r.Lo, r.Hi
		if n := int32(len(r.Table)); n > 0 {
			lo, hi = -n/2, n/2-1 // see arith.TableIndex
			l.table = append(slices.Clone(r.Table), 0)
			l.bytes = rescale.NewByteTable(path, r.Table)
		}
		l.scale = rescale.NewScale(path, mult, r.Shift, lo, hi, l.bound)
	}
	return l
}

func (l *Layer) weight(i int) int32 {
	if l.p.W8 != nil {
		return int32(l.p.W8[i])
	}
	return int32(l.p.W16[i])
}

// bound is what the accumulator of channel o can't exceed.
func (l *Layer) bound(o int) int64 {
	if o >= l.p.Cout {
		return 0
	}
	var sum int64
	n := l.p.K * l.perIn
	for i := o * n; i < (o+1)*n; i++ {
		w := int64(l.weight(i))
		sum += max(w, -w)
	}
	limit, bias := int64(128), int64(l.p.Bias[o])
	if l.p.Wide {
		limit = 32768
	}
	return min(sum*limit+max(bias, -bias), 1<<31)
}

// Scratch is a worker's memory for the layers that it was made for.
type Scratch struct {
	acc   []int32
	x     []int16 // the input, extended
	bytes []uint8 // the same in bytes
	w8    []int8  // a window
	w16   []int16
}

// NewScratch makes the scratch of layers.
func NewScratch(layers []*Layer) *Scratch {
	var acc, x, bytes, window int
	for _, l := range layers {
		acc = max(acc, min(l.block, l.p.Out)*l.stride)
		switch size := l.positions(l.p.Out)*l.p.Cin + l.slack(); {
		case l.packed == nil:
			window = max(window, l.p.K*l.p.Cin)
		case l.packed.w8 != nil:
			bytes = max(bytes, size)
		default:
			x = max(x, size)
		}
	}
	return &Scratch{acc: make([]int32, acc, acc+rescale.ByteSlack), x: make([]int16, x), bytes: make([]uint8, bytes), w8: make([]int8, window), w16: make([]int16, window)}
}

// positions is how many positions of input, padding included, the first rows of output
// look at.
func (l *Layer) positions(rows int) int {
	return (rows-1)*l.p.Stride + (l.p.K-1)*l.p.Dilation + 1
}

// Run8 computes the first rows positions of the output from int8 rows x.
func Run8[D rescale.Int](l *Layer, dst []D, x []int8, rows int, s *Scratch) {
	run(l, dst, x, rows, s, s.w8, product8)
}

// Run16 is Run8 for int16.
func Run16[D rescale.Int](l *Layer, dst []D, x []int16, rows int, s *Scratch) {
	run(l, dst, x, rows, s, s.w16, product16)
}

func run[S int8 | int16, D rescale.Int](l *Layer, dst []D, x []S, rows int, s *Scratch, window []S, product func(*Layer, []int32, int, []S)) {
	if l.packed != nil {
		extend(l, s, x, rows)
	}
	for t := 0; t < rows; t += l.block {
		n := min(l.block, rows-t)
		acc := s.acc[:n*l.stride]
		if l.packed != nil {
			l.accumulate(acc, s, t, n)
		} else {
			for i := range n {
				row(l, acc[i*l.stride:][:l.p.Cout], x, t+i, window, product)
			}
		}
		store(l, dst[t*l.p.Cout:], acc, n)
	}
}

// store rescales the accumulators of n positions to outputs.
func store[D rescale.Int](l *Layer, dst []D, acc []int32, n int) {
	c := l.p.Cout
	bytes, _ := any(dst).([]int8)
	if l.scale != nil {
		if bytes != nil && l.table == nil {
			l.scale.Bytes(bytes, acc, n, c)
			return
		}
		l.scale.Apply(acc, n)
	}
	if l.stride == c { // all rows are one
		c, n = n*c, 1
	}
	for i := range n {
		d, a := dst[i*c:][:c], acc[i*l.stride:][:c]
		if bytes != nil && l.bytes != nil {
			l.bytes.Map(bytes[i*c:][:c], a)
			continue
		}
		if l.table != nil {
			rescale.Lookup(l.path, a, l.table)
		}
		rescale.Narrow(l.path, d, a)
	}
}
