// Package classify turns tokens into verdicts with a bundle: it runs the
// program and reads label, score and margin off its integer logits.
//
// Scores and thresholds are integer arithmetic, too (arith.Softmax, arith.Sigmoid): they are the same
// on every machine. The only floating point is one multiplication per number that is shown.
package classify

import (
	"fmt"

	"nepcoc/runtime/bundle"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/engine"
	"nepcoc/runtime/explain"
	"nepcoc/runtime/flow"
	"nepcoc/runtime/refexec"
	"nepcoc/runtime/traffic"
	"nepcoc/runtime/verdict"
)

// An Executor computes the logits of one input, one slice per output of the judged program: see bundle.Program.Judged.
type Executor interface {
	Run(tokens []int32, valid int, out [][]int32) error
}

// Engine returns an executor that uses the fast kernels of this machine.
func Engine(b *bundle.Bundle) (Executor, error) {
	e, err := engine.Bind(b.Program.Judged(), engine.Options{})
	if err != nil {
		return nil, err
	}
	return e.NewContext(), nil
}

// Reference returns the slow executor that defines the result.
func Reference(b *bundle.Bundle) (Executor, error) {
	x, err := refexec.New(b.Program.Judged())
	if err != nil {
		return nil, err
	}
	return reference{x}, nil
}

type reference struct{ x *refexec.Executor }

func (r reference) Run(tokens []int32, valid int, out [][]int32) error {
	res, err := r.x.Run(tokens, valid)
	for i := range res {
		copy(out[i], res[i])
	}
	return err
}

// Classifier runs one bundle. It is not for concurrent use.
type Classifier struct {
	Heads []Head
	// Capacity is the number of flows that Flows holds at once; 0: the table's default.
	Capacity int
	// Seed is the Community ID's.
	Seed uint16

	// MinPayload is the number of bytes of payload below which Fill makes a record insufficient; 0: none is.
	MinPayload int

	source *verdict.Source
	exec   Executor
	why    *explain.Runner // nil unless verdicts are explained
	ranges []explain.Range
	logits [][]int32 // of the heads, then what belonging is computed from
	res    []Result

	belongs []belongs
}

// New prepares classification with an executor.
func New(b *bundle.Bundle, exec Executor) *Classifier {
	c := &Classifier{Heads: Heads(b), MinPayload: b.Manifest.LeastPayload(), exec: exec, source: verdict.NewSource(b.Name(), b.Digest.Short(), b.Manifest.Model.Version)}
	for i := range c.Heads {
		c.logits = append(c.logits, make([]int32, len(c.Heads[i].probs)))
	}
	for i := range b.Program.Belonging {
		k := b.Program.Belonging[i].Output
		c.belongs = append(c.belongs, newBelongs(b, i))
		c.Heads[k].Known = b.Manifest.Outputs[k].Known
		c.logits = append(c.logits, make([]int32, c.belongs[i].dims))
	}
	c.res = make([]Result, len(c.Heads))
	return c
}

// Explained prepares classification that says what verdicts stand on: see Why.
func Explained(b *bundle.Bundle, x *explain.Explainer) *Classifier {
	r := x.NewRunner()
	c := New(b, r)
	c.why = r
	return c
}

// MaxWhy is how many ranges of bytes a verdict names.
const MaxWhy = 3

// Why fills in what the verdicts of the last Run stand on, in a record that Fill has filled: the ranges with the largest shares. It is
// called within Ready, with the trail of the flow's table; without Explained it does nothing.
func (c *Classifier) Why(r *verdict.Record, f *flow.Flow, t *explain.Trail) error {
	if c.why == nil {
		return nil
	}
	for i := range r.Verdicts {
		v := &r.Verdicts[i]
		logits := c.logits[v.Head]
		what, ok := c.Heads[v.Head].Explained(logits)
		if !ok {
			continue
		}
		weights, err := c.why.Quick(v.Head, what, logits)
		if err != nil {
			return fmt.Errorf("explain: %w", err)
		}
		c.ranges = t.AppendRanges(c.ranges[:0], f, weights, explain.QuickThreshold)
		for k := range c.ranges[:min(MaxWhy, len(c.ranges))] {
			w := &c.ranges[k]
			v.Why = append(v.Why, verdict.Why{Fact: w.Fact, Packet: w.Packet, Side: w.Side, Offset: w.Offset, Stream: w.Stream, Length: w.Length, Share: w.Share})
		}
	}
	return nil
}

// SetUnknown makes t, in 0..1, the threshold of every output that can have one, instead of the
// bundle's.
func (c *Classifier) SetUnknown(t float64) {
	for i := range c.Heads {
		c.Heads[i].SetUnknown(t)
	}
}

// Run classifies one input. The results, and Logits, are valid until the next
// call.
func (c *Classifier) Run(tokens []int32, valid int) ([]Result, error) {
	if err := c.exec.Run(tokens, valid, c.logits); err != nil {
		return nil, fmt.Errorf("classify: %w", err)
	}
	for i := range c.Heads {
		c.Heads[i].Decide(c.logits[i], &c.res[i])
	}
	for i := range c.belongs {
		g := &c.belongs[i]
		g.judge(c.logits[len(c.Heads)+i], &c.Heads[g.output], &c.res[g.output])
	}
	return c.res, nil
}

// Logits are the integer logits of the last Run, one slice per head.
func (c *Classifier) Logits() [][]int32 { return c.logits[:len(c.Heads)] }

// Distances are how far the input of the last Run is from each prototype of a head (see bundle.Belonging); nil where it has none.
func (c *Classifier) Distances(head int) []int64 {
	for i := range c.belongs {
		if g := &c.belongs[i]; g.output == head {
			return g.distances(c.logits[len(c.Heads)+i])
		}
	}
	return nil
}

// Fill writes the verdicts of the last Run into a record, one for each head that makes
// some; with logits, they too. A record of less payload than MinPayload is insufficient: its verdicts give no label.
func (c *Classifier) Fill(r *verdict.Record, logits bool) {
	r.Seed, r.Source, r.Verdicts = c.Seed, c.source, r.Verdicts[:0]
	insufficient := r.Payload < c.MinPayload
	if insufficient {
		r.Marks |= flow.MarkInsufficient
	}
	for i := range c.Heads {
		h, res := &c.Heads[i], &c.res[i]
		if h.Kind == bundle.KindValues {
			continue
		}
		v := r.Next()
		v.Head, v.Output, v.Class = i, h.Name, res.Class
		v.Score, v.Margin, v.Unknown = real(res.Score), real(res.Margin), res.Unknown
		v.Insufficient = insufficient
		if v.Placed = h.Known != nil; v.Placed {
			v.Belonging = real(res.Belonging)
		}
		if v.Multi = h.Kind == bundle.KindLabels; v.Multi {
			for _, l := range res.Given {
				if insufficient {
					break
				}
				v.Given = append(v.Given, verdict.Given{Label: h.Labels[l.Index], Class: l.Index, Score: real(l.Score), AlertID: h.FirstAlertID + l.Index})
			}
		} else {
			v.Label, v.AlertID = h.Labels[res.Class], h.FirstAlertID+res.Class
		}
		if logits {
			v.Logits = append(v.Logits, c.logits[i]...)
			for _, x := range c.logits[i] {
				v.Scaled = append(v.Scaled, float64(x)*h.Scale)
			}
		}
	}
}

// real is a probability out of 1/2^24.
func real(p int32) float64 { return float64(p) / bundle.ProbabilityOne }

// Contract is the traffic contract that a bundle's model was trained with.
func Contract(b *bundle.Bundle) (traffic.Contract, error) {
	if b.Manifest.Model.Features != nil {
		return traffic.Contract{}, fmt.Errorf("the bundle's model %s reads features, not bytes: it can't read packets; give it arrays (.npz) with %q, or train a model on the bytes of packets",
			b.Manifest.Model.File, b.Manifest.Model.TokenInput)
	}
	if b.Manifest.Contract.YAML == "" {
		return traffic.Contract{}, fmt.Errorf("the bundle has no traffic contract, so it can't read packets: compile %s again with --contract", b.Manifest.Model.File)
	}
	c, err := traffic.Parse("the bundle's traffic contract", []byte(b.Manifest.Contract.YAML))
	if err != nil {
		return c, err
	}
	if h := c.Hash(); h != b.Manifest.Contract.Hash {
		return c, fmt.Errorf("the bundle's traffic contract has hash %.12s, its manifest says %.12s: compile the model again", h, b.Manifest.Contract.Hash)
	}
	return c, c.MatchModel(b.Program.Length, b.Program.Vocab, b.Program.Sides)
}

// ScopeOf is what tells flows apart in a view.
func ScopeOf(v *bundle.View) flow.Scope {
	return flow.Scope{VLANs: v.VLANs, Interfaces: v.Interfaces}
}

// FlowOptions are those by which a flow table makes what a bundle's model reads: its
// contract and view.
func FlowOptions(b *bundle.Bundle) (flow.Options, error) {
	if err := CheckPackets(b); err != nil {
		return flow.Options{}, err
	}
	contract, err := Contract(b)
	if err != nil {
		return flow.Options{}, err
	}
	return OptionsFor(contract, b.Manifest.View)
}

// OptionsFor are the options of a flow table for a contract and a view.
func OptionsFor(c traffic.Contract, v bundle.View) (flow.Options, error) {
	enc, err := traffic.NewEncoder(c)
	return flow.Options{Encoder: enc, Tunnels: v.Tunnels, Scope: ScopeOf(&v), Active: v.ActiveTimeout}, err
}

// Flows classifies every flow of a source, in the order in which they become
// ready: emit is called once per flow with a record that is reused. The
// counters say what became of every packet.
func (c *Classifier) Flows(b *bundle.Bundle, src capture.Source, logits bool, emit func(*verdict.Record) error) (*flow.Counters, error) {
	opt, err := FlowOptions(b)
	if err != nil {
		return nil, err
	}
	opt.Capacity = c.Capacity
	trail := explain.NewTrail(opt.Encoder, false)
	if c.why != nil {
		opt.Took = trail.Took
	}
	var r verdict.Record
	var failed error
	opt.Ready = func(f *flow.Flow) {
		defer trail.Drop(f.Seq)
		if failed != nil {
			return
		}
		r.FromFlow(f)
		if _, failed = c.Run(f.Tokens, f.Valid); failed != nil {
			return
		}
		c.Fill(&r, logits)
		if failed = c.Why(&r, f, trail); failed != nil {
			return
		}
		failed = emit(&r)
	}
	in, err := flow.NewInput(opt)
	if err != nil {
		return nil, err
	}
	if err := in.Run(src); failed == nil {
		failed = err
	}
	return in.Counters(), failed
}
