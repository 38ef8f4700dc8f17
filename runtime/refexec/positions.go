package refexec

import (
	"nepcoc/runtime/arith"
	"nepcoc/runtime/bundle"
)

// tokenTable copies a table row per token. The table stays packed: it is by
// far the largest tensor.
func tokenTable(p program, s *bundle.Step) step {
	t, cols := &p.Tensors[s.TokenTable.Table], p.out(s).Cols
	return func(r *state, out []int32) {
		for i := range out {
			out[i] = t.At(int(r.tokens[i/cols])*cols + i%cols)
		}
	}
}

func lut(p program, s *bundle.Step) step {
	l, cols, table := s.Lut, p.out(s).Cols, p.ints(s.Lut.Table)
	shape := p.Tensors[l.Table].Shape
	n := shape[len(shape)-1]
	perChannel := len(shape) == 2
	return func(r *state, out []int32) {
		for i, x := range r.vals[s.In[0]] {
			row := 0
			if perChannel {
				row = i % cols
			}
			out[i] = table[row*n+arith.TableIndex(arith.Requant(int64(x), l.Mult, l.Shift), n)]
		}
	}
}

// operand is the element of a binary step's operand at row t and channel c:
// one row stands for every row, one column for every channel.
func operand(v bundle.Value, data []int32, t, c int) int64 {
	if v.Rows == 1 {
		t = 0
	}
	if v.Cols == 1 {
		c = 0
	}
	return int64(data[t*v.Cols+c])
}

func add(p program, s *bundle.Step) step {
	k, a, b, o := s.Add, p.in(s, 0), p.in(s, 1), p.out(s)
	return func(r *state, out []int32) {
		for i := range out {
			x := operand(a, r.vals[s.In[0]], i/o.Cols, i%o.Cols)
			y := operand(b, r.vals[s.In[1]], i/o.Cols, i%o.Cols)
			q := arith.RoundShift(x*int64(k.MultA)+y*int64(k.MultB)+k.Bias, k.Shift)
			out[i] = saturate(int64(arith.Clamp(q, k.Lo, k.Hi)), o.DType)
		}
	}
}

func mul(p program, s *bundle.Step) step {
	k, a, b, o := s.Mul, p.in(s, 0), p.in(s, 1), p.out(s)
	return func(r *state, out []int32) {
		for i := range out {
			x := operand(a, r.vals[s.In[0]], i/o.Cols, i%o.Cols)
			y := operand(b, r.vals[s.In[1]], i/o.Cols, i%o.Cols)
			q := arith.Requant(x*y, k.Mult, k.Shift)
			out[i] = saturate(int64(arith.Clamp(q, k.Lo, k.Hi)), o.DType)
		}
	}
}

func layerNorm(p program, s *bundle.Step) step {
	k, o := s.LayerNorm, p.out(s)
	gamma, beta := p.ints(k.Gamma), p.ints(k.Beta)
	return func(r *state, out []int32) {
		in := r.vals[s.In[0]]
		for t := range o.Rows {
			var s1, s2 int64
			for _, x := range in[t*o.Cols : (t+1)*o.Cols] {
				s1 += int64(x)
				s2 += int64(x) * int64(x)
			}
			if k.RMS {
				s1 = 0
			}
			m, sh := arith.LayerNormStats(s1, s2, o.Cols, k.Eps)
			for c := range o.Cols {
				y := arith.LayerNormApply(int64(in[t*o.Cols+c]), s1, o.Cols, m, sh, gamma[c], beta[c], k.Shift)
				out[t*o.Cols+c] = saturate(y, o.DType)
			}
		}
	}
}

func concat(p program, s *bundle.Step) step {
	k, o := s.Concat, p.out(s)
	return func(r *state, out []int32) {
		t0, c0 := 0, 0 // where the next input goes
		for i, v := range s.In {
			in := p.Values[v]
			for t := range in.Rows {
				for c := range in.Cols {
					x := r.vals[v][t*in.Cols+c]
					if k.Shift[i] != 0 {
						x = saturate(arith.Requant(int64(x), k.Mult[i], k.Shift[i]), o.DType)
					}
					out[(t0+t)*o.Cols+c0+c] = x
				}
			}
			if k.Axis == 0 {
				t0 += in.Rows
			} else {
				c0 += in.Cols
			}
		}
	}
}

func slice(p program, s *bundle.Step) step {
	k, in, o := s.Slice, p.in(s, 0), p.out(s)
	return func(r *state, out []int32) {
		for i := range out {
			t, c := i/o.Cols, i%o.Cols
			if k.Axis == 0 {
				t = k.Start + t*k.Step
			} else {
				c = k.Start + c*k.Step
			}
			out[i] = r.vals[s.In[0]][t*in.Cols+c]
		}
	}
}

func flatten(_ program, s *bundle.Step) step {
	return func(r *state, out []int32) { copy(out, r.vals[s.In[0]]) }
}

func transpose(p program, s *bundle.Step) step {
	o := p.out(s)
	return func(r *state, out []int32) {
		for i := range out {
			t, c := i/o.Cols, i%o.Cols
			out[i] = r.vals[s.In[0]][c*o.Rows+t]
		}
	}
}

func gather(p program, s *bundle.Step) step {
	k, cols := s.Gather, p.out(s).Cols
	index, pad := p.ints(k.Index), make([]int32, cols)
	if k.Pad >= 0 {
		pad = p.ints(k.Pad)
	}
	return func(r *state, out []int32) {
		for i := range out {
			if from := int(index[i/cols]); from >= 0 {
				out[i] = r.vals[s.In[0]][from*cols+i%cols]
			} else {
				out[i] = pad[i%cols]
			}
		}
	}
}

func constant(p program, s *bundle.Step) step {
	data := p.ints(s.Constant.Data)
	return func(_ *state, out []int32) { copy(out, data) }
}

func softmax(p program, s *bundle.Step) step {
	k, o := s.Softmax, p.out(s)
	exp := p.ints(k.Exp)
	return func(r *state, out []int32) {
		for t := range o.Rows {
			row := r.vals[s.In[0]][t*o.Cols : (t+1)*o.Cols]
			arith.Probabilities(out[t*o.Cols:(t+1)*o.Cols], row, exp, k.Mult, k.Shift)
		}
	}
}

func side(p program, s *bundle.Step) step {
	k, o := s.Side, p.out(s)
	zero, mult := p.ints(k.Zero), p.ints(k.Mult)
	lo, hi := o.DType.Range()
	return func(r *state, out []int32) {
		for i := range out {
			out[i] = arith.Side(r.tokens[p.Length+k.At+i], zero[i], mult[i], k.Shift, lo, hi)
		}
	}
}
