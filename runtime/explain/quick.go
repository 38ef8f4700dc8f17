package explain

import "math"

// Quick weighs the tokens of the last Run's flow for an output's verdict; logits are what that run gave. Weights are 0 or more, of
// valid tokens, and good until the next call. A token's weight is its part of what the winners that see it contribute to the
// margin: each spreads its own over its receptive field, most to the middle, by the ways that lead through the region. Of a model without maxima it is what blanking a part of the
// flow takes off the margin, spread over the part.
func (r *Runner) Quick(output int, v Verdict, logits []int32) ([]float64, error) {
	w := r.weights[:r.lastValid]
	if r.head == nil {
		return w, r.parts(output, v, logits)
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

// clean takes off what rounding has left, and what belongs to tokens that every flow has.
func (r *Runner) clean(w []float64) {
	c := &r.contract
	top := 0.0
	for _, x := range w {
		top = max(top, x)
	}
	for i, x := range w {
		if x < top*1e-9 || r.x.special(r.last[i], c) {
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

// parts blanks a 16th of the flow after the other.
func (r *Runner) parts(output int, v Verdict, logits []int32) error {
	base, n := v.Margin(logits), r.lastValid
	c := &r.contract
	for g := range groups {
		from, to := g*n/groups, (g+1)*n/groups
		if from == to {
			continue
		}
		bytes := 0
		copy(r.tokens, r.last)
		for i := from; i < to; i++ {
			if !r.x.special(r.last[i], c) {
				r.tokens[i] = r.x.enc.Blanked(r.last[i])
				bytes++
			}
		}
		d, err := r.drop(output, v, base)
		if err != nil {
			return err
		}
		for i := from; i < to; i++ {
			r.weights[i] = 0
			if !r.x.special(r.last[i], c) {
				r.weights[i] = max(0, d) / float64(bytes)
			}
		}
	}
	return nil
}

// exactRuns bounds the runs of Exact: of longer flows several tokens are blanked together.
const exactRuns = 256

// Exact weighs tokens as Quick does, by what blanking each takes off the margin. Of a model with maxima those are looked at that
// winners have seen: what no winner sees took no part in the verdict. It takes a run per token, 256 at most; flows with more
// are looked at in steps of several tokens.
func (r *Runner) Exact(output int, v Verdict, logits []int32) ([]float64, error) {
	n := r.lastValid
	w, seen := r.weights[:n], r.inWindow[:n]
	for i := range seen {
		seen[i] = r.head == nil
	}
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
	}
	clear(w)
	base, step := v.Margin(logits), (n+exactRuns-1)/exactRuns
	for from := 0; from < n; from += step {
		to, some := min(n, from+step), 0
		copy(r.tokens, r.last)
		for i := from; i < to; i++ {
			if seen[i] && !r.x.special(r.last[i], &r.contract) {
				r.tokens[i] = r.x.enc.Blanked(r.last[i])
				some++
			}
		}
		if some == 0 {
			continue
		}
		d, err := r.drop(output, v, base)
		if err != nil {
			return nil, err
		}
		for i := from; i < to; i++ {
			if r.tokens[i] != r.last[i] {
				w[i] = max(0, d) / float64(some)
			}
		}
	}
	return w, r.again()
}

// again leaves the winners of the last Run in place behind runs with blanked tokens.
func (r *Runner) again() error { return r.ctx.Run(r.last, r.lastValid, r.out) }

// Blanking is by how much the margin falls with all the given tokens blanked.
func (r *Runner) Blanking(output int, v Verdict, logits []int32, tokens []int) (float64, error) {
	copy(r.tokens, r.last)
	for _, i := range tokens {
		r.tokens[i] = r.x.enc.Blanked(r.last[i])
	}
	d, err := r.drop(output, v, v.Margin(logits))
	if err != nil {
		return 0, err
	}
	return d, r.again()
}
