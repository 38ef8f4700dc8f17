package localize

import (
	"fmt"
	"slices"

	"nepcoc/ir"
	"nepcoc/passes/internal/edit"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/traffic"
)

// Features of a flow are numbers of any unit. Each has a range of its own, of which the program reads a level,
// bundle.FeatureLevels of them. What they stand for moves behind the first flatten, where every
// feature is a channel, and from there the fuse pass takes it into the weights:
//
//	%d = sub(%x, %mean) : f32[40,1]
//	%f = flatten(%d) : f32[40]
//	%y = linear(%f, %w, %b) : f32[64]
//
// becomes, with u from -1 to 1 and x = mid + half*u,
//
//	%f = flatten(%u) : f32[40]
//	%d = affine(%f, %half, %mid-mean) : f32[40]
//	%y = linear(%d, %w, %b) : f32[64]
//
// A convolution has one weight for all positions. What it reads, also by way of the windows of an image, gets one range; the features' own are then
// those that give it, so that a scaling inside of the model costs nothing.

// wayFeatures is what to do about operators that allow neither.
const wayFeatures = "compute this of the features before the model, so that it begins with a linear layer or a convolution; a mean, a deviation or a BatchNormalization may stand before it"

// level is what a model reads for the ids of a feature: -1 to 1.
var level = traffic.Normalized(bundle.FeatureLevels/2, bundle.FeatureLevels/2)

// feature is a reader of the features: node n reads v = a*x + b, per position.
type feature struct {
	n    *ir.Node
	v    *ir.Value
	a, b []float64
}

// readFeatures makes levels of features the model's data. It returns the features' ranges.
func (r *region) readFeatures(ranges []bundle.Range) ([]bundle.Range, error) {
	x := r.data
	if len(ranges) != x.Type.Shape[0] {
		return nil, ir.Problems{{Node: x.Name, Op: "input", Types: []ir.Type{x.Type}, Reason: fmt.Sprintf("ranges of %d features are given", len(ranges)), Way: "give those of this model"}}
	}
	flat, conv := r.featureReaders(ranges)
	if len(r.problems) > 0 {
		return nil, r.problems
	}
	u := &ir.Value{Name: r.names.Fresh(x.Name + ".levels"), Type: x.Type}
	var front []*ir.Node
	emit := func(op, name string, inputs ...*ir.Value) (*ir.Value, error) {
		n, err := r.names.New(op, "", name, nil, inputs...)
		if err != nil {
			return nil, err
		}
		front = append(front, n)
		return n.Out(), nil
	}
	if len(conv) > 0 {
		lo, hi := span(ranges, &conv[0])
		ranges = slices.Clone(ranges)
		for p := range ranges {
			for end, z := range []float64{lo, hi} {
				ranges[p][end] = (z - conv[0].b[p]) / conv[0].a[p]
			}
		}
		mid, half := bundle.Range{lo, hi}.Affine()
		v, err := emit("affine", conv[0].v.Name+".features", u, r.names.Vec(x.Name+".half", []float32{float32(half)}), r.names.Vec(x.Name+".mid", []float32{float32(mid)}))
		if err != nil {
			return nil, err
		}
		for _, f := range conv {
			for i, in := range f.n.Inputs {
				if in == f.v {
					f.n.Inputs[i] = v
				}
			}
		}
	}
	for _, f := range flat {
		scale, shift := make([]float32, len(ranges)), make([]float32, len(ranges))
		for p, of := range ranges {
			mid, half := of.Affine()
			scale[p], shift[p] = float32(f.a[p]*half), float32(float64(f.a[p]*mid)+f.b[p]) // not fused: the same bits on every CPU
		}
		v, err := emit("flatten", f.n.Out().Name+".levels", u)
		if err != nil {
			return nil, err
		}
		name := f.n.Out().Name
		if v, err = emit("affine", name+".features", v, r.names.Vec(name+".half", scale), r.names.Vec(name+".mid", shift)); err != nil {
			return nil, err
		}
		r.g.Replace(f.n.Out(), v)
	}
	r.g.Nodes = append(front, r.g.Nodes...)
	r.g.Inputs[slices.Index(r.g.Inputs, x)] = u
	r.g.Sweep()
	r.data, r.encoding, r.levels = u, string(level), true
	return ranges, nil
}

// featureReaders finds the nodes that flatten the features for a linear layer, and those that convolve them. Everything
// else is a problem.
func (r *region) featureReaders(ranges []bundle.Range) (flat, conv []feature) {
	uses, t := r.g.Consumers(), r.data.Type.Shape[0]
	refuse := func(n *ir.Node, reason, way string) {
		r.problems = append(r.problems, ir.ProblemOf(n, reason, way))
	}
	var walk func(v *ir.Value, a, b []float64)
	walk = func(v *ir.Value, a, b []float64) {
		if i := slices.Index(r.g.Outputs, v); i >= 0 {
			r.problems = append(r.problems, ir.Problem{Node: r.g.OutputNames[i], Op: "output", Types: []ir.Type{v.Type}, Reason: "the output is the features of a flow themselves", Way: wayFeatures})
		}
		for _, n := range uses[v] {
			f := feature{n, v, a, b}
			switch scale, shift := perPosition(n, v, t); {
			case scale != nil:
				a2, b2 := make([]float64, t), make([]float64, t)
				for p := range t {
					a2[p], b2[p] = scale[p]*a[p], float64(scale[p]*b[p])+shift[p] // not fused
				}
				walk(n.Out(), a2, b2)
			case n.Op == "flatten" && feedsLinear(n.Out(), uses):
				flat = append(flat, f)
			case (n.Op == "conv" || n.Op == "linear") && slices.Index(n.Inputs, v) == 0, movedToConv(n, v, uses):
				conv = append(conv, f)
			default:
				for n.Op == "flatten" && len(uses[n.Out()]) > 0 { // no operator that the user knows
					n = uses[n.Out()][0]
				}
				refuse(n, "reads features of a flow, each of a range of its own: only a linear layer can take these into its weights, or a convolution one range for all", wayFeatures)
			}
		}
	}
	walk(r.data, slices.Repeat([]float64{1}, t), slices.Repeat([]float64{0}, t))
	for _, f := range conv {
		switch {
		case !slices.Equal(f.a, conv[0].a) || !slices.Equal(f.b, conv[0].b):
			refuse(f.n, "convolves features of a flow that are scaled otherwise than for another convolution", "scale the features once, for all convolutions")
		case slices.Contains(f.a, 0):
			refuse(f.n, fmt.Sprintf("convolves features of a flow of which number %d is multiplied by 0", slices.Index(f.a, 0)), "leave that feature out")
		}
	}
	return flat, conv
}

// span is the range of what f reads, of all features.
func span(ranges []bundle.Range, f *feature) (lo, hi float64) {
	for p, of := range ranges {
		for end := range of {
			z := float64(f.a[p]*of[end]) + f.b[p]
			if p == 0 && end == 0 {
				lo, hi = z, z
			}
			lo, hi = min(lo, z), max(hi, z)
		}
	}
	return lo, hi
}

// perPosition reads n as v*scale + shift with constants per position, nil if it is something else.
func perPosition(n *ir.Node, v *ir.Value, t int) (scale, shift []float64) {
	if len(n.Outputs) != 1 || !n.Out().Type.Equal(v.Type) {
		return nil, nil
	}
	if x, s, h, ok := edit.PerChannel(n); ok && x == v {
		return slices.Repeat([]float64{float64(s[0])}, t), slices.Repeat([]float64{float64(h[0])}, t)
	}
	if len(n.Inputs) != 2 {
		return nil, nil
	}
	k, swapped := n.Inputs[1], false
	if n.Inputs[0] != v {
		k, swapped = n.Inputs[0], true
	}
	d := edit.Floats(k)
	if len(d) != t {
		return nil, nil
	}
	scale, shift = slices.Repeat([]float64{1}, t), slices.Repeat([]float64{0}, t)
	for p, f := range d {
		c := float64(f)
		switch {
		case n.Op == "add":
			shift[p] = c
		case n.Op == "sub" && swapped:
			scale[p], shift[p] = -1, c
		case n.Op == "sub":
			shift[p] = -c
		case n.Op == "mul":
			scale[p] = c
		case n.Op == "div" && !swapped && c != 0:
			scale[p] = 1 / c
		default:
			return nil, nil
		}
	}
	return scale, shift
}

// movedToConv says that n only moves the numbers of v, as where the windows of an image are gathered, on their way to
// convolutions or linear layers.
func movedToConv(n *ir.Node, v *ir.Value, uses map[*ir.Value][]*ir.Node) bool {
	switch n.Op {
	case "gather", "regroup", "transpose", "slice", "flatten", "pad":
		return n.Inputs[0] == v && convolved(n.Out(), uses)
	}
	return false
}

// convolved says that all readers of v are convolutions or linear layers, but for constants per channel and moves between.
func convolved(v *ir.Value, uses map[*ir.Value][]*ir.Node) bool {
	for _, n := range uses[v] {
		x, _, _, ok := edit.PerChannel(n)
		layer := (n.Op == "conv" || n.Op == "linear") && slices.Index(n.Inputs, v) == 0
		if !layer && !(ok && x == v && convolved(n.Out(), uses)) && !movedToConv(n, v, uses) {
			return false
		}
	}
	return len(uses[v]) > 0
}

// feedsLinear says that all readers of a vector are linear layers, but for constants per channel between.
func feedsLinear(v *ir.Value, uses map[*ir.Value][]*ir.Node) bool {
	for _, n := range uses[v] {
		x, _, _, ok := edit.PerChannel(n)
		if n.Op != "linear" && !(ok && x == v && feedsLinear(n.Out(), uses)) {
			return false
		}
	}
	return len(uses[v]) > 0
}
