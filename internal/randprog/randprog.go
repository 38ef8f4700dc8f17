// Package randprog makes small random programs that are valid: all operators,
// all element types, odd shapes, accumulators at the very edge of their
// range. Tests run them through two executors, or through the bundle's encoder
// and decoder, and compare.
//
// It imports runtime/bundle only, so that every test may use it.
package randprog

import (
	"fmt"
	"math/rand/v2"

	"nepcoc/runtime/bundle"
)

// New returns the valid program of a seed, the same one every time.
func New(seed uint64) *bundle.Program { return program(seed, false) }

// NewPublished is New with gated convolutions of the published model's kind only, for which there
// are more kernels: 64, 128 or 256 channels, at most four taps, and the channel map c/2.
func NewPublished(seed uint64) *bundle.Program { return program(seed, true) }

// NewChain is a program of gated layers only, joined at random up to maxima, over one extent or two: what runs in tiles of positions and in the
// chunks of a stream. Now and then another step reads a layer's rows.
func NewChain(seed uint64) *bundle.Program {
	g := &gen{Rand: rand.New(rand.NewPCG(seed, 0x636861696e)), p: &bundle.Program{}, published: seed%4 == 0, chain: true}
	g.p.Length = 1 + g.IntN(g.choose(8, 100, 300))
	g.p.Vocab = 2 + g.IntN(300)
	rows := func(v int) bool { return g.anySequence(v) && g.p.Values[v].DType == bundle.I8 }
	for len(g.p.Values) == 0 || g.p.Values[len(g.p.Values)-1].DType != bundle.I8 {
		g.tokenTable()
	}
	for range 2 + g.IntN(7) {
		g.gated(g.pick(rows))
	}
	if g.coin(4) {
		g.pool(g.pick(rows))
	}
	extents := [][]string{{"prefix"}, {"prefix"}, {"all"}, {"prefix", "all"}}[g.IntN(4)]
	k, cols, all := &bundle.Concat{Axis: 1}, 0, len(g.p.Values)
	var maxima []int
	for v := range all {
		if x := g.p.Values[v]; g.anySequence(v) && cols+x.Cols <= 1000 && (x.DType == bundle.I16 || v >= all-2) {
			pool := &bundle.Pool{Kind: "max", Over: extents[g.IntN(len(extents))]}
			if pool.Over == "prefix" {
				g.p.Left, g.p.Right = max(g.p.Left, g.reach[v][0]), max(g.p.Right, g.reach[v][1])
			}
			maxima = append(maxima, g.step(bundle.Step{Op: bundle.OpPool, In: []int{v}, Out: g.value(x.DType, 1, x.Cols, g.p.Length, g.p.Length), Pool: pool}))
			k.Shift, k.Mult, cols = append(k.Shift, 0), append(k.Mult, 0), cols+x.Cols
		}
	}
	v := g.step(bundle.Step{Op: bundle.OpConcat, In: maxima, Out: g.value(bundle.I16, 1, cols, g.p.Length, g.p.Length), Concat: k})
	g.p.Outputs = []bundle.Output{{Name: "maxima", Value: v, Ending: bundle.EndLogits, Scale: 0.5, Exp: -1}}
	g.output(1)
	return g.p
}

// NewConvs is a program of convolutions of up to twelve taps, one behind another or beside it, and maxima over them. Now and then a gated layer stands before one.
func NewConvs(seed uint64) *bundle.Program {
	g := &gen{Rand: rand.New(rand.NewPCG(seed, 0x636f6e7673)), p: &bundle.Program{}, convs: true}
	g.p.Length = 1 + g.IntN(g.choose(8, 60))
	g.p.Vocab = 2 + g.IntN(300)
	g.tokenTable()
	rows := func(v int) bool { return g.p.Values[v].Rows > 1 || g.p.Length == 1 }
	for range 2 + g.IntN(4) {
		if in := g.pick(rows); g.coin(5) {
			g.gated(g.bytes(g.pick(g.anySequence)))
		} else {
			g.conv(g.narrowed(in))
		}
	}
	for i := range 2 {
		v := g.pick(rows)
		if x := g.p.Values[v]; g.anySequence(v) {
			g.pool(v)
		} else {
			g.step(bundle.Step{Op: bundle.OpPool, In: []int{v}, Out: g.value(x.DType, 1, x.Cols, g.p.Length, g.p.Length), Pool: &bundle.Pool{Kind: "max", Over: "all"}})
		}
		g.output(i)
	}
	return g.p
}

func program(seed uint64, published bool) *bundle.Program {
	g := &gen{Rand: rand.New(rand.NewPCG(seed, 0x6e6570636f)), p: &bundle.Program{}, published: published}
	g.p.Length = 1 + g.IntN(g.choose(4, 40, 160))
	g.p.Vocab = 2 + g.IntN(300)
	for range 1 + g.IntN(2) {
		g.tokenTable()
	}
	if seed%4 == 3 {
		g.side()
	}
	for range g.IntN(9) {
		ops := g.sequenceOps()
		ops[g.IntN(len(ops))]()
	}
	for range 1 + g.IntN(3) {
		g.pool(g.pick(g.anySequence))
	}
	if v, ok := g.find(func(v int) bool { x := g.p.Values[v]; return x.Rows*x.Cols <= 2000 && x.Rows > 1 }); ok && g.coin(4) {
		g.flatten(v)
	}
	for range g.IntN(4) {
		ops := g.vectorOps()
		ops[g.IntN(len(ops))]()
	}
	for i := range 1 + g.IntN(2) {
		g.output(i)
	}
	g.plan()
	return g.p
}

// Input returns random tokens for a program and how many of them are valid.
func Input(p *bundle.Program, seed uint64) (tokens []int32, valid int) {
	r := rand.New(rand.NewPCG(seed, 1))
	valid = 1 + r.IntN(p.Length)
	if r.IntN(4) == 0 {
		valid = p.Length
	}
	tokens = make([]int32, p.Length)
	for i := range valid {
		tokens[i] = int32(r.IntN(p.Vocab))
	}
	return append(tokens, sides(p, r)...), valid
}

// sides are random ids beside the sequence, at their limits now and then.
func sides(p *bundle.Program, r *rand.Rand) []int32 {
	ids := make([]int32, p.Sides)
	for i := range ids {
		switch r.IntN(8) {
		case 0:
		case 1:
			ids[i] = bundle.SideIDs - 1
		default:
			ids[i] = int32(r.IntN(bundle.SideIDs))
		}
	}
	return ids
}

// gen builds one program; the field's rules are those of bundle.Validate.
type gen struct {
	*rand.Rand
	p         *bundle.Program
	published bool     // see NewPublished
	chain     bool     // see NewChain: layers keep their channels, so that there are residuals
	convs     bool     // see NewConvs
	reach     [][2]int // receptive field of each value, left and right
}

func (g *gen) choose(n ...int) int { return n[g.IntN(len(n))] }

// coin is true once in n times.
func (g *gen) coin(n int) bool { return g.IntN(n) == 0 }

// between is a random number in lo..hi.
func (g *gen) between(lo, hi int) int { return lo + g.IntN(hi-lo+1) }

func (g *gen) value(d bundle.DType, rows, cols, left, right int) int {
	i := len(g.p.Values)
	g.p.Values = append(g.p.Values, bundle.Value{Name: fmt.Sprintf("v%d", i), DType: d, Rows: rows, Cols: cols})
	g.reach = append(g.reach, [2]int{min(left, g.p.Length), min(right, g.p.Length)})
	return i
}

func (g *gen) step(s bundle.Step) int {
	s.Name = fmt.Sprintf("s%d", len(g.p.Steps))
	g.p.Steps = append(g.p.Steps, s)
	return s.Out
}

// tensor adds constant data: f(i) for each element.
func (g *gen) tensor(d bundle.DType, f func(i int) int, shape ...int) int {
	n := 1
	for _, x := range shape {
		n *= x
	}
	v := make([]int32, n)
	for i := range v {
		v[i] = int32(f(i))
	}
	g.p.Tensors = append(g.p.Tensors, bundle.NewTensor(fmt.Sprintf("t%d", len(g.p.Tensors)), d, shape, v))
	return len(g.p.Tensors) - 1
}

// uniform is a random element of a type, at its limits now and then.
func (g *gen) uniform(d bundle.DType) func(int) int {
	lo, hi := d.Range()
	return func(int) int {
		switch g.IntN(16) {
		case 0:
			return int(lo)
		case 1:
			return int(hi)
		}
		return g.between(int(lo), int(hi))
	}
}

func (g *gen) find(ok func(v int) bool) (int, bool) {
	var all []int
	for v := range g.p.Values {
		if ok(v) {
			all = append(all, v)
		}
	}
	if all == nil {
		return 0, false
	}
	// Later values are likelier, so that chains grow long.
	return all[max(g.IntN(len(all)), g.IntN(len(all)))], true
}

func (g *gen) pick(ok func(v int) bool) int {
	v, found := g.find(ok)
	if !found {
		panic("BUG: no such value")
	}
	return v
}

func (g *gen) anySequence(v int) bool { return g.p.Values[v].Rows == g.p.Length }
func (g *gen) isVector(v int) bool    { return g.p.Values[v].Rows == 1 }

func (g *gen) narrow(v int) bool { return g.p.Values[v].DType != bundle.I32 }

// field is the receptive field after a step that keeps positions.
func (g *gen) field(out int, in ...int) (left, right int) {
	for _, v := range in {
		l, r := g.reach[v][0], g.reach[v][1]
		if rows := g.p.Values[v].Rows; rows != out || rows != g.p.Length {
			l, r = g.p.Length, g.p.Length
		}
		left, right = max(left, l), max(right, r)
	}
	return left, right
}

func (g *gen) tokenTable() int {
	d := bundle.I8
	if g.coin(4) {
		d = bundle.I16
	}
	cols := g.channels()
	t := g.tensor(d, g.uniform(d), g.p.Vocab, cols)
	return g.step(bundle.Step{Op: bundle.OpTokenTable, Out: g.value(d, g.p.Length, cols, 0, 0), TokenTable: &bundle.TokenTable{Table: t}})
}

// side adds a value of some of the ids beside the sequence.
func (g *gen) side() int {
	d, cols := g.choose8or16(), g.between(1, 12)
	bits := g.IntN(31)
	k := &bundle.Side{At: g.IntN(3), Shift: max(1, 24+bits-g.between(4, 18))} // results of so many bits
	g.p.Sides = k.At + cols + g.IntN(3)
	k.Zero = g.tensor(bundle.I32, func(int) int { return g.choose(0, g.IntN(bundle.SideIDs), 1<<30-2*g.IntN(2)<<30) }, cols)
	k.Mult = g.tensor(bundle.I32, func(int) int { return g.choose(0, 1<<bits, 1<<bits+g.IntN(1<<bits), 1<<bits+g.IntN(1<<bits)) }, cols)
	return g.step(bundle.Step{Op: bundle.OpSide, Out: g.value(d, 1, cols, 0, 0), Side: k})
}

// channels is a number of channels, around the widths of vectors.
func (g *gen) channels() int {
	if g.published {
		return g.choose(64, 64, 128, 256)
	}
	if g.coin(12) {
		return 256
	}
	return max(1, g.choose(1, 2, 8, 16, 32, 64)+g.between(-1, 1)*g.IntN(2))
}

func (g *gen) sequenceOps() []func() {
	seq := func() int { return g.pick(g.anySequence) }
	any := func() int { return g.pick(func(v int) bool { return true }) }
	ops := []func(){
		func() { g.conv(g.narrowed(seq())) },
		func() { g.windowPool(any()) },
		func() { g.lut(any(), g.choose8or16()) },
		func() { g.binary(any()) },
		func() { g.layerNorm(g.narrowed(any())) },
		func() { g.concat(any()) },
		func() { g.slice(any()) },
		func() { g.conv(g.narrowed(any())) },
		func() { g.transpose(any()) },
		func() { g.regroup(any()) },
		func() { g.gather(any()) },
		func() { g.constant(any()) },
		func() { g.softmax(any()) },
	}
	for range 5 { // what the published model is made of
		ops = append(ops, func() { g.gated(g.bytes(seq())) })
	}
	return ops
}

func (g *gen) vectorOps() []func() {
	vec := func() int { return g.pick(g.isVector) }
	return []func(){
		func() { g.conv(g.narrowed(vec())) },
		func() { g.lut(vec(), g.choose8or16()) },
		func() { g.binary(vec()) },
		func() { g.layerNorm(g.narrowed(vec())) },
		func() { g.concat(vec()) },
		func() { g.slice(vec()) },
	}
}

func (g *gen) choose8or16() bundle.DType {
	if g.coin(3) {
		return bundle.I16
	}
	return bundle.I8
}

// narrowed is v, or v mapped to 8 or 16 bits.
func (g *gen) narrowed(v int) int {
	if g.narrow(v) {
		return v
	}
	return g.lut(v, g.choose8or16())
}

// bytes is v, or v mapped to 8 bits.
func (g *gen) bytes(v int) int {
	if g.p.Values[v].DType == bundle.I8 {
		return v
	}
	return g.lut(v, bundle.I8)
}

func (g *gen) plan() {
	g.p.Plan.Tile = g.choose(0, 1, 16, 32)
	if g.p.Plan.Tile > g.p.Length {
		g.p.Plan.Tile = 0
	}
}
