// Command genops writes docs/SUPPORTED_OPS.md from the tables that enforce what
// it says: ir's operators and functions, the importer's families of refused ones, and the
// forms of passes/canonical.
package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"

	"nepcoc/compiler/onnx"
	"nepcoc/ir"
	"nepcoc/ir/acts"
	"nepcoc/passes/canonical"
)

//go:generate go run . -o ../../docs/SUPPORTED_OPS.md

func main() {
	out := flag.String("o", "", "file to write")
	flag.Parse()
	if *out == "" {
		fmt.Fprintln(os.Stderr, "genops: name the file to write: -o docs/SUPPORTED_OPS.md")
		os.Exit(2)
	}
	if err := os.WriteFile(*out, []byte(render()), 0o644); err != nil {
		fmt.Fprintln(os.Stderr, "genops:", err)
		os.Exit(1)
	}
}

func render() string {
	var b strings.Builder
	p := func(format string, a ...any) { fmt.Fprintf(&b, format+"\n", a...) }
	p("<!-- Written by go generate ./internal/genops from the tables that enforce it; don't edit. -->")
	p("# Supported operators")
	p("")
	p("ONNX opsets %d to %d. `nepcoc check model.onnx` says for a model what is not taken: node, operator, opset, shapes, reason, and what to", ir.MinOpset, ir.MaxOpset)
	p("change in PyTorch. Three things have to hold for an operator:")
	p("")
	p("- the importer reads it (*reads*: element types and forms);")
	p("- it has a place in a model of positions and channels (*where*). **Any** operator here is also taken where all its operands are known at compile")
	p("  time, as in shape arithmetic: it is computed then, and nothing of it is left;")
	p("- what it becomes has an integer step ([below](#from-canonical-operators-to-integer-steps)).")
	p("")
	p("Shapes are static: the batch is 1 (or symbolic), the length fixed, by the file or by option (--length, --set-dim). Weights may lie in files beside the model; float16 and bfloat16 are read as float32; the model's own functions are written out. A model reads one sequence of token ids, bytes (int64, int32, uint8, or float) or features of a flow (float, from arrays only),")
	p("numbers beside it (inputs [1, K] of float or whole numbers, which are scaled, normalised or go through dense layers by themselves, and join what was made of the sequence by Concat, or behind a layer by a sum or product; from arrays, or from packets where the [traffic contract](contract.md) gives them),")
	p("and at most one mask of valid positions, or makes the mask of the tokens; it has one or several outputs, each one vector per flow.")
	p("")
	p("## Operators")
	p("")
	p("| operator | opsets | reads | becomes | where |")
	p("|---|---|---|---|---|")
	var folded []*ir.Op
	refusedAsSuch := make(map[string]bool)
	for _, f := range onnx.Families() {
		for _, op := range f.Ops {
			refusedAsSuch[op] = true
		}
	}
	for _, op := range ir.Ops(ir.GroupONNX) {
		if refusedAsSuch[op.Name] {
			continue
		}
		f := canonical.FormOf(op.Name)
		if f.Folded {
			folded = append(folded, op)
			continue
		}
		become := "nothing: names of axes"
		if len(f.Into) > 0 {
			become = strings.Join(f.Into, ", ")
		} else if f.Limits != "" {
			become = "nothing"
		}
		p("| %s | %d-%d | %s | %s | %s |", op.Name, op.MinOpset, op.MaxOpset, orAll(op.Limits), become, orAll(f.Limits))
	}
	p("")
	p("LayerNorm, GELU, SiLU, HardSwish, Mish and softsign are recognised in the chains of primitives that exporters write for them. CastLike becomes Cast, OneHot a comparison with 0, 1, ...; one that is written so by hand is an embedding, too.")
	p("")
	p("## In constant expressions only")
	p("")
	p("| operator | opsets | reads | elsewhere refused: | way out |")
	p("|---|---|---|---|---|")
	for _, op := range folded {
		f := canonical.FormOf(op.Name)
		p("| %s | %d-%d | %s | %s | %s |", op.Name, op.MinOpset, op.MaxOpset, orAll(op.Limits), f.Reason, f.WayOut)
	}
	p("")
	p("## Refused as such")
	p("")
	p("| kind | operators | reason | way out |")
	p("|---|---|---|---|")
	for _, f := range onnx.Families() {
		p("| %s | %s | %s | %s |", f.Kind, strings.Join(f.Ops, ", "), f.Reason, f.WayOut)
	}
	p("")
	p("Also refused: operators of other domains but the model's own functions, files of weights outside the model's folder, element types uint32, uint64 and strings, a")
	p("symbolic length that no option fixes, NaN and infinite weights, a second sequence, and products of two computed matrices (attention). What looks at the whole sequence (norms and matrices over positions,")
	p("squeeze-and-excitation) is compiled; it begins when a flow's last token is there. Of layers that look at the tokens near each position, gated ones run as tokens come (`nepcoc inspect` says whether).")
	p("")
	p("## From canonical operators to integer steps")
	p("")
	p("| canonical operator | what it is | integer step |")
	p("|---|---|---|")
	for _, op := range slices.Concat(ir.Ops(ir.GroupCanonical), ir.Ops(ir.GroupFused)) {
		become := "none after " + op.Until
		if op.Integer != nil {
			become = op.Integer.Steps
		}
		p("| %s | %s | %s |", op.Name, op.Doc, become)
	}
	p("")
	p("min, max of two values, quotients, powers and constant padding are rewritten to these first (passes/legalize). softmax, log_softmax and argmax end")
	p("an output: the program ends at the logits, whose order they keep, and the agent computes scores from them.")
	p("")
	p("## Functions")
	p("")
	p("A convolution or linear layer carries a function of its result where the range of the function's input follows from that of its result.")
	p("")
	p("| function | formula | operator | integer form |")
	p("|---|---|---|---|")
	for _, f := range acts.Funcs() {
		form := "a table"
		switch {
		case f.Limits != nil:
			form = "limits of the step before, which carries it"
		case f.Fuses():
			form = "a table, which the layer before carries"
		case f.SlopeInput:
			form = "a table per channel"
		}
		p("| %s | %s | %s | %s |", f.Name, strings.ReplaceAll(f.Doc, "|", "\\|"), f.ONNX, form)
	}
	return b.String()
}

func orAll(s string) string {
	if s == "" {
		return "all"
	}
	return strings.ReplaceAll(s, "|", "\\|")
}
