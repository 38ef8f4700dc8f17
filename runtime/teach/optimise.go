package teach

import (
	"math"
	"sync"

	"nepcoc/internal/exact"
)

// objective is the mean negative log-likelihood of a softmax regression plus decay/2 times the sum of squared
// weights (biases are free). Its parameters are the weights [width, classes], then the biases.
type objective struct {
	m       *matrix
	index   []int
	label   []int
	classes int
	decay   float64
	parts   [][]float64 // gradients of the parts, summed in their order
	losses  []float64
}

// parts is into how many pieces a sum over flows is cut: fixed, so that it does not depend on the number of cores.
const parts = 8

func newObjective(m *matrix, index, label []int, classes int, decay float64) *objective {
	o := &objective{m: m, index: index, label: label, classes: classes, decay: decay, losses: make([]float64, parts)}
	for range parts {
		o.parts = append(o.parts, make([]float64, (m.width+1)*classes))
	}
	return o
}

// eval returns the loss at x, and its gradient in g.
func (o *objective) eval(x, g []float64) float64 {
	n := len(o.index)
	var wg sync.WaitGroup
	for part := range parts {
		wg.Add(1)
		go func() {
			defer wg.Done()
			o.losses[part] = o.part(x, o.parts[part], o.index[part*n/parts:(part+1)*n/parts])
		}()
	}
	wg.Wait()
	loss := 0.0
	clear(g)
	for part := range parts {
		loss += o.losses[part]
		for i, d := range o.parts[part] {
			g[i] += d
		}
	}
	loss /= float64(n)
	weights := o.m.width * o.classes
	squares := 0.0
	for i := range g {
		g[i] /= float64(n)
		if i < weights {
			g[i] += float64(o.decay * x[i])
			squares += float64(x[i] * x[i])
		}
	}
	return loss + float64(o.decay/2*squares)
}

// block is how many flows go through the weights at once, so that a weight is fetched once for all of them. Every sum is
// taken in the order of flow by flow, feature by feature: it has the same bits whatever the block.
const block = 4

func (o *objective) part(x, g []float64, index []int) (loss float64) {
	clear(g)
	k := o.classes
	var p [block][]float64
	for b := range p {
		p[b] = make([]float64, k)
	}
	// A short last block is filled up with rows of zeros, whose probabilities are made zero, too: they add nothing.
	none := make([]float32, o.m.width)
	var rows [block][]float32
	for len(index) > 0 {
		n := min(block, len(index))
		for b := range rows {
			if rows[b] = none; b < n {
				rows[b] = o.m.row(index[b])
			}
			copy(p[b], x[o.m.width*k:])
		}
		o.forward(x, &rows, &p)
		for b := range p {
			if b >= n {
				clear(p[b])
				continue
			}
			loss += nll(p[b], o.label[index[b]])
		}
		o.backward(g, &rows, &p)
		d := g[o.m.width*k:]
		for b := range n {
			for j, e := range p[b] {
				d[j] += e
			}
		}
		index = index[n:]
	}
	return loss
}

// nll is the negative log-likelihood of a label by its logits, which become the probabilities, less 1 of the label: the
// gradient.
func nll(p []float64, label int) float64 {
	top := p[largest(p)]
	z := 0.0
	at := p[label] - top
	for j := range p {
		p[j] = exact.Exp(p[j] - top)
		z += p[j]
	}
	for j := range p {
		p[j] /= z
	}
	p[label]--
	return exact.Log(z) - at
}

// forward adds weights·row to the logits of each row, two features at a time.
func (o *objective) forward(x []float64, rows *[block][]float32, p *[block][]float64) {
	k, n := o.classes, o.m.width
	r0, r1, r2, r3 := rows[0][:n], rows[1][:n], rows[2][:n], rows[3][:n]
	for c := 0; c < n; c += 2 {
		w := x[c*k : c*k+k]
		p0, p1, p2, p3 := p[0][:len(w)], p[1][:len(w)], p[2][:len(w)], p[3][:len(w)]
		f0, f1, f2, f3 := float64(r0[c]), float64(r1[c]), float64(r2[c]), float64(r3[c])
		if c+1 == n {
			for j, y := range w {
				p0[j] += float64(f0 * y)
				p1[j] += float64(f1 * y)
				p2[j] += float64(f2 * y)
				p3[j] += float64(f3 * y)
			}
			break
		}
		v := x[c*k+k : c*k+k+k][:len(w)]
		g0, g1, g2, g3 := float64(r0[c+1]), float64(r1[c+1]), float64(r2[c+1]), float64(r3[c+1])
		for j, y := range w {
			z := v[j]
			p0[j] = p0[j] + float64(f0*y) + float64(g0*z)
			p1[j] = p1[j] + float64(f1*y) + float64(g1*z)
			p2[j] = p2[j] + float64(f2*y) + float64(g2*z)
			p3[j] = p3[j] + float64(f3*y) + float64(g3*z)
		}
	}
}

// backward adds row × p of each row to the gradient of the weights, two features at a time.
func (o *objective) backward(g []float64, rows *[block][]float32, p *[block][]float64) {
	k, n := o.classes, o.m.width
	r0, r1, r2, r3 := rows[0][:n], rows[1][:n], rows[2][:n], rows[3][:n]
	for c := 0; c < n; c += 2 {
		d := g[c*k : c*k+k]
		p0, p1, p2, p3 := p[0][:len(d)], p[1][:len(d)], p[2][:len(d)], p[3][:len(d)]
		f0, f1, f2, f3 := float64(r0[c]), float64(r1[c]), float64(r2[c]), float64(r3[c])
		if c+1 == n {
			for j, y := range d {
				d[j] = y + float64(f0*p0[j]) + float64(f1*p1[j]) + float64(f2*p2[j]) + float64(f3*p3[j])
			}
			break
		}
		e := g[c*k+k : c*k+k+k][:len(d)]
		g0, g1, g2, g3 := float64(r0[c+1]), float64(r1[c+1]), float64(r2[c+1]), float64(r3[c+1])
		for j, y := range d {
			a0, a1, a2, a3 := p0[j], p1[j], p2[j], p3[j]
			d[j] = y + float64(f0*a0) + float64(f1*a1) + float64(f2*a2) + float64(f3*a3)
			e[j] = e[j] + float64(g0*a0) + float64(g1*a1) + float64(g2*a2) + float64(g3*a3)
		}
	}
}

// minimise improves the head by L-BFGS (Nocedal and Wright, "Numerical Optimization", 2nd ed., algorithm 7.4) with a
// line search that halves a step until it is good enough (Armijo's rule).
func minimise(o *objective, h *head, steps int) {
	const memory = 8
	n := len(h.weights) + len(h.bias)
	x := append(append(make([]float64, 0, n), h.weights...), h.bias...)
	g, next, ng, dir := make([]float64, n), make([]float64, n), make([]float64, n), make([]float64, n)
	type pair struct {
		s, y []float64
		rho  float64
	}
	var pairs []pair
	f := o.eval(x, g)
	const window = 4 // steps that together must gain a thousandth of what is left each
	before := []float64{f}
	for range steps {
		copy(dir, g)
		alpha := make([]float64, len(pairs))
		for i := len(pairs) - 1; i >= 0; i-- {
			alpha[i] = pairs[i].rho * dot(pairs[i].s, dir)
			axpy(-alpha[i], pairs[i].y, dir)
		}
		if len(pairs) > 0 {
			last := pairs[len(pairs)-1]
			scale := 1 / (last.rho * dot(last.y, last.y))
			for i := range dir {
				dir[i] *= scale
			}
		}
		for i, p := range pairs {
			axpy(alpha[i]-float64(p.rho*dot(p.y, dir)), p.s, dir)
		}
		slope := -dot(g, dir)
		if slope > -1e-9 {
			break
		}
		step := 1.0
		if len(pairs) == 0 {
			step = 1 / math.Sqrt(dot(g, g))
		}
		var nf float64
		for try := 0; ; try++ {
			for i := range x {
				next[i] = x[i] - float64(step*dir[i])
			}
			if nf = o.eval(next, ng); nf <= f+float64(1e-4*float64(step*slope)) || try == 20 {
				break
			}
			step /= 2
		}
		if nf >= f {
			break
		}
		s, y := make([]float64, n), make([]float64, n)
		for i := range x {
			s[i], y[i] = next[i]-x[i], ng[i]-g[i]
		}
		if sy := dot(s, y); sy > 1e-12 {
			if len(pairs) == memory {
				pairs = pairs[1:]
			}
			pairs = append(pairs, pair{s, y, 1 / sy})
		}
		x, next, g, ng, f = next, x, ng, g, nf
		// Of several steps, for one may be short where the memory of the ones before misleads it.
		if before = append(before, f); len(before) > window && before[len(before)-1-window]-f < window*1e-3*f {
			break
		}
	}
	copy(h.weights, x)
	copy(h.bias, x[len(h.weights):])
}

func dot(a, b []float64) (s float64) {
	for i, x := range a {
		s += float64(x * b[i])
	}
	return s
}

func axpy(a float64, x, y []float64) {
	for i, v := range x {
		y[i] += float64(a * v)
	}
}
