// Package verify walks the chain of truth for a bundle and says where it
// first departs:
//
//	golden vectors = reference executor = engine      to the bit
//	float model ≈ integer program                      within what the user allows
//	float model ≈ outputs stored by another runtime    within Tolerance
//
// The float model is the same import and float passes that compiled it. Whatever
// was asked for becomes a Check, and a report is good if all of them held:
// what could not be compared is either an error or listed as not compared.
package verify

import (
	"cmp"
	"crypto/ed25519"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"nepcoc/compiler"
	"nepcoc/compiler/calibrate"
	"nepcoc/compiler/onnx"
	"nepcoc/compiler/robust"
	"nepcoc/internal/files"
	"nepcoc/passes"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/engine"
	"nepcoc/runtime/refexec"
	"nepcoc/runtime/traffic"
	"nepcoc/runtime/trust"
)

// Options say what to verify a bundle with. All but Bundle may be empty; the
// fewer there are, the shorter the chain.
type Options struct {
	Bundle string
	Model  string // the .onnx it was compiled from
	Pcap   string // capture to run
	// PcapMore are captures that are read behind Pcap, as one with it.
	PcapMore []string
	View     bundle.ViewOverride
	Labels   string // CSV of the capture's labels
	// Foreign are captures of other traffic than the model was made for: how well is it told apart?
	Foreign []string
	Tensors string // .npz of arrays, instead of a capture
	// MinAgreement is the least share of equal verdicts of float (or stored outputs,
	// where there is no model) and integer.
	MinAgreement float64
	// Tolerance is how far the float model may be from stored outputs, see Stored; 0:
	// DefaultTolerance.
	Tolerance float64
	// PartialLabels is satisfied with a label file that has fewer than half of the flows.
	PartialLabels bool
	// Random is the number of random inputs that compare engine and reference,
	// spread over all lengths.
	Random int
	// RefInputs bounds the given inputs that do so, evenly spread; 0: all. The reference takes a hundred times as long as the engine.
	RefInputs int
	// Explain measures explanations on the capture's flows: the bytes that they name must count for at least MinFaithful times
	// as much as random ones.
	Explain     bool
	MinFaithful float64
	// Robust measures how many verdicts change when bytes and packets of the inputs do, on at most RobustFlows of them
	// (0: all), drawn by Seed.
	Robust      bool
	RobustFlows int
	// RobustIfAny is satisfied where no flow can be changed.
	RobustIfAny bool
	Seed        uint64
	// Trusted are keys of which one must have signed the bundle; none: whoever made it.
	Trusted  []ed25519.PublicKey
	Progress func(stage string, done, total int)
}

// Report is what was found.
type Report struct {
	Bundle string        `json:"bundle"`
	Digest string        `json:"digest"`
	Kernel string        `json:"kernel"`
	Checks []Check       `json:"checks"`
	Output []OutputStats `json:"outputs,omitempty"`
	Steps  []StepError   `json:"steps,omitempty"`
	// StepInputs is how many of the inputs the steps' errors stand on.
	StepInputs int `json:"step_inputs,omitempty"`
	// Worst names the step at which most of the quantization error enters.
	Worst string `json:"worst_step,omitempty"`
	Flows int    `json:"flows,omitempty"`
	// Explained is by output; only where asked for.
	Explained []Explained `json:"explained,omitempty"`
	// Robust is how many verdicts change with their inputs, where that was asked for.
	Robust *robust.Report `json:"robust,omitempty"`
	// Known says, of a capture, what gets no label, by output.
	Known []KnownStats `json:"known,omitempty"`
	// NotCompared lists the links of the chain that nothing was given for.
	NotCompared []string `json:"not_compared,omitempty"`
	Notes       []string `json:"notes,omitempty"`

	// Evidence is what the figures were made of, for those who show more of it.
	Evidence Evidence `json:"-"`
}

// Evidence is what was run and what came out.
type Evidence struct {
	Bundle *bundle.Bundle
	Engine *engine.Engine
	Set    *calibrate.Set // nil without inputs
	// Integer and Float are rows of logits and of the model's values: [output][input]. Float is nil without a model.
	Integer [][][]int32
	Float   [][][]float32
}

// Check is one thing that was asked for, and whether it held.
type Check struct {
	Name   string `json:"name"`
	Cases  int    `json:"cases"`
	Held   int    `json:"held"`
	Unit   string `json:"unit"` // what is counted
	OK     bool   `json:"ok"`
	Detail string `json:"detail,omitempty"` // the bound, or the first failure
}

// OutputStats compares float and integer for one output.
type OutputStats struct {
	Name string            `json:"name"`
	Kind bundle.OutputKind `json:"kind"`
	calibrate.Comparison
	// Stored compares with the outputs stored in an .npz, where there are any.
	Stored *Stored `json:"stored,omitempty"`
	// Float and Integer are judged against labels, where there are any.
	Float   *Score `json:"float,omitempty"`
	Integer *Score `json:"integer,omitempty"`
}

// OK says that every check held.
func (r *Report) OK() bool {
	return !slices.ContainsFunc(r.Checks, func(c Check) bool { return !c.OK })
}

// verifier holds what the links share.
type verifier struct {
	Options
	b      *bundle.Bundle
	ref    *refexec.Executor
	eng    *engine.Engine
	set    *calibrate.Set
	report Report
}

// Run verifies. The error is for what could not be done at all; what was done
// and failed is in the report.
func Run(o Options) (*Report, error) {
	v := &verifier{Options: o}
	if v.Tolerance == 0 {
		v.Tolerance = DefaultTolerance
	}
	if v.Model != "" && v.Pcap == "" && v.Tensors == "" {
		return nil, fmt.Errorf("%s: a model needs inputs to compare on: give a capture or arrays", v.Model)
	}
	if v.Explain && v.Pcap == "" {
		return nil, errExplain
	}
	if err := v.open(); err != nil {
		return nil, err
	}
	v.golden()
	front, err := v.front()
	if err != nil {
		return nil, err
	}
	if err := v.load(); err != nil {
		return nil, err
	}
	v.exact()
	if err := v.known(); err != nil {
		return nil, err
	}
	if v.set == nil {
		v.missing("float = integer", "no model and no inputs given")
		return &v.report, nil
	}
	if err := v.compare(front); err != nil {
		return nil, err
	}
	if v.Explain {
		if err := v.explained(); err != nil {
			return nil, err
		}
	}
	if v.Robust {
		if err := v.robust(); err != nil {
			return nil, err
		}
	}
	return &v.report, nil
}

// robust changes the inputs, and the packets of captures that can be read once more.
func (v *verifier) robust() (err error) {
	o := robust.Options{Seed: v.Seed, Flows: v.RobustFlows, Progress: func(done, total int) { v.progress("changing flows", done, total) }}
	if v.Pcap != "" {
		o.Captures = append([]string{v.Pcap}, v.PcapMore...)
		for _, path := range o.Captures {
			if !files.Again(path) {
				o.Captures, o.NoCaptures = nil, files.Show(path)+" comes by once"
				break
			}
		}
	}
	b := *v.b
	b.Manifest.View, _ = v.View.Of(b.Manifest.View)
	if v.report.Robust, err = robust.Measure(&b, v.eng, v.set, o); err != nil {
		return err
	}
	if !v.RobustIfAny && !slices.ContainsFunc(v.report.Robust.Outputs, func(o robust.Output) bool { return len(o.Rows) > 0 }) {
		v.nothing("robustness", "no flow could be changed: "+strings.Join(v.report.Robust.NotMeasured, "; "))
	}
	return nil
}

func (v *verifier) progress(stage string, done, total int) {
	if v.Progress != nil {
		v.Progress(stage, done, total)
	}
}

func (v *verifier) check(c Check) { v.report.Checks = append(v.report.Checks, c) }

// nothing fails what was asked for and could be done of nothing.
func (v *verifier) nothing(name, why string) {
	v.check(Check{Name: name, Unit: "flows", Detail: why})
}

// missing notes a link that nothing was given for, or an output that has nothing for it.
func (v *verifier) missing(link, reason string) {
	v.report.NotCompared = append(v.report.NotCompared, link+": "+reason)
}

func (v *verifier) open() error {
	var err error
	if v.b, err = files.Read(v.Bundle, bundle.Read); err != nil {
		return err
	}
	if v.ref, err = refexec.New(v.b.Program.Judged()); err != nil {
		return fmt.Errorf("%s: %w", v.Bundle, err)
	}
	if v.eng, err = engine.Bind(v.b.Program.Judged(), engine.Options{}); err != nil {
		return fmt.Errorf("%s: %w", v.Bundle, err)
	}
	v.report = Report{Bundle: v.Bundle, Digest: v.b.Digest.String(), Kernel: v.eng.KernelPath()}
	v.report.Evidence.Bundle, v.report.Evidence.Engine = v.b, v.eng
	if len(v.Trusted) > 0 {
		v.signature()
	}
	return nil
}

// signature holds the bundle to the trusted keys and its own time, as the agent would.
func (v *verifier) signature() {
	c := Check{Name: "signature", Cases: 1, Unit: "bundle", Held: 1, OK: true}
	p := trust.Policy{Keys: v.Trusted, Now: time.Now()}
	if err := p.Accept(v.b.Signature, v.b.Digest); err != nil {
		c.Held, c.OK, c.Detail = 0, false, strings.ReplaceAll(err.Error(), "\n", "; ")
	} else {
		c.Detail = "by " + bundle.Fingerprint(v.b.Signature.Key)
	}
	v.check(c)
}

// golden runs the bundle's own vectors through both executors.
func (v *verifier) golden() {
	c := Check{Name: "golden vectors", Cases: len(v.b.Golden), Unit: "cases", OK: true}
	ctx := v.eng.NewContext()
	var difference string
	var err error
	c.Held, difference, err = classify.Prove(v.b, func(tokens []int32, valid int, out [][]int32) error {
		got, err := v.both(ctx, tokens, valid)
		for i := range got {
			copy(out[i], got[i])
		}
		return err
	})
	switch {
	case err != nil:
		c.OK, c.Detail = false, err.Error()
	case difference != "":
		c.OK, c.Detail = false, difference
	}
	v.check(c)
}

// add counts a case; the first that fails is the check's detail.
func (c *Check) add(err error, format string, args ...any) {
	if err == nil {
		c.Held++
		return
	}
	if c.OK {
		c.OK, c.Detail = false, fmt.Sprintf(format, args...)+": "+err.Error()
	}
}

// both runs reference and engine on one input and returns the reference's
// logits, or an error where they differ.
func (v *verifier) both(ctx *engine.Context, tokens []int32, valid int) ([][]int32, error) {
	want, err := v.ref.Run(tokens, valid)
	if err != nil {
		return nil, err
	}
	got := make([][]int32, len(want))
	for i := range got {
		got[i] = make([]int32, len(want[i]))
	}
	if err := ctx.Run(tokens, valid, got); err != nil {
		return nil, err
	}
	return want, differ("reference", want, "engine", got)
}

func differ(an string, a [][]int32, bn string, b [][]int32) error {
	for o := range a {
		for k := range a[o] {
			if a[o][k] != b[o][k] {
				return fmt.Errorf("output %d, logit %d: %s %d, %s %d", o, k, an, a[o][k], bn, b[o][k])
			}
		}
	}
	return nil
}

// load reads the inputs.
func (v *verifier) load() error {
	var err error
	switch {
	case v.Pcap != "":
		c, err := classify.Contract(v.b)
		if err != nil {
			return fmt.Errorf("%s: %w", v.Bundle, err)
		}
		view, notes := v.View.Of(v.b.Manifest.View)
		v.report.Notes = append(v.report.Notes, notes...)
		if v.set, err = calibrate.FromCapture(append([]string{v.Pcap}, v.PcapMore...), c, view); err != nil {
			return err
		}
		if v.Labels != "" {
			if err := v.labels(); err != nil {
				return err
			}
		}
	case v.Tensors != "":
		if v.set, err = calibrate.ForBundle(v.Tensors, v.b); err != nil {
			return err
		}
	default:
		return nil
	}
	v.report.Notes = append(v.report.Notes, v.set.Notes...)
	v.report.Flows = len(v.set.Inputs)
	v.report.Evidence.Set = v.set
	return nil
}

// labels finds the classes of each flow in the label file. Accuracy over a few flows of
// many is no success unless that was asked for.
func (v *verifier) labels() error {
	found, err := v.set.Label(v.Labels, v.b.Manifest.Outputs)
	if err != nil {
		return err
	}
	for _, l := range found {
		c := Check{Name: "labels", Cases: l.Flows, Held: l.Labelled, Unit: "flows", OK: v.PartialLabels || 2*l.Labelled >= l.Flows && l.NoClass == 0}
		if l.Output != "" {
			c.Name += v.of(l.Output)
		}
		switch {
		case c.OK:
		case l.NoClass > 0:
			c.Detail = fmt.Sprintf("%d with a label that is no class; --partial-labels is satisfied with the others", l.NoClass)
		default:
			c.Detail = "fewer than half; --partial-labels is satisfied with that"
		}
		v.check(c)
		v.report.Notes = append(append(v.report.Notes, l.Notes...), l.Why...)
	}
	return nil
}

// exact compares engine and reference on the inputs and on random tokens of
// every length.
func (v *verifier) exact() {
	check := func(name string, list []calibrate.Input, number func(i int) int) {
		n := len(list)
		errs := make([]error, n)
		var mu sync.Mutex
		done := 0
		calibrate.Parallel(n, func() (func(i int) error, error) {
			ctx := v.eng.NewContext()
			return func(i int) error {
				_, errs[i] = v.both(ctx, list[i].Tokens, list[i].Valid)
				mu.Lock()
				defer mu.Unlock()
				done++
				v.progress("reference = engine: "+name, done, n)
				return nil
			}, nil
		})
		c := Check{Name: name, Cases: n, Unit: "cases", OK: true}
		for i, err := range errs {
			c.add(err, "input %d (%d tokens)", number(i), list[i].Valid)
		}
		v.check(c)
	}
	if v.set != nil {
		at := calibrate.Spread(len(v.set.Inputs), v.RefInputs)
		check("reference = engine, flows", v.set.At(at), func(i int) int { return at[i] })
	}
	const random = "reference = engine, random tokens"
	if v.Random == 0 {
		v.missing(random, "--random 0")
		return
	}
	p := v.b.Program
	rng := rand.New(rand.NewPCG(7, 11))
	list := make([]calibrate.Input, v.Random)
	for i := range list {
		tokens := make([]int32, p.Length)
		for k := range tokens {
			tokens[k] = int32(rng.IntN(p.Vocab))
		}
		for range p.Sides {
			tokens = append(tokens, int32(rng.IntN(bundle.SideIDs)))
		}
		list[i] = calibrate.Input{Tokens: tokens, Valid: 1 + i%p.Length}
	}
	check(random, list, func(i int) int { return i })
}

// front is the float half: the model's graph after the float passes.
func (v *verifier) front() (*floatModel, error) {
	if v.Model == "" {
		return nil, nil
	}
	v.progress("reading the model", 0, 0)
	opts := passes.Options{Features: v.b.Manifest.Model.Features}
	if c, err := classify.Contract(v.b); err == nil && c.Encoding != traffic.EncodingToken {
		opts.ByteEncoding = string(c.Encoding) // as the compile understood the model's input
	}
	opts.Sides = compiler.StoredSides(v.b.Manifest.Model.Sides)
	g, info, found, err := compiler.Front(v.Model, onnx.Options{Sizes: v.b.Manifest.Model.Sizes}, opts)
	if err != nil {
		return nil, err
	}
	if want := v.b.Manifest.Model.SHA256; info.SHA256 != want {
		return nil, fmt.Errorf("%s is not the model that %s was compiled from: its SHA-256 is %.12s..., the bundle's %.12s...; compile again, or verify with %s",
			v.Model, v.Bundle, info.SHA256, want, v.b.Manifest.Model.File)
	}
	return &floatModel{g, cmp.Or(found.Local.Original, g)}, nil
}
