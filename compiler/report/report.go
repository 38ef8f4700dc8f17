// Package report makes of a verification one report for everyone who has to decide about a model or to mend it: as text, as JSON, and
// as a single HTML file with its figures, which asks nothing of the network.
//
// It computes no verdict of its own: what float and integer say is verify's evidence, drift and leaks are those packages', costs the backends'. Every
// figure says on how many flows it stands; what there is nothing for is listed as missing, with the reason.
package report

import (
	"fmt"
	"math"
	"slices"
	"time"

	"nepcoc/backends"
	"nepcoc/compiler/calibrate"
	"nepcoc/compiler/dataset"
	"nepcoc/compiler/explain"
	"nepcoc/compiler/labels"
	"nepcoc/compiler/robust"
	"nepcoc/compiler/verify"
	"nepcoc/internal/files"
	"nepcoc/internal/version"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/drift"
	"nepcoc/runtime/engine"
)

// Version is that of the JSON form.
const Version = 1

// Options say what is reported. Verify.Pcap is to be given; a model and labels make the report longer. Where Verify.RefInputs is 0, 256 hold.
type Options struct {
	Verify verify.Options
	// Target is the machine that costs are estimated for; "": the bundle's.
	Target string
}

// Report is everything that is shown.
type Report struct {
	Version  int      `json:"nepco_report"`
	Tool     string   `json:"tool"`
	Bundle   Bundle   `json:"bundle"`
	Captures []string `json:"captures"`
	Labels   string   `json:"labels,omitempty"`
	Flows    int      `json:"flows"`
	// OK says that all checks held.
	OK      bool               `json:"ok"`
	Checks  []verify.Check     `json:"checks"`
	Sees    *Sees              `json:"sees,omitempty"`
	Outputs []Output           `json:"outputs"`
	Steps   []verify.StepError `json:"steps,omitempty"`
	Worst   string             `json:"worst_step,omitempty"`
	// StepInputs is how many flows the errors of steps stand on.
	StepInputs int            `json:"step_inputs,omitempty"`
	Robust     *robust.Report `json:"robust,omitempty"`
	Lint       *dataset.Lint  `json:"lint,omitempty"`
	// Drift compares the captures' flows with calibration's; nil where the bundle does not say what those were like.
	Drift *drift.Comparison `json:"drift,omitempty"`
	Cost  *Cost             `json:"cost"`
	// Missing lists what the report has nothing on, and why.
	Missing []Missing `json:"missing,omitempty"`
	Notes   []string  `json:"notes,omitempty"`
}

// Bundle says what is reported on.
type Bundle struct {
	File   string `json:"file"`
	Name   string `json:"name"`
	Digest string `json:"digest"`
	Model  string `json:"model"`
	Tool   string `json:"compiled_by"`
	Kernel string `json:"kernel"` // that computed the figures; every other gives the same
	Signer string `json:"signed_by,omitempty"`
}

// Missing is a part of the report that is not there.
type Missing struct {
	What string `json:"what"`
	Why  string `json:"why"`
}

// Sees is what of the traffic the model is shown.
type Sees struct {
	Contract string `json:"contract"`
	Hash     string `json:"hash"`
	// Words says it in sentences; Choices are all fields of the contract.
	Words   []string `json:"words"`
	Choices []Choice `json:"choices"`
	// Figures is what the contract makes of these captures.
	Figures *explain.Report `json:"figures"`
}

// Choice is a field of a contract.
type Choice struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	Doc   string `json:"doc"`
}

// Cost is an estimate for a target: sums of measured cycles per unit of work, without cache misses or contention.
type Cost struct {
	Target string  `json:"target"`
	Doc    string  `json:"doc"`
	Cores  int     `json:"cores"`
	GHz    float64 `json:"ghz"`
	// Tokens is the length of a full flow, Mean that of these flows; the times are those of one flow on one core.
	Tokens     int                 `json:"tokens"`
	MeanTokens float64             `json:"mean_tokens,omitempty"`
	Full       float64             `json:"full_us"`
	Mean       float64             `json:"mean_us,omitempty"`
	MACs       int64               `json:"macs"`
	Weights    int64               `json:"weight_bytes"`
	Steps      []backends.StepCost `json:"steps"`
	// Runs says what memory the engine takes there.
	Runs engine.Description `json:"runs"`
}

// refFlows bounds the flows that the reference executor runs: it takes longer than all the rest, and a verdict in which the engine departs
// from it is verify's to find, which runs it on all.
const refFlows = 256

// Make verifies a bundle and reports on it. The error is for what could not be done at all; checks that failed are in the report.
func Make(o Options) (*Report, error) {
	paths := append([]string{o.Verify.Pcap}, o.Verify.PcapMore...)
	for _, p := range append(slices.Clone(paths), o.Verify.Labels) {
		if p == "" || files.Again(p) {
			continue
		}
		f, err := files.Open(p)
		if err != nil {
			return nil, err
		}
		f.Close()
		return nil, fmt.Errorf("%s: a report reads its captures and labels several times: give a regular file", files.Show(p))
	}
	if o.Verify.RefInputs == 0 {
		o.Verify.RefInputs = refFlows
	}
	o.Verify.RobustIfAny = true // what nothing could be measured of is listed
	v, err := verify.Run(o.Verify)
	if err != nil {
		return nil, err
	}
	e := &v.Evidence
	b := e.Bundle
	r := &Report{
		Version: Version, Tool: version.Version, Captures: paths, Labels: o.Verify.Labels, Flows: v.Flows, OK: v.OK(), Checks: v.Checks,
		Steps: v.Steps, Worst: v.Worst, Robust: v.Robust, Notes: v.Notes,
		Bundle: Bundle{File: o.Verify.Bundle, Name: b.Name(), Digest: v.Digest, Model: b.Manifest.Model.File, Tool: b.Manifest.Tool, Kernel: v.Kernel},
	}
	if b.Signature != nil {
		r.Bundle.Signer = bundle.Fingerprint(b.Signature.Key)
	}
	if len(v.Steps) > 0 {
		r.StepInputs = v.StepInputs
	}
	if err := r.sections(v, o); err != nil {
		return nil, err
	}
	if r.Cost, err = cost(b, e, o.Target); err != nil {
		return nil, err
	}
	if err := r.explain(v, o.Verify); err != nil {
		return nil, err
	}
	if err := r.drift(b, o.Verify); err != nil {
		return nil, err
	}
	if r.Sees, err = sees(b, paths, o.Verify.View); err != nil {
		return nil, err
	}
	return r, r.lint(b, o.Verify, paths)
}

// sections fills in the outputs, and what is missing.
func (r *Report) sections(v *verify.Report, o Options) error {
	res, err := results(&v.Evidence)
	if err != nil {
		return err
	}
	for i := range v.Output {
		out := newOutput(v, i, res)
		for k := range v.Known {
			if v.Known[k].Output != out.Name {
				continue
			}
			if out.NoLabel = v.Known[k].Withheld; v.Known[k].NoBelonging {
				continue
			}
			out.Known = &v.Known[k]
			if s := out.Known; s.Foreign != nil && s.Score == nil && s.Belonging == nil {
				r.missing("how well foreign traffic is told apart", fmt.Sprintf("fewer than %d known flows, or foreign ones, have enough payload for a verdict, or verdicts have no score", calibrate.LeastFlows))
			}
		}
		if out.Known == nil && len(o.Verify.Foreign) > 0 {
			r.missing("how well foreign traffic is told apart", fmt.Sprintf("output %s gives %s, which have no belonging", out.Name, out.Kind))
		}
		r.Outputs = append(r.Outputs, out)
	}
	if o.Verify.Model == "" {
		r.missing("float against integer, error per step", "no model given (--model)")
	}
	if o.Verify.Labels == "" {
		r.missing("accuracy, classes, calibration, coverage, leaks", "no labels given (--labels)")
	}
	if r.Robust == nil {
		r.missing("robustness", "not asked for")
	}
	return nil
}

// results are a classifier's of each input: what the agent would say.
func results(e *verify.Evidence) ([][]classify.Result, error) {
	cls := classify.New(e.Bundle, e.Engine.NewContext())
	all := make([][]classify.Result, len(e.Set.Inputs))
	for i := range e.Set.Inputs {
		res, err := cls.Run(e.Set.Inputs[i].Tokens, e.Set.Inputs[i].Valid)
		if err != nil {
			return nil, err
		}
		all[i] = slices.Clone(res)
		for k := range all[i] {
			all[i][k].Given = nil // the next run writes there
		}
	}
	return all, nil
}

func (r *Report) missing(what, why string) { r.Missing = append(r.Missing, Missing{what, why}) }

// lint looks for what gives labels away in the captures.
func (r *Report) lint(b *bundle.Bundle, o verify.Options, paths []string) error {
	if o.Labels == "" {
		return nil
	}
	c, err := classify.Contract(b)
	if err != nil {
		return err
	}
	view, _ := o.View.Of(b.Manifest.View)
	l, err := labels.ReadSome(o.Labels)
	if err != nil {
		return err
	}
	set, err := dataset.Read(paths, dataset.Options{Source: dataset.Source{Contract: c, View: view}, Labels: []*labels.Labels{l}})
	if err != nil {
		return err
	}
	if r.Lint, err = set.Lint(dataset.DefaultBounds); err != nil {
		r.missing("leaks", err.Error())
	}
	return nil
}

// cost estimates what a flow takes on a target.
func cost(b *bundle.Bundle, e *verify.Evidence, target string) (*Cost, error) {
	if target == "" {
		target = b.Manifest.Target.Name
	}
	t, err := backends.LookupTarget(target)
	if err != nil {
		return nil, err
	}
	p := b.Program
	c := &Cost{Target: t.Name, Doc: t.Doc, Cores: t.Cores, GHz: t.GHz, Tokens: p.Length, Steps: backends.Estimate(p, t, p.Length)}
	if c.Runs, err = engine.Describe(p, t.Kernel); err != nil {
		return nil, err
	}
	for _, s := range c.Steps {
		c.Full, c.MACs, c.Weights = c.Full+s.Microseconds, c.MACs+s.MACs, c.Weights+s.WeightBytes
	}
	tokens := 0
	for i := range e.Set.Inputs {
		tokens += e.Set.Inputs[i].Valid
	}
	c.MeanTokens = float64(tokens) / float64(len(e.Set.Inputs))
	for _, s := range backends.Estimate(p, t, max(1, int(math.Round(c.MeanTokens)))) {
		c.Mean += s.Microseconds
	}
	return c, nil
}

// sees says what the contract shows of the captures.
func sees(b *bundle.Bundle, paths []string, override bundle.ViewOverride) (*Sees, error) {
	c, err := classify.Contract(b)
	if err != nil {
		return nil, err
	}
	view, _ := override.Of(b.Manifest.View)
	src, err := capture.OpenAll(paths)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	s := &Sees{Contract: c.Name, Hash: c.Hash(), Words: words(&c)}
	for _, ch := range c.Choices() {
		s.Choices = append(s.Choices, Choice{ch.Name, ch.Value, ch.Doc})
	}
	s.Figures, err = explain.Explain(src, explain.Options{Contract: c, View: view})
	return s, err
}

// clock writes a flow's time as every output of nepcoc does: UTC.
func clock(ns int64) string { return time.Unix(0, ns).UTC().Format("2006-01-02T15:04:05.000000Z") }

// FirstFailed says which check did not hold.
func (r *Report) FirstFailed() string {
	for _, c := range r.Checks {
		if !c.OK {
			return fmt.Sprintf("%s (%d of %d %s): %s", c.Name, c.Held, c.Cases, c.Unit, c.Detail)
		}
	}
	return ""
}
