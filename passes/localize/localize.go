// Package localize finds the local region of a canonical model: everything
// from the tokens to the first reductions over positions, in which position p
// depends on the tokens near p only. It
//
//   - replaces mask arithmetic by reductions over the valid prefix (mask.go),
//   - folds position-wise functions of a single token into one table (table.go),
//   - computes the receptive field (field.go) and refuses a region without one.
//
// Afterwards the inputs are exactly tokens i64[T] and, for a masked model,
// valid i64[]. For example
//
//	%e = embed(%src, %table) : f32[128,32]
//	%x = linear(%e, %w, %b) : f32[128,64]
//	   ... convolutions of %x to %y ...
//	%m = cast(%seg.1) {to="f32"} : f32[128,1]
//	%a = mul(%y, %m) : f32[128,64]
//	%s = sub(%m, [1]) : f32[128,1]
//	%g = mul(%s, [1e+06]) : f32[128,1]
//	%z = add(%a, %g) : f32[128,64]
//	%p = pool(%z) {kind="max"} : f32[64]
//
// becomes
//
//	%x = embed(%tokens, %x.table) : f32[128,64]
//	   ... convolutions of %x to %y ...
//	%p = pool(%y, %valid) {kind="max"} : f32[64]
//
// The mask is taken to be 1 on the first valid positions and 0 after them,
// with at least one valid position: that is what the traffic contract gives.
// A model may have it as an input or compute it from the tokens (padmask.go).
package localize

import (
	"fmt"

	"nepcoc/ir"
	"nepcoc/passes"
	"nepcoc/passes/internal/edit"
	"nepcoc/runtime/traffic"
)

// Pass is the pass of this package.
var Pass = passes.Pass{
	Name: "localize",
	Doc:  "finds the local region: valid prefix instead of a mask, one table of the token, receptive field",
	Requires: []passes.Order{
		{Pass: "canonical", Why: "positions are recognised by the time-major layout"},
	},
	Run: run,
}

// region is the work in progress on one graph.
type region struct {
	g        *ir.Graph
	names    edit.Names
	data     *ir.Value // the model's input of tokens or bytes
	mask     *ir.Value // the model's mask input, or nil
	encoding string
	levels   bool      // data are levels of features
	tokens   *ir.Value // the new inputs
	valid    *ir.Value
	sides    *ir.Value // ids beside the sequence, or nil
	problems ir.Problems
}

func run(ctx *passes.Context, g *ir.Graph) (*ir.Graph, error) {
	r := &region{g: g, names: edit.NamesOf(g)}
	if err := checkCanonical(g); err != nil {
		return nil, err
	}
	r.uncastTokens()
	sides, err := r.readSides(ctx)
	if err != nil {
		return nil, err
	}
	if err := r.findInputs(ctx); err != nil {
		return nil, err
	}
	local := &ctx.Report.Local
	*local = passes.Local{TokenInput: r.data.Name, TokenType: r.data.Type, Length: r.data.Type.Shape[0], Encoding: r.encoding, Sides: sides}
	if f := ctx.Options.Features; f != nil {
		local.Original = g.Clone()
		if local.Features, err = r.readFeatures(f); err != nil {
			return nil, err
		}
		local.Encoding = r.encoding
	}
	r.tokens = r.newInput("tokens", local.Length)
	if r.mask != nil {
		local.MaskInput, local.MaskType, local.Masked = r.mask.Name, r.mask.Type, true
		r.valid = r.newInput("valid")
		r.removeMask(map[*ir.Value][2]*ir.Tensor{r.mask: {filled(r.mask.Type, 0), filled(r.mask.Type, 1)}})
		ctx.Report.Note("input %q is taken as a mask: 1 on the first valid positions, 0 after them", r.mask.Name)
	}
	var maskProblems ir.Problems
	if r.mask == nil {
		trial := r.clone()
		pad, seeds, err := trial.padMask()
		if err != nil {
			return nil, err
		}
		if len(seeds) > 0 {
			trial.valid = trial.newInput("valid")
			trial.removeMask(seeds)
			if len(trial.problems) == 0 {
				r, g = trial, trial.g
				local.Masked, local.PadToken = true, pad
				ctx.Report.Note("the model masks token %d: it is taken as the padding, after the last valid position and nowhere else", pad)
			} else { // a function of the token like any other, which may be a table
				maskProblems = trial.problems
			}
		}
	}
	if len(r.problems) > 0 {
		return nil, r.problems
	}
	vocab, err := r.foldTokens()
	if maskProblems != nil && (err != nil || len(r.problems) > 0) {
		return nil, maskProblems // the cause of what followed
	}
	if err != nil {
		return nil, err
	}
	local.Vocab = vocab
	g.Inputs = []*ir.Value{r.tokens}
	if r.valid != nil {
		g.Inputs = append(g.Inputs, r.valid)
	}
	if r.sides != nil {
		g.Inputs = append(g.Inputs, r.sides)
	}
	r.measure(local)
	if len(r.problems) > 0 {
		return g, r.problems // later passes may say more
	}
	return g, nil
}

// checkCanonical refuses what the canonical pass can't have made: the pass can
// be run alone, on any text.
func checkCanonical(g *ir.Graph) error {
	var problems ir.Problems
	const way = "run the canonical pass first"
	for _, v := range g.Inputs {
		if n := len(v.Type.Shape); n < 1 || n > 2 {
			problems = append(problems, ir.Problem{Node: v.Name, Op: "input", Types: []ir.Type{v.Type}, Reason: "not a sequence", Way: way})
		}
	}
	for _, n := range g.Nodes {
		if op := ir.LookupOp(n.Op); op.Group != ir.GroupCanonical && !pointwise(n) {
			problems = append(problems, ir.ProblemOf(n, "not a canonical operator", way))
		}
	}
	if len(problems) > 0 {
		return problems
	}
	return nil
}

// uncastTokens lets embeddings read token ids of any integer type: models
// with int32 inputs cast them to int64 first.
func (r *region) uncastTokens() {
	integer := func(v *ir.Value) bool {
		switch v.Type.DType {
		case ir.I64, ir.I32, ir.I16, ir.U16, ir.U8:
			return true
		}
		return false
	}
	for _, n := range r.g.Nodes {
		if n.Op != "embed" {
			continue
		}
		for c := n.Inputs[0].Def; c != nil && c.Op == "cast" && integer(c.Inputs[0]) && integer(c.Out()); c = n.Inputs[0].Def {
			n.Inputs[0] = c.Inputs[0]
		}
	}
	r.g.Sweep()
}

// newInput makes an i64 input of exactly the given name; a value that has the
// name already gets another one.
func (r *region) newInput(name string, shape ...int) *ir.Value {
	if r.names[name] {
		other := r.names.Fresh(name)
		rename := func(v *ir.Value) {
			if v != nil && v.Name == name {
				v.Name = other
			}
		}
		for _, v := range r.g.Inputs {
			rename(v)
		}
		for _, n := range r.g.Nodes {
			for _, v := range n.Inputs {
				rename(v)
			}
			for _, v := range n.Outputs {
				rename(v)
			}
		}
	}
	r.names[name] = true
	if shape == nil {
		shape = []int{}
	}
	return &ir.Value{Name: name, Type: ir.Type{DType: ir.I64, Shape: shape}}
}

// findInputs decides which input holds the tokens (or bytes) and which is the
// mask. Inputs that nobody reads are dropped.
func (r *region) findInputs(ctx *passes.Context) error {
	uses := r.g.Consumers()
	var embedded, data, other []*ir.Value
	for _, v := range r.g.Inputs {
		switch {
		case v == r.sides:
		case len(uses[v]) == 0:
			ctx.Report.Note("input %q is not used by the model", v.Name)
		case feedsEmbed(v, uses):
			embedded = append(embedded, v)
		case feedsLayers(v, uses):
			data = append(data, v)
		default:
			other = append(other, v)
		}
	}
	bad := func(reason, way string) error {
		var types []ir.Type
		for _, v := range r.g.Inputs {
			types = append(types, v.Type)
		}
		return ir.Problems{{Node: r.g.Name, Op: "inputs", Types: types, Reason: reason, Way: way}}
	}
	data = append(embedded, data...)
	if len(data) == 0 && len(other) == 1 {
		data, other = other, nil
	}
	if len(data) == 0 && len(other) == 2 { // pooled at once: numbers are data
		for i, v := range other {
			if w := other[1-i]; v.Type.DType == ir.F32 && w.Type.DType != ir.F32 {
				data, other = []*ir.Value{v}, []*ir.Value{w}
				break
			}
		}
	}
	switch {
	case len(data) == 0:
		return bad("no input is used as tokens or bytes", "feed token ids to an embedding, or bytes as numbers")
	case len(data) > 1:
		return bad(fmt.Sprintf("both %q and %q are data", data[0].Name, data[1].Name), "use one sequence of tokens or bytes; numbers beside it go through a layer of their own, or join what was made of it by Concat")
	case len(other) > 1:
		return bad(fmt.Sprintf("both %q and %q look like masks", other[0].Name, other[1].Name), "use one mask")
	}
	r.data = data[0]
	if len(other) == 1 {
		r.mask = other[0]
	}
	if s := r.data.Type.Shape; len(s) == 2 && s[1] != 1 {
		return bad(fmt.Sprintf("input %q has %d numbers per position", r.data.Name, s[1]), "feed one token or byte per position")
	}
	r.encoding = "token"
	if len(embedded) == 0 {
		r.encoding = "byte"
		if r.data.Type.DType == ir.F32 {
			r.encoding = "byte/255"
		}
		if e := ctx.Options.ByteEncoding; e != "" {
			if _, _, ok := traffic.Encoding(e).Affine(); !ok {
				return bad(fmt.Sprintf("input %q holds numbers, and %q is no encoding of bytes as numbers", r.data.Name, e), `say byte, byte/255 or (byte-MEAN)/DEVIATION in the traffic contract`)
			}
			r.encoding = e
		}
	}
	if ctx.Options.Features != nil {
		switch {
		case len(embedded) > 0 || r.data.Type.DType != ir.F32 || len(r.data.Type.Shape) != 2:
			return bad(fmt.Sprintf("input %q holds token ids, no features", r.data.Name), "leave out --features")
		case r.mask != nil:
			return bad(fmt.Sprintf("input %q is a mask, and features of a flow have no padding", r.mask.Name), "export the model without the mask")
		}
	}
	if m := r.mask; m != nil && (m.Type.Len() != r.data.Type.Shape[0]) {
		return bad(fmt.Sprintf("mask %q has another length than %q", m.Name, r.data.Name), "use one mask element per token")
	}
	return nil
}

func feedsEmbed(v *ir.Value, uses map[*ir.Value][]*ir.Node) bool {
	for _, n := range uses[v] {
		if n.Op == "embed" && n.Inputs[0] == v {
			return true
		}
	}
	return false
}

// feedsLayers says whether element-wise functions of v reach a layer: then v
// is data and not a mask, which only ever meets data in an element-wise way.
func feedsLayers(v *ir.Value, uses map[*ir.Value][]*ir.Node) bool {
	for _, n := range uses[v] {
		switch n.Op {
		case "conv", "linear", "layer_norm", "window_pool", "flatten", "transpose", "regroup", "gather":
			return true
		}
		pure := true
		for _, in := range n.Inputs {
			pure = pure && (in == nil || in == v || in.Const != nil)
		}
		if pure && pointwise(n) && feedsLayers(n.Out(), uses) {
			return true
		}
	}
	return false
}

// pointwise says that an operator works element by element, with broadcasting.
func pointwise(n *ir.Node) bool { return ir.LookupOp(n.Op).Pointwise }
