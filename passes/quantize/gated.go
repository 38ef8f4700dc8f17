package quantize

import (
	"errors"
	"fmt"
	"math"

	"nepcoc/internal/exact"
	"nepcoc/ir"
)

// clipFloor keeps clips of gated layers near the maximum: under max-pooling the
// extremes are what reaches the head, and error-minimising clips cost more
// than they save (measured).
const clipFloor = 0.9

// gated is one gated convolution while its integer form is being found.
type gated struct {
	n            *ir.Node
	x, res       *quant
	xv, rv       *ir.Value // float input and residual
	c, k         int
	chanH, chanG []int32
	wh, wg       []float32 // [C,K]
	bh, bg       []float32 // [C]
	gamma, beta  []float32 // nil without LayerNorm
	alpha        float64

	// Real value of one unit of h8, per channel, and of the gate's input.
	unitH []float64
	unitG float64

	tapsH, tapsG []uint8
	biasH, biasG []int32
}

// gatedConv quantizes a gated convolution for the 16-bit accumulators of the
// fused kernels. Taps must be non-negative (the model's are softmax-normalised).
func (q *quantizer) gatedConv(n *ir.Node) error {
	g, err := q.newGated(n)
	if err != nil {
		return err
	}
	g.gateTaps()
	pad := q.padBytes(g.x)
	base, slope := gateTable(g.unitG)
	u16 := func(name string, v []int32) *ir.Value {
		s := make([]uint16, len(v))
		for i, c := range v {
			s[i] = uint16(c)
		}
		return constant(name, ir.U16, s, len(s))
	}
	out := n.Out()
	inputs := func() []*ir.Value {
		var res *ir.Value
		if g.res != nil {
			res = g.res.val
		}
		return []*ir.Value{g.x.val, res,
			u16(out.Name+".chan_h", g.chanH), u16(out.Name+".chan_g", g.chanG),
			constant(out.Name+".taps_h", ir.U8, g.tapsH, g.c, g.k), constant(out.Name+".taps_g", ir.U8, g.tapsG, g.c, g.k),
			constant(out.Name+".bias_h", ir.I32, g.biasH, g.c), constant(out.Name+".bias_g", ir.I32, g.biasG, g.c),
			constant(out.Name+".pad", ir.I8, pad, len(pad)),
			constant(out.Name+".base", ir.U8, base[:], 32), constant(out.Name+".slope", ir.U8, slope[:], 32)}
	}
	attrs := ir.Attrs{"k": g.k, "pad_left": n.Int("pad_left", 0)}
	if g.gamma == nil {
		shift, scale, err := q.plainOutput(g)
		if err != nil {
			return err
		}
		attrs["shift"] = shift
		q.set(out, q.emit("int_gated_conv", n, out, ir.I8, inputs(), attrs), scale, fill(g.c, 0))
		return nil
	}
	nf, err := q.normOutput(g)
	if err != nil {
		return err
	}
	in := append(inputs(),
		constant(out.Name+".rho", ir.I8, nf.rho, g.c), constant(out.Name+".cst", ir.I16, nf.cst, g.c),
		constant(out.Name+".flip", ir.U8, nf.flip, g.c))
	for k, v := range nf.attrs {
		attrs[k] = v
	}
	d, scale, offset := ir.I8, nf.step, make([]float64, g.c)
	if q.poolOnly(out) {
		d, scale = ir.I16, math.Ldexp(nf.step, -nf.attrs["norm_shift"].(int))
	}
	scales := make([]float64, g.c)
	for c := range scales {
		s := float64(scale * float64(g.gamma[c]))
		offset[c] = float64(g.beta[c])
		if nf.flip[c] == 1 { // stored q' = -1-q: real = s*q+b = -s*q' + (b-s)
			offset[c] -= s
			s = -s
		}
		// A channel without gamma is constant: any scale will do, but consumers
		// divide by it.
		scales[c] = max(s, 1e-6*scale)
	}
	q.set(out, q.emit("int_gated_conv", n, out, d, in, attrs), scales, offset)
	return nil
}

// poolOnly says that v is read by reductions over positions and nothing else:
// then it keeps the 16 bits that LayerNorm has anyway.
func (q *quantizer) poolOnly(v *ir.Value) bool {
	for _, u := range q.uses[v] {
		if u.Op != "pool" {
			return false
		}
	}
	return len(q.uses[v]) > 0
}

func (q *quantizer) newGated(n *ir.Node) (*gated, error) {
	g := &gated{n: n, x: q.in(n.Inputs[0]), xv: n.Inputs[0], alpha: n.Float("alpha", 1)}
	if n.Inputs[1] != nil {
		g.res, g.rv = q.in(n.Inputs[1]), n.Inputs[1]
	}
	g.chanH, g.chanG = n.Inputs[2].Const.Data.([]int32), n.Inputs[3].Const.Data.([]int32)
	g.wh, g.wg, g.bh, g.bg = floats(n.Inputs[4]), floats(n.Inputs[5]), floats(n.Inputs[6]), floats(n.Inputs[7])
	if v := n.Input(8); v != nil {
		g.gamma = floats(v)
		g.beta = make([]float32, len(g.gamma))
		if b := n.Input(9); b != nil {
			g.beta = floats(b)
		}
	}
	g.c, g.k = n.Inputs[4].Type.Shape[0], n.Inputs[4].Type.Shape[1]
	if why := fusedReason(n); why != "" {
		return nil, errors.New("BUG: was not expanded: " + why)
	}
	if g.x.val.Type.DType != ir.I8 {
		return nil, errors.New("BUG: has an input of 16 bits")
	}
	return g, nil
}

// folded is a filter's tap sum in real units of its input channel and its bias
// with the input's offset folded in.
func (g *gated) folded(w []float32, b []float32, c int, ch int32) (sum, bias float64) {
	for _, t := range w[c*g.k : (c+1)*g.k] {
		sum += float64(t)
	}
	return sum * g.x.scale[ch], float64(b[c]) + float64(sum*g.x.offset[ch])
}

// reach is the largest |acc/256| in real units of a filter: what one unit of
// its 8-bit result must cover in 127.4 steps (127.4*256 leaves room for the
// rounding in the bias and the rounding of the taps below 2^15).
func reach(sum, bias float64) float64 { return (float64(128*sum) + math.Abs(bias)) / 127.2 }

// gateTaps fixes the unit of the gate's input, shared by all channels because
// they share one table, and quantizes the gate's filters.
func (g *gated) gateTaps() {
	g.unitG = 1e-9
	for c := range g.c {
		g.unitG = max(g.unitG, reach(g.folded(g.wg, g.bg, c, g.chanG[c])))
	}
	g.tapsG, g.biasG = make([]uint8, g.c*g.k), make([]int32, g.c)
	for c := range g.c {
		_, bias := g.folded(g.wg, g.bg, c, g.chanG[c])
		taps(g.tapsG[c*g.k:(c+1)*g.k], g.wg[c*g.k:], g.x.scale[g.chanG[c]]/g.unitG)
		g.biasG[c] = int32(math.RoundToEven(256*bias/g.unitG)) + 128 + 32768
	}
}

// hiddenTaps quantizes the value branch for the units in unitH.
func (g *gated) hiddenTaps() {
	g.tapsH, g.biasH = make([]uint8, g.c*g.k), make([]int32, g.c)
	for c := range g.c {
		_, bias := g.folded(g.wh, g.bh, c, g.chanH[c])
		taps(g.tapsH[c*g.k:(c+1)*g.k], g.wh[c*g.k:], g.x.scale[g.chanH[c]]/g.unitH[c])
		g.biasH[c] = int32(math.RoundToEven(256*bias/g.unitH[c])) + 128
	}
}

// taps rounds 256*w*scale to bytes so that the filter's sum is kept: floors,
// then the largest remainders go up.
func taps(q []uint8, w []float32, scale float64) {
	x := make([]float64, len(q))
	total, sum := 0.0, 0
	for i := range q {
		x[i] = float64(256 * scale * float64(w[i]))
		total += x[i]
		q[i] = uint8(min(math.Floor(x[i]), 255))
		sum += int(q[i])
	}
	for target := int(math.Floor(total + 0.5)); sum < target; sum++ {
		best := -1
		for i := range q {
			if q[i] < 255 && (best < 0 || x[i]-float64(q[i]) > x[best]-float64(q[best])) {
				best = i
			}
		}
		if best < 0 {
			return
		}
		q[best]++
	}
}

// padBytes is the integer that stands for zero in each channel of x.
func (q *quantizer) padBytes(x *quant) []int8 {
	pad := make([]int8, len(x.scale))
	for c := range pad {
		pad[c] = int8(zeroOf(x, c, -128, 127))
	}
	return pad
}

// plainOutput chooses the shift of a layer without LayerNorm: a larger shift
// lets h8 be finer where the output's range allows; the expected squared error of
// both roundings, relative to each channel's range, decides.
func (q *quantizer) plainOutput(g *gated) (shift int, scale []float64, err error) {
	least := make([]float64, g.c)
	for c := range least {
		least[c] = nonZero(reach(g.folded(g.wh, g.bh, c, g.chanH[c])))
	}
	clips := q.channelClips(g.n.Out())
	best := math.Inf(1)
	for s := 1; s <= 8; s++ {
		e := 0.0
		for c := range least {
			unit := max(least[c], math.Ldexp(clips[c], -s))
			out := math.Ldexp(unit, s) / 127
			e += (float64(0.25*unit*unit) + float64(out*out)) / (clips[c] * clips[c])
		}
		if e < best {
			best, shift = e, s
		}
	}
	g.unitH, scale = make([]float64, g.c), make([]float64, g.c)
	for c := range least {
		g.unitH[c] = max(least[c], math.Ldexp(clips[c], -shift))
		scale[c] = math.Ldexp(g.unitH[c], shift) / 127
	}
	g.hiddenTaps()
	return shift, scale, nil
}

// channelClips is the magnitude worth representing in each channel of v.
func (q *quantizer) channelClips(v *ir.Value) []float64 {
	clips := make([]float64, channels(v))
	for c, m := range q.channelMags(v) {
		clips[c] = nonZero(max(q.clip(m, 127), clipFloor*float64(m[len(m)-1])))
	}
	return clips
}

// normForm is the integer form of a residual and LayerNorm.
type normForm struct {
	rho   []int8
	cst   []int16
	flip  []uint8
	step  float64 // normalised value (before gamma) of one unit of the 8-bit output
	attrs ir.Attrs
}

// normOutput fixes one unit of h8 for all channels (LayerNorm sums over them)
// so that the 16-bit sum of gated value and residual can't overflow, then the
// scales of the normalisation from the observed deviations.
func (q *quantizer) normOutput(g *gated) (*normForm, error) {
	unit := 1e-9
	for c := range g.c {
		unit = max(unit, reach(g.folded(g.wh, g.bh, c, g.chanH[c])))
	}
	rs, rb := fill(g.c, 0), fill(g.c, 0)
	if g.res != nil {
		if len(g.res.scale) != g.c {
			return nil, fmt.Errorf("adds a residual of %d channels to %d", len(g.res.scale), g.c)
		}
		rs, rb = g.res.scale, g.res.offset
	}
	factor := func(c int) (rho, cst float64) {
		return g.alpha * rs[c] * 127 / unit, g.alpha * rb[c] * 127 / unit
	}
	for c := 0; c < g.c; {
		rho, cst := factor(c)
		if math.Abs(rho) > 126.4 || 128*127+float64(128*math.Abs(rho))+math.Abs(cst)+260 > 32767 {
			unit *= 1.02
			c = 0
			continue
		}
		c++
	}
	g.unitH = fill(g.c, unit)
	g.hiddenTaps()
	f := &normForm{rho: make([]int8, g.c), cst: make([]int16, g.c), flip: make([]uint8, g.c)}
	for c := range g.c {
		rho, cst := factor(c)
		f.rho[c], f.cst[c] = int8(math.RoundToEven(rho)), int16(math.RoundToEven(cst))
		if g.gamma[c] < 0 {
			f.flip[c] = 1
		}
	}
	u := unit / 127 // real value of one unit of y16
	st := q.normStats(g)
	normed, devs := st.normed, st.devs
	f.step = nonZero(max(q.clip(normed, 127), clipFloor*float64(normed[len(normed)-1]))) / 127
	least := quantile(devs, 0.0005) / u
	_, e := math.Frexp(max(f.step*least/1.3, 1e-9)) // below 2^e
	shift := min(max(e-1, 1), 7)
	c := float64(g.c)
	a, s := math.Ldexp(math.Sqrt2, shift-15)*c/(256*f.step), 0
	for ; a < 32768; s++ {
		a *= 2
	}
	for ; a >= 65536; s-- {
		a /= 2
	}
	if s < 0 {
		return nil, errors.New("has LayerNorm over values that hardly vary: its reciprocal does not fit the fused arithmetic")
	}
	eps := g.n.Float("epsilon", 1e-5)
	f.attrs = ir.Attrs{
		"mean_m": int(math.Round((1 << 23) / c)),
		// The statistics see y>>8, whose truncation adds 1/12 to the variance.
		"eps": int(math.Round(min((float64(eps/(u*u)/65536)-1.0/12)*c*c, 1<<29))),
		"a":   int(a), "s": s, "norm_shift": shift,
	}
	return f, nil
}

// norms are the observations inside a layer's LayerNorm: the sorted magnitudes
// of the normalised values (a sample of the channels) and the sorted standard
// deviations.
type norms struct{ normed, devs []float32 }

// normStats recomputes the layer in float over the observations.
func (q *quantizer) normStats(g *gated) *norms {
	if st := q.obs.norms[g.n]; st != nil {
		return st
	}
	var normed, devs []float32
	y := make([]float64, g.c)
	padLeft := g.n.Int("pad_left", 0)
	cin := channels(g.xv)
	for i, t := range q.obs.Values[g.xv] {
		x := t.Data.([]float32)
		total := rows(g.xv)
		var res []float32
		if g.rv != nil {
			res = q.obs.Values[g.rv][i].Data.([]float32)
		}
		for p := range q.activeRows(g.xv, i) {
			mean := 0.0
			for c := range y {
				h, s := float64(g.bh[c]), float64(g.bg[c])
				for k := range g.k {
					if r := p - padLeft + k; r >= 0 && r < total {
						h += float64(float64(g.wh[c*g.k+k]) * float64(x[r*cin+int(g.chanH[c])]))
						s += float64(float64(g.wg[c*g.k+k]) * float64(x[r*cin+int(g.chanG[c])]))
					}
				}
				y[c] = float64(h * exact.Sigmoid(s))
				if res != nil {
					y[c] += float64(g.alpha * float64(res[p*g.c+c]))
				}
				mean += y[c]
			}
			mean /= float64(g.c)
			v := 0.0
			for _, a := range y {
				v += float64((a - mean) * (a - mean))
			}
			dev := math.Sqrt(v/float64(g.c) + 1e-12)
			devs = append(devs, float32(dev))
			for c := p % 5; c < g.c; c += 5 {
				normed = append(normed, float32(math.Abs(y[c]-mean)/dev))
			}
		}
	}
	sortMagnitudes(normed)
	sortMagnitudes(devs)
	if q.obs.norms == nil {
		q.obs.norms = make(map[*ir.Node]*norms)
	}
	st := &norms{thin(normed, maxSample), devs}
	q.obs.norms[g.n] = st
	return st
}
