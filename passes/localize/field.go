package localize

import (
	"nepcoc/ir"
	"nepcoc/passes"
)

// reach says which tokens position p of a sequence depends on:
// [p*stride-left, p*stride+right], or all of them.
type reach struct {
	stride, left, right int
	all                 bool
}

// everything is the reach of what any token may change.
var everything = reach{stride: 1, all: true}

func (a reach) join(b reach) reach {
	if a.all || b.all {
		return everything
	}
	return reach{max(a.stride, b.stride), max(a.left, b.left), max(a.right, b.right), false}
}

// window is the reach of a window of extent positions that starts before
// positions ahead of p*step.
func (a reach) window(before, extent, step int) reach {
	if a.all {
		return a
	}
	return reach{a.stride * step, a.left + before*a.stride, a.right + (extent-1-before)*a.stride, false}
}

// measure computes the receptive field of what is reduced over positions. Where a step looks at the whole sequence, or
// a reduction feeds back into positions, what follows depends on all tokens: it is no part of
// the local region, and the field is the sequence.
func (r *region) measure(local *passes.Local) {
	sequences := map[*ir.Value]reach{r.tokens: {stride: 1}}
	reduced := make(map[*ir.Value]bool)
	total := reach{stride: 1}
	longest := 0
	end := func(n *ir.Node, x reach) {
		total = total.join(x)
		reduced[n.Out()] = true
	}
	for _, n := range r.g.Nodes {
		x, isSeq, again := reach{}, false, false
		for _, v := range n.Inputs {
			if s, ok := sequences[v]; ok {
				if isSeq && s.stride != x.stride {
					x = everything // positions of one are other positions of the other
				}
				x, isSeq = x.join(s), true
			}
			again = again || reduced[v]
		}
		switch {
		case isSeq && again, again && n.Op == "regroup":
			x, isSeq = everything, true
		case again:
			reduced[n.Out()] = true
			continue
		case !isSeq:
			continue
		}
		if s := n.Out().Type.Shape; len(s) == 2 {
			longest = max(longest, s[0])
		}
		switch n.Op {
		case "conv":
			k, d := n.Inputs[1].Type.Shape[1], n.Int("dilation", 1)
			x = x.window(n.Int("pad_left", 0), (k-1)*d+1, n.Int("stride", 1))
		case "window_pool":
			x = x.window(n.Int("pad_left", 0), n.Int("k", 1), n.Int("stride", 1))
		case "pad":
			x = padded(n, x)
		case "slice":
			if n.Int("axis", 0) == 0 {
				x = x.window(-n.Int("start", 0), 1, n.Int("step", 1))
			}
		case "concat":
			if n.Int("axis", 0) == 0 {
				x = everything
			}
		case "transpose", "regroup", "gather":
			x = everything
		case "pool":
			if n.Input(1) != nil && (x.stride != 1 || n.Inputs[0].Type.Shape[0] != local.Length) {
				r.problems = append(r.problems, ir.ProblemOf(n, "a mask is used after positions were thinned out", "mask at the full length"))
			}
			end(n, x)
			continue
		case "flatten":
			local.Whole = local.Whole || n.Inputs[0].Type.Shape[0] > 1
			end(n, x)
			continue
		}
		sequences[n.Out()] = x
	}
	local.Left, local.Right, local.Stride = max(0, total.left), max(0, total.right), total.stride
	if total.all {
		local.Whole, local.Left, local.Right = true, local.Length, local.Length
	}
	if t := local.Length; local.Left > t || local.Right > t {
		// Nothing is before the first token or after the last, so a side beyond
		// the sequence is the sequence, unless padding has made positions
		// beyond its end.
		if local.Right > t || longest > t {
			local.Whole, local.Right = true, t
		}
		local.Left = t
	}
}

// padded moves positions by what is put before them. Padding that repeats the
// sequence's own elements reaches further.
func padded(n *ir.Node, x reach) reach {
	left, right := n.Int("left", 0), n.Int("right", 0)
	y := x.window(left, 1, 1)
	if x.all {
		return y
	}
	switch n.Str("mode", "constant") {
	case "reflect": // p reads up to 2*left ahead, or 2*right behind, of its place
		y.right = max(y.right, x.right+left*x.stride)
		y.left = max(y.left, x.left+(left+2*right)*x.stride)
	case "edge":
		y.right = max(y.right, x.right)
		y.left = max(y.left, x.left+(left+right)*x.stride)
	case "wrap":
		t := n.Inputs[0].Type.Shape[0]
		y.left, y.right = x.left+(t+left)*x.stride, x.right+t*x.stride
	}
	return y
}
