// Package compiler turns a trained ONNX model and calibration data into a
// bundle.
//
// Compile is the whole way: import (compiler/onnx), the table of passes,
// lowering (backends/program), golden vectors, the manifest. Front is its
// first, float half, which verification needs by itself.
package compiler

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"nepcoc/backends"
	"nepcoc/backends/program"
	"nepcoc/compiler/calibrate"
	"nepcoc/compiler/dataset"
	"nepcoc/compiler/onnx"
	"nepcoc/internal/files"
	"nepcoc/ir"
	"nepcoc/passes"
	"nepcoc/passes/canonical"
	"nepcoc/passes/fuse"
	"nepcoc/passes/legalize"
	"nepcoc/passes/localize"
	"nepcoc/passes/quantize"
	"nepcoc/passes/tile"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/teach"
	"nepcoc/runtime/traffic"
)

// Options are what a compile is asked for.
type Options struct {
	Model string // .onnx file
	// Import is what the model's file leaves open: sizes of dynamic dimensions.
	Import onnx.Options
	Calib  string // capture, or .npz of arrays
	// CalibMore are captures that are read behind Calib, as one with it.
	CalibMore []string
	Target    string // name of a target; empty: bf3
	// Name is what events call the bundle; empty: the model's file. ModelVersion is whose version
	// of the model it is; empty: what the model says of itself.
	Name, ModelVersion string
	// Contract is the traffic contract; nil picks the built-in that the
	// model's vocabulary belongs to.
	Contract *traffic.Contract
	// Features: the model's numbers are features of a flow, not bytes. Numbers that can't be bytes
	// are taken as features by themselves; see domain.go.
	Features bool
	// View is what is read of captures, for calibration here and wherever the bundle runs.
	View bundle.View
	// Outputs say what the model's outputs mean; those that aren't named here are what the
	// graph says (see Output). Labels are names, one list per output that makes verdicts and has
	// none in Outputs, in the model's order.
	Outputs []Output
	Labels  [][]string
	// CalibLabels is a CSV of the calibration capture's labels: scores are
	// then calibrated (see scores.go). Unknown are the scores below which verdicts are
	// unknown, by output; "" stands for all outputs that aren't named.
	CalibLabels string
	Unknown     map[string]float64
	// MinPayload is the manifest's: see bundle.Manifest.
	MinPayload int
	// KnownPass is the share of known traffic that is to belong to the classes: see known.go. 0: bundles tell nothing of that.
	KnownPass float64
	// ByteEncoding, Method, TableStep, MaxDisagreement: see passes.Options;
	// DefaultMaxDisagreement is what the command line uses.
	// TableStep 0 leaves the choice to the quantize pass.
	ByteEncoding    string
	Method          string
	TableStep       int
	MaxDisagreement float64
	// DumpIR, where set, is a folder that receives the graph after each pass.
	DumpIR string
	// Progress, where set, is told what is going on: a stage, and how much of
	// it is done (total 0: not known).
	Progress func(stage string, done, total int)

	wrong []onnx.Problem // see Find
	// contractFile is the file that Contract was read from; see Find.
	contractFile string
}

// DefaultMaxDisagreement is the share of measured inputs whose verdict may
// change by quantization: more bits are spent until it holds, and a compile that can't
// keep it fails.
const DefaultMaxDisagreement = 0.01

// maxRelError is the error of the logits, relative to their spread, above
// which more bits are spent even though no verdict changed.
const maxRelError = 0.03

// goldenVectors is the number of calibration inputs that a bundle carries the
// results of; random ones are added.
const goldenVectors = 12

// Result is a compiled bundle and how it came about.
type Result struct {
	Bundle *bundle.Bundle
	Graph  *ir.Graph // integer graph, as planned
	Info   *onnx.Info
	// Inputs say how the model's inputs are read, Outputs what its outputs mean.
	Inputs  []Input
	Outputs []bundle.OutputInfo
	Report  passes.Report
	Target  *backends.Target
	Cost    []backends.StepCost // of a full input
	// Known says of each output what it knows, where that was asked for.
	Known []*teach.KnownReport
	Notes []string // remarks; what the figures do not show stands with them in the manifest
	Unit  string   // what one input of the calibration data is called: flows, samples
	Time  time.Duration
}

// frontTable is the float half of the compiler. The order: canonical comes
// first, since everything else matches its operators only; legalize
// follows localize, after which no mask arithmetic is left; fuse comes last, since a
// token table and the reductions must be found on single operators.
var frontTable = []passes.Pass{canonical.Pass, localize.Pass, legalize.Pass, fuse.Pass}

// backTable is the integer half. Quantize needs the fused graph, where each
// node rounds once; tile needs final types.
var backTable = []passes.Pass{quantize.Pass, tile.Pass}

// Passes is the whole table, in order.
func Passes() []passes.Pass { return append(append([]passes.Pass(nil), frontTable...), backTable...) }

// Front imports a model and runs the float passes: the result computes what
// the model computes, from tokens.
func Front(model string, in onnx.Options, opts passes.Options) (*ir.Graph, *onnx.Info, passes.Report, error) {
	g, info, src, err := importFile(model, in)
	if err != nil {
		return nil, nil, passes.Report{}, err
	}
	m, err := passes.NewManager(frontTable)
	if err != nil {
		return nil, nil, passes.Report{}, err
	}
	ctx := &passes.Context{Options: opts}
	g, err = m.Run(ctx, g)
	if err != nil {
		return nil, nil, passes.Report{}, src.refused(err)
	}
	return g, info, ctx.Report, nil
}

// Compile compiles a model.
func Compile(ctx context.Context, o Options) (*Result, error) {
	start := time.Now()
	c := &compilation{Options: o, ctx: ctx}
	if err := c.run(); err != nil {
		return nil, err
	}
	c.res.Time, c.res.Unit = time.Since(start), c.unit()
	return &c.res, nil
}

type compilation struct {
	Options
	ctx      context.Context
	res      Result
	contract traffic.Contract
	outputs  []bundle.OutputInfo
	// noContract: the bundle can't be fed packets.
	noContract bool
	arrays     bool // the calibration data are arrays, not a capture
	calib      *calibrate.Set
	parts      calibrate.Parts // of calib
	meter      *meter
	checking   bool // random inputs, no bundle
	// passOptions are those that the passes ran with.
	passOptions passes.Options
	src         *source
	settled     bool // settle has spoken
	numbers     bool // an input holds numbers, which may be bytes or features
	// dataErr is what is wrong with the calibration data, or with what lies beside the model.
	dataErr error
}

// run compiles. Where the model is refused, the error has everything that stands against
// it, and against the files beside it, the most decisive first.
func (c *compilation) run() error {
	err := c.compile()
	var r *onnx.Refusal
	if errors.As(c.tooLargeErr(err), &r) {
		c.explain(r)
		if !c.settled {
			r.Problems = append(r.Problems, c.wrong...)
		}
		decisive(r.Problems)
		return r
	}
	return err
}

func (c *compilation) compile() error {
	if c.Target == "" {
		c.Target = "bf3"
	}
	var err error
	if c.res.Target, err = backends.LookupTarget(c.Target); err != nil {
		return err
	}
	c.stage("reading the model")
	g, info, src, err := importFile(c.Model, c.Import)
	if err != nil {
		return err
	}
	c.res.Info, c.src, c.numbers = info, src, numberInput(g) != nil
	c.res.Notes = append(c.res.Notes, info.Notes...)
	pctx := &passes.Context{Options: passes.Options{
		Method: c.Method, TableStep: c.TableStep,
		MaxDisagreement: c.MaxDisagreement, MaxRelError: maxRelError,
		Target: passes.Machine{L2: c.res.Target.L2, Share: c.res.Target.Share()},
	}}
	if err := c.inputDomain(g, &pctx.Options); err != nil {
		return err
	}
	c.passOptions = pctx.Options
	pctx.Calibrate = func(g *ir.Graph, observe func(*ir.Value, *ir.Tensor)) error {
		// Errors of the calibration data are no fault of the model or of the
		// pass that asked for them: they are reported as they are.
		c.dataErr = c.calibrate(pctx, g, observe)
		return c.dataErr
	}
	if !c.checking {
		pctx.Measure = func(g *ir.Graph) (passes.Fidelity, error) {
			c.stage("quantizing")
			if err := c.ctx.Err(); err != nil {
				return passes.Fidelity{}, err
			}
			// Here, and not where they were computed: where the inputs that were observed show
			// the same, the operator is named.
			if err := c.meter.check(g); err != nil {
				c.dataErr = inFile(c.Model, err)
				return passes.Fidelity{}, c.dataErr
			}
			return c.meter.measure(g, c.info(pctx))
		}
	}
	m, err := passes.NewManager(Passes())
	if err != nil {
		return err
	}
	m.DumpDir = c.DumpIR
	c.stage("simplifying the graph")
	if g, err = m.Run(pctx, g); err != nil {
		if c.dataErr != nil {
			return c.dataErr
		}
		if m := (*quantize.Missed)(nil); errors.As(err, &m) {
			return c.missed(m)
		}
		return src.refused(err)
	}
	c.stage("writing the bundle")
	p, err := program.Lower(g, c.info(pctx))
	if err != nil {
		return inFile(c.Model, err)
	}
	c.res.Graph, c.res.Report = g, pctx.Report
	c.res.Cost = backends.Estimate(p, c.res.Target, p.Length)
	return c.assemble(p)
}

// info is what the program has to know of the local region.
func (c *compilation) info(pctx *passes.Context) program.Info {
	l := pctx.Report.Local
	return program.Info{Vocab: l.Vocab, Left: l.Left, Right: l.Right}
}

// calibrate reads the calibration data once the model's input is known, keeps
// float results of one part to measure plans against, and shows inputs of the other
// to observe.
func (c *compilation) calibrate(pctx *passes.Context, g *ir.Graph, observe func(*ir.Value, *ir.Tensor)) error {
	local := pctx.Report.Local
	var err error
	if c.arrays = c.checking; !c.checking {
		c.arrays, err = calibrate.IsArrays(c.Calib)
	}
	c.settled = true
	c.res.Inputs = c.inputs(local)
	if refused := c.settle(g, local); refused != nil || err != nil {
		return cmp.Or(refused, err)
	}
	if c.checking {
		c.calib = random(local)
		return calibrate.Observe(g, c.calib.Inputs, observe)
	}
	c.stage("reading calibration data")
	if c.arrays {
		if len(c.CalibMore) > 0 {
			return fmt.Errorf("%s holds arrays: it is read alone", files.Show(c.Calib))
		}
		if c.calib, err = calibrate.FromArrays(c.Calib, local, c.reader()); err == nil {
			c.calib.NameLabels(c.outputs)
		}
	} else {
		c.calib, err = calibrate.FromCapture(append([]string{c.Calib}, c.CalibMore...), c.contract, c.View)
	}
	if err != nil {
		return err
	}
	inputs, err := c.split(cmp.Or(local.Original, g))
	if err != nil {
		return err
	}
	return calibrate.Observe(g, inputs, observe)
}

// reader is the model as one who reads token sets; nil without a contract.
func (c *compilation) reader() *dataset.Reader {
	if c.noContract {
		return nil
	}
	name := cmp.Or(c.contractFile, c.contract.Name)
	return &dataset.Reader{Source: dataset.Source{Contract: c.contract, View: c.View}, Name: "the model", Args: dataset.Args(name, c.View)}
}

// chooseContract settles the traffic contract and checks it against the model.
func (c *compilation) chooseContract(l passes.Local) error {
	if l.Features != nil {
		c.noContract = true
		return nil
	}
	if c.Contract != nil {
		c.contract = *c.Contract
	} else {
		found := false
		for _, name := range traffic.Names() {
			b, err := traffic.Named(name)
			if err == nil && string(b.Encoding) == l.Encoding && b.Vocab() == l.Vocab && len(l.Sides) == 0 {
				if b.Length != l.Length {
					b.Length, b.Name = l.Length, fmt.Sprintf("%s-%d", name, l.Length)
				}
				c.contract, found = b, true
				c.res.Notes = append(c.res.Notes, fmt.Sprintf("no contract given: built-in %s with a length of %d", name, l.Length))
				break
			}
		}
		if !found {
			if c.arrays {
				c.res.Notes = append(c.res.Notes, fmt.Sprintf("no traffic contract: no built-in has %d token ids%s, so the bundle classifies arrays but no packets; give the contract that the model was trained with (--contract FILE)", l.Vocab, map[bool]string{true: " and numbers beside them"}[len(l.Sides) > 0]))
				c.noContract = true
				return nil
			}
			if n := l.SideCount(); n > 0 {
				return fmt.Errorf("the model reads %d numbers beside its tokens, and no built-in traffic contract gives any: write one that does (nepcoc contract init; numbers: [length, direction, gap] of so many packets), and give it (--contract FILE); or calibrate with arrays", n)
			}
			return fmt.Errorf("no built-in traffic contract has %d token ids (encoding %s): give the one the model was trained with (--contract FILE)", l.Vocab, l.Encoding)
		}
	}
	err := c.contractFits(l)
	if err != nil && c.contractFile != "" {
		err = fmt.Errorf("%s: %w", files.Show(c.contractFile), err)
	}
	return err
}

// contractFits says why the contract can't feed the model.
func (c *compilation) contractFits(l passes.Local) error {
	if string(c.contract.Encoding) != l.Encoding {
		return fmt.Errorf("the model's input is %s values, the traffic contract gives %s: give the contract the model was trained with (--contract FILE)", l.Encoding, c.contract.Encoding)
	}
	if l.Masked && l.MaskInput == "" && c.contract.Pad != l.PadToken {
		return fmt.Errorf("the model masks token %d, the traffic contract pads with %d: give the contract the model was trained with (--contract FILE)", l.PadToken, c.contract.Pad)
	}
	return c.contract.MatchModel(l.Length, l.Vocab, l.SideCount())
}

// unit is what one input of the calibration data is called.
func (c *compilation) unit() string {
	if c.arrays {
		return "samples"
	}
	return "flows"
}

func (c *compilation) stage(name string) { c.progress(name, 0, 0) }

func (c *compilation) progress(name string, done, total int) {
	if c.Progress != nil {
		c.Progress(name, done, total)
	}
}

// inFile puts the model's name in front of an error.
func inFile(model string, err error) error { return fmt.Errorf("%s: %w", model, err) }
