package onnx

import (
	"fmt"
	"strings"

	"nepcoc/ir"
)

// Kind groups problems by what the user has to change.
type Kind string

// The kinds of problems.
const (
	Damaged       Kind = "damaged"        // bytes that are no ONNX model
	OtherFile     Kind = "other-file"     // a file of another kind
	Structure     Kind = "structure"      // a graph that is none: cycle, dangling input, no outputs
	FormatVersion Kind = "ir-version"     // a version of the file format that ONNX doesn't have
	OpsetVersion  Kind = "opset"          // operator set missing or outside 7..21
	UnknownOp     Kind = "unknown-op"     // no such operator in ONNX
	Unsupported   Kind = "unsupported"    // an operator, or a form of one, that is not compiled
	CustomDomain  Kind = "custom-domain"  // an operator outside the ONNX standard
	Attention     Kind = "attention"      // positions weighted by other positions
	Recurrence    Kind = "recurrence"     // LSTM, GRU, RNN
	ControlFlow   Kind = "control-flow"   // If, Loop, Scan
	Quantized     Kind = "quantized"      // the model is quantised already
	ElementType   Kind = "element-type"   // float16, strings, ...
	ExternalData  Kind = "external-data"  // weights in a second file
	DynamicLength Kind = "dynamic-length" // a dimension besides the batch is symbolic
	BatchSize     Kind = "batch-size"     // exported with a fixed batch of more than one
	NonFinite     Kind = "non-finite"     // NaN or infinite weights
	Shape         Kind = "shape"          // operands that don't fit
	TooLarge      Kind = "too-large"      // beyond the limits of a bundle
	WrongContract Kind = "contract"       // the traffic contract is not the model's
	WrongLabels   Kind = "labels"         // the class names are not the model's
)

// ranks order kinds by what has to change: 0 the file itself, 1 the model's architecture,
// 2 parts of it, 3 how it was exported, 4 what lies beside it.
var ranks = map[Kind]int{
	Damaged: 0, OtherFile: 0, Structure: 0, FormatVersion: 0,
	Attention: 1, Recurrence: 1, ControlFlow: 1, CustomDomain: 1, Quantized: 1, UnknownOp: 1,
	Unsupported: 2, Shape: 2, NonFinite: 2, TooLarge: 2,
	OpsetVersion: 3, ElementType: 3, ExternalData: 3, DynamicLength: 3, BatchSize: 3,
	WrongContract: 4, WrongLabels: 4,
}

// Rank tells how decisive a kind of problem is; the lower, the more has to change.
func (k Kind) Rank() int { return ranks[k] }

// Problem is one thing that keeps a model from being compiled.
type Problem struct {
	Kind   Kind     `json:"kind"`
	File   string   `json:"file"`
	Node   string   `json:"node,omitempty"` // name of the first node concerned
	Op     string   `json:"op,omitempty"`
	Opset  int      `json:"opset,omitempty"`
	Shapes []string `json:"shapes,omitempty"` // of the node's inputs, as far as known
	Reason string   `json:"reason"`
	WayOut string   `json:"way_out,omitempty"`
}

func (p Problem) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "[%s] ", p.Kind)
	if p.Node != "" {
		fmt.Fprintf(&b, "node %q", p.Node)
		if p.Op != "" {
			fmt.Fprintf(&b, " (%s, opset %d)", p.Op, p.Opset)
		}
		if len(p.Shapes) > 0 {
			fmt.Fprintf(&b, " on %s", strings.Join(p.Shapes, ", "))
		}
		b.WriteString(": ")
	}
	b.WriteString(p.Reason)
	return b.String()
}

// Refusal is the error of a model that can't be taken. It holds every problem
// found, not the first.
type Refusal struct {
	File     string    `json:"file"`
	Problems []Problem `json:"problems"`
	// Partial is what was understood all the same, nil for nothing: a valid
	// graph whose outputs are the values that none of its nodes reads. Passes may find
	// more in it that can't be taken.
	Partial *ir.Graph `json:"-"`
	// Info is what is known of the file; nil where it can't be read at all.
	Info *Info `json:"-"`
}

// maxPrinted bounds the message; the list itself is complete up to maxKept.
const (
	maxPrinted = 20
	maxKept    = 1000
)

func (r *Refusal) Error() string {
	var b strings.Builder
	if len(r.Problems) == 1 {
		fmt.Fprintf(&b, "%s: can't be compiled: ", r.File)
		writeProblem(&b, r.Problems[0])
		return b.String()
	}
	fmt.Fprintf(&b, "%s: can't be compiled, %d problems:", r.File, len(r.Problems))
	for i, p := range r.Problems {
		if i == maxPrinted {
			fmt.Fprintf(&b, "\n  and %d more", len(r.Problems)-i)
			break
		}
		b.WriteString("\n  ")
		writeProblem(&b, p)
	}
	return b.String()
}

func writeProblem(b *strings.Builder, p Problem) {
	b.WriteString(p.String())
	if p.WayOut != "" {
		b.WriteString("\n    way out: ")
		b.WriteString(p.WayOut)
	}
}

// reject is what a normaliser returns for a form that can't be taken.
type reject struct {
	kind           Kind
	reason, wayOut string
}

func (r *reject) Error() string { return r.reason }

func rejectf(kind Kind, wayOut, format string, args ...any) error {
	return &reject{kind: kind, reason: fmt.Sprintf(format, args...), wayOut: wayOut}
}

// nameList spells out the first few names of a group.
func nameList(names []string) string {
	const show = 3
	q := make([]string, 0, show)
	for i, n := range names {
		if i == show {
			return fmt.Sprintf("%s and %d more", strings.Join(q, ", "), len(names)-show)
		}
		q = append(q, fmt.Sprintf("%q", n))
	}
	return strings.Join(q, ", ")
}
