package gated

import (
	"encoding/binary"
	"fmt"

	"nepcoc/runtime/arith"
	"nepcoc/runtime/bundle"
)

// FromStep collects the constants of a gated_conv step of a decoded program.
func FromStep(p *bundle.Program, s *bundle.Step) (Params, error) {
	g := s.GatedConv
	if g == nil || len(s.In) == 0 {
		return Params{}, fmt.Errorf("step %q (%s) is no gated convolution", s.Name, s.Op)
	}
	r := reader{p: p}
	q := Params{
		C: p.Values[s.Out].Cols, Cin: p.Values[s.In[0]].Cols, K: g.K, PadLeft: g.PadLeft,
		ChanH: r.u16(g.ChanH), ChanG: r.u16(g.ChanG), TapsH: r.u8(g.TapsH), TapsG: r.u8(g.TapsG),
		BiasH: r.i32(g.BiasH), BiasG: r.i32(g.BiasG), PadIn: r.i8(g.PadIn), Base: r.u8(g.Base), Slope: r.u8(g.Slope),
		Shift: g.Shift,
	}
	if n := g.Norm; n != nil {
		q.Norm = &Norm{
			Rho: r.i8(n.Rho), Cst: r.i16(n.Cst), Flip: r.u8(n.Flip), Shift: n.Shift,
			Factor: arith.NormParams{C: int32(q.C), MeanM: n.MeanM, Eps: n.Eps, A: n.A, S: n.S},
		}
	}
	if r.err != nil {
		return Params{}, fmt.Errorf("step %q: %w", s.Name, r.err)
	}
	return q, nil
}

// reader decodes tensors and keeps the first error.
type reader struct {
	p   *bundle.Program
	err error
}

func (r *reader) raw(i int, want bundle.DType) []byte {
	if i < 0 || i >= len(r.p.Tensors) {
		r.fail(fmt.Errorf("tensor %d of %d", i, len(r.p.Tensors)))
		return nil
	}
	t := &r.p.Tensors[i]
	if t.DType != want {
		r.fail(fmt.Errorf("tensor %q is %s, want %s", t.Name, t.DType, want))
		return nil
	}
	return t.Data
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

func (r *reader) u8(i int) []uint8 { return r.raw(i, bundle.U8) }

func (r *reader) i8(i int) []int8 {
	b := r.raw(i, bundle.I8)
	out := make([]int8, len(b))
	for i, v := range b {
		out[i] = int8(v)
	}
	return out
}

func (r *reader) u16(i int) []uint16 {
	b := r.raw(i, bundle.U16)
	out := make([]uint16, len(b)/2)
	for i := range out {
		out[i] = binary.LittleEndian.Uint16(b[2*i:])
	}
	return out
}

func (r *reader) i16(i int) []int16 {
	b := r.raw(i, bundle.I16)
	out := make([]int16, len(b)/2)
	for i := range out {
		out[i] = int16(binary.LittleEndian.Uint16(b[2*i:]))
	}
	return out
}

func (r *reader) i32(i int) []int32 {
	b := r.raw(i, bundle.I32)
	out := make([]int32, len(b)/4)
	for i := range out {
		out[i] = int32(binary.LittleEndian.Uint32(b[4*i:]))
	}
	return out
}
