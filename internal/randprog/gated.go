package randprog

import "nepcoc/runtime/bundle"

// gated adds a gated convolution, with or without residual and LayerNorm.
func (g *gen) gated(in int) int {
	x := g.p.Values[in]
	k := g.between(1, g.choose(3, 4, 4, 8))
	cols := g.channels()
	if g.coin(2) || g.chain && !g.coin(4) {
		cols = min(x.Cols, 256)
	}
	chanH, chanG := func(int) int { return g.IntN(x.Cols) }, func(int) int { return g.IntN(x.Cols) }
	if g.published && x.Cols >= 64 {
		k, cols = min(k, 4), min(x.Cols&^63, 256)
		chanH, chanG = func(c int) int { return x.Cols - cols + c/2 }, func(c int) int { return x.Cols - cols/2 + c/2 }
	}
	conv := &bundle.GatedConv{
		K: k, PadLeft: g.IntN(k),
		ChanH: g.tensor(bundle.U16, chanH, cols),
		ChanG: g.tensor(bundle.U16, chanG, cols),
		PadIn: g.tensor(bundle.I8, g.uniform(bundle.I8), x.Cols),
		Base:  g.tensor(bundle.U8, g.uniform(bundle.U8), 32),
		Slope: g.tensor(bundle.U8, g.uniform(bundle.U8), 32),
	}
	conv.TapsH, conv.BiasH = g.branch(cols, k, -32768, 32767)
	conv.TapsG, conv.BiasG = g.branch(cols, k, 0, 65535)
	ins, d := []int{in}, bundle.I8
	if g.coin(2) || g.chain && g.coin(2) {
		conv.Norm = g.norm(cols)
		if g.coin(4) {
			d, conv.Norm.Shift = bundle.I16, 0
		}
		residual, ok := g.find(func(v int) bool {
			r := g.p.Values[v]
			return r.DType == bundle.I8 && r.Rows == x.Rows && r.Cols == cols && !(g.chain && v == in)
		})
		if ok && !g.coin(4) {
			ins = append(ins, residual)
		}
	} else {
		conv.Shift = g.choose(1, 5, 6, 7, 8, 14)
	}
	left, right := g.field(x.Rows, in)
	left, right = left+conv.PadLeft, right+k-1-conv.PadLeft
	if len(ins) == 2 {
		l, r := g.field(x.Rows, ins[1])
		left, right = max(left, l), max(right, r)
	}
	return g.step(bundle.Step{Op: bundle.OpGatedConv, In: ins, Out: g.value(d, x.Rows, cols, left, right), GatedConv: conv})
}

// branch makes the taps and biases of one of the convolutions, so that every
// accumulator over int8 inputs is within lo..hi, some exactly at its ends.
func (g *gen) branch(cols, k, lo, hi int) (taps, bias int) {
	sums := make([]int, cols)
	taps = g.tensor(bundle.U8, func(i int) int {
		left := 255 - sums[i/k] // 255*256 just fits 16 bits
		w := g.IntN(left + 1)
		if i%k < k-1 {
			w /= 2
		} else if g.coin(4) {
			w = left
		}
		sums[i/k] += w
		return w
	}, cols, k)
	bias = g.tensor(bundle.I32, func(i int) int {
		from, to := lo+128*sums[i], hi-127*sums[i]
		switch g.IntN(6) {
		case 0:
			return from
		case 1:
			return to
		}
		return g.between(from, to)
	}, cols)
	return taps, bias
}

// norm makes the LayerNorm of a gated convolution: |h8*s7| <= 16256 leaves
// 16511 for the residual and the constant.
func (g *gen) norm(cols int) *bundle.Norm {
	rho := make([]int, cols)
	n := &bundle.Norm{
		MeanM: int32((1<<24 + cols) / (2 * cols)),
		Eps:   int32(g.choose(0, 1, 100, 1<<16, -100, -1<<16, -1<<29)),
		A:     int32(g.choose(1, 20000, 40000, 65535)),
		S:     g.choose(0, g.between(8, 20), g.between(12, 18), 31),
		Shift: g.between(1, 7),
	}
	n.Rho = g.tensor(bundle.I8, func(i int) int {
		rho[i] = g.between(-127, 127)
		return rho[i]
	}, cols)
	n.Cst = g.tensor(bundle.I16, func(i int) int {
		room := 16511 - 128*max(rho[i], -rho[i])
		return g.choose(-room, room, g.between(-room, room))
	}, cols)
	n.Flip = g.tensor(bundle.U8, func(int) int { return g.IntN(2) }, cols)
	return n
}
