// Package program lowers the integer graph to the step program of a bundle.
//
// It is a change of notation: one node, one step; every decision was taken by
// the passes. A graph that this package can't lower is a bug of a pass.
package program

import (
	"encoding/binary"
	"errors"
	"fmt"

	"nepcoc/ir"
	"nepcoc/runtime/bundle"
)

// Info is what a program says beyond its graph.
type Info struct {
	Vocab       int
	Left, Right int // receptive field
}

// Lower turns an integer graph into a program and validates it, range proofs
// included.
func Lower(g *ir.Graph, info Info) (*bundle.Program, error) {
	l := &lowerer{
		p:       &bundle.Program{Vocab: info.Vocab, Left: info.Left, Right: info.Right},
		values:  make(map[*ir.Value]int),
		tensors: make(map[*ir.Value]int),
	}
	for _, in := range g.Inputs {
		switch {
		case in.Name == ir.SidesInput:
			l.p.Sides = in.Type.Shape[0]
		case len(in.Type.Shape) == 1:
			l.p.Length = in.Type.Shape[0]
		}
	}
	for _, n := range g.Nodes {
		if err := l.node(n); err != nil {
			return nil, fmt.Errorf("BUG: lowering %s %q: %w", n.Op, n.Origin, err)
		}
	}
	for i, v := range g.Outputs {
		n := v.Def
		l.p.Outputs = append(l.p.Outputs, bundle.Output{
			Name: g.OutputNames[i], Value: l.values[v], Ending: bundle.Ending(n.Str("kind", "logits")), Scale: n.Float("scale", 0),
			ExpMult: int32(n.Int("exp_mult", 0)), ExpShift: n.Int("exp_shift", 0), Exp: l.tensor(n.Inputs[1])})
	}
	for _, n := range g.Nodes { // all of the region have the same
		l.p.Plan.Tile = max(l.p.Plan.Tile, n.Int("tile", 0))
	}
	if err := l.p.Validate(); err != nil {
		if limit := (*bundle.LimitError)(nil); errors.As(err, &limit) {
			return nil, err // the model is too large, which only the program shows
		}
		return nil, fmt.Errorf("BUG: the compiler made an invalid program: %w", err)
	}
	return l.p, nil
}

type lowerer struct {
	p       *bundle.Program
	values  map[*ir.Value]int
	tensors map[*ir.Value]int
}

// dtypes maps the integer types of the IR to those of bundles.
var dtypes = map[ir.DType]bundle.DType{ir.I8: bundle.I8, ir.U8: bundle.U8, ir.I16: bundle.I16, ir.U16: bundle.U16, ir.I32: bundle.I32}

// value returns the index of v, which gets one on first sight.
func (l *lowerer) value(v *ir.Value) int {
	if id, ok := l.values[v]; ok {
		return id
	}
	rows, cols := 1, v.Type.Shape[len(v.Type.Shape)-1]
	if len(v.Type.Shape) == 2 {
		rows = v.Type.Shape[0]
	}
	id := len(l.p.Values)
	l.p.Values = append(l.p.Values, bundle.Value{Name: v.Name, DType: dtypes[v.Type.DType], Rows: rows, Cols: cols})
	l.values[v] = id
	return id
}

// tensor returns the index of a constant, -1 for an omitted one.
func (l *lowerer) tensor(v *ir.Value) int {
	if v == nil {
		return -1
	}
	if id, ok := l.tensors[v]; ok {
		return id
	}
	id := len(l.p.Tensors)
	l.p.Tensors = append(l.p.Tensors, bundle.Tensor{Name: v.Name, DType: dtypes[v.Type.DType], Shape: v.Type.Shape, Data: littleEndian(v.Const.Data)})
	l.tensors[v] = id
	return id
}

func littleEndian(data any) []byte {
	le := binary.LittleEndian
	switch d := data.(type) {
	case []uint8:
		return d
	case []int8:
		b := make([]byte, len(d))
		for i, x := range d {
			b[i] = byte(x)
		}
		return b
	case []int16:
		b := make([]byte, 0, 2*len(d))
		for _, x := range d {
			b = le.AppendUint16(b, uint16(x))
		}
		return b
	case []uint16:
		b := make([]byte, 0, 2*len(d))
		for _, x := range d {
			b = le.AppendUint16(b, x)
		}
		return b
	case []int32:
		b := make([]byte, 0, 4*len(d))
		for _, x := range d {
			b = le.AppendUint32(b, uint32(x))
		}
		return b
	}
	panic(fmt.Sprintf("BUG: constant of type %T in an integer graph", data))
}

// node lowers one node.
func (l *lowerer) node(n *ir.Node) error {
	if n.Op == "int_output" {
		l.values[n.Out()] = l.value(n.Inputs[0])
		return nil
	}
	make, ok := steps[n.Op]
	if !ok {
		return fmt.Errorf("no step for it")
	}
	s := bundle.Step{Name: n.Origin}
	make(l, n, &s)
	s.Out = l.value(n.Out())
	if s.Name == "" {
		s.Name = n.Out().Name
	}
	if s.In == nil {
		s.In = []int{}
	}
	l.p.Steps = append(l.p.Steps, s)
	return nil
}

// ins are the values among the first n inputs.
func (l *lowerer) ins(node *ir.Node, n int) []int {
	var in []int
	for i := range n {
		if v := node.Input(i); v != nil {
			in = append(in, l.value(v))
		}
	}
	return in
}

// steps is the table of lowerings.
var steps = map[string]func(*lowerer, *ir.Node, *bundle.Step){
	"token_table": func(l *lowerer, n *ir.Node, s *bundle.Step) {
		s.Op, s.TokenTable = bundle.OpTokenTable, &bundle.TokenTable{Table: l.tensor(n.Inputs[1])}
	},
	"int_gated_conv": func(l *lowerer, n *ir.Node, s *bundle.Step) {
		s.Op, s.In = bundle.OpGatedConv, l.ins(n, 2)
		t := func(i int) int { return l.tensor(n.Input(i)) }
		s.GatedConv = &bundle.GatedConv{
			K: n.Int("k", 0), PadLeft: n.Int("pad_left", 0),
			ChanH: t(2), ChanG: t(3), TapsH: t(4), TapsG: t(5), BiasH: t(6), BiasG: t(7), PadIn: t(8), Base: t(9), Slope: t(10),
			Shift: n.Int("shift", 0),
		}
		if n.Input(11) != nil {
			s.GatedConv.Norm = &bundle.Norm{
				Rho: t(11), Cst: t(12), Flip: t(13), MeanM: int32(n.Int("mean_m", 0)), Eps: int32(n.Int("eps", 0)),
				A: int32(n.Int("a", 0)), S: n.Int("s", 0), Shift: n.Int("norm_shift", 0),
			}
		}
	},
	"int_conv": func(l *lowerer, n *ir.Node, s *bundle.Step) {
		s.Op, s.In = bundle.OpConv, l.ins(n, 1)
		s.Conv = &bundle.Conv{
			K: n.Inputs[1].Type.Shape[1], Stride: n.Int("stride", 1), Dilation: n.Int("dilation", 1),
			PadLeft: n.Int("pad_left", 0), PadRight: n.Int("pad_right", 0), Groups: n.Int("groups", 1),
			W: l.tensor(n.Inputs[1]), Bias: l.tensor(n.Inputs[2]), Pad: l.tensor(n.Input(4)),
			Requant: bundle.Requant{
				Mult: l.tensor(n.Input(3)), Shift: n.Int("shift", 0),
				Lo: int32(n.Int("lo", 0)), Hi: int32(n.Int("hi", 0)), Table: l.tensor(n.Input(5)),
			},
		}
	},
	"int_pool": func(l *lowerer, n *ir.Node, s *bundle.Step) {
		s.Op, s.In = bundle.OpPool, l.ins(n, 1)
		s.Pool = &bundle.Pool{Kind: n.Str("kind", ""), Over: "all", At: n.Int("at", 0), Mult: int32(n.Int("mult", 0)), Shift: n.Int("shift", 0)}
		if n.Input(1) != nil {
			s.Pool.Over = "prefix"
		}
	},
	"int_window_pool": func(l *lowerer, n *ir.Node, s *bundle.Step) {
		s.Op, s.In = bundle.OpWindowPool, l.ins(n, 1)
		s.WindowPool = &bundle.WindowPool{
			Kind: n.Str("kind", ""), K: n.Int("k", 1), Stride: n.Int("stride", 1),
			PadLeft: n.Int("pad_left", 0), PadRight: n.Int("pad_right", 0), CountPad: n.Int("count_pad", 0) != 0,
		}
	},
	"int_lut": func(l *lowerer, n *ir.Node, s *bundle.Step) {
		s.Op, s.In = bundle.OpLut, l.ins(n, 1)
		s.Lut = &bundle.Lut{Mult: int32(n.Int("mult", 0)), Shift: n.Int("shift", 0), Table: l.tensor(n.Inputs[1])}
	},
	"int_add": func(l *lowerer, n *ir.Node, s *bundle.Step) {
		s.Op, s.In = bundle.OpAdd, l.ins(n, 2)
		s.Add = &bundle.Add{
			MultA: int32(n.Int("mult_a", 0)), MultB: int32(n.Int("mult_b", 0)), Bias: int64(n.Int("bias", 0)),
			Shift: n.Int("shift", 0), Lo: int32(n.Int("lo", 0)), Hi: int32(n.Int("hi", 0)),
		}
	},
	"int_mul": func(l *lowerer, n *ir.Node, s *bundle.Step) {
		s.Op, s.In = bundle.OpMul, l.ins(n, 2)
		s.Mul = &bundle.Mul{Mult: int32(n.Int("mult", 0)), Shift: n.Int("shift", 0), Lo: int32(n.Int("lo", 0)), Hi: int32(n.Int("hi", 0))}
	},
	"int_layer_norm": func(l *lowerer, n *ir.Node, s *bundle.Step) {
		s.Op, s.In = bundle.OpLayerNorm, l.ins(n, 1)
		s.LayerNorm = &bundle.LayerNorm{Eps: int64(n.Int("eps", 0)), Gamma: l.tensor(n.Inputs[1]), Beta: l.tensor(n.Inputs[2]), Shift: n.Int("shift", 0), RMS: n.Int("rms", 0) != 0}
	},
	"int_concat": func(l *lowerer, n *ir.Node, s *bundle.Step) {
		s.Op, s.In = bundle.OpConcat, l.ins(n, len(n.Inputs))
		s.Concat = &bundle.Concat{Axis: n.Int("axis", 0), Shift: n.Ints("shift")}
		for _, m := range n.Ints("mult") {
			s.Concat.Mult = append(s.Concat.Mult, int32(m))
		}
	},
	"int_slice": func(l *lowerer, n *ir.Node, s *bundle.Step) {
		s.Op, s.In = bundle.OpSlice, l.ins(n, 1)
		s.Slice = &bundle.Slice{Axis: n.Int("axis", 0), Start: n.Int("start", 0), Step: n.Int("step", 1)}
	},
	"int_transpose": func(l *lowerer, n *ir.Node, s *bundle.Step) {
		s.Op, s.In = bundle.OpTranspose, l.ins(n, 1)
	},
	"int_regroup": func(l *lowerer, n *ir.Node, s *bundle.Step) {
		s.Op, s.In = bundle.OpRegroup, l.ins(n, 1)
	},
	"int_gather": func(l *lowerer, n *ir.Node, s *bundle.Step) {
		s.Op, s.In = bundle.OpGather, l.ins(n, 1)
		s.Gather = &bundle.Gather{Index: l.tensor(n.Inputs[1]), Pad: l.tensor(n.Input(2))}
	},
	"int_softmax": func(l *lowerer, n *ir.Node, s *bundle.Step) {
		s.Op, s.In = bundle.OpSoftmax, l.ins(n, 1)
		s.Softmax = &bundle.Softmax{Exp: l.tensor(n.Inputs[1]), Mult: int32(n.Int("mult", 0)), Shift: n.Int("shift", 0)}
	},
	"int_side": func(l *lowerer, n *ir.Node, s *bundle.Step) {
		s.Op, s.Side = bundle.OpSide, &bundle.Side{At: n.Int("at", 0), Zero: l.tensor(n.Inputs[1]), Mult: l.tensor(n.Inputs[2]), Shift: n.Int("shift", 0)}
	},
	"int_constant": func(l *lowerer, n *ir.Node, s *bundle.Step) {
		s.Op, s.Constant = bundle.OpConstant, &bundle.Constant{Data: l.tensor(n.Inputs[0])}
	},
	"int_flatten": func(l *lowerer, n *ir.Node, s *bundle.Step) {
		s.Op, s.In = bundle.OpFlatten, l.ins(n, 1)
	},
}
