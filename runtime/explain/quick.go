package explain

import "math"

// Quick weighs the tokens of the last Run's flow for an output's verdict; logits are what that run gave. Weights are 0 or more, of
// valid tokens (of the whole input, where numbers stand beside the sequence), and good until the next call. A token's weight is its part of what the winners that see it contribute to the
// margin: each spreads its own over its receptive field, most to the middle, by the ways that lead through the region. Of a model without maxima it is what blanking a part of the
// flow takes off the margin, spread over the part.
func (r *Runner) Quick(output int, v Verdict, logits []int32) ([]float64, error) {
	w := r.weights[:r.extent()]
	if r.head == nil {
		return w, r.occlude(w, output, v, v.Margin(logits), groups)
	}
	if !r.head.set {
		if err := r.vectors(); err != nil {
			return nil, err
		}
	}
	base, out, cols := v.Margin(logits), r.head.out[output], r.head.cols[output]
	var per [groups]float64 // what a unit of distance contributes
	for g := range groups {
		if d := base - v.Margin(out[g*cols:][:cols]); d > 0 && r.away[g] > 0 {
			per[g] = float64(d) / r.away[g]
		}
	}
	clear(w)
	for i := range r.x.pools {
		at := r.at[:r.x.p.Values[r.x.pools[i].rows].Rows]
		clear(at)
		for _, k := range r.winners {
			if k.pool == i {
				at[k.at] += float64(per[k.group] * k.away)
			}
		}
		for t, x := range at {
			if x > 0 {
				r.x.pools[i].reach.spread(w, t, x)
			}
		}
	}
	r.clean(w)
	return w, nil
}

// clean takes off what rounding has left, and what belongs to tokens that blanking does not change.
func (r *Runner) clean(w []float64) {
	c := &r.contract
	top := 0.0
	for _, x := range w {
		top = max(top, x)
	}
	for i, x := range w {
		if x < top*1e-9 || r.last[i] == r.x.zero || r.x.special(r.last[i], c) {
			w[i] = 0
		}
	}
}

// winner is a channel's: the maximum that it is of, its position there, how far it is from what the channel is in a flow of blanked
// bytes, and the part of the flow that it belongs to, by the middle of what it sees.
type winner struct {
	pool, at, group int
	away            float64
}

// vectors runs the head on a vector per group, in which that group's winners are as in a flow of blanked bytes.
func (r *Runner) vectors() error {
	h := r.head
	r.winners, r.away = r.winners[:0], [groups]float64{}
	for i := range r.x.pools {
		p := &r.x.pools[i]
		m := r.ctx.Maximum(p.value)
		cols := len(m.Top)
		h.vec = h.vec[:0]
		for range groups {
			h.vec = append(h.vec, m.Top...)
		}
		part := r.part[:r.x.p.Values[p.rows].Rows]
		for t := range part {
			if from, to := p.reach.tokens(t, r.lastValid); from < to {
				part[t] = (from + to - 1) / 2 * groups / r.lastValid
			} else {
				part[t] = -1
			}
		}
		for ch, at := range m.At {
			if part[at] < 0 || m.Top[ch] == p.blank[ch] {
				continue
			}
			k := winner{i, int(at), part[at], math.Abs(float64(m.Top[ch]) - float64(p.blank[ch]))}
			h.vec[k.group*cols+ch] = p.blank[ch]
			r.away[k.group] += k.away
			r.winners = append(r.winners, k)
		}
		h.ctx.Set(h.inputs[i], 0, h.vec)
	}
	h.set = true
	return h.ctx.Run(h.tokens[:], 1, h.out)
}

// occlude weighs tokens, and numbers beside them, by what blanking each takes off the margin; where there are more than so many of either, several together.
func (r *Runner) occlude(w []float64, output int, v Verdict, base int64, most int) error {
	clear(w)
	for _, part := range [][2]int{{0, r.lastValid}, {r.x.p.Length, r.extent()}} {
		err := r.each(part[0], part[1], most, func(from, to int) error {
			d, err := r.drop(output, v, base)
			r.share(w, from, to, d)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// exactRuns bounds the runs of Exact: of longer flows several tokens are blanked together.
const exactRuns = 256

// rounds are how often Exact looks for copies of what it has found.
const rounds = 3

// Exact weighs tokens as Quick does, by what blanking each takes off what the winners have found: with a token blanked, each channel is
// taken from where its winner was, so that it does not count if the same stands elsewhere in the flow, too. Where blanking all that is named
// leaves half of the margin or more, such copies are looked for in the flow without them. Of a model
// without maxima a token counts for what the margin falls by. It takes a run per token that a winner sees, 256 at most in each round; of
// flows with more, several tokens are blanked together.
func (r *Runner) Exact(output int, v Verdict, logits []int32) ([]float64, error) {
	w := r.weights[:r.extent()]
	base := v.Margin(logits)
	if r.head == nil {
		return w, r.occlude(w, output, v, base, exactRuns)
	}
	n := r.lastValid
	clear(w)
	original := r.last
	defer func() { r.last = original }()
	r.last = append(r.current[:0], original...)
	found := make([]float64, n)
	for round := range rounds {
		clear(found)
		if err := r.frozen(output, v, found); err != nil {
			return nil, err
		}
		named := Named(found, Threshold)
		for _, i := range named {
			r.last[i] = r.x.zero
		}
		if round == 0 {
			copy(w, found)
		}
		for _, i := range named {
			w[i] = found[i]
		}
		if err := r.ctx.Run(r.last, n, r.out); err != nil {
			return nil, err
		}
		if len(named) == 0 || 2*v.Margin(r.out[output]) <= base {
			break
		}
	}
	return w, r.ctx.Run(original, n, r.out)
}

// frozen weighs the tokens of the flow that the context has run last, by its winners.
func (r *Runner) frozen(output int, v Verdict, w []float64) error {
	n, h := r.lastValid, r.head
	seen := r.inWindow[:n]
	clear(seen)
	for i := range r.x.pools {
		p := &r.x.pools[i]
		m := r.ctx.Maximum(p.value)
		for ch, at := range m.At {
			if m.Top[ch] == p.blank[ch] {
				continue
			}
			for from, to := p.reach.tokens(int(at), n); from < to; from++ {
				seen[from] = true
			}
		}
		r.ctx.Watch(p.value, m.At)
		defer r.ctx.Watch(p.value, nil)
		for row := range groups {
			h.ctx.Set(h.inputs[i], row*len(m.Top), m.Top)
		}
	}
	// The margin as the head has it: of outputs that depend on nothing else it is the flow's.
	if err := h.ctx.Run(h.tokens[:], 1, h.out); err != nil {
		return err
	}
	h.set = false
	cols := h.cols[output]
	base := v.Margin(h.out[output][:cols])
	var rows []int // weights that the head's rows are for: [from,to) of tokens by turns
	flush := func() error {
		if err := h.ctx.Run(h.tokens[:], 1, h.out); err != nil {
			return err
		}
		for row := 0; row < len(rows)/2; row++ {
			d := float64(base - v.Margin(h.out[output][row*cols:][:cols]))
			r.share(w, rows[2*row], rows[2*row+1], d)
		}
		rows = rows[:0]
		return nil
	}
	err := r.each(0, n, exactRuns, func(from, to int) error {
		if err := r.ctx.Run(r.tokens, n, r.out); err != nil {
			return err
		}
		for i := range r.x.pools {
			m := r.ctx.Maximum(r.x.pools[i].value)
			h.ctx.Set(h.inputs[i], len(rows)/2*len(m.There), m.There)
		}
		if rows = append(rows, from, to); len(rows) == 2*groups {
			return flush()
		}
		return nil
	})
	if err != nil {
		return err
	}
	return flush()
}

// blankable tells that blanking id i of the input changes it.
func (r *Runner) blankable(i int) bool {
	if i >= r.x.p.Length { // a number, which may be what a special token is
		return r.last[i] != 0
	}
	return (r.head == nil || r.inWindow[i]) && r.last[i] != r.x.zero && !r.x.special(r.last[i], &r.contract)
}

// share gives tokens [from,to) a drop.
func (r *Runner) share(w []float64, from, to int, drop float64) {
	some := 0
	for i := from; i < to; i++ {
		if r.blankable(i) {
			some++
		}
	}
	for i := from; i < to; i++ {
		if r.blankable(i) {
			w[i] = max(0, drop) / float64(some)
		}
	}
}

// each blanks [from,to) of the input in at most so many parts, one after the other, in r.tokens, and calls run where that changes something.
func (r *Runner) each(from, to, most int, run func(from, to int) error) error {
	n, parts := to-from, min(most, to-from)
	for k := range parts {
		a, b, some := from+k*n/parts, from+(k+1)*n/parts, false
		copy(r.tokens, r.last)
		for i := a; i < b; i++ {
			if r.blankable(i) {
				r.tokens[i], some = r.blank(i), true
			}
		}
		if some {
			if err := run(a, b); err != nil {
				return err
			}
		}
	}
	return nil
}

// Blanking is by how much the margin falls with all the given tokens blanked.
func (r *Runner) Blanking(output int, v Verdict, logits []int32, tokens []int) (float64, error) {
	copy(r.tokens, r.last)
	for _, i := range tokens {
		r.tokens[i] = r.blank(i)
	}
	d, err := r.drop(output, v, v.Margin(logits))
	if err != nil {
		return 0, err
	}
	return d, r.ctx.Run(r.last, r.lastValid, r.out)
}
