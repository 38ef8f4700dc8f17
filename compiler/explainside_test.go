package compiler_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	"nepcoc/compiler"
	explainer "nepcoc/compiler/explain"
	"nepcoc/compiler/verify"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/explain"
	"nepcoc/runtime/flow"
	"nepcoc/runtime/refexec"
)

// Numbers beside the sequence are explained like bytes: each weighs what the reference executor says that the margin falls by where
// it is 0, as of a packet that did not come, and is named by its fact and packet. Lines of run and agent name them, too.
func TestExplainSides(t *testing.T) {
	c := besideContract(t)
	_, _, res := compile(t, compiler.Options{Model: sidesModel, Contract: &c, Calib: testbedCalib, MaxDisagreement: 0.03})
	b := res.Bundle
	opt, err := classify.FlowOptions(b)
	if err != nil {
		t.Fatal(err)
	}
	x, err := explain.New(b, opt.Encoder)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := refexec.New(b.Program)
	if err != nil {
		t.Fatal(err)
	}
	r, head, trail := x.NewRunner(), &classify.Heads(b)[0], explain.NewTrail(opt.Encoder, false)
	opt.Took = trail.Took
	weighed, named, quick := 0, 0, 0
	opt.Ready = func(f *flow.Flow) {
		defer trail.Drop(f.Seq)
		if f.Seq%7 != 0 {
			return
		}
		logits := func(tokens []int32) []int32 {
			out, err := ref.Run(tokens, f.Valid)
			if err != nil {
				t.Fatal(err)
			}
			return slices.Clone(out[0])
		}
		out := x.Engine().NewOutput()
		if err := r.Run(f.Tokens, f.Valid, out); err != nil {
			t.Fatal(err)
		}
		whole := logits(f.Tokens)
		what, _ := head.Explained(whole)
		weights, err := r.Exact(0, what, whole)
		if err != nil || len(weights) != len(f.Tokens) {
			t.Fatal(err, len(weights))
		}
		for i := c.Length; i < len(f.Tokens); i++ {
			without := slices.Clone(f.Tokens)
			without[i] = 0
			want := max(0, float64(what.Margin(whole)-what.Margin(logits(without))))
			if weights[i] != want {
				t.Fatalf("flow %d, number %d (%d): weight %g, want %g", f.Seq+1, i-c.Length, f.Tokens[i], weights[i], want)
			}
			if want > 0 {
				weighed++
			}
		}
		for _, i := range explain.Named(weights, explain.Threshold) {
			if f.Tokens[i] == 0 {
				t.Fatalf("flow %d: %d is named, and is 0", f.Seq+1, i)
			}
		}
		sum := 0.0
		for _, w := range weights {
			sum += w
		}
		for _, g := range trail.Ranges(f, weights, explain.Threshold) {
			if g.Fact == "" {
				continue
			}
			k := slices.Index([]string{"length[1]", "length[2]", "length[3]", "length[4]", "length[5]", "length[6]", "gap[1]", "gap[2]", "gap[3]", "gap[4]", "gap[5]", "gap[6]"}, g.Fact)
			if named++; k < 0 || math.Abs(g.Share-weights[c.Length+k]/sum) > 1e-12 {
				t.Fatalf("flow %d: %+v", f.Seq+1, g)
			}
		}
		weights = slices.Clone(weights)
		fast, err := r.Quick(0, what, whole)
		if err != nil {
			t.Fatal(err)
		}
		for i, w := range fast {
			if w > 0 && f.Tokens[i] == 0 {
				t.Fatalf("flow %d: a line of run names %d, which is 0", f.Seq+1, i)
			}
		}
		if slices.Equal(fast[c.Length:], weights[c.Length:]) { // a run for each of 12 numbers
			quick++
		} else {
			t.Errorf("flow %d: %v, token by token %v", f.Seq+1, fast[c.Length:], weights[c.Length:])
		}
	}
	in, err := flow.NewInput(opt)
	if err != nil {
		t.Fatal(err)
	}
	src, err := capture.Open(testbedCalib)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	if err := in.Run(src); err != nil {
		t.Fatal(err)
	}
	if weighed < 30 || named < 5 || quick < 20 {
		t.Errorf("%d numbers weigh something, %d are named, of %d flows", weighed, named, quick)
	}

	// As nepcoc explain says it.
	e, err := explainer.New(b)
	if err != nil {
		t.Fatal(err)
	}
	again, err := capture.Open(testbedCalib)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	facts := 0
	if _, err := e.Verdicts(again, explainer.Select{Some: func(n int) bool { return n%7 == 1 }}, func(v *explainer.Verdict) error {
		for _, f := range v.Outputs[0].Fields {
			if strings.HasPrefix(f.Name, "fact: length[") || strings.HasPrefix(f.Name, "fact: gap[") {
				facts++
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if facts != named {
		t.Errorf("%d facts among the fields of %d that are named", facts, named)
	}
}

// Explanations are measured by all that they say: the numbers that they name are blanked, too, and at random as well. By bytes alone this model's failed.
func TestFaithfulWithNumbers(t *testing.T) {
	c := besideContract(t)
	path, _, _ := compile(t, compiler.Options{Model: sidesModel, Contract: &c, Calib: testbedCalib, MaxDisagreement: 0.03})
	r, err := verify.Run(verify.Options{Bundle: path, Pcap: "../examples/testbed/test.pcap", RefInputs: 1, Random: 1, Explain: true, MinFaithful: verify.DefaultFaithful})
	if err != nil {
		t.Fatal(err)
	}
	if !r.OK() || len(r.Explained) != 1 {
		t.Fatalf("%+v", r.Checks)
	}
	e := r.Explained[0]
	if e.Numbers == nil || e.Numbers.Count < 1 || e.Numbers.Count > 12 || e.Exact.WithNumbers < 20 || e.Exact.WithNumbers >= e.Flows || e.Quick.WithNumbers < 20 {
		t.Errorf("%d flows: %+v, explain %+v, run --explain %+v", e.Flows, e.Numbers, e.Exact, e.Quick)
	}
}
