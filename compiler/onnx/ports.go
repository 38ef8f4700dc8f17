package onnx

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"nepcoc/ir"
	"nepcoc/runtime/bundle"
)

// bindInputs makes graph inputs of those that no initializer replaces, with
// the batch set to 1.
func (imp *importer) bindInputs() {
	imp.ports = make(map[string]*valueInfo, len(imp.m.graph.inputs))
	for i := range imp.m.graph.inputs {
		imp.ports[imp.m.graph.inputs[i].name] = &imp.m.graph.inputs[i]
	}
	imp.sizes = make(map[string]int)
	var open []openDim
	for _, name := range imp.decoded.inputs {
		v := imp.input(imp.ports[name], &open)
		imp.define(name, v)
		if v != nil {
			imp.g.Inputs = append(imp.g.Inputs, v)
		}
	}
	imp.reportOpen(open)
	imp.reportSizes()
	if len(imp.decoded.inputs) == 0 {
		imp.report(Problem{Kind: Structure, Reason: "the graph has no inputs", WayOut: "export the model with an example input"})
	}
}

// openDim is a dynamic dimension, not of the batch, whose size nobody said.
type openDim struct{ name, text string }

// maxLength is the largest size that a dynamic dimension may be given, that of a bundle's input.
const maxLength = bundle.MaxLength

// sizeOf is what a dynamic dimension is to be; alone says that it is the only one of its input
// that Options.Sizes doesn't name. ok is false where nobody said.
func (imp *importer) sizeOf(name string, alone bool) (size int, ok bool) {
	size, ok = imp.options.Sizes[name]
	if !ok && alone && imp.options.Length != 0 {
		size, ok = imp.options.Length, true
	}
	if ok {
		imp.sizes[name] = size
	}
	return size, ok
}

// dimName is the name of a dynamic dimension: its symbol, or INPUT.AXIS.
func dimName(p *valueInfo, axis int) string {
	if d := p.dims[axis]; d.Param != "" {
		return d.Param
	}
	return fmt.Sprintf("%s.%d", p.name, axis)
}

// reportOpen names the options that give dynamic dimensions a size.
func (imp *importer) reportOpen(open []openDim) {
	if len(open) == 0 {
		return
	}
	var where, by []string
	perInput := make(map[string]int)
	most := 0
	for _, d := range open {
		where = append(where, d.text)
		input, _, _ := strings.Cut(d.text, ",")
		perInput[input]++
		most = max(most, perInput[input])
		if o := fmt.Sprintf("--set-dim %s=%d", d.name, assumedLength); !slices.Contains(by, o) {
			by = append(by, o)
		}
	}
	way := "say how long the inputs are that the model was trained with: "
	if most == 1 {
		way += fmt.Sprintf("--length %d; or by name: ", assumedLength)
	}
	imp.report(Problem{Kind: DynamicLength, Reason: "sequence length is dynamic: " + strings.Join(where, ", "),
		WayOut: way + strings.Join(by, " ") + ". Or export with a fixed length: dynamic_axes (or dynamic_shapes) only for dimension 0, the batch, or none at all"})
}

// reportSizes reports options that don't fit the model.
func (imp *importer) reportSizes() {
	var names []string // that exist
	length := imp.options.Length == 0
	for _, name := range imp.decoded.inputs {
		p := imp.ports[name]
		for i, d := range p.dims {
			if name := dimName(p, i); !d.Known && !slices.Contains(names, name) {
				names = append(names, name)
			}
			length = length || d.Known && d.Size == imp.options.Length
		}
	}
	for _, size := range imp.sizes {
		length = length || size == imp.options.Length
	}
	bad := func(kind Kind, wayOut, format string, args ...any) {
		imp.report(Problem{Kind: kind, Reason: fmt.Sprintf(format, args...), WayOut: wayOut})
	}
	if !length {
		bad(DynamicLength, "leave out --length", "--length %d: the inputs have other lengths, and none is dynamic", imp.options.Length)
	}
	for _, name := range slices.Sorted(maps.Keys(imp.options.Sizes)) {
		size := imp.options.Sizes[name]
		switch {
		case !slices.Contains(names, name) && len(names) == 0:
			bad(DynamicLength, "leave out --set-dim "+name, "--set-dim %s: no dimension is dynamic", name)
		case !slices.Contains(names, name):
			bad(DynamicLength, "name one of these", "--set-dim %s: the dynamic dimensions are %s", name, strings.Join(names, ", "))
		case imp.sizes[name] == 0 && size != 1:
			bad(BatchSize, "leave out --set-dim "+name, "--set-dim %s=%d: this is the batch, which is always 1", name, size)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(imp.sizes)) {
		if size := imp.sizes[name]; size < 1 || size > maxLength {
			bad(TooLarge, "give the length that the model was trained with", "dimension %s of size %d: inputs have 1 to %d positions", name, size, maxLength)
		}
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
func (imp *importer) input(p *valueInfo, open *[]openDim) *ir.Value {
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
	unsaid := 0
	for i, x := range p.dims {
		if _, said := imp.options.Sizes[dimName(p, i)]; i > 0 && !x.Known && !said {
			unsaid++
		}
	}
	shape := []int{1}
	for i, x := range p.dims[1:] {
		if !x.Known {
			name := dimName(p, i+1)
			size, ok := imp.sizeOf(name, unsaid == 1)
			if !ok {
				*open = append(*open, openDim{name, fmt.Sprintf("input %q %v, dimension %d (%s)", p.name, p.dims, i+1, name)})
			}
			if x.Size = size; size < 1 || size > maxLength {
				x.Size = assumedLength // reported
			}
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

// integerInputs makes integers of float inputs that are read as integers only: token ids, which some frameworks
// hold in floats up to the embedding.
func (imp *importer) integerInputs() {
	uses := imp.g.Consumers()
	var ids func(v *ir.Value, cast bool) bool // only moved, cast to integers, and looked up or compared
	ids = func(v *ir.Value, cast bool) bool {
		if len(uses[v]) == 0 || slices.Contains(imp.g.Outputs, v) {
			return false
		}
		for _, n := range uses[v] {
			ok := false
			switch n.Op {
			case "Cast":
				d := n.Out().Type.DType
				ok = d != ir.F32 && d != ir.F64 && d != ir.Bool && ids(n.Out(), true)
			case "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Identity", "Expand":
				ok = n.Inputs[0] == v && ids(n.Out(), cast)
			case "Gather":
				ok = cast && n.Inputs[1] == v && n.Inputs[0].Const != nil
			case "Equal":
				ok = cast
			}
			if !ok {
				return false
			}
		}
		return true
	}
	var retype func(v *ir.Value)
	retype = func(v *ir.Value) {
		v.Type.DType = ir.I64
		for _, n := range uses[v] {
			if n.Op != "Cast" {
				retype(n.Out())
			}
		}
	}
	for _, v := range imp.g.Inputs {
		if v.Type.DType == ir.F32 && ids(v, false) {
			retype(v)
			imp.notes = append(imp.notes, fmt.Sprintf("input %q holds integers as floats", v.Name))
		}
	}
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
	in.Data, in.Notes = imp.data, imp.notes
	if h := imp.halves(); h != "" {
		in.Notes = append(in.Notes, h+" is read as float32")
	}
	if len(imp.sizes) > 0 {
		in.Sizes = imp.sizes
	}
	for _, v := range imp.g.Inputs {
		in.Inputs = append(in.Inputs, port(imp.ports[v.Name]))
	}
	for i := range m.graph.outputs {
		in.Outputs = append(in.Outputs, port(&m.graph.outputs[i]))
	}
	return in
}

// halves names the floats of 16 bits that the model has weights, inputs or outputs of; "" for none.
func (imp *importer) halves() string {
	has := make(map[int32]bool)
	imp.m.graph.eachTensor(func(t *tensorProto) { has[t.dtype] = true })
	for _, ports := range [][]valueInfo{imp.m.graph.inputs, imp.m.graph.outputs} {
		for i := range ports {
			has[ports[i].elemType] = true
		}
	}
	var names []string
	for _, d := range slices.Sorted(maps.Keys(halves)) {
		if has[d] {
			names = append(names, lookupDType(d).name)
		}
	}
	return strings.Join(names, ", ")
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
		if d.ir != ir.Invalid && halves[v.elemType] == nil {
			p.DType = d.ir.String()
		}
	}
	return p
}
