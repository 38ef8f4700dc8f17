package onnx

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// A model can bring functions of its own: operators that are written as graphs of others. Exporters write layers
// so (PyTorch's export_modules_as_functions, and dynamo=True before 2.6), and whoever composes operators by onnxscript. Their calls
// are replaced by their nodes before anything looks at the graph.

// functionProto is a FunctionProto: a graph with names for inputs, outputs and attributes.
type functionProto struct {
	name, domain, overload string
	inputs, outputs        []string
	attrs                  []string    // without a default
	defaults               []attrProto // with one
	nodes                  []nodeProto
	opsets                 []opsetImport
}

const (
	maxFunctions = 1 << 10
	// maxCalls bounds functions inside of functions; the standard has no recursion.
	maxCalls = 16
)

func (r *reader) function(f *field, m *modelProto) error {
	sub, err := f.message("function", len(m.functions))
	if err != nil {
		return err
	}
	if err := r.count(f); err != nil {
		return err
	}
	if len(m.functions) == maxFunctions {
		return tooMuch(f.errorf("more than %d functions", maxFunctions))
	}
	var fn functionProto
	var body graphProto
	err = sub.each(func(f *field) error {
		switch f.tag {
		case 1:
			return f.string(&fn.name)
		case 4:
			return appendName(f, &fn.inputs, maxNodeInputs)
		case 5:
			return appendName(f, &fn.outputs, maxNodeOutputs)
		case 6:
			return appendName(f, &fn.attrs, maxNodeAttrs)
		case 7:
			return r.node(f, &body, 0)
		case 9:
			return r.opset(f, &fn.opsets)
		case 10:
			return f.string(&fn.domain)
		case 11:
			return r.attr(f, &fn.defaults, 0)
		case 13:
			return f.string(&fn.overload)
		case 8, 12, 14: // doc_string, value_info, metadata_props
			return f.want(protowire.BytesType)
		}
		return f.unknown()
	})
	if err != nil {
		return err
	}
	if fn.domain == "ai.onnx" {
		fn.domain = ""
	}
	if fn.name == "" {
		return sub.errorf(0, "a function without a name")
	}
	fn.nodes = body.nodes
	m.functions = append(m.functions, fn)
	return nil
}

// functionID tells functions apart.
type functionID struct{ domain, name, overload string }

// inliner replaces calls of functions by their nodes.
type inliner struct {
	imp     *importer
	byID    map[functionID]*functionProto
	names   map[string]bool // of all values
	out     []nodeProto
	edges   int
	refused map[functionID]bool
	failed  bool
}

// inlineFunctions replaces the calls of the model's own functions, also those in other functions.
func (imp *importer) inlineFunctions() {
	m := imp.m
	if len(m.functions) == 0 {
		return
	}
	in := &inliner{imp: imp, byID: make(map[functionID]*functionProto), names: make(map[string]bool), refused: make(map[functionID]bool)}
	for i := range m.functions {
		f := &m.functions[i]
		id := functionID{f.domain, f.name, f.overload}
		if in.byID[id] != nil {
			imp.report(Problem{Kind: Structure, Reason: fmt.Sprintf("function %s::%s is defined twice", f.domain, f.name), WayOut: "export the model again: the file contradicts itself"})
		}
		in.byID[id] = f
	}
	g := m.graph
	for i := range g.inits {
		in.names[g.inits[i].name] = true
	}
	for i := range g.inputs {
		in.names[g.inputs[i].name] = true
	}
	for i := range g.nodes {
		for _, o := range g.nodes[i].outputs {
			in.names[o] = true
		}
	}
	for i := range g.nodes {
		in.add(g.nodes[i], 0)
	}
	g.nodes = in.out
}

func (in *inliner) fail(n *nodeProto, kind Kind, wayOut, format string, args ...any) {
	if in.failed {
		return
	}
	in.failed = true
	in.imp.report(Problem{Kind: kind, Node: n.name, Op: n.op, Reason: fmt.Sprintf(format, args...), WayOut: wayOut})
}

// add puts a node into the graph, or, of a call, the nodes of the function.
func (in *inliner) add(n nodeProto, depth int) {
	f := in.byID[functionID{n.domain, n.op, n.overload}]
	if f == nil {
		in.edges += max(len(n.inputs), 1) * len(n.outputs)
		if len(in.out) == maxNodes || in.edges > maxEdges {
			in.fail(&n, TooLarge, "make the model smaller", "with its functions written out, the graph has more than %d nodes or %d edges", maxNodes, maxEdges)
			return
		}
		in.out = append(in.out, n)
		return
	}
	again := "export the model again: the file contradicts itself"
	switch {
	case in.failed:
		return
	case depth == maxCalls:
		in.fail(&n, Structure, again, "functions call each other more than %d deep", maxCalls)
		return
	case len(n.inputs) > len(f.inputs) || len(n.outputs) > len(f.outputs):
		in.fail(&n, Structure, again, "calls a function of %d inputs and %d outputs with %d and %d", len(f.inputs), len(f.outputs), len(n.inputs), len(n.outputs))
		return
	}
	in.checkOpset(f)
	if n.name == "" {
		n.name = n.op
	}
	rename := make(map[string]string)
	for i, formal := range f.inputs {
		rename[formal] = ""
		if i < len(n.inputs) {
			rename[formal] = n.inputs[i]
		}
	}
	for i, formal := range f.outputs {
		if i >= len(n.outputs) || n.outputs[i] == "" {
			continue
		}
		if slices.Contains(f.inputs, formal) { // handed on
			in.add(nodeProto{name: n.name + "/" + formal, op: "Identity", inputs: []string{rename[formal]}, outputs: []string{n.outputs[i]}}, maxCalls)
			continue
		}
		rename[formal] = n.outputs[i]
	}
	local := func(name string) string {
		if name == "" {
			return ""
		}
		if to, ok := rename[name]; ok {
			return to
		}
		to := fmt.Sprintf("%s/%s", n.name, name)
		for i := 1; in.names[to]; i++ {
			to = fmt.Sprintf("%s/%s.%d", n.name, name, i)
		}
		in.names[to], rename[name] = true, to
		return to
	}
	for i := range f.nodes {
		b := f.nodes[i]
		b.name = fmt.Sprintf("%s/%s", n.name, b.name)
		b.inputs, b.outputs = slices.Clone(b.inputs), slices.Clone(b.outputs)
		for j := range b.inputs {
			b.inputs[j] = local(b.inputs[j])
		}
		for j := range b.outputs {
			b.outputs[j] = local(b.outputs[j])
		}
		b.attrs = f.actual(b.attrs, n.attrs)
		if in.add(b, depth+1); in.failed {
			return
		}
	}
}

// actual are a node's attributes, with those that refer to the function's replaced by what
// the caller gives, else by the default; without one they are left out.
func (f *functionProto) actual(attrs, given []attrProto) []attrProto {
	var out []attrProto
	for _, a := range attrs {
		if a.ref == "" {
			out = append(out, a)
			continue
		}
		for _, from := range [][]attrProto{given, f.defaults} {
			if i := slices.IndexFunc(from, func(v attrProto) bool { return v.name == a.ref }); i >= 0 {
				v := from[i]
				v.name = a.name
				out = append(out, v)
				break
			}
		}
	}
	return out
}

// checkOpset refuses functions whose operators are those of another opset than the model's.
func (in *inliner) checkOpset(f *functionProto) {
	standard := func(d string) bool { return d == "" || d == "ai.onnx" }
	version := func(opsets []opsetImport) int64 {
		for _, o := range opsets {
			if standard(o.domain) {
				return o.version
			}
		}
		return 0
	}
	id := functionID{f.domain, f.name, f.overload}
	have, want := version(f.opsets), version(in.imp.m.opsets)
	if have == want || have == 0 || want == 0 || in.refused[id] || !slices.ContainsFunc(f.nodes, func(n nodeProto) bool { return n.domain == "" }) {
		return
	}
	in.refused[id] = true
	in.imp.report(Problem{Kind: OpsetVersion, Reason: fmt.Sprintf("function %s::%s is written in opset %d, the model in opset %d", f.domain, f.name, have, want),
		WayOut: fmt.Sprintf("write both in one: onnx.version_converter.convert_version(onnx.inliner.inline_local_functions(model), %d)", want)})
}
