// Package passes runs the compiler's passes: one table, one driver.
//
// A pass turns a Graph into a Graph. The driver checks the order of the table
// before anything runs, checks the graph's invariants after each pass, takes
// the time, writes the textual IR of every stage where asked to, and names the
// pass that failed, panicked or left a broken graph behind.
//
// The table itself, with the reasons for its order, is the compiler's. This
// package must not import compiler or backends.
package passes

import (
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"nepcoc/ir"
	"nepcoc/runtime/arith"
	"nepcoc/runtime/bundle"
)

// Pass is one rewrite of the graph.
type Pass struct {
	Name string
	Doc  string // one sentence: what the pass is for

	// Requires lists passes that must be in the table before this one.
	Requires []Order
	// After lists passes that must not be in the table after this one.
	After []Order

	// Run owns the graph it is given: it may change and return it or return
	// a new one. Constant tensors may be shared and must not be written to.
	Run func(*Context, *ir.Graph) (*ir.Graph, error)
}

// Order is one ordering constraint and its reason.
type Order struct {
	Pass string
	Why  string
}

// Context is what passes get to know besides the graph, and where they leave
// what they found out.
type Context struct {
	Options   Options
	Calibrate Calibrator
	// Measure runs an integer graph over the inputs that are kept for
	// measuring; nil skips every choice that depends on it.
	Measure func(g *ir.Graph) (Fidelity, error)
	Report  Report
}

// Options are the user's choices that passes honour.
type Options struct {
	// ByteEncoding says how a numeric input stands for bytes: see traffic.Encoding.
	// Empty: "byte" for integer inputs, "byte/255" for float.
	ByteEncoding string
	// Features are the ranges of an input of features, one per position; nil: it holds tokens or bytes.
	Features []bundle.Range
	// Sides gives the grids of a model's input of n numbers beside the sequence; nil: whole numbers are their own ids.
	Sides func(input string, n int) ([]arith.Grid, error)
	// Method forces one calibration method; empty: the one that measures best.
	Method string
	// TableStep makes the 8-bit rows of a token table multiples of it, so that
	// a large table compresses; 0 leaves the choice to quantize.
	TableStep int
	// MaxDisagreement is the share of the measured inputs whose verdict may
	// differ between float and integer: a bound, which quantize fails on. MaxRelError is the
	// root mean square error of the logits relative to their spread above
	// which it spends more bits, where they help.
	MaxDisagreement, MaxRelError float64
	// Target is the machine that tile plans for.
	Target Machine
}

// Machine is what tile has to know of a target.
type Machine struct {
	L2 int // bytes of second-level cache per core
	// Share is the bytes of caches that a core has for itself when all are busy: its
	// own, and its part of what they share.
	Share int
}

// Fidelity compares an integer graph with the float graph on the inputs that
// are kept for measuring.
type Fidelity struct {
	Samples  int
	Changed  int     // verdicts (argmax) that differ; of the worst output
	Cosine   float64 // mean cosine of the logits
	RelError float64 // root mean square error of the logits / their spread over the samples
	MaxError float64 // largest error of a logit, in the model's units
	Blind    bool    // what agrees, agrees by luck: the logits have nothing to do with the model's
}

// Agreement is the share of equal verdicts, 1 where nothing was measured.
func (f Fidelity) Agreement() float64 {
	if f.Samples == 0 {
		return 1
	}
	return float64(f.Samples-f.Changed) / float64(f.Samples)
}

// A Calibrator runs representative inputs through a float graph and calls
// observe for every value that is computed. It is nil where a compile has no
// calibration data.
type Calibrator func(g *ir.Graph, observe func(*ir.Value, *ir.Tensor)) error

// Report is what the passes found out, for the compile report and for later
// passes.
type Report struct {
	Passes []Timing
	Local  Local
	// Ranges are those that the model gives its values where it was quantised already, by name; nil
	// for a float model.
	Ranges map[string][2]float64
	// Quantize says which plan was chosen and what else was tried.
	Quantize Quantized
	// Notes are remarks for the user, in the order they were made.
	Notes []string
}

// Note adds a remark for the user.
func (r *Report) Note(format string, args ...any) {
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
}

// Timing is the cost of one pass.
type Timing struct {
	Pass  string
	Time  time.Duration
	Nodes int // after the pass
}

// Local describes the local region: everything from the tokens to the first
// reductions over positions.
type Local struct {
	// Whole says that the region has no bounded receptive field (the model
	// flattens its positions, or the field is larger than the sequence): every
	// token is needed for any result.
	Whole bool
	// Left and Right are the receptive field: what is pooled at position p
	// depends on the tokens [p*Stride-Left, p*Stride+Right] only. Stride is
	// the largest where a model has several pools.
	Left, Right, Stride int
	// Masked says that the reductions run over the valid prefix.
	Masked   bool
	Length   int    // tokens of a full input
	Vocab    int    // token ids
	Encoding string // see traffic.Encoding
	// PadToken is, of a model that is masked but has no mask input, the token
	// that it masks.
	PadToken int
	// Features, of a model that reads features of a flow, are what their ids stand for, per
	// position. Original is then the model as it reads the features themselves, in canonical operators.
	Features []bundle.Range
	Original *ir.Graph
	// Sides are the inputs of numbers beside the sequence, in the order of their ids.
	Sides []bundle.SideInput
	// TokenInput and MaskInput are the model's own names of the inputs.
	TokenInput, MaskInput string
	// TokenType and MaskType are their types after the canonical pass.
	TokenType, MaskType ir.Type
}

// SideCount is how many numbers stand beside the sequence.
func (l *Local) SideCount() (n int) {
	for _, s := range l.Sides {
		n += len(s.Grids)
	}
	return n
}

// Quantized is the outcome of the quantize pass.
type Quantized struct {
	Method   string
	Wide     []string // values that keep 16 bits
	Fidelity Fidelity
	// Tolerated: one verdict more changed than MaxDisagreement allows, of so few that
	// it may be chance.
	Tolerated bool
	Tried     []Tried
}

// Tried is one plan that was measured: how many values kept 16 bits, and the result.
type Tried struct {
	Method   string
	Wide     int
	Fidelity Fidelity
}

// Manager runs a table of passes.
type Manager struct {
	passes []Pass
	// DumpDir, where set, receives the textual IR of every stage as
	// NN-pass.ir and the constants that are too long for a text.
	DumpDir string
}

// NewManager checks the order of the table.
func NewManager(table []Pass) (*Manager, error) {
	index := make(map[string]int)
	for i, p := range table {
		if p.Name == "" || p.Run == nil {
			return nil, fmt.Errorf("BUG: pass %d of the table has no name or no Run", i)
		}
		if _, twice := index[p.Name]; twice {
			return nil, fmt.Errorf("BUG: pass %s is in the table twice", p.Name)
		}
		index[p.Name] = i
	}
	var errs []error
	for i, p := range table {
		for _, o := range p.Requires {
			if j, ok := index[o.Pass]; !ok || j > i {
				errs = append(errs, fmt.Errorf("pass %s requires %s before it: %s", p.Name, o.Pass, o.Why))
			}
		}
		for _, o := range p.After {
			if j, ok := index[o.Pass]; ok && j > i {
				errs = append(errs, fmt.Errorf("pass %s must run after %s: %s", p.Name, o.Pass, o.Why))
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return &Manager{passes: table}, nil
}

// Error says which pass failed. Its text is the pass's own error where the
// pass refused the model, since the user doesn't care which pass it was.
type Error struct {
	Pass  string
	Err   error
	Stack []byte // where it panicked
}

func (e *Error) Error() string {
	if e.Stack != nil {
		return fmt.Sprintf("BUG: pass %s: %v", e.Pass, e.Err)
	}
	return fmt.Sprintf("pass %s: %v", e.Pass, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// Format prints the stack of a panic with %+v.
func (e *Error) Format(s fmt.State, verb rune) {
	fmt.Fprint(s, e.Error())
	if verb == 'v' && s.Flag('+') && e.Stack != nil {
		fmt.Fprintf(s, "\n%s", e.Stack)
	}
}

// Run runs the table on g, which belongs to the manager from then on.
func (m *Manager) Run(ctx *Context, g *ir.Graph) (*ir.Graph, error) {
	if err := ir.Check(g); err != nil {
		return nil, fmt.Errorf("graph before the first pass: %w", err)
	}
	dump, err := newDumper(m.DumpDir)
	if err != nil {
		return nil, err
	}
	if err := dump.write("input", g); err != nil {
		return nil, err
	}
	for _, p := range m.passes {
		start := time.Now()
		next, err := runOne(p, ctx, g)
		if err != nil {
			return nil, err
		}
		g = next
		ctx.Report.Passes = append(ctx.Report.Passes, Timing{Pass: p.Name, Time: time.Since(start), Nodes: len(g.Nodes)})
		if err := dump.write(p.Name, g); err != nil {
			return nil, err
		}
		if err := ir.Check(g); err != nil {
			return nil, &Error{Pass: p.Name, Err: fmt.Errorf("BUG: broken graph: %w", err)}
		}
	}
	return g, nil
}

func runOne(p Pass, ctx *Context, g *ir.Graph) (out *ir.Graph, err error) {
	defer func() {
		if r := recover(); r != nil {
			out, err = nil, &Error{Pass: p.Name, Err: fmt.Errorf("panic: %v", r), Stack: debug.Stack()}
		}
	}()
	out, err = p.Run(ctx, g)
	if err != nil {
		return nil, &Error{Pass: p.Name, Err: err}
	}
	if out == nil {
		return nil, &Error{Pass: p.Name, Err: errors.New("BUG: no graph and no error")}
	}
	return out, nil
}
