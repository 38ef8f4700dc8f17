package randprog

import (
	"math/bits"

	"nepcoc/runtime/bundle"
)

// conv adds a convolution over positions, or a linear layer on a vector.
func (g *gen) conv(in int) int {
	x := g.p.Values[in]
	k := &bundle.Conv{K: 1, Stride: 1, Dilation: 1, Groups: 1, Pad: -1}
	if x.Rows > 1 {
		k.K, k.Dilation = g.between(1, 4), g.choose(1, 1, 1, 2)
		if g.convs {
			k.K = g.choose(1, 3, 5, 7, 9, 12)
		}
		reach := k.Dilation * (k.K - 1)
		if k.PadLeft = g.IntN(reach + 2); k.PadLeft <= reach && !g.coin(4) {
			k.PadRight = reach - k.PadLeft // the usual: as many rows as before
		} else {
			k.PadRight = g.IntN(reach + 2)
			k.Stride = g.between(1, 3)
		}
		if x.Rows+k.PadLeft+k.PadRight <= reach {
			k.PadLeft, k.PadRight = reach, 0
		}
	}
	cols := g.channels()
	if g.convs && g.coin(2) {
		cols = g.choose(4, 24, 48, 96) + g.IntN(2)
	} else if g.coin(4) { // depthwise
		k.Groups, cols = x.Cols, x.Cols*g.between(1, 2)
	} else if x.Cols%2 == 0 && g.coin(3) {
		k.Groups, cols = 2, cols*2
	}
	rows := (x.Rows+k.PadLeft+k.PadRight-k.Dilation*(k.K-1)-1)/k.Stride + 1
	per := x.Cols / k.Groups
	// The largest weight for which sums fit 31 bits, leaving one for the bias.
	wd, xmax := g.choose8or16(), 128
	if g.convs && !g.coin(4) {
		wd = bundle.I8
	}
	if x.DType == bundle.I16 {
		xmax = 32768
	}
	lo, hi := wd.Range()
	limit := min(int(hi), 1<<30/(xmax*k.K*per))
	k.W = g.tensor(wd, func(int) int { return g.between(max(int(lo), -limit), limit) }, cols, k.K, per)
	k.Bias = g.tensor(bundle.I32, func(int) int { return g.between(-1<<g.IntN(30), 1<<16) }, cols)
	if g.coin(2) {
		d := x.DType
		k.Pad = g.tensor(bundle.I16, g.uniform(d), x.Cols)
	}
	var d bundle.DType
	k.Requant, d = g.requant(cols, xmax*(limit+1)*k.K*per/4)
	left, right := g.p.Length, g.p.Length
	if k.Stride == 1 && rows == x.Rows {
		left, right = g.field(rows, in)
		left, right = left+k.PadLeft, right+max(0, k.Dilation*(k.K-1)-k.PadLeft)
	}
	return g.step(bundle.Step{Op: bundle.OpConv, In: []int{in}, Out: g.value(d, rows, cols, left, right), Conv: k})
}

// requant makes a rescaling for accumulators of about size.
func (g *gen) requant(cols, size int) (bundle.Requant, bundle.DType) {
	if g.coin(6) {
		return bundle.Requant{Mult: -1, Table: -1}, bundle.I32
	}
	d, wide := g.choose8or16(), 8
	if d == bundle.I16 {
		wide = 16
	}
	multBits := g.choose(1, 8, 15, 30)
	if g.convs && !g.coin(3) {
		multBits = 30
	}
	r := bundle.Requant{Table: -1, Shift: min(max(1, bits.Len(uint(size))+multBits-wide), 62)}
	r.Mult = g.tensor(bundle.I32, func(int) int { return g.IntN(1 << multBits) }, cols)
	r.Lo, r.Hi = d.Range()
	switch g.IntN(4) {
	case 0: // a clamp
		r.Lo = 0
		r.Hi = int32(g.between(0, int(r.Hi)))
	case 1: // an activation
		r.Table = g.tensor(bundle.I16, g.uniform(d), 1<<g.between(1, 9))
		r.Lo, r.Hi = 0, 0
	}
	return r, d
}

func (g *gen) lut(in int, d bundle.DType) int {
	x := g.p.Values[in]
	k := &bundle.Lut{Shift: g.choose(0, 1, 8, 20, 31), Mult: int32(g.between(-1<<g.IntN(20), 1<<20))}
	shape := []int{1 << g.between(1, 10)}
	if x.Cols <= 64 && g.coin(3) {
		shape = []int{x.Cols, shape[0]}
	}
	k.Table = g.tensor(bundle.I16, g.uniform(d), shape...)
	left, right := g.field(x.Rows, in)
	return g.step(bundle.Step{Op: bundle.OpLut, In: []int{in}, Out: g.value(d, x.Rows, x.Cols, left, right), Lut: k})
}

func (g *gen) windowPool(in int) int {
	x := g.p.Values[in]
	k := &bundle.WindowPool{Kind: []string{"max", "mean"}[g.IntN(2)], K: g.between(1, min(4, x.Rows)), Stride: g.between(1, 2), CountPad: g.coin(2)}
	k.PadLeft, k.PadRight = g.IntN(k.K), g.IntN(k.K)
	rows := (x.Rows+k.PadLeft+k.PadRight-k.K)/k.Stride + 1
	left, right := g.p.Length, g.p.Length
	if k.Stride == 1 && rows == x.Rows {
		left, right = g.field(rows, in)
		left, right = left+k.PadLeft, right+k.K-1-k.PadLeft
	}
	return g.step(bundle.Step{Op: bundle.OpWindowPool, In: []int{in}, Out: g.value(x.DType, rows, x.Cols, left, right), WindowPool: k})
}

// binary adds an addition or a multiplication with another value that fits.
func (g *gen) binary(a int) int {
	x := g.p.Values[a]
	b := g.pick(func(v int) bool {
		y := g.p.Values[v]
		return (y.Rows == x.Rows || y.Rows == 1 || x.Rows == 1) && (y.Cols == x.Cols || y.Cols == 1 || x.Cols == 1)
	})
	y := g.p.Values[b]
	rows, cols := max(x.Rows, y.Rows), max(x.Cols, y.Cols)
	if rows*cols > 1<<16 {
		b, y = a, x
		rows, cols = x.Rows, x.Cols
	}
	d := []bundle.DType{bundle.I8, bundle.I16, bundle.I32}[g.IntN(3)]
	lo, hi := d.Range()
	if g.coin(3) {
		lo = int32(g.between(int(lo), int(hi)))
	}
	left, right := g.field(rows, a, b)
	s := bundle.Step{In: []int{a, b}, Out: g.value(d, rows, cols, left, right)}
	if g.narrow(a) && g.narrow(b) && g.coin(2) {
		s.Op = bundle.OpMul
		s.Mul = &bundle.Mul{Mult: int32(g.between(-1<<g.IntN(12), 1<<g.IntN(30))), Shift: g.choose(0, 7, 20, 40), Lo: lo, Hi: hi}
	} else {
		s.Op = bundle.OpAdd
		m := func() int32 { return int32(g.between(-1<<g.IntN(15), 1<<g.IntN(29))) }
		s.Add = &bundle.Add{MultA: m(), MultB: m(), Bias: g.Int64N(1<<40) - 1<<39, Shift: g.choose(0, 7, 16, 30), Lo: lo, Hi: hi}
	}
	return g.step(s)
}

func (g *gen) layerNorm(in int) int {
	x := g.p.Values[in]
	k := &bundle.LayerNorm{
		Eps:   g.Int64N(1 << g.IntN(30)),
		Gamma: g.tensor(bundle.I32, func(int) int { return g.between(-1<<12, 1<<12) }, x.Cols),
		Beta:  g.tensor(bundle.I32, func(int) int { return g.between(-1<<22, 1<<22) }, x.Cols),
		Shift: g.choose(0, 10, 20, 22),
		RMS:   g.coin(4),
	}
	left, right := g.field(x.Rows, in)
	d := g.choose8or16()
	return g.step(bundle.Step{Op: bundle.OpLayerNorm, In: []int{in}, Out: g.value(d, x.Rows, x.Cols, left, right), LayerNorm: k})
}

func (g *gen) concat(first int) int {
	k, x := &bundle.Concat{Axis: g.IntN(2)}, g.p.Values[first]
	ins, rows, cols := []int{first}, x.Rows, x.Cols
	for range g.IntN(3) {
		v, ok := g.find(func(v int) bool {
			y := g.p.Values[v]
			return k.Axis == 0 && y.Cols == x.Cols && y.Rows+rows <= 400 || k.Axis == 1 && y.Rows == x.Rows && y.Cols+cols <= 512
		})
		if !ok {
			break
		}
		ins = append(ins, v)
		if k.Axis == 0 {
			rows += g.p.Values[v].Rows
		} else {
			cols += g.p.Values[v].Cols
		}
	}
	d := g.choose8or16()
	for _, v := range ins {
		shift, mult := g.choose(1, 8, 20), g.between(0, 1<<20)
		if g.p.Values[v].DType.Size() <= d.Size() && g.coin(2) {
			shift, mult = 0, 0
		}
		k.Shift, k.Mult = append(k.Shift, shift), append(k.Mult, int32(mult))
	}
	left, right := g.field(rows, ins...)
	if k.Axis == 0 {
		left, right = g.p.Length, g.p.Length
	}
	return g.step(bundle.Step{Op: bundle.OpConcat, In: ins, Out: g.value(d, rows, cols, left, right), Concat: k})
}

func (g *gen) slice(in int) int {
	x := g.p.Values[in]
	k := &bundle.Slice{Axis: g.IntN(2), Step: g.between(1, 2)}
	n := []int{x.Rows, x.Cols}[k.Axis]
	k.Start = g.IntN(n)
	take := g.between(1, (n-1-k.Start)/k.Step+1)
	rows, cols := take, x.Cols
	left, right := g.p.Length, g.p.Length
	if k.Axis == 1 {
		rows, cols = x.Rows, take
		left, right = g.field(rows, in)
	}
	return g.step(bundle.Step{Op: bundle.OpSlice, In: []int{in}, Out: g.value(x.DType, rows, cols, left, right), Slice: k})
}

func (g *gen) flatten(in int) int {
	x := g.p.Values[in]
	return g.step(bundle.Step{Op: bundle.OpFlatten, In: []int{in}, Out: g.value(x.DType, 1, x.Rows*x.Cols, g.p.Length, g.p.Length)})
}

func (g *gen) transpose(in int) int {
	x := g.p.Values[in]
	return g.step(bundle.Step{Op: bundle.OpTranspose, In: []int{in}, Out: g.value(x.DType, x.Cols, x.Rows, g.p.Length, g.p.Length)})
}

// regroup adds a change of shape to any number of rows that divides the elements.
func (g *gen) regroup(in int) int {
	x := g.p.Values[in]
	var fits []int
	for rows := 1; rows <= min(x.Rows*x.Cols, 400); rows++ {
		if x.Rows*x.Cols%rows == 0 {
			fits = append(fits, rows)
		}
	}
	rows := g.choose(fits...)
	return g.step(bundle.Step{Op: bundle.OpRegroup, In: []int{in}, Out: g.value(x.DType, rows, x.Rows*x.Cols/rows, g.p.Length, g.p.Length)})
}

// gather takes positions in any order, some of them padding.
func (g *gen) gather(in int) int {
	x := g.p.Values[in]
	k, rows := &bundle.Gather{Pad: -1}, g.between(1, min(2*x.Rows, 200))
	k.Index = g.tensor(bundle.I32, func(int) int {
		if g.coin(4) {
			return -1
		}
		return g.IntN(x.Rows)
	}, rows)
	if g.coin(2) {
		k.Pad = g.tensor(bundle.I16, g.uniform(x.DType), x.Cols)
	}
	return g.step(bundle.Step{Op: bundle.OpGather, In: []int{in}, Out: g.value(x.DType, rows, x.Cols, g.p.Length, g.p.Length), Gather: k})
}

func (g *gen) softmax(in int) int {
	x := g.p.Values[in]
	k := &bundle.Softmax{Mult: int32(g.IntN(1 << g.choose(4, 16))), Shift: g.choose(0, 4, 8, 16)}
	k.Exp = g.tensor(bundle.I32, func(i int) int { return 1 << 24 >> min(i, 24) }, g.between(1, 64))
	left, right := g.field(x.Rows, in)
	return g.step(bundle.Step{Op: bundle.OpSoftmax, In: []int{in}, Out: g.value(bundle.I16, x.Rows, x.Cols, left, right), Softmax: k})
}

// constant adds a value of the shape of another, or of one of its rows or columns.
func (g *gen) constant(like int) int {
	d, x := g.choose8or16(), g.p.Values[like]
	switch g.IntN(4) {
	case 0:
		x.Rows = 1
	case 1:
		x.Cols = 1
	}
	return g.step(bundle.Step{Op: bundle.OpConstant, Out: g.value(d, x.Rows, x.Cols, 0, 0), Constant: &bundle.Constant{Data: g.tensor(d, g.uniform(d), x.Rows, x.Cols)}})
}

// pool adds a reduction of a sequence; the program's receptive field grows to
// cover what is pooled over the valid prefix.
func (g *gen) pool(in int) int {
	x := g.p.Values[in]
	k := &bundle.Pool{Kind: []string{"max", "max", "mean", "sum", "select"}[g.IntN(5)], Over: []string{"prefix", "all"}[g.IntN(2)]}
	d := x.DType
	switch k.Kind {
	case "select":
		k.At = g.IntN(x.Rows)
	case "sum":
		d = g.choose8or16()
		k.Mult, k.Shift = int32(g.IntN(1<<g.choose(4, 10, 20))), g.choose(1, 8, 20)
	}
	if k.Over == "prefix" {
		g.p.Left, g.p.Right = max(g.p.Left, g.reach[in][0]), max(g.p.Right, g.reach[in][1])
	}
	return g.step(bundle.Step{Op: bundle.OpPool, In: []int{in}, Out: g.value(d, 1, x.Cols, g.p.Length, g.p.Length), Pool: k})
}

// output adds a head: a linear layer to logits, or a vector as it is.
func (g *gen) output(i int) {
	v := g.pick(g.isVector)
	if !g.coin(3) {
		v = g.conv(g.narrowed(v))
	}
	o := bundle.Output{Name: []string{"logits", "second"}[i], Value: v, Ending: bundle.EndLogits, Scale: 0.5, Exp: -1}
	if g.coin(2) {
		o.Ending = []bundle.Ending{bundle.EndSoftmax, bundle.EndLogSoftmax, bundle.EndArgmax}[g.IntN(3)]
		o.ExpMult, o.ExpShift = int32(g.IntN(1<<16)), g.choose(0, 8, 16)
		n := g.between(1, 64)
		o.Exp = g.tensor(bundle.I32, func(i int) int { return 1 << 24 >> min(i, 24) }, n)
	}
	g.p.Outputs = append(g.p.Outputs, o)
}
