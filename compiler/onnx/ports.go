package onnx

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"nepcoc/ir"
)

// bindInputs makes graph inputs of those that no initializer replaces, with
// the batch set to 1.
func (imp *importer) bindInputs() {
	var dynamic []string
	imp.ports = make(map[string]*valueInfo, len(imp.m.graph.inputs))
	for i := range imp.m.graph.inputs {
		imp.ports[imp.m.graph.inputs[i].name] = &imp.m.graph.inputs[i]
	}
	for _, name := range imp.decoded.inputs {
		v := imp.input(imp.ports[name], &dynamic)
		imp.define(name, v)
		if v != nil {
			imp.g.Inputs = append(imp.g.Inputs, v)
		}
	}
	if len(dynamic) > 0 {
		imp.report(Problem{Kind: DynamicLength, Reason: "sequence length is dynamic: " + strings.Join(dynamic, ", "),
			WayOut: "export with a fixed length: give dynamic_axes (or dynamic_shapes) only for dimension 0, the batch, or none at all, and an example input of the length you want"})
	}
	if len(imp.decoded.inputs) == 0 {
		imp.report(Problem{Kind: Structure, Reason: "the graph has no inputs", WayOut: "export the model with an example input"})
	}
}

// forgetAssumed drops what may be wrong only because a length was assumed: operands that
// don't fit each other.
func (imp *importer) forgetAssumed() {
	if slices.ContainsFunc(imp.problems, func(p Problem) bool { return p.Kind == DynamicLength }) {
		imp.problems = slices.DeleteFunc(imp.problems, func(p Problem) bool { return p.Kind == Shape })
	}
}

// assumedLength stands for a dynamic length, so that what else is wrong with the model shows at once.
const assumedLength = 128

// input types one graph input; nil where it can't be taken.
func (imp *importer) input(p *valueInfo, dynamic *[]string) *ir.Value {
	fail := func(k Kind, way, format string, args ...any) *ir.Value {
		imp.report(Problem{Kind: k, Reason: fmt.Sprintf("input %q %s", p.name, fmt.Sprintf(format, args...)), WayOut: way})
		return nil
	}
	if !p.isTensor {
		return fail(Unsupported, "pass plain tensors to the model's forward", "is no tensor")
	}
	d := lookupDType(p.elemType)
	if d == nil || d.ir == ir.Invalid {
		imp.badType(p.elemType, p.name)
		if d == nil {
			return fail(Structure, "export the model again", "has element type %d, which ONNX does not define", p.elemType)
		}
		return nil
	}
	if !p.hasShape || len(p.dims) == 0 {
		return fail(Shape, "export with an example input of shape [1, length]", "has no shape")
	}
	if b := p.dims[0]; b.Known && b.Size != 1 {
		return fail(BatchSize, "export with an example input of batch 1, or with dynamic_axes for dimension 0",
			"has shape %v: the first dimension is the batch, which must be 1 or dynamic", p.dims)
	}
	shape := []int{1}
	for i, x := range p.dims[1:] {
		if !x.Known {
			*dynamic = append(*dynamic, fmt.Sprintf("input %q %v, dimension %d (%s)", p.name, p.dims, i+1, x))
			x.Size = assumedLength
		}
		if x.Size == 0 {
			return fail(Shape, "export with an example input that has elements", "has shape %v, without elements", p.dims)
		}
		shape = append(shape, x.Size)
	}
	t := ir.Type{DType: d.ir, Shape: shape}
	if err := t.Validate(); err != nil {
		return fail(Shape, "", "has shape %v: %v", p.dims, err)
	}
	return &ir.Value{Name: p.name, Type: t}
}

// bindOutputs attaches the graph's outputs and compares what was inferred with
// what the file declares.
func (imp *importer) bindOutputs() {
	for i := range imp.m.graph.outputs {
		p := &imp.m.graph.outputs[i]
		if d := lookupDType(p.elemType); p.isTensor && d != nil && d.ir == ir.Invalid {
			imp.badType(p.elemType, p.name)
		}
		v, ok := imp.value(p.name)
		if !ok {
			continue
		}
		if why := disagrees(p, v.Type); why != "" {
			imp.report(Problem{Kind: Shape, Reason: fmt.Sprintf("output %q is declared as %s, but is computed as %v", p.name, why, v.Type),
				WayOut: "export the model again: the file contradicts itself"})
			continue
		}
		if v.Const != nil {
			if len(imp.decoded.inputs) == 0 {
				continue // already said
			}
			imp.report(Problem{Kind: Structure, Reason: fmt.Sprintf("output %q is a constant: it does not depend on any input", p.name),
				WayOut: "check forward(): its result must be computed from its arguments"})
			continue
		}
		imp.g.Outputs = append(imp.g.Outputs, v)
		imp.g.OutputNames = append(imp.g.OutputNames, p.name)
	}
}

// disagrees spells out the declared type where t contradicts it. The first
// dimension is the batch and may differ; exporters leave others unknown.
func disagrees(p *valueInfo, t ir.Type) string {
	d := lookupDType(p.elemType)
	if !p.isTensor || d == nil {
		return ""
	}
	bad := d.ir != t.DType
	// An empty list of dims is what some writers leave for "unknown".
	if p.hasShape && len(p.dims) > 0 {
		bad = bad || len(p.dims) != len(t.Shape)
		for i := 1; i < len(p.dims) && i < len(t.Shape); i++ {
			bad = bad || p.dims[i].Known && p.dims[i].Size != t.Shape[i]
		}
	}
	if bad {
		return fmt.Sprintf("%s%v", d.name, p.dims)
	}
	return ""
}

// checkFinite refuses NaN and infinite weights: no int8 scale could hold them.
// A single infinity is a bound (Clip, Where of a mask), and may stay one.
func (imp *importer) checkFinite() {
	seen := make(map[*ir.Value]bool)
	var bad []string
	total := 0
	for _, n := range imp.g.Nodes {
		for _, v := range n.Inputs {
			if v == nil || v.Const == nil || seen[v] {
				continue
			}
			seen[v] = true
			nan, inf := countNonFinite(v.Const)
			if nan > 0 || inf > 0 && !(v.Type.Len() == 1 && boundOps[n.Op]) {
				bad = append(bad, v.Name)
				total += nan + inf
			}
		}
	}
	if len(bad) > 0 {
		imp.report(Problem{Kind: NonFinite, Reason: fmt.Sprintf("%d values of %d weights are NaN or infinite: %s", total, len(bad), nameList(bad)),
			WayOut: "check the training (torch.isfinite over model.parameters()) and export a model with finite weights"})
	}
}

var boundOps = map[string]bool{"Clip": true, "Where": true, "Max": true, "Min": true, "Pad": true}

func countNonFinite(t *ir.Tensor) (nan, inf int) {
	count := func(x float64) {
		if math.IsNaN(x) {
			nan++
		} else if math.IsInf(x, 0) {
			inf++
		}
	}
	switch d := t.Data.(type) {
	case []float32:
		for _, x := range d {
			if x-x != 0 { // only NaN and infinities; the common case stays one subtraction
				count(float64(x))
			}
		}
	case []float64:
		for _, x := range d {
			count(x)
		}
	}
	return nan, inf
}

func (imp *importer) info() *Info {
	m := imp.m
	in := &Info{
		IRVersion: int(m.irVersion), Opset: imp.opset, Producer: m.producer, ProducerVersion: m.producerVersion,
		GraphName: m.graph.name, Doc: m.doc, Nodes: len(m.graph.nodes),
	}
	if len(m.metadata) > 0 {
		in.Metadata = make(map[string]string, len(m.metadata))
		for _, kv := range m.metadata {
			in.Metadata[kv[0]] = kv[1]
		}
	}
	in.ModelVersion = modelVersion(m, in.Metadata)
	for _, v := range imp.g.Inputs {
		in.Inputs = append(in.Inputs, port(imp.ports[v.Name]))
	}
	for i := range m.graph.outputs {
		in.Outputs = append(in.Outputs, port(&m.graph.outputs[i]))
	}
	return in
}

// modelVersion is the model's own version: what its metadata call so, which is any
// text, before the standard's field, which is a number that exporters leave 0.
func modelVersion(m *modelProto, metadata map[string]string) string {
	for _, key := range []string{"model_version", "version"} {
		if v := metadata[key]; v != "" {
			return v
		}
	}
	if m.modelVersion != 0 {
		return strconv.FormatInt(m.modelVersion, 10)
	}
	return ""
}

func port(v *valueInfo) Port {
	p := Port{Name: v.name, Dims: v.dims}
	if d := lookupDType(v.elemType); d != nil {
		p.DType = d.name
		if d.ir != ir.Invalid {
			p.DType = d.ir.String()
		}
	}
	return p
}
