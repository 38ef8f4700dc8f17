package localize

import (
	"nepcoc/ir"
	"nepcoc/ir/eval"
	"nepcoc/passes/internal/edit"
)

// Many models have no mask input: they compare the tokens with the padding id
// themselves (src != 0). Like other masks these are recognised by what they compute: a
// function of a single token that has one value for one id and another for all
// others is a mask, and that id is the padding.

// clone is r with a graph of its own.
func (r *region) clone() *region {
	c := *r
	c.g = r.g.Clone()
	c.names = edit.NamesOf(c.g)
	c.names[r.tokens.Name] = true
	for i, v := range r.g.Inputs {
		if v == r.data {
			c.data = c.g.Inputs[i]
		}
	}
	return &c
}

// padMask finds such functions among the values that others than functions of
// a token read, and the padding id; seeds[v] holds v for padding and for tokens.
func (r *region) padMask() (pad int, seeds map[*ir.Value][2]*ir.Tensor, err error) {
	if r.encoding != "token" {
		return 0, nil, nil // a byte of padding looks like a byte of traffic
	}
	whole := r.tokenFunctions()
	direct := map[*ir.Value]bool{r.data: true} // without a look-up
	var candidates []*ir.Value
	for _, n := range r.g.Nodes {
		if !whole[n.Out()] || !pointwise(n) {
			continue
		}
		ok := true
		for _, v := range n.Inputs {
			ok = ok && (v == nil || v.Const != nil || direct[v])
		}
		if ok {
			direct[n.Out()] = true
			candidates = append(candidates, n.Out())
		}
	}
	read := make(map[*ir.Value]bool)
	for _, n := range r.g.Nodes {
		for _, v := range n.Inputs {
			if v != nil && !whole[n.Out()] {
				read[v] = true
			}
		}
	}
	var masks []*ir.Value
	for _, v := range candidates {
		if read[v] {
			masks = append(masks, v)
		}
	}
	if len(masks) == 0 {
		return 0, nil, nil
	}
	vocab, err := r.vocabulary()
	if err != nil || vocab < 3 {
		return 0, nil, err
	}
	g, err := r.blockGraph(masks, direct, vocab)
	if err != nil {
		return 0, nil, err
	}
	m, err := eval.New(g)
	if err != nil {
		return 0, nil, err
	}
	out, err := m.Run(map[string]*ir.Tensor{g.Inputs[0].Name: r.block(g.Inputs[0].Type, 0)})
	if err != nil {
		return 0, nil, err
	}
	seeds = make(map[*ir.Value][2]*ir.Tensor)
	for i, v := range masks {
		p, ofPad, ofToken, ok := odd(out[g.OutputNames[i]])
		if !ok || len(seeds) > 0 && p != pad {
			continue
		}
		pad = p
		seeds[v] = [2]*ir.Tensor{filled(v.Type, ofPad), filled(v.Type, ofToken)}
	}
	return pad, seeds, nil
}

// odd finds the only element that differs from all others.
func odd(t *ir.Tensor) (at int, its, others float64, ok bool) {
	d := numbersOf(t)
	if len(d) < 3 {
		return 0, 0, 0, false
	}
	others = d[0]
	if d[1] != d[0] && d[1] == d[2] {
		others = d[1]
	}
	at = -1
	for i, x := range d {
		if x != others {
			if at >= 0 {
				return 0, 0, 0, false
			}
			at = i
		}
	}
	if at < 0 {
		return 0, 0, 0, false
	}
	return at, d[at], others, true
}

// numbersOf are the elements of a tensor; false is 0, true 1.
func numbersOf(t *ir.Tensor) []float64 {
	if b, ok := t.Data.([]bool); ok {
		d := make([]float64, len(b))
		for i := range b {
			if b[i] {
				d[i] = 1
			}
		}
		return d
	}
	if ints, ok := edit.Ints(&ir.Value{Const: t}); ok {
		d := make([]float64, len(ints))
		for i, x := range ints {
			d[i] = float64(x)
		}
		return d
	}
	d, _ := t.Floats()
	return d
}
