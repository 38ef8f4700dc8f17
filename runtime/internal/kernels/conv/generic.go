package conv

import "nepcoc/runtime/internal/kernels/gemv"

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

// wide is the product with int16 weights, four outputs at a time: each input is read and
// extended once for all of them.
func wide[T int8 | int16](acc []int32, w []int16, window []T) {
	n, o := len(window), 0
	for ; o+4 <= len(acc); o += 4 {
		var a, b, c, d int32
		w0, w1, w2, w3 := w[o*n:][:n], w[(o+1)*n:][:n], w[(o+2)*n:][:n], w[(o+3)*n:][:n]
		for i, v := range window {
			x := int32(v)
			a += int32(w0[i]) * x
			b += int32(w1[i]) * x
			c += int32(w2[i]) * x
			d += int32(w3[i]) * x
		}
		acc[o] += a
		acc[o+1] += b
		acc[o+2] += c
		acc[o+3] += d
	}
	for ; o < len(acc); o++ {
		row, sum := w[o*n:][:n], int32(0)
		for i, v := range window {
			sum += int32(row[i]) * int32(v)
		}
		acc[o] += sum
	}
}
