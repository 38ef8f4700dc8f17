package onnx

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"nepcoc/internal/filekind"
	"nepcoc/internal/files"
	"nepcoc/ir"
	"nepcoc/ir/eval"
)

// The opsets of the standard's own domain that are read.
const (
	MinOpset = ir.MinOpset
	MaxOpset = ir.MaxOpset
)

// maxFile is the largest file read; protobuf itself ends at 2 GiB.
const maxFile = 1<<31 - 1

// Dim is a dimension as the file has it: a size, or the name of an unknown one.
type Dim struct {
	Size  int    `json:"size,omitempty"`
	Known bool   `json:"known"`
	Param string `json:"param,omitempty"`
}

func (d Dim) String() string {
	switch {
	case d.Known:
		return fmt.Sprint(d.Size)
	case d.Param != "":
		return d.Param
	}
	return "?"
}

// Port is a graph input or output as the file declares it.
type Port struct {
	Name  string `json:"name"`
	DType string `json:"dtype"`
	Dims  []Dim  `json:"dims"`
}

// Info is what the file says about itself.
type Info struct {
	SHA256          string            `json:"sha256"`
	Bytes           int               `json:"bytes"`
	IRVersion       int               `json:"ir_version"`
	Opset           int               `json:"opset"`
	Producer        string            `json:"producer"`
	ProducerVersion string            `json:"producer_version"`
	ModelVersion    string            `json:"model_version,omitempty"`
	GraphName       string            `json:"graph_name"`
	Doc             string            `json:"doc,omitempty"`
	Metadata        map[string]string `json:"metadata,omitempty"`
	Nodes           int               `json:"nodes"`
	Inputs          []Port            `json:"inputs"`
	Outputs         []Port            `json:"outputs"`
	// Data are the files beside the model that its weights lie in, by their names in it.
	Data []string `json:"data,omitempty"`
	// Sizes are the dynamic dimensions that were given a size, by name.
	Sizes map[string]int `json:"sizes,omitempty"`
	// Notes are remarks on how the file was read.
	Notes []string `json:"notes,omitempty"`
}

// Options are what a file leaves open.
type Options struct {
	// Length is the size of dynamic dimensions: of each input the one besides the batch that Sizes
	// doesn't name; 0: none. Inputs with two of them need Sizes.
	Length int
	// Sizes are the sizes of dynamic dimensions by name: their symbol in the file, or INPUT.AXIS
	// of one that has none.
	Sizes map[string]int
}

// wayTooLarge is what to do about a model that no bundle could hold.
const wayTooLarge = "make the model smaller: bundles hold models of a few hundred operators and some ten million weights"

// ImportFile reads and imports a model file, and the files beside it that its weights
// lie in. The error of a file that was read but can't be taken is a *Refusal.
func ImportFile(path string, o Options) (*ir.Graph, *Info, error) {
	data, err := files.All(path, maxFile)
	if errors.Is(err, files.ErrTooLarge) {
		return nil, nil, &Refusal{File: path, Problems: []Problem{{Kind: TooLarge, File: path, Reason: "an ONNX file has at most 2 GiB", WayOut: wayTooLarge}}}
	}
	if errors.Is(err, files.ErrFolder) {
		return nil, nil, fmt.Errorf("model %w%s", err, filekind.Folder(path))
	}
	if err != nil {
		return nil, nil, fmt.Errorf("model %w", err)
	}
	if files.IsStdin(path) {
		return importModel(files.Show(path), data, o, nil)
	}
	return importModel(path, data, o, &dataFolder{name: filepath.Dir(path)})
}

// Import turns the bytes of a model file into a graph of ONNX operators with
// static types; the batch dimension becomes 1. The name is for messages. A
// model that can't be taken gives a *Refusal with all that stands against it: so does
// one with weights in other files, which bytes alone don't lead to.
//
// The graph keeps nothing of data.
func Import(name string, data []byte) (*ir.Graph, *Info, error) {
	return importModel(name, data, Options{}, nil)
}

// importModel imports a model. Its external data lie in folder; nil: there is none.
func importModel(name string, data []byte, o Options, folder *dataFolder) (*ir.Graph, *Info, error) {
	m, err := readModel(data)
	if err != nil {
		p := Problem{Kind: Damaged, File: name, Reason: err.Error(),
			WayOut: "check that this is the file torch.onnx.export wrote and that it was copied whole (compare sizes or digests)"}
		if w := (*wireError)(nil); errors.As(err, &w) && w.limit {
			p.Kind, p.WayOut = TooLarge, wayTooLarge
		}
		if k := filekind.Of(name, data[:min(len(data), filekind.Head)]); k != nil && k.ID != filekind.ONNX && k.ID != filekind.Text {
			p.Kind, p.Reason, p.WayOut = OtherFile, "this is no ONNX model; it is "+k.What, k.WayOut
		}
		return nil, nil, &Refusal{File: name, Problems: []Problem{p}}
	}
	imp := newImporter(name, m)
	imp.options = o
	imp.inlineFunctions()
	imp.loadExternal(folder)
	imp.run()
	if len(imp.problems) > 0 {
		return nil, nil, &Refusal{File: name, Problems: imp.problems, Partial: imp.partial(), Info: imp.info()}
	}
	info := imp.info()
	info.SHA256, info.Bytes = imp.digest(data), len(data)
	return imp.g, info, nil
}

type importer struct {
	file     string
	options  Options
	m        *modelProto
	opset    int
	g        *ir.Graph
	problems []Problem

	decoded *decoded
	order   []int // of nodes, topological

	ports  map[string]*valueInfo // graph inputs
	inits  map[string]*tensorProto
	values map[string]*ir.Value // defined so far, by ONNX name; nil: can't be known, reported elsewhere
	names  map[string]bool      // every value name of the file and of ours
	used   map[string]bool      // read by a node or an output

	badTypes map[string][]string // element type -> tensors of it
	badSeen  map[string]bool     // tensors in badTypes
	foldLeft int                 // elements that may still be folded

	lateShapes []lateShape

	data     []string // files that external data were read from, sorted
	standIns int      // elements of stand-ins so far
	notes    []string
	sizes    map[string]int // of dynamic dimensions
}

// Folding at import serves shapes: integers of any origin, and floats only as
// scalars of shape arithmetic. The weights' own arithmetic is left to
// passes/canonical, where it can be seen in a dump.
const (
	maxFoldInts   = 1 << 16
	maxFoldFloats = 16
	maxFoldTotal  = 1 << 20
)

// lateShape asks for the operand types of a node in a problem that was found
// before types were inferred.
type lateShape struct{ problem, node int }

func (imp *importer) fillShapes() {
	for _, l := range imp.lateShapes {
		p := &imp.problems[l.problem]
		for _, in := range imp.m.graph.nodes[l.node].inputs {
			if v := imp.values[in]; v != nil {
				p.Shapes = append(p.Shapes, v.Type.String())
			}
		}
	}
}

func newImporter(name string, m *modelProto) *importer {
	imp := &importer{
		file: name, m: m,
		g:        &ir.Graph{Name: m.graph.name},
		inits:    make(map[string]*tensorProto),
		values:   make(map[string]*ir.Value),
		names:    make(map[string]bool),
		used:     make(map[string]bool),
		badTypes: make(map[string][]string),
		badSeen:  make(map[string]bool),
		foldLeft: maxFoldTotal,
	}
	for _, o := range m.opsets { // for messages; checkModel looks closer
		if o.domain == "" || o.domain == "ai.onnx" {
			imp.opset = int(o.version)
		}
	}
	return imp
}

func (imp *importer) report(p Problem) {
	if len(imp.problems) >= maxKept {
		return
	}
	p.File = imp.file
	if p.Node != "" {
		p.Opset = imp.opset
	}
	imp.problems = append(imp.problems, p)
}

func (imp *importer) run() {
	imp.checkModel()
	imp.checkStructure()
	imp.checkFamilies()
	if imp.order == nil || imp.opset < MinOpset || imp.opset > MaxOpset {
		return // not a graph, or operators of unknown meaning: no more can be said of its values
	}
	d, err := decodeGraph(imp.m)
	if err != nil {
		imp.report(Problem{Kind: Structure, Reason: err.Error(), WayOut: "export the model again"})
		return
	}
	imp.decoded = d
	imp.bindInputs()
	for _, i := range imp.order {
		imp.node(i)
	}
	imp.bindOutputs()
	imp.reportTypes()
	imp.fillShapes()
	imp.forgetAssumed()
	if len(imp.problems) > 0 {
		return
	}
	imp.g.Sweep()
	imp.integerInputs()
	imp.checkFinite()
	if len(imp.problems) > 0 {
		return
	}
	if err := ir.Check(imp.g); err != nil {
		imp.report(Problem{Kind: Structure, Reason: err.Error()})
	}
}

// define binds an ONNX name; a nil value says that its type can't be known.
func (imp *importer) define(name string, v *ir.Value) { imp.values[name] = v }

// fresh makes a name that the file doesn't use.
func (imp *importer) fresh(name string) string {
	base := name
	for i := 1; imp.names[name]; i++ {
		name = fmt.Sprintf("%s.%d", base, i)
	}
	imp.names[name] = true
	return name
}

func (imp *importer) newConst(name string, t *ir.Tensor) *ir.Value {
	return ir.NewConst(imp.fresh(name), t)
}

func (imp *importer) shapeConst(name string, shape []int) *ir.Value {
	data := make([]int64, len(shape))
	for i, d := range shape {
		data[i] = int64(d)
	}
	return imp.newConst(name, ir.Int64s(data, len(data)))
}

// reshape emits a Reshape that a normaliser needs.
func (imp *importer) reshape(origin, name string, x *ir.Value, shape ...int) (*ir.Value, error) {
	out, err := imp.emit("Reshape", origin, []*ir.Value{x, imp.shapeConst(name+".shape", shape)}, ir.Attrs{"allowzero": 1}, imp.fresh(name))
	if err != nil {
		return nil, err
	}
	return out[0], nil
}

// tensor decodes a payload, or notes why its type keeps the model out.
func (imp *importer) tensor(t *tensorProto, name string) (*ir.Tensor, error) {
	if t.external {
		return imp.standIn(t)
	}
	if d := lookupDType(t.dtype); d == nil || d.ir == ir.Invalid {
		imp.badType(t.dtype, name)
		return nil, errReported
	}
	v, err := t.decode()
	if err != nil {
		return nil, rejectf(Damaged, "export the model again", "%v", err)
	}
	return v, nil
}

// errReported ends the work on a node about which the user already reads.
var errReported = errors.New("reported")

func (imp *importer) badType(dtype int32, name string) {
	key := fmt.Sprintf("element type %d", dtype)
	if d := lookupDType(dtype); d != nil {
		key = d.name
	}
	if !imp.badSeen[name] {
		imp.badSeen[name] = true
		imp.badTypes[key] = append(imp.badTypes[key], name)
	}
}

// reportTypes says once per element type which tensors have it.
func (imp *importer) reportTypes() {
	for i := range onnxDTypes {
		d := &onnxDTypes[i]
		names := imp.badTypes[d.name]
		if len(names) == 0 {
			continue
		}
		imp.report(Problem{Kind: ElementType, Reason: fmt.Sprintf("%s weights, inputs or outputs: %s (%d in all)", d.name, nameList(names), len(names)),
			WayOut: wayOutOfType(d.name)})
	}
}

// value finds what an operand name stands for. ok is false where it is
// unknown because of a problem already reported.
func (imp *importer) value(name string) (v *ir.Value, ok bool) {
	if v, ok := imp.values[name]; ok {
		return v, v != nil
	}
	t := imp.inits[name]
	if t == nil {
		return nil, false
	}
	c, err := imp.tensor(t, name)
	if err != nil {
		var r *reject
		if errors.As(err, &r) {
			imp.report(Problem{Kind: r.kind, Reason: r.reason, WayOut: r.wayOut})
		}
		imp.define(name, nil)
		return nil, false
	}
	v = ir.NewConst(name, c)
	imp.define(name, v)
	return v, true
}

func (imp *importer) nodeName(i int) string {
	n := &imp.m.graph.nodes[i]
	if n.name != "" {
		return n.name
	}
	return fmt.Sprintf("#%d", i)
}

// node imports one operator, or leaves its results undefined and says why.
func (imp *importer) node(i int) {
	n, d := &imp.m.graph.nodes[i], &imp.decoded.ops[i]
	if len(imp.problems) >= maxKept {
		return // enough to tell; don't work on what nobody will read
	}
	c := &call{imp: imp, op: d.op, origin: imp.nodeName(i), attrs: ir.Attrs{}, special: map[string]*attrProto{}}
	c.outputs = slices.Clone(d.outputs)
	err := imp.prepare(c, n, d)
	if err == nil {
		err = imp.lower(c)
	}
	if err == nil {
		return
	}
	for _, o := range d.outputs {
		if _, done := imp.values[o]; !done && o != "" {
			imp.define(o, nil)
		}
	}
	if errors.Is(err, errReported) {
		return
	}
	p := Problem{Kind: Shape, Node: c.origin, Op: n.op, Reason: err.Error()}
	var r *reject
	switch {
	case errors.As(err, &r):
		p.Kind, p.WayOut = r.kind, r.wayOut
	case errors.Is(err, ir.ErrNotConst):
		p.Kind = Unsupported
		p.WayOut = "make it a fixed number in PyTorch: sizes, bounds and axes must not depend on the input's values"
	default:
		p.WayOut = "check the layer's sizes and options against its input, and export again from a model that runs in PyTorch"
	}
	for _, v := range c.inputs {
		if v != nil {
			p.Shapes = append(p.Shapes, v.Type.String())
		}
	}
	imp.report(p)
}

// prepare checks the operator and collects its operands and attributes.
func (imp *importer) prepare(c *call, n *nodeProto, d *decodedOp) error {
	if n.domain != "" || familyOf[n.op] != nil {
		return errReported // by checkFamilies
	}
	op := ir.LookupOp(n.op)
	if (op == nil || op.Group != ir.GroupONNX) && normalizers[n.op] == nil {
		if known[n.op] {
			return rejectf(Unsupported, "express it by supported operators, or take it out of the exported part", "operator %s is not compiled", n.op)
		}
		way := "custom operators can't be compiled; express it by standard layers"
		if near := nearestOp(n.op); near != "" {
			way = fmt.Sprintf("did you mean %s?", near)
		}
		return rejectf(UnknownOp, way, "ONNX has no operator %q", n.op)
	}
	if op != nil && imp.opset < op.MinOpset {
		return rejectf(OpsetVersion, fmt.Sprintf("export with opset_version=%d or newer", op.MinOpset),
			"operator %s is new in opset %d, the model says opset %d", n.op, op.MinOpset, imp.opset)
	}
	known := true
	for _, name := range d.inputs {
		var v *ir.Value
		if name != "" {
			var ok bool
			if v, ok = imp.value(name); !ok {
				known = false
			}
		}
		c.inputs = append(c.inputs, v)
	}
	if !known {
		return errReported
	}
	for len(c.inputs) > 0 && c.inputs[len(c.inputs)-1] == nil {
		c.inputs = c.inputs[:len(c.inputs)-1]
	}
	if err := c.takeAttrs(n, d); err != nil {
		return err
	}
	return c.trimOutputs(op)
}

// takeAttrs converts what onnx-go decoded; the rest is kept from the wire.
func (c *call) takeAttrs(n *nodeProto, d *decodedOp) error {
	for i := range n.attrs {
		a := &n.attrs[i]
		if a.ref != "" {
			return rejectf(Structure, "export the model again: the file contradicts itself",
				"attribute %q refers to attribute %q of a function, outside of any", a.name, a.ref)
		}
		switch v := d.attrs[a.name].(type) {
		case int64:
			c.attrs[a.name] = int(v)
		case float32:
			if v-v != 0 {
				return rejectf(NonFinite, "check the layer's options, and export again", "attribute %q is %v", a.name, v)
			}
			c.attrs[a.name] = float64(v)
		case string:
			c.attrs[a.name] = v
		case []int64:
			list := make([]int, len(v))
			for j, x := range v {
				list[j] = int(x)
			}
			c.attrs[a.name] = list
		case []float32:
			list := make([]float64, len(v))
			for j, x := range v {
				list[j] = float64(x)
			}
			c.attrs[a.name] = list
		default:
			if a.plain() && a.kind != attrStrings {
				return rejectf(Structure, "", "attribute %q: onnx-go has %T, the wire a %s", a.name, v, a.kind)
			}
			c.special[a.name] = a
		}
	}
	return nil
}

// named is a result's name, on which to build others: unlike node names those
// are unique, and every node has one.
func (c *call) named() string {
	return c.outputs[slices.IndexFunc(c.outputs, func(o string) bool { return o != "" })]
}

// trimOutputs drops trailing results that nobody reads and that ir's form of
// the operator doesn't have: masks, indices, running statistics.
func (c *call) trimOutputs(op *ir.Op) error {
	base, last := c.named(), len(c.outputs)-1
	if op == nil || op.MaxOut != ir.Many {
		for ; last > 0 && !c.imp.used[c.outputs[last]]; last-- {
		}
		if most := maxOut(op); last >= most {
			return rejectf(Unsupported, "export in evaluation mode (model.eval()) and use only the first result",
				"output %d (%q) is used, only the first is compiled", last, c.outputs[last])
		}
	}
	c.outputs = c.outputs[:last+1]
	for i, o := range c.outputs {
		if o == "" {
			c.outputs[i] = c.imp.fresh(fmt.Sprintf("%s.%d", base, i))
		}
	}
	return nil
}

func maxOut(op *ir.Op) int {
	if op == nil {
		return 1
	}
	return op.MaxOut
}

func (imp *importer) lower(c *call) error {
	if f := normalizers[c.op]; f != nil {
		if err := f(c); err != nil {
			return err
		}
	}
	if c.outputs == nil {
		return nil
	}
	if len(c.special) > 0 {
		name := slices.Min(slices.Collect(maps.Keys(c.special)))
		return rejectf(Unsupported, "", "attribute %q (%s) is not known here", name, c.special[name].kind)
	}
	if len(c.attrs) == 0 {
		c.attrs = nil
	}
	outs, err := imp.emit(c.op, c.origin, c.inputs, c.attrs, c.outputs...)
	if err != nil {
		return err
	}
	for i, v := range outs {
		imp.define(c.outputs[i], v)
	}
	return nil
}

// emit appends a node with inferred types, or folds it to constants.
func (imp *importer) emit(op, origin string, inputs []*ir.Value, attrs ir.Attrs, outputs ...string) ([]*ir.Value, error) {
	n := &ir.Node{Op: op, Origin: origin, Inputs: inputs, Attrs: attrs}
	for _, name := range outputs {
		n.Outputs = append(n.Outputs, &ir.Value{Name: name, Def: n})
	}
	types, err := ir.Infer(n)
	if err != nil {
		return nil, err
	}
	for i, t := range types {
		if t.Len() > maxElements {
			return nil, rejectf(Shape, "use smaller layers", "result %v has more than %d elements", t, maxElements)
		}
		n.Outputs[i].Type = t
	}
	if done, err := imp.fold(n); err != nil || done {
		return n.Outputs, err
	}
	imp.g.Nodes = append(imp.g.Nodes, n)
	return n.Outputs, nil
}

// partial is the graph of the nodes that were understood; nil where there are none.
func (imp *importer) partial() *ir.Graph {
	g := &ir.Graph{Name: imp.g.Name, Inputs: imp.g.Inputs, Nodes: imp.g.Nodes}
	uses := g.Consumers()
	for _, n := range g.Nodes {
		for _, v := range n.Outputs {
			if len(uses[v]) == 0 {
				g.Outputs, g.OutputNames = append(g.Outputs, v), append(g.OutputNames, v.Name)
			}
		}
	}
	if len(g.Outputs) == 0 || ir.Check(g) != nil {
		return nil
	}
	return g
}

// fold computes a node whose operands are constants where the result serves
// shape arithmetic. Shape and Size need no constants: shapes are static.
func (imp *importer) fold(n *ir.Node) (bool, error) {
	size := 0
	in := make([]*ir.Tensor, len(n.Inputs))
	for i, v := range n.Inputs {
		if v == nil {
			continue
		}
		in[i] = v.Const
		if n.Op == "Shape" || n.Op == "Size" {
			continue
		}
		if v.Const == nil {
			return false, nil
		}
		size += v.Type.Len()
	}
	if n.Op == "Shape" || n.Op == "Size" {
		return true, foldShape(n)
	}
	limit := maxFoldInts
	for _, v := range n.Outputs {
		if v.Type.DType == ir.F32 || v.Type.DType == ir.F64 {
			limit = maxFoldFloats
		}
		size += v.Type.Len()
	}
	if size > limit || size > imp.foldLeft {
		return false, nil
	}
	imp.foldLeft -= size
	out, err := eval.Node(n, in)
	if err != nil {
		return false, err
	}
	for i, v := range n.Outputs {
		v.Const, v.Def = out[i], nil
	}
	return true, nil
}

func foldShape(n *ir.Node) error {
	shape := n.Inputs[0].Type.Shape
	var t *ir.Tensor
	if n.Op == "Size" {
		t = ir.Int64s([]int64{int64(ir.NumElements(shape))})
		t.Shape = []int{}
	} else {
		first, last := ir.ShapeRange(n)
		data := make([]int64, 0, last-first)
		for _, d := range shape[first:last] {
			data = append(data, int64(d))
		}
		t = ir.Int64s(data, len(data))
	}
	v := n.Outputs[0]
	v.Const, v.Def = t, nil
	return nil
}
