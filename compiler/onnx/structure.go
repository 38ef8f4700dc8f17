package onnx

import (
	"container/heap"
	"fmt"
	"sort"
	"strings"
)

// The versions of the file format that are read: from the one that brought
// opset imports to the newest of the standard (ONNX 1.20).
const (
	minIRVersion = 3
	maxIRVersion = 13
)

// checkModel looks at what surrounds the graph: version of the format, opset
// imports, functions, weights in other files.
func (imp *importer) checkModel() {
	m := imp.m
	if m.irVersion < minIRVersion || m.irVersion > maxIRVersion {
		imp.report(Problem{Kind: FormatVersion, Reason: fmt.Sprintf("IR version %d of the file format; versions %d to %d are read", m.irVersion, minIRVersion, maxIRVersion),
			WayOut: "export with a released version of the exporter; where only the number is wrong: m = onnx.load(\"model.onnx\"); m.ir_version = 10; onnx.save(m, \"model.onnx\")"})
	}
	way := "export with torch.onnx.export(..., opset_version=17)"
	found := false
	for _, o := range m.opsets {
		if o.domain != "" && o.domain != "ai.onnx" {
			continue
		}
		v := int(o.version)
		switch {
		case found && v != imp.opset:
			imp.report(Problem{Kind: OpsetVersion, Reason: fmt.Sprintf("the model imports opset %d and opset %d", imp.opset, v), WayOut: way})
		case v < MinOpset || v > MaxOpset:
			imp.report(Problem{Kind: OpsetVersion, Reason: fmt.Sprintf("opset %d; opsets %d to %d are read", v, MinOpset, MaxOpset), WayOut: way})
		}
		found, imp.opset = true, v
	}
	if !found {
		imp.report(Problem{Kind: OpsetVersion, Reason: "the model imports no opset (opset_import is missing): its operators have no meaning", WayOut: way})
	}
	if m.graph.sparseInits > 0 {
		imp.report(Problem{Kind: Unsupported, Reason: fmt.Sprintf("%d sparse weights", m.graph.sparseInits), WayOut: "export dense weights: tensor.to_dense()"})
	}
}

// checkStructure proves that the nodes form a graph: every name defined once,
// every operand defined, no cycle. It sets order only then.
func (imp *importer) checkStructure() {
	g := imp.m.graph
	before := len(imp.problems)
	bad := func(way, format string, args ...any) {
		imp.report(Problem{Kind: Structure, Reason: fmt.Sprintf(format, args...), WayOut: way})
	}
	again := "export the model again: the file contradicts itself"
	if len(g.nodes) == 0 {
		bad("check that this is the file torch.onnx.export wrote", "the graph has no nodes")
	}
	if len(g.outputs) == 0 {
		bad("name at least one output (output_names of torch.onnx.export)", "the graph has no outputs")
	}
	for i := range g.inits {
		name := g.inits[i].name
		switch {
		case name == "":
			bad(again, "initializer %d has no name", i)
		case imp.inits[name] != nil:
			bad(again, "initializer %q is defined twice", name)
		}
		imp.inits[name] = &g.inits[i]
		imp.names[name] = true
	}
	inputs := make(map[string]bool)
	for i := range g.inputs {
		name := g.inputs[i].name
		if inputs[name] {
			bad(again, "input %q is defined twice", name)
		}
		inputs[name] = true
		imp.names[name] = true
	}
	producer := make(map[string]int)
	for i := range g.nodes {
		for _, o := range g.nodes[i].outputs {
			if o == "" {
				continue
			}
			if first, dup := producer[o]; dup {
				imp.report(Problem{Kind: Structure, Node: imp.nodeName(i), Op: g.nodes[i].op,
					Reason: fmt.Sprintf("%q is also written by node %q", o, imp.nodeName(first)), WayOut: again})
				continue
			}
			if inputs[o] || imp.inits[o] != nil {
				imp.report(Problem{Kind: Structure, Node: imp.nodeName(i), Op: g.nodes[i].op,
					Reason: fmt.Sprintf("writes %q, which is an input or a weight", o), WayOut: again})
			}
			producer[o] = i
			imp.names[o] = true
		}
	}
	outputs := make(map[string]bool)
	for i := range g.outputs {
		name := g.outputs[i].name
		imp.used[name] = true
		if outputs[name] {
			bad(again, "output %q is listed twice", name)
		}
		outputs[name] = true
		if !imp.names[name] {
			bad(again, "output %q is computed by no node", name)
		}
	}
	if len(imp.problems) > before {
		return
	}
	for i := range g.nodes {
		for _, in := range g.nodes[i].inputs {
			if in != "" {
				imp.used[in] = true
			}
			if in != "" && !imp.names[in] {
				imp.report(Problem{Kind: Structure, Node: imp.nodeName(i), Op: g.nodes[i].op,
					Reason: fmt.Sprintf("reads %q, which is neither an input, nor a weight, nor the result of a node", in), WayOut: again})
			}
		}
	}
	imp.sort(producer)
}

// intHeap yields the ready node that comes first in the file, so that a sorted
// file keeps its order.
type intHeap []int

func (h intHeap) Len() int           { return len(h) }
func (h intHeap) Less(i, j int) bool { return h[i] < h[j] }
func (h intHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *intHeap) Push(x any)        { *h = append(*h, x.(int)) }
func (h *intHeap) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}

// sort orders the nodes topologically. The standard asks for sorted files;
// sorting costs nothing and takes those of careless editors too.
func (imp *importer) sort(producer map[string]int) {
	nodes := imp.m.graph.nodes
	waits := make([]int, len(nodes))
	readers := make([][]int, len(nodes))
	for i := range nodes {
		for _, in := range nodes[i].inputs {
			if p, ok := producer[in]; ok && in != "" {
				waits[i]++
				readers[p] = append(readers[p], i)
			}
		}
	}
	ready := &intHeap{}
	for i := range nodes {
		if waits[i] == 0 {
			heap.Push(ready, i)
		}
	}
	order := make([]int, 0, len(nodes))
	for ready.Len() > 0 {
		i := heap.Pop(ready).(int)
		order = append(order, i)
		for _, r := range readers[i] {
			if waits[r]--; waits[r] == 0 {
				heap.Push(ready, r)
			}
		}
	}
	if len(order) == len(nodes) {
		imp.order = order
		return
	}
	var stuck []string
	for i := range nodes {
		if waits[i] > 0 {
			stuck = append(stuck, imp.nodeName(i))
		}
	}
	imp.report(Problem{Kind: Structure, Reason: fmt.Sprintf("the graph has a cycle; %d nodes wait for their own results: %s", len(stuck), nameList(stuck)),
		WayOut: "export the model again: the file contradicts itself"})
}

// group is all nodes that are refused for one reason.
type group struct {
	key   string
	nodes []int
}

// checkFamilies reports operators that are refused as a family, once each:
// attention, recurrence, control flow, quantisation, foreign domains.
func (imp *importer) checkFamilies() {
	var groups []*group
	byKey := make(map[string]*group)
	add := func(key string, i int) {
		g := byKey[key]
		if g == nil {
			g = &group{key: key}
			byKey[key] = g
			groups = append(groups, g)
		}
		g.nodes = append(g.nodes, i)
	}
	nodes := imp.m.graph.nodes
	for i := range nodes {
		n := &nodes[i]
		switch f := familyOf[n.op]; {
		case n.domain != "":
			add("domain "+n.domain, i)
		case f != nil:
			add("family "+string(f.kind)+f.reason, i)
		}
	}
	for _, g := range groups {
		n := &nodes[g.nodes[0]]
		p := Problem{Node: imp.nodeName(g.nodes[0]), Op: n.op}
		if n.domain != "" {
			p.Kind, p.Op = CustomDomain, n.domain+"::"+n.op
			p.Reason = fmt.Sprintf("operator %s is not of the ONNX standard%s", imp.opList(g.nodes), imp.places(g.nodes))
			p.WayOut = "express it by standard layers, or take it out of the exported part"
			if len(imp.m.functions) > 0 {
				p.WayOut += "; the model's own functions, which were read, don't have it"
			}
		} else {
			f := familyOf[n.op]
			p.Kind = f.kind
			p.Reason = fmt.Sprintf("%s: %s%s", f.reason, imp.opList(g.nodes), imp.places(g.nodes))
			p.WayOut = f.wayOut
		}
		imp.report(p)
	}
	imp.checkAttention()
}

// opList names the operators of some nodes, with counts.
func (imp *importer) opList(nodes []int) string {
	count := make(map[string]int)
	for _, i := range nodes {
		n := &imp.m.graph.nodes[i]
		op := n.op
		if n.domain != "" {
			op = n.domain + "::" + n.op
		}
		count[op]++
	}
	names := make([]string, 0, len(count))
	for op := range count {
		names = append(names, op)
	}
	sort.Strings(names)
	for i, op := range names {
		names[i] = fmt.Sprintf("%s (%d)", op, count[op])
	}
	if len(names) > 8 {
		names = append(names[:8], "...")
	}
	return strings.Join(names, ", ")
}

// places names the first nodes where there is more than one.
func (imp *importer) places(nodes []int) string {
	if len(nodes) == 1 {
		return ""
	}
	names := make([]string, len(nodes))
	for j, i := range nodes {
		names[j] = imp.nodeName(i)
	}
	return " at " + nameList(names)
}

// thinOps pass scores of attention on to what they weight, through a Softmax, one in primitives, or what some have in its place.
var thinOps = map[string]bool{"Add": true, "Sub": true, "Mul": true, "Div": true, "Where": true, "Cast": true, "Reshape": true,
	"Transpose": true, "Identity": true, "Clip": true, "Unsqueeze": true, "Squeeze": true, "Softmax": true, "Exp": true, "Reciprocal": true,
	"ReduceMax": true, "ReduceSum": true, "Max": true, "Sigmoid": true, "Relu": true, "Tanh": true, "Pow": true, "Expand": true, "Dropout": true}

// products are the operators that can multiply two activations.
var products = map[string]bool{"MatMul": true, "Gemm": true, "Einsum": true}

// checkAttention looks for products of two activations: values that depend on
// the model's inputs. Where such a product is normalised by a Softmax, whole or in
// primitives, or weights another one, it is attention, whatever stands between. It goes by names alone, so that it also works where
// shapes can't be inferred.
func (imp *importer) checkAttention() {
	if imp.order == nil {
		return
	}
	g := imp.m.graph
	active, scores := make(map[string]bool), make(map[string]bool)
	for i := range g.inputs {
		active[g.inputs[i].name] = imp.inits[g.inputs[i].name] == nil
	}
	var found, softmaxes []int
	weights := false
	for _, i := range imp.order {
		n := &g.nodes[i]
		count, score := 0, false
		for _, in := range n.inputs {
			if active[in] {
				count++
			}
			score = score || scores[in]
		}
		product := products[n.op] && n.domain == "" && len(n.inputs) >= 2 && active[n.inputs[0]] && active[n.inputs[1]]
		if product {
			found = append(found, i)
			weights = weights || score
		}
		if (n.op == "Softmax" || n.op == "Exp") && score {
			softmaxes = append(softmaxes, i)
		}
		shapeOnly := n.op == "Shape" || n.op == "Size"
		for _, o := range n.outputs {
			active[o] = o != "" && count > 0 && !shapeOnly
			scores[o] = o != "" && (product || score && thinOps[n.op])
		}
	}
	if len(found) == 0 {
		return
	}
	p := Problem{Node: imp.nodeName(found[0]), Op: g.nodes[found[0]].op}
	switch {
	case len(softmaxes) > 0 && g.nodes[softmaxes[0]].op == "Softmax":
		p.Kind = Attention
		p.Reason = fmt.Sprintf("self-attention: %s of two activations, Softmax over length; %d products and %d Softmax%s",
			p.Op, len(found), len(softmaxes), imp.places(found))
	case len(softmaxes) > 0:
		p.Kind = Attention
		p.Reason = fmt.Sprintf("self-attention: %s of two activations, then a softmax written in primitives (node %q); %d products%s", p.Op, imp.nodeName(softmaxes[0]), len(found), imp.places(found))
	case weights:
		p.Kind = Attention
		p.Reason = fmt.Sprintf("self-attention, without a softmax: %s of two activations weights a third; %d products%s", p.Op, len(found), imp.places(found))
	default:
		p.Kind = Unsupported
		p.Reason = fmt.Sprintf("%s of two activations (%d of them)%s: one side must be a weight", p.Op, len(found), imp.places(found))
		p.WayOut = "multiply by learnt weights (nn.Linear, nn.Conv1d) or element by element"
	}
	if p.Kind == Attention {
		p.WayOut = familyOf["Attention"].wayOut
	}
	imp.report(p)
	imp.lateShapes = append(imp.lateShapes, lateShape{len(imp.problems) - 1, found[0]})
}
