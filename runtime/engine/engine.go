// Package engine runs a bundle's program fast, with the bits of refexec.
//
// Bind fits a program to this machine once: it packs the weights for the CPU's
// kernels and lays the values out in one arena. The Engine that comes out is
// immutable and shared; each worker has a Context with memory of its own, and
// running a flow allocates nothing.
//
// Four things make it fast without changing a bit. Only the positions that an
// output depends on are computed: how many rows of each value a flow of some
// length needs is propagated backwards through the steps (need.go). Gated
// layers work on planes, most paths' channel-major, everything else
// on time-major rows; a value has the form that its readers want
// (layout.go). A gated layer that is only read by a maximum is pooled as it
// is computed. A token table that is stored narrow is widened once, by Bind (fold.go).
//
// The package never imports refexec: they meet in tests and in verify.
package engine

import (
	"fmt"
	"slices"
	"unsafe"

	"nepcoc/runtime/bundle"
	"nepcoc/runtime/cpu"
	"nepcoc/runtime/internal/kernels/conv"
	"nepcoc/runtime/internal/kernels/gated"
	"nepcoc/runtime/internal/kernels/rescale"
)

// Options choose how a program is bound.
type Options struct {
	// Kernel names the kernel path: purego, avx2, avx512, neon or dotprod. Empty: what
	// the environment variable NEPCOC_KERNEL says, else the fastest that this
	// CPU has. Gated layers
	// that avx512 has no kernels for run on avx2.
	Kernel string
	// Winners makes Context.Maximum say where maxima over positions were found. Such an engine keeps what maxima are
	// taken of in memory, so it is slower; bits are the same.
	Winners bool
	// Own are values of constant steps of which each context has its own copy, which Context.Set changes.
	Own []int
}

// Engine is a program bound to this machine. It may be shared by goroutines.
type Engine struct {
	p    *bundle.Program
	path cpu.Path
	// planes is the path of what works on planes: gated layers, and what writes and reads them.
	planes cpu.Path
	ops    []op
	lay    *layout
	// pooled[v] is set where value v exists only inside the maximum that reads it.
	pooled []bool
	// sizes of a context's scratch
	cols, gatedChannels int
	convs               []*conv.Layer
	needs               []func(rows int, need []int) // by step
	stream              *streamPlan                  // nil: streams buffer their tokens
	constants           []unsafe.Pointer             // by value: the data of a constant, nobody writes to them
	winners             bool
	own                 []int // see Options
}

// op is one step bound: it computes the wanted rows of a value from those of others.
type op struct {
	name string
	out  int // value
	run  func(c *Context)
}

// Bind validates p and binds it. p must not be changed afterwards; its large
// tensors are used in place.
func Bind(p *bundle.Program, o Options) (*Engine, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	path, err := choosePath(o.Kernel)
	if err != nil {
		return nil, err
	}
	e := arrange(fold(p, path, false), path, o.Winners)
	p, e.own = e.p, o.Own
	e.constants = make([]unsafe.Pointer, len(p.Values))
	for _, v := range p.Values {
		e.cols = max(e.cols, rescale.Pad(v.Cols), chunk)
	}
	for i := range p.Steps {
		s := &p.Steps[i]
		if s.Op == bundle.OpConstant {
			e.constants[s.Out] = elements(&p.Tensors[s.Constant.Data])
		}
		run, err := binders[s.Op](e, s)
		if err != nil {
			return nil, fmt.Errorf("step %d (%s %q): %w", i, s.Op, s.Name, err)
		}
		e.needs = append(e.needs, needOf(p, s))
		if run != nil {
			e.ops = append(e.ops, op{s.Name, s.Out, run})
		}
	}
	return e, nil
}

// arrange decides all that follows from a program and a kernel path, on any machine: which
// values have which form, what runs in chunks, and where everything lies.
func arrange(p *bundle.Program, path cpu.Path, winners bool) *Engine {
	e := &Engine{p: p, path: path, planes: path, winners: winners}
	if path == cpu.AVX512 && !fits(p, path) {
		e.planes = cpu.AVX2
	}
	e.pooled = make([]bool, len(p.Values))
	if !winners {
		e.pooled = pooledValues(p)
	}
	e.lay = newLayout(p, e.planes, e.pooled)
	e.stream = planStream(e)
	e.lay.settle(p, e.stream)
	return e
}

// Description is how a program runs on a kernel path.
type Description struct {
	Kernel string `json:"kernel"`
	// Arena is the bytes of working memory of a worker: Engine.ArenaBytes.
	Arena int `json:"arena_bytes"`
	// Tile is the number of positions of the local region that are computed at a time, 0 for all.
	Tile int `json:"tile"`
	// Streams says that flows are computed as their packets come, State the bytes that
	// each then keeps.
	Streams bool `json:"streams"`
	State   int  `json:"state_bytes"`
}

// Describe says how a valid program runs on the kernel path of a name, whether or not this machine has it.
func Describe(p *bundle.Program, kernel string) (Description, error) {
	path, err := cpu.Parse(kernel)
	if err != nil {
		return Description{}, err
	}
	return arrange(fold(p, path, true), path, false).Describe(), nil
}

// Describe says how the program runs.
func (e *Engine) Describe() Description {
	return Description{e.KernelPath(), e.ArenaBytes(), e.Tile(), e.Streams(), e.StateBytes()}
}

func choosePath(name string) (cpu.Path, error) {
	if name == "" {
		return cpu.Choose()
	}
	have := cpu.Available()
	if i := slices.IndexFunc(have, func(p cpu.Path) bool { return p.String() == name }); i >= 0 {
		return have[i], nil
	}
	return 0, fmt.Errorf("kernel path %q: this CPU or build does not have it; it has %v", name, have)
}

// fits tells whether path has kernels for all gated layers, which share planes.
func fits(p *bundle.Program, path cpu.Path) bool {
	for i := range p.Steps {
		if s := &p.Steps[i]; s.Op == bundle.OpGatedConv {
			if params, err := gated.FromStep(p, s); err != nil || !gated.Fits(&params, path) {
				return false
			}
		}
	}
	return true
}

// KernelPath names the kernels in use.
func (e *Engine) KernelPath() string { return e.path.String() }

// StepNames are the names of the steps that Context.Profile accounts for. Steps that are
// computed inside others have none of their own.
func (e *Engine) StepNames() []string {
	names := make([]string, len(e.ops))
	for i, o := range e.ops {
		names[i] = o.name
	}
	return names
}

// ArenaBytes is the working memory of one context.
func (e *Engine) ArenaBytes() int { return e.lay.bytes }

// Tile is the number of positions of the local region that are computed at a time, 0 for all: what
// the program's plan says, where the region runs in tiles at all.
func (e *Engine) Tile() int {
	if e.stream == nil {
		return 0
	}
	return e.stream.tile
}

// binders bind a step; a nil run means that there is nothing to do at run time.
var binders map[string]func(*Engine, *bundle.Step) (func(*Context), error)

func init() {
	binders = map[string]func(*Engine, *bundle.Step) (func(*Context), error){
		bundle.OpTokenTable: bindTokenTable,
		bundle.OpGatedConv:  bindGated,
		bundle.OpConv:       bindConv,
		bundle.OpPool:       bindPool,
		bundle.OpWindowPool: bindWindowPool,
		bundle.OpLut:        bindLut,
		bundle.OpAdd:        bindAdd,
		bundle.OpMul:        bindMul,
		bundle.OpLayerNorm:  bindLayerNorm,
		bundle.OpConcat:     bindConcat,
		bundle.OpSlice:      bindSlice,
		bundle.OpFlatten:    bindReshaped,
		bundle.OpRegroup:    bindReshaped,
		bundle.OpTranspose:  bindTranspose,
		bundle.OpGather:     bindGather,
		bundle.OpConstant:   bindReshaped,
		bundle.OpSoftmax:    bindSoftmax,
		bundle.OpSide:       bindSide,
	}
}

// readers are the steps that read each value.
func readers(p *bundle.Program) [][]*bundle.Step {
	r := make([][]*bundle.Step, len(p.Values))
	for i := range p.Steps {
		s := &p.Steps[i]
		for j, v := range s.In {
			if !slices.Contains(s.In[:j], v) {
				r[v] = append(r[v], s)
			}
		}
	}
	return r
}

// producers are the steps that compute each value; nil for one that is folded away.
func producers(p *bundle.Program) []*bundle.Step {
	r := make([]*bundle.Step, len(p.Values))
	for i := range p.Steps {
		r[p.Steps[i].Out] = &p.Steps[i]
	}
	return r
}

// pooledValues finds the int16 results of gated layers that nothing but one
// maximum reads.
func pooledValues(p *bundle.Program) []bool {
	pooled, read, made := make([]bool, len(p.Values)), readers(p), producers(p)
	for v := range p.Values {
		pooled[v] = made[v] != nil && made[v].Op == bundle.OpGatedConv && p.Values[v].DType == bundle.I16 &&
			len(read[v]) == 1 && read[v][0].Op == bundle.OpPool && read[v][0].Pool.Kind == "max"
	}
	for _, o := range p.Outputs {
		pooled[o.Value] = false
	}
	return pooled
}
