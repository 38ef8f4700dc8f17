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

func (o *objective) part(x, g []float64, index []int) (loss float64) {
	clear(g)
	k := o.classes
	bias := x[o.m.width*k:]
	p := make([]float64, k)
	for _, i := range index {
		row := o.m.row(i)
		copy(p, bias)
		for c, v := range row {
			if v == 0 {
				continue
			}
			f := float64(v)
			w := x[c*k : c*k+k]
			p := p[:len(w)]
			for j := range w {
				p[j] += float64(f * w[j])
			}
		}
		top := p[largest(p)]
		z := 0.0
		at := p[o.label[i]] - top
		for j := range p {
			p[j] = exact.Exp(p[j] - top)
			z += p[j]
		}
		loss += exact.Log(z) - at
		for j := range p {
			p[j] /= z
		}
		p[o.label[i]]--
		for c, v := range row {
			if v == 0 {
				continue
			}
			f := float64(v)
			d := g[c*k : c*k+k]
			e := p[:len(d)]
			for j := range d {
				d[j] += float64(f * e[j])
			}
		}
		d := g[o.m.width*k:]
		for j, e := range p {
			d[j] += e
		}
	}
	return loss
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
		done := f-nf < 1e-3*nf // a thousandth of what is left
		x, next, g, ng, f = next, x, ng, g, nf
		if done {
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
