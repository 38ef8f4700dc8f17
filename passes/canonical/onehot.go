package canonical

import (
	"slices"

	"nepcoc/ir"
	"nepcoc/passes/internal/edit"
)

// A one-hot vector is a row of the identity matrix: an embedding. Exporters write it as a comparison of the ids
// with 0, 1, ..., and the importer so, too:
//
//	%u = Unsqueeze(%ids, [2]) : i64[1,24,1]
//	%e = Equal(%u, [0, 1, ..., 256]) : bool[1,24,257]
//	%h = Cast(%e) {to="f32"} : f32[1,24,257]
//
// becomes
//
//	%i = Reshape(%u, [1,24]) : i64[1,24]
//	%h = Gather(identity, %i) {axis=0} : f32[1,24,257]
//
// A matrix that it is multiplied by is the table itself, so that no identity is made.

// maxIdentity is the number of ids of which an identity matrix may be made: 4 MiB.
const maxIdentity = 1024

// oneHots rewrites all of g.
func oneHots(g *ir.Graph, names edit.Names) error {
	uses := g.Consumers()
	for i := 0; i < len(g.Nodes); i++ {
		n := g.Nodes[i]
		ids, size, axis, on, off, ok := oneHot(n)
		if !ok {
			continue
		}
		shape := slices.Delete(slices.Clone(n.Out().Type.Shape), axis, axis+1)
		if ir.NumElements(shape) != ids.Type.Len() {
			continue // the ids are repeated
		}
		to := make([]int64, len(shape))
		for k, d := range shape {
			to[k] = int64(d)
		}
		flat, err := names.New("Reshape", n.Origin, n.Out().Name+".ids", nil, ids, names.Const(n.Out().Name+".shape", ir.Int64s(to, len(to))))
		if err != nil {
			return err
		}
		added := []*ir.Node{flat}
		last := axis == len(shape)
		if last && on == 1 && off == 0 {
			for _, u := range slices.Clone(uses[n.Out()]) {
				if w := u.Input(1); u.Op == "MatMul" && u.Inputs[0] == n.Out() && w.Const != nil && len(w.Type.Shape) == 2 {
					edit.Become(u, "Gather", ir.Attrs{"axis": 0}, w, flat.Out())
				}
			}
			uses = g.Consumers()
		}
		switch {
		case len(uses[n.Out()]) == 0 && !slices.Contains(g.Outputs, n.Out()):
		case size > maxIdentity:
			return ir.Problems{ir.ProblemOf(n, "a one-hot of more than 1,024 ids that is not multiplied by a matrix at once", "use an embedding (nn.Embedding, Gather) instead")}
		default:
			eye := make([]float32, size*size)
			for k := range eye {
				eye[k] = off
				if k/size == k%size {
					eye[k] = on
				}
			}
			table := names.Const(n.Out().Name+".identity", edit.F32(eye, size, size))
			if last {
				edit.Become(n, "Gather", ir.Attrs{"axis": 0}, table, flat.Out())
				break
			}
			rows, err := names.New("Gather", n.Origin, n.Out().Name+".rows", ir.Attrs{"axis": 0}, table, flat.Out())
			if err != nil {
				return err
			}
			added = append(added, rows)
			perm := make([]int, 0, len(shape)+1)
			for k := range len(shape) {
				perm = append(perm, k)
			}
			edit.Become(n, "Transpose", ir.Attrs{"perm": slices.Insert(perm, axis, len(shape))}, rows.Out())
		}
		g.Nodes = slices.Insert(g.Nodes, i, added...)
		i += len(added)
		uses = g.Consumers()
	}
	g.Sweep()
	return nil
}

// oneHot reads n as on where ids equal 0, 1, ..., size-1 along axis of the result, and off elsewhere.
func oneHot(n *ir.Node) (ids *ir.Value, size, axis int, on, off float32, ok bool) {
	var equal *ir.Node
	switch {
	case n.Op == "Cast" && n.Out().Type.DType == ir.F32:
		x := n.Inputs[0]
		for c := defBy(x, "Cast"); c != nil && x.Type.DType != ir.F32; c = defBy(x, "Cast") { // as integers first
			x = c.Inputs[0]
		}
		equal, on = defBy(x, "Equal"), 1
	case n.Op == "Where":
		a, ok1 := edit.Scalar(n.Inputs[1])
		b, ok2 := edit.Scalar(n.Inputs[2])
		if ok1 && ok2 {
			equal, on, off = defBy(n.Inputs[0], "Equal"), float32(a), float32(b)
		}
	}
	if equal == nil || !equal.Out().Type.Equal(ir.Type{DType: ir.Bool, Shape: n.Out().Type.Shape}) {
		return nil, 0, 0, 0, 0, false
	}
	for i, v := range equal.Inputs {
		other := equal.Inputs[1-i]
		index, isInts := edit.Ints(v)
		if !isInts || other.Const != nil || other.Type.DType == ir.F32 || len(index) < 2 {
			continue
		}
		for k, x := range index {
			isInts = isInts && x == k
		}
		off1 := len(n.Out().Type.Shape) - len(v.Type.Shape)
		axis = off1 + slices.Index(v.Type.Shape, len(index))
		at := axis - (len(n.Out().Type.Shape) - len(other.Type.Shape))
		if isInts && axis >= off1 && (at < 0 || other.Type.Shape[at] == 1) {
			return other, len(index), axis, on, off, true
		}
	}
	return nil, 0, 0, 0, 0, false
}
