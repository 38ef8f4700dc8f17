package localize

import (
	"fmt"

	"nepcoc/ir"
	"nepcoc/ir/eval"
	"nepcoc/passes/internal/edit"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/traffic"
)

const (
	// tableBlock is how many tokens are computed at a time: intermediate
	// values of a large vocabulary stay small beside the table.
	tableBlock = 2048
	// smallTable is the number of elements up to which a table is worth its
	// memory even where its input is a table that is needed anyway.
	smallTable = 1 << 18
	// largeTable is the number of elements beyond which a table's size in the
	// bundle matters.
	largeTable = 1 << 20
	// A table may have tableGrowth times the elements of the embedding that
	// it replaces, and maxTable in any case; beyond that the layers stay.
	tableGrowth = 8
	maxTable    = 1 << 22
)

// foldTokens replaces every value that depends on a single token and is read
// by something that mixes positions by a look-up in one table. It returns the
// number of token ids.
func (r *region) foldTokens() (vocab int, err error) {
	if vocab, err = r.vocabulary(); err != nil {
		return 0, err
	}
	function := r.tokenFunctions()
	tabulated, err := r.frontier(function, vocab)
	if err != nil {
		return 0, err
	}
	tables, err := r.tabulate(tabulated, function, vocab)
	if err != nil {
		return 0, err
	}
	for i, v := range tabulated {
		attrs := ir.Attrs{}
		if r.encoding != "token" {
			attrs["encoding"] = r.encoding
		}
		inputs := []*ir.Value{r.tokens, r.names.Const(v.Name+".table", tables[i])}
		if v.Def != nil {
			edit.Become(v.Def, "embed", attrs, append(inputs, r.factors(v, tables[i])...)...)
			continue
		}
		// The input itself is read as a number.
		n, err := r.names.New("embed", "", v.Name+".values", attrs, inputs...)
		if err != nil {
			return 0, err
		}
		r.g.Nodes = append([]*ir.Node{n}, r.g.Nodes...)
		r.g.Replace(v, n.Out())
	}
	for _, n := range r.g.Nodes { // embeddings that stay as they are
		if n.Op == "embed" && n.Inputs[0] == r.data {
			n.Inputs[0] = r.tokens
		}
	}
	r.g.Sweep()
	for _, n := range r.g.Nodes {
		for _, v := range n.Inputs {
			if v == r.data {
				r.problems = append(r.problems, ir.ProblemOf(n, "the tokens are used otherwise than through a table", "feed them to an embedding only"))
			}
		}
	}
	return vocab, nil
}

// factors are the narrow rows, weights and bias of which the table of v is the
// product, if they are there: v is a linear layer of an embedding. Of a large table the quantize pass
// may store them in its place.
func (r *region) factors(v *ir.Value, table *ir.Tensor) []*ir.Value {
	n := v.Def
	if n.Op != "linear" || n.Str("act", "") != "" || table.Len() <= largeTable {
		return nil
	}
	e := n.Inputs[0].Def
	if e == nil || e.Op != "embed" || e.Inputs[0] != r.data || e.Inputs[1].Const == nil || e.Inputs[1].Type.Len() >= table.Len() {
		return nil
	}
	for _, w := range n.Inputs[1:] {
		if w.Const == nil {
			return nil
		}
	}
	return append([]*ir.Value{e.Inputs[1]}, n.Inputs[1:]...)
}

// vocabulary is the number of rows of the embedding tables, 256 for bytes, or a feature's levels.
func (r *region) vocabulary() (int, error) {
	if r.levels {
		return bundle.FeatureLevels, nil
	}
	if r.encoding != "token" {
		return 256, nil
	}
	vocab := 0
	for _, n := range r.g.Nodes {
		if n.Op != "embed" || n.Inputs[0] != r.data {
			continue
		}
		rows := n.Inputs[1].Type.Shape[0]
		if vocab != 0 && vocab != rows {
			return 0, ir.Problems{ir.ProblemOf(n, fmt.Sprintf("embeddings of %d and of %d tokens share one input", vocab, rows), "use one vocabulary")}
		}
		vocab = rows
	}
	return vocab, nil
}

// tokenFunctions finds the values that depend on the token at their own
// position and on nothing else, not even the position.
func (r *region) tokenFunctions() map[*ir.Value]bool {
	function := map[*ir.Value]bool{r.data: true}
	for _, n := range r.g.Nodes {
		ok := false
		for _, v := range n.Inputs {
			ok = ok || function[v]
		}
		if !ok || !positionWise(n) {
			continue
		}
		for _, v := range n.Inputs {
			if v != nil && v.Const == nil {
				ok = ok && function[v]
			}
		}
		if ok {
			function[n.Out()] = true
		}
	}
	return function
}

// positionWise says whether n treats every position by itself and alike.
func positionWise(n *ir.Node) bool {
	switch n.Op {
	case "embed", "linear", "layer_norm":
		return true
	case "slice", "concat":
		return n.Int("axis", 0) == 1 || n.Int("axis", 0) == -1
	case "conv":
		return n.Inputs[1].Type.Shape[1] == 1 && n.Int("stride", 1) == 1 && n.Int("pad_left", 0) == 0 && n.Int("pad_right", 0) == 0
	}
	if !pointwise(n) {
		return false
	}
	for _, v := range n.Inputs {
		// A constant with positions (say a position embedding) differs from
		// one to the next.
		if v != nil && v.Const != nil && len(v.Type.Shape) > 1 && v.Type.Shape[0] != 1 {
			return false
		}
	}
	return true
}

// frontier lists the token functions that become tables: those that something
// else reads, unless they are cheap to compute from another one that is there
// anyway.
func (r *region) frontier(function map[*ir.Value]bool, vocab int) ([]*ir.Value, error) {
	read := make(map[*ir.Value]bool) // by other than token functions
	for _, n := range r.g.Nodes {
		for _, v := range n.Inputs {
			if v != nil && !function[n.Out()] {
				read[v] = true
			}
		}
	}
	for i, v := range r.g.Outputs {
		if function[v] {
			return nil, ir.Problems{{Node: r.g.OutputNames[i], Op: "output", Types: []ir.Type{v.Type},
				Reason: "the output depends on single tokens", Way: "reduce over positions before the output"}}
		}
	}
	limit := maxTable
	for _, n := range r.g.Nodes {
		if n.Op == "embed" && n.Inputs[0] == r.data {
			limit = max(limit, tableGrowth*n.Inputs[1].Type.Len())
		}
	}
	there := make(map[*ir.Value]bool)
	var out []*ir.Value
	if read[r.data] {
		if r.data.Type.DType != ir.F32 || len(r.data.Type.Shape) != 2 {
			return nil, ir.Problems{{Node: r.data.Name, Op: "input", Types: []ir.Type{r.data.Type},
				Reason: "the tokens are used otherwise than through a table", Way: "feed them to an embedding only"}}
		}
		out = append(out, r.data)
		there[r.data] = true
	}
	for _, n := range r.g.Nodes {
		v := n.Out()
		if !function[v] || !read[v] {
			continue
		}
		there[v] = true
		if n.Op == "embed" && n.Inputs[0] == r.data {
			continue // it is a table
		}
		keep := pointwise(n) || vocab*v.Type.Shape[len(v.Type.Shape)-1] > smallTable
		for _, in := range n.Inputs {
			keep = keep && (in == nil || in.Const != nil || there[in])
		}
		if !keep && vocab*v.Type.Shape[len(v.Type.Shape)-1] <= limit {
			if v.Type.DType != ir.F32 || len(v.Type.Shape) != 2 {
				return nil, ir.Problems{ir.ProblemOf(n, "the tokens are used otherwise than through a table", "feed them to an embedding only")}
			}
			out = append(out, v)
		}
	}
	return out, nil
}

// tabulate computes the given token functions for every token, a block of
// tokens at a time.
func (r *region) tabulate(values []*ir.Value, function map[*ir.Value]bool, vocab int) ([]*ir.Tensor, error) {
	if len(values) == 0 {
		return nil, nil
	}
	rows := min(tableBlock, vocab)
	g, err := r.blockGraph(values, function, rows)
	if err != nil {
		return nil, err
	}
	m, err := eval.New(g)
	if err != nil {
		return nil, err
	}
	tables := make([]*ir.Tensor, len(values))
	for i, v := range values {
		tables[i] = ir.NewTensor(ir.Type{DType: ir.F32, Shape: []int{vocab, v.Type.Shape[1]}})
	}
	in := g.Inputs[0]
	for first := 0; first < vocab; first += rows {
		first := min(first, vocab-rows) // the last block overlaps its predecessor
		out, err := m.Run(map[string]*ir.Tensor{in.Name: r.block(in.Type, first)})
		if err != nil {
			return nil, ir.Problems{{Node: r.data.Name, Op: "input", Types: []ir.Type{r.data.Type},
				Reason: fmt.Sprintf("the functions of a single token (%d ids, encoding %s) can't be tabulated: %v", vocab, r.encoding, err),
				Way:    "feed token ids to an embedding directly"}}
		}
		for i, t := range tables {
			width := t.Shape[1]
			copy(t.Data.([]float32)[first*width:], out[g.OutputNames[i]].Data.([]float32))
		}
	}
	return tables, nil
}

// block is the model's input for the tokens first, first+1, ...
func (r *region) block(t ir.Type, first int) *ir.Tensor {
	x := ir.NewTensor(t)
	switch d := x.Data.(type) {
	case []float32:
		for i := range d {
			d[i] = traffic.Encoding(r.encoding).Value(first + i)
		}
	case []int64:
		count(d, first)
	case []int32:
		count(d, first)
	case []int16:
		count(d, first)
	case []uint16:
		count(d, first)
	case []uint8:
		count(d, first)
	case []int8:
		count(d, first)
	}
	return x
}

func count[E int64 | int32 | int16 | uint16 | uint8 | int8](d []E, first int) {
	for i := range d {
		d[i] = E(first + i)
	}
}

// blockGraph is the part of the model that computes values, for rows
// positions instead of the model's length.
func (r *region) blockGraph(values []*ir.Value, function map[*ir.Value]bool, rows int) (*ir.Graph, error) {
	shape := append([]int{rows}, r.data.Type.Shape[1:]...)
	in := &ir.Value{Name: "tokens", Type: ir.Type{DType: r.data.Type.DType, Shape: shape}}
	g := &ir.Graph{Name: r.g.Name, Inputs: []*ir.Value{in}}
	image := map[*ir.Value]*ir.Value{r.data: in}
	names := edit.Names{"tokens": true}
	for _, n := range r.g.Nodes {
		if !function[n.Out()] {
			continue
		}
		inputs := make([]*ir.Value, len(n.Inputs))
		for i, v := range n.Inputs {
			inputs[i] = v
			if v != nil && v.Const == nil {
				inputs[i] = image[v]
			}
		}
		attrs := n.Attrs
		if n.Op == "reshape" {
			to := append([]int{rows}, n.Ints("shape")[1:]...)
			attrs = ir.Attrs{"shape": to}
		}
		c, err := names.New(n.Op, n.Origin, n.Out().Name, attrs, inputs...)
		if err != nil {
			return nil, err
		}
		g.Nodes = append(g.Nodes, c)
		image[n.Out()] = c.Out()
	}
	for i, v := range values {
		g.Outputs = append(g.Outputs, image[v])
		g.OutputNames = append(g.OutputNames, fmt.Sprint(i))
	}
	g.Sweep()
	return g, nil
}
