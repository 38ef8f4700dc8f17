// Package conv runs general convolutions over the positions of time-major rows, linear
// layers among them.
//
// A position's window (K positions of the group's channels) is made contiguous, where it is
// not so already, and multiplied by the weight matrix with gemv; sums wrap in 32 bits, which
// is exact because the compiler has proved that the final ones fit. Depthwise layers have a
// kernel of their own that goes along the channels.
package conv

import (
	"nepcoc/runtime/arith"
	"nepcoc/runtime/kernels/cpu"
	"nepcoc/runtime/kernels/elementwise"
	"nepcoc/runtime/kernels/gemv"
)

// Params are the constants of a layer; see bundle.Conv. One of W8 and W16 is set.
type Params struct {
	Rows, Cin, Cout                      int // of the input; channels
	K, Stride, Dilation, PadLeft, Groups int
	W8                                   []int8  // [Cout,K,Cin/Groups]
	W16                                  []int16 // the same
	Bias                                 []int32 // [Cout]
	Pad                                  []int16 // [Cin]; nil for zeros
}

// Layer is a layer packed for one path. It is read-only and may be shared.
type Layer struct {
	p             Params
	path          cpu.Path
	perIn, perOut int
	byTap         []int32 // depthwise: [K][Cout]
	pad           []int16
}

// New packs a layer, whose slices it keeps.
func New(p Params, path cpu.Path) *Layer {
	l := &Layer{p: p, path: path, perIn: p.Cin / p.Groups, perOut: p.Cout / p.Groups, pad: p.Pad}
	if l.pad == nil {
		l.pad = make([]int16, p.Cin)
	}
	if l.perIn == 1 && l.perOut == 1 {
		l.byTap = make([]int32, p.K*p.Cout)
		for i := range l.byTap {
			l.byTap[i] = l.weight(i%p.Cout*p.K + i/p.Cout)
		}
	}
	return l
}

func (l *Layer) weight(i int) int32 {
	if l.p.W8 != nil {
		return int32(l.p.W8[i])
	}
	return int32(l.p.W16[i])
}

// Window is the number of elements of the scratch that Row8 and Row16 need.
func (l *Layer) Window() int { return l.p.K * l.p.Cin }

// Row8 computes the accumulators of output position t from int8 rows x.
func (l *Layer) Row8(acc []int32, x []int8, t int, window []int8) {
	row(l, acc, x, t, window, product8)
}

// Row16 is Row8 for int16.
func (l *Layer) Row16(acc []int32, x []int16, t int, window []int16) {
	row(l, acc, x, t, window, product16)
}

// row adds the bias and, group by group, the products of weights and window.
func row[T int8 | int16](l *Layer, acc []int32, x []T, t int, window []T, product func(l *Layer, acc []int32, from int, window []T)) {
	p := &l.p
	copy(acc, p.Bias)
	start := t*p.Stride - p.PadLeft
	switch {
	case l.byTap != nil:
		depthwise(l, acc, x, start)
	case p.Groups == 1 && p.Dilation == 1 && start >= 0 && start+p.K <= p.Rows:
		product(l, acc, 0, x[start*p.Cin:(start+p.K)*p.Cin])
	default:
		n := p.K * l.perIn
		for g := range p.Groups {
			gather(l, window[:n], x, start, g*l.perIn)
			product(l, acc[g*l.perOut:(g+1)*l.perOut], g*l.perOut, window[:n])
		}
	}
}

// gather copies the window that begins at position start, channels
// [first,first+perIn), with padding values for the positions outside.
func gather[T int8 | int16](l *Layer, window, x []T, start, first int) {
	for k := range l.p.K {
		dst := window[k*l.perIn:][:l.perIn]
		if pos := start + k*l.p.Dilation; pos >= 0 && pos < l.p.Rows {
			copy(dst, x[pos*l.p.Cin+first:])
			continue
		}
		for i, v := range l.pad[first : first+l.perIn] {
			dst[i] = T(v)
		}
	}
}

func depthwise[T int8 | int16](l *Layer, acc []int32, x []T, start int) {
	n := l.p.Cout
	acc = acc[:n]
	for k := range l.p.K {
		w := l.byTap[k*n:][:n]
		if pos := start + k*l.p.Dilation; pos >= 0 && pos < l.p.Rows {
			for i, v := range x[pos*n:][:n] {
				acc[i] += w[i] * int32(v)
			}
			continue
		}
		for i, v := range l.pad {
			acc[i] += w[i] * int32(v)
		}
	}
}

// product8 adds the products of the weights of outputs from.. and the window.
func product8(l *Layer, acc []int32, from int, window []int8) {
	if n := len(window); l.p.W8 != nil {
		gemv.I8(l.path, acc, l.p.W8[from*n:][:len(acc)*n], window)
	} else {
		wide(acc, l.p.W16[from*n:], window)
	}
}

func product16(l *Layer, acc []int32, from int, window []int16) {
	if n := len(window); l.p.W8 != nil {
		gemv.I16(l.path, acc, l.p.W8[from*n:][:len(acc)*n], window)
	} else {
		wide(acc, l.p.W16[from*n:], window)
	}
}

// wide is the product with int16 weights.
func wide[T int8 | int16](acc []int32, w []int16, window []T) {
	n := len(window)
	for o := range acc {
		row, sum := w[o*n:][:n], int32(0)
		for i, v := range window {
			sum += int32(row[i]) * int32(v)
		}
		acc[o] += sum
	}
}

// Requant turns accumulators into outputs; see bundle.Requant. Without Mult
// they are the outputs.
type Requant struct {
	Mult   []int32
	Shift  int
	Lo, Hi int32
	Table  []int16 // nil for a clamp
}

// Store rescales the accumulators of one position.
func Store[T elementwise.Int](r *Requant, dst []T, acc []int32) {
	dst = dst[:len(acc)]
	if r.Mult == nil {
		elementwise.Narrow(dst, acc)
		return
	}
	mult := r.Mult[:len(acc)]
	if r.Table != nil {
		for i, a := range acc {
			dst[i] = T(r.Table[arith.TableIndex(arith.Requant(int64(a), mult[i], r.Shift), len(r.Table))])
		}
		return
	}
	for i, a := range acc {
		dst[i] = T(arith.Clamp(arith.Requant(int64(a), mult[i], r.Shift), r.Lo, r.Hi))
	}
}
