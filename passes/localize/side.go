package localize

import (
	"fmt"

	"nepcoc/ir"
	"nepcoc/passes"
	"nepcoc/runtime/arith"
	"nepcoc/runtime/bundle"
)

// Numbers beside the sequence are inputs that the canonical pass left as vectors. The program reads them as ids on a grid
// of their own (arith.Grid), those of all such inputs one behind another:
//
//	%side : f32[6]
//
// becomes, with %sides : i64[6],
//
//	%side = side(%sides) {at=0, low=[...], exp=[...]} : f32[6]

// readSides puts ids in the place of such inputs, and returns what they stand for.
func (r *region) readSides(ctx *passes.Context) (sides []bundle.SideInput, _ error) {
	var inputs []*ir.Value
	var front []*ir.Node
	uses, n := r.g.Consumers(), 0
	for _, v := range r.g.Inputs {
		if len(v.Type.Shape) != 1 || v.Type.DType != ir.F32 {
			inputs = append(inputs, v)
			continue
		}
		if len(uses[v]) == 0 {
			ctx.Report.Note("input %q is not used by the model", v.Name)
			continue
		}
		grids := make([]arith.Grid, v.Type.Shape[0])
		if f := ctx.Options.Sides; f != nil {
			var err error
			if grids, err = f(v.Name, len(grids)); err != nil {
				return nil, err
			}
		}
		sides = append(sides, bundle.SideInput{Name: v.Name, Grids: grids})
		low, exp := make([]int, len(grids)), make([]int, len(grids))
		for i, g := range grids {
			low[i], exp[i] = int(g.Low), int(g.Exp)
		}
		node := &ir.Node{Op: "side", Origin: v.Name, Attrs: ir.Attrs{"at": n, "low": low, "exp": exp}, Outputs: []*ir.Value{v}}
		v.Def = node
		front = append(front, node)
		n += len(grids)
	}
	if n == 0 {
		r.g.Inputs = inputs
		return nil, nil
	}
	r.g.Inputs = inputs
	r.sides = r.newInput(ir.SidesInput, n)
	r.g.Inputs = append(r.g.Inputs, r.sides)
	for _, node := range front {
		node.Inputs = []*ir.Value{r.sides}
	}
	r.g.Nodes = append(front, r.g.Nodes...)
	ctx.Report.Note("%s", describe(sides))
	return sides, nil
}

func describe(sides []bundle.SideInput) string {
	text := ""
	for i, s := range sides {
		if i > 0 {
			text += ", "
		}
		text += fmt.Sprintf("%d numbers of input %q", len(s.Grids), s.Name)
	}
	return text + " stand beside the sequence"
}
