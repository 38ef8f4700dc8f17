package classify

import (
	"encoding/binary"
	"math"

	"nepcoc/runtime/arith"
	"nepcoc/runtime/bundle"
)

// belongs is one output's belonging, ready to run.
type belongs struct {
	output     int
	dims       int
	prototypes []int16 // one behind another
	first      []int   // where those of a class begin
}

func newBelongs(b *bundle.Bundle, i int) belongs {
	g := &b.Program.Belonging[i]
	t := &b.Program.Tensors[g.Prototypes]
	p := make([]int16, len(t.Data)/2)
	for k := range p {
		p[k] = int16(binary.LittleEndian.Uint16(t.Data[2*k:]))
	}
	s := belongs{output: g.Output, dims: t.Shape[1], prototypes: p}
	o := &b.Manifest.Outputs[g.Output]
	s.first = make([]int, o.EffectiveKind().NumLabels(b.Program.Values[b.Program.Outputs[g.Output].Value].Cols))
	for k := len(o.Known.Classes) - 1; k >= 0; k-- {
		s.first[o.Known.Classes[k]] = k * s.dims
	}
	return s
}

// distances are those from each prototype.
func (g *belongs) distances(z []int32) (all []int64) {
	for p := g.prototypes; len(p) > 0; p = p[g.dims:] {
		all = append(all, arith.Distance(z, p[:g.dims]))
	}
	return all
}

// judge says how far z is from the nearest prototype, and whether that is within what is known.
func (g *belongs) judge(z []int32, h *Head, r *Result) {
	// Beginning with the verdict's own class leaves little to compute of the others.
	at := g.first[r.Class]
	r.Distance = arith.Nearest(z, g.prototypes[:at], arith.Nearest(z, g.prototypes[at:], math.MaxInt64))
	r.Belonging = h.Known.Share(r.Distance)
	r.Unknown = r.Unknown || r.Distance > h.Known.Bound
}
