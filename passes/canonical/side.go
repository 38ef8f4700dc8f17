package canonical

import (
	"slices"

	"nepcoc/ir"
)

// Numbers beside the sequence come as an input [1,K]. Nothing in a file says so: what is done with them does. They are scaled, normalised
// and go through dense layers by themselves, and then join what was made of the sequence. A mask meets the sequence element by element
// before any layer, tokens are looked up or convolved.

// sideOps lead from numbers beside the sequence to numbers beside the sequence.
var sideOps = map[string]bool{"Reshape": true, "Flatten": true, "Squeeze": true, "Unsqueeze": true, "Identity": true, "Dropout": true, "Cast": true,
	"BatchNormalization": true, "LayerNormalization": true, "ReduceMean": true, "ReduceSum": true, "Softmax": true, "layer_norm": true, "Clip": true, "PRelu": true,
	"MatMul": true, "Gemm": true, "act": true, "Slice": true, "Concat": true}

// sideLayers mix numbers: what comes out of them is no mask any more.
var sideLayers = map[string]bool{"MatMul": true, "Gemm": true, "LayerNormalization": true, "layer_norm": true}

// sideMoves leave integers what they are; what else counts on integers is about tokens or lengths.
var sideMoves = map[string]bool{"Reshape": true, "Flatten": true, "Squeeze": true, "Unsqueeze": true, "Identity": true, "Slice": true}

// maskOps make or use masks.
var maskOps = map[string]bool{"Equal": true, "Where": true, "Less": true, "Greater": true, "Not": true}

// SideInputs are the inputs of g that hold numbers beside the sequence. Where all look like that, the longest is the sequence.
func SideInputs(g *ir.Graph) map[*ir.Value]bool {
	uses := g.Consumers()
	var used []*ir.Value
	for _, v := range g.Inputs {
		if len(uses[v]) > 0 {
			used = append(used, v)
		}
	}
	if len(used) < 2 {
		return nil
	}
	sides := make(map[*ir.Value]bool)
	var longest *ir.Value
	for _, v := range used {
		if sides[v] = isSide(g, v); sides[v] && (longest == nil || v.Type.Len() > longest.Type.Len()) {
			longest = v
		}
	}
	if !slices.ContainsFunc(used, func(v *ir.Value) bool { return !sides[v] }) {
		sides[longest] = false
	}
	return sides
}

// isSide follows what is made of v alone to where it joins something else.
func isSide(g *ir.Graph, v *ir.Value) bool {
	if len(longDims(v.Type.Shape)) > 1 || v.Type.DType == ir.Bool {
		return false
	}
	const own, mixed = 1, 2 // made of v alone; and by a layer
	made := map[*ir.Value]int{v: own}
	joined := false
	for _, n := range g.Nodes {
		state, others := 0, false
		for _, in := range n.Inputs {
			switch {
			case in == nil || in.Const != nil:
			case made[in] > 0:
				state = max(state, made[in])
			default:
				others = true
			}
		}
		if state == 0 {
			continue
		}
		op := ir.LookupOp(n.Op)
		switch {
		case others && n.Op == "Concat":
			joined = true
			continue
		case others && op.Pointwise && state == mixed:
			joined = true
			continue
		case others:
			return false
		case v.Type.DType != ir.F32 && made[n.Inputs[0]] == own && n.Inputs[0].Type.DType != ir.F32 && n.Op != "Cast" && !sideMoves[n.Op]:
			return false
		case !sideOps[n.Op] && !op.Pointwise, maskOps[n.Op]:
			return false
		}
		if sideLayers[n.Op] {
			state = mixed
		}
		for _, o := range n.Outputs {
			made[o] = state
			joined = joined || state == mixed && slices.Contains(g.Outputs, o)
		}
	}
	return joined
}

// side takes an input as a vector of numbers.
func (l *lowering) side(v *ir.Value) {
	w := &view{form: vector, axes: label(v.Type.Shape, []axis{channel})}
	w.val = &ir.Value{Name: l.names.Fresh(v.Name), Type: ir.Type{DType: ir.F32, Shape: []int{v.Type.Len()}}}
	l.out.Inputs = append(l.out.Inputs, w.val)
	l.views[v] = w
}
