package compiler

import (
	"cmp"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"nepcoc/compiler/onnx"
	"nepcoc/internal/files"
	"nepcoc/ir"
	"nepcoc/passes"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/traffic"
)

// Find reads the files that belong to the model: the traffic contract and one file of class
// names per output, or where they are not given those beside the model, NAME.contract.yaml
// and NAME.labels.txt. What is wrong with them is kept, and said by Compile and Check together with what
// is wrong with the model.
func (o *Options) Find(contract string, labels []string) {
	if contract == "" {
		contract = beside(o.Model, ".contract.yaml")
	}
	if contract != "" {
		c, err := traffic.Load(contract)
		if err != nil {
			o.wrong = append(o.wrong, onnx.Problem{Kind: onnx.WrongContract, File: files.Show(contract), Reason: err.Error()})
		} else {
			o.Contract = &c
			if _, err := traffic.Named(contract); err != nil {
				o.contractFile = contract
			}
		}
	}
	if l := beside(o.Model, ".labels.txt"); labels == nil && l != "" {
		labels = []string{l}
	}
	for _, file := range labels {
		l, err := ReadClassNames(file)
		if err != nil {
			o.wrong = append(o.wrong, onnx.Problem{Kind: onnx.WrongLabels, File: files.Show(file), Reason: err.Error()})
		}
		o.Labels = append(o.Labels, l)
	}
}

// beside is the file with the model's name and another ending, "" where there
// is none.
func beside(model, ext string) string {
	if files.IsStdin(model) {
		return ""
	}
	p := strings.TrimSuffix(model, filepath.Ext(model)) + ext
	if _, err := os.Stat(p); err != nil {
		return ""
	}
	return p
}

// settle decides, once the model is understood, whether all that belongs together fits: the model and a bundle's
// limits, traffic contract, outputs and their names. Everything that doesn't is in the error.
func (c *compilation) settle(g *ir.Graph, l passes.Local) error {
	problems := slices.Clone(c.wrong)
	add := func(kind onnx.Kind, err error, wayOut string) {
		if err != nil {
			problems = append(problems, onnx.Problem{Kind: kind, File: c.Model, Reason: err.Error(), WayOut: wayOut})
		}
	}
	for _, p := range tooLarge(g, l) {
		problems = append(problems, c.src.problem(p))
	}
	if len(problems) == len(c.wrong) && !slices.ContainsFunc(c.wrong, func(p onnx.Problem) bool { return p.Kind == onnx.WrongContract }) {
		add(onnx.WrongContract, c.chooseContract(l), "")
	}
	forms, ps := outputForms(g)
	for _, p := range ps {
		problems = append(problems, c.src.problem(p))
	}
	if slices.ContainsFunc(c.wrong, func(p onnx.Problem) bool { return p.Kind == onnx.WrongLabels }) {
		c.Labels = nil
	}
	for _, err := range c.describeOutputs(forms) {
		add(onnx.WrongLabels, err, "")
	}
	if problems == nil {
		return nil
	}
	return &onnx.Refusal{File: c.Model, Problems: problems}
}

// tooLarge lists what a bundle could not hold, before any time is spent on it. Values are counted at
// the 8 bits that they have at least.
func tooLarge(g *ir.Graph, l passes.Local) (ps ir.Problems) {
	limit := func(p ir.Problem, what string, n, most int, way string) bool {
		if n <= most {
			return true
		}
		p.Kind, p.Reason, p.Way = string(onnx.TooLarge), (&bundle.LimitError{What: what, N: int64(n), Max: int64(most)}).Error(), way
		ps = append(ps, p)
		return false
	}
	limit(ir.Problem{Node: l.TokenInput, Op: "input"}, "input length", l.Length, bundle.MaxLength, "export the model for shorter inputs")
	limit(ir.Problem{Node: l.TokenInput, Op: "input"}, "number of token ids", l.Vocab, bundle.MaxVocab, "train with fewer ids: tokens of one or two bytes have at most 65,536 values")
	for _, n := range g.Nodes {
		for _, v := range n.Outputs {
			if len(v.Type.Shape) == 0 || len(v.Type.Shape) > 2 {
				continue
			}
			p := ir.ProblemOf(n, "", "")
			if limit(p, "number of channels", v.Type.Shape[len(v.Type.Shape)-1], bundle.MaxCols, "pool over positions, or use strides, before flattening") {
				limit(p, "bytes of values", v.Type.Len(), bundle.MaxValueBytes, "use fewer channels, or shorter inputs")
			}
		}
	}
	return ps
}

// tooLargeErr is err, as a refusal where the program turned out too large.
func (c *compilation) tooLargeErr(err error) error {
	var limit *bundle.LimitError
	if !errors.As(err, &limit) {
		return err
	}
	return &onnx.Refusal{File: c.Model, Problems: []onnx.Problem{{Kind: onnx.TooLarge, File: c.Model, Reason: "as integers, " + strings.TrimPrefix(err.Error(), c.Model+": "),
		WayOut: "make the model smaller: fewer or narrower layers, shorter inputs, smaller kernels"}}}
}

// decisive orders problems by what has to change: another model first, then another export, then the
// files beside it. Within each, the order of the model stays.
func decisive(problems []onnx.Problem) {
	slices.SortStableFunc(problems, func(a, b onnx.Problem) int { return cmp.Compare(a.Kind.Rank(), b.Kind.Rank()) })
}
