// Package refexec runs a bundle's program one scalar at a time, straight from
// package arith: it is the specification of the program in code.
//
// Every position of every value is computed and kept as int32; nothing is
// skipped, tiled, packed or shared. The fast engine is right where it equals
// this executor. The package must never import runtime/internal/kernels.
package refexec

import (
	"fmt"

	"nepcoc/runtime/arith"
	"nepcoc/runtime/bundle"
)

// Executor runs one program. It is immutable apart from Trace, so that Run may
// be called from several goroutines as long as Trace is nil.
type Executor struct {
	// Trace, if set, is called after each step with the value that it
	// computed: rows*cols elements, row-major, to be read only.
	Trace func(value int, data []int32)

	p     *bundle.Program
	steps []step
}

// state is what one Run works on.
type state struct {
	tokens []int32
	valid  int
	vals   [][]int32 // by value; nil until computed
}

// step computes one value, whose storage is out.
type step func(s *state, out []int32)

// New prepares the execution of p. It fails where p is not a valid program.
func New(p *bundle.Program) (*Executor, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	x := &Executor{p: p}
	for i := range p.Steps {
		s := &p.Steps[i]
		build, ok := builders[s.Op]
		if !ok {
			return nil, fmt.Errorf("step %d (%s %q): unknown operator", i, s.Op, s.Name)
		}
		x.steps = append(x.steps, build(program{p}, s))
	}
	return x, nil
}

// Run executes the program. tokens has the program's full length; the first
// valid of them are the flow's own, the rest padding. Ids beside the sequence stand behind them. The result has one slice
// per output of the program.
func (x *Executor) Run(tokens []int32, valid int) ([][]int32, error) {
	if err := x.p.CheckInput(tokens, valid); err != nil {
		return nil, err
	}
	s := &state{tokens: tokens, valid: valid, vals: make([][]int32, len(x.p.Values))}
	for i, f := range x.steps {
		v := x.p.Steps[i].Out
		out := make([]int32, x.p.Values[v].Rows*x.p.Values[v].Cols)
		f(s, out)
		s.vals[v] = out
		if x.Trace != nil {
			x.Trace(v, out)
		}
	}
	res := make([][]int32, len(x.p.Outputs))
	for i, o := range x.p.Outputs {
		res[i] = s.vals[o.Value]
	}
	return res, nil
}

// builders turn a step of the program into code, once per program.
var builders = map[string]func(program, *bundle.Step) step{
	bundle.OpTokenTable: tokenTable,
	bundle.OpGatedConv:  gatedConv,
	bundle.OpConv:       conv,
	bundle.OpPool:       pool,
	bundle.OpWindowPool: windowPool,
	bundle.OpLut:        lut,
	bundle.OpAdd:        add,
	bundle.OpMul:        mul,
	bundle.OpLayerNorm:  layerNorm,
	bundle.OpConcat:     concat,
	bundle.OpSlice:      slice,
	bundle.OpFlatten:    flatten,
	bundle.OpTranspose:  transpose,
	bundle.OpRegroup:    flatten,
	bundle.OpGather:     gather,
	bundle.OpConstant:   constant,
	bundle.OpSoftmax:    softmax,
	bundle.OpSide:       side,
}

// program adds typed access to a program's values and tensors.
type program struct{ *bundle.Program }

func (p program) out(s *bundle.Step) bundle.Value       { return p.Values[s.Out] }
func (p program) in(s *bundle.Step, i int) bundle.Value { return p.Values[s.In[i]] }

// ints is tensor i as int32 elements.
func (p program) ints(i int) []int32 { return p.Tensors[i].Ints() }

// saturate clamps v to the element type d.
func saturate(v int64, d bundle.DType) int32 {
	lo, hi := d.Range()
	return arith.Clamp(v, lo, hi)
}
