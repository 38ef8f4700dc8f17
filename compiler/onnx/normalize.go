package onnx

import (
	"fmt"
	"math"
	"slices"

	"nepcoc/ir"
)

// call is one ONNX node on its way into the graph. Normalisers rewrite it in
// place until it has the form of ir's operator table: that of the newest
// opset in which attributes have become inputs.
type call struct {
	imp     *importer
	op      string
	origin  string
	inputs  []*ir.Value
	attrs   ir.Attrs
	special map[string]*attrProto // tensors, graphs, strings: what ir.Attrs can't hold
	outputs []string              // "" where omitted or unused
}

// normalizers has the operators whose form depends on the opset or that ir's
// table holds in another form.
var normalizers map[string]func(*call) error

// Set by init: the normalisers reach the importer, which reads the table.
func init() {
	normalizers = map[string]func(*call) error{
		"BatchNormalization": normalizeBatchNorm,
		"Cast":               normalizeCast,
		"CastLike":           normalizeCastLike,
		"Clip":               normalizeClip,
		"Constant":           normalizeConstant,
		"ConstantOfShape":    normalizeConstantOfShape,
		"Dropout":            normalizeDropout,
		"GroupNormalization": normalizeGroupNorm,
		"LogSoftmax":         normalizeSoftmax,
		"MaxPool":            normalizeMaxPool,
		"OneHot":             normalizeOneHot,
		"Pad":                normalizePad,
		"ReduceMax":          axesInput(18),
		"ReduceMean":         axesInput(18),
		"ReduceMin":          axesInput(18),
		"ReduceProd":         axesInput(18),
		"ReduceL1":           axesInput(18),
		"ReduceL2":           axesInput(18),
		"ReduceSumSquare":    axesInput(18),
		"ReduceSum":          axesInput(13),
		"Slice":              normalizeSlice,
		"Softmax":            normalizeSoftmax,
		"Split":              normalizeSplit,
		"Squeeze":            axesInput(13),
		"Unsqueeze":          axesInput(13),
	}
}

// normalizeClip moves the bounds to inputs, as opset 11 did.
func normalizeClip(c *call) error {
	if c.imp.opset >= 11 {
		return nil
	}
	if len(c.inputs) > 1 {
		return rejectf(Structure, wayConsistent, "%d inputs; the bounds are attributes before opset 11", len(c.inputs))
	}
	var bounds [2]*ir.Value
	for i, name := range []string{"min", "max"} {
		v, ok := c.attrs[name].(float64)
		if !ok {
			continue
		}
		delete(c.attrs, name)
		bounds[i] = c.imp.newConst(c.outputs[0]+"."+name, ir.Float32s([]float32{float32(v)}, []int{}...))
	}
	c.inputs = append(c.inputs, bounds[0], bounds[1])
	for len(c.inputs) > 1 && c.inputs[len(c.inputs)-1] == nil {
		c.inputs = c.inputs[:len(c.inputs)-1]
	}
	return nil
}

// normalizeSlice moves starts, ends and axes to inputs, as opset 10 did.
func normalizeSlice(c *call) error {
	for i, name := range []string{"starts", "ends", "axes"} {
		if err := c.intsToInput(name, 1+i, 10); err != nil {
			return err
		}
	}
	return nil
}

const wayConsistent = "export the model again: torch.onnx.export writes a consistent file"

// intsToInput moves an integer-list attribute to an input, as opset `since`
// did for this operator.
func (c *call) intsToInput(name string, input, since int) error {
	v, given := c.attrs[name]
	if c.imp.opset >= since {
		if given {
			return rejectf(Structure, wayConsistent,
				"attribute %q, which became an input in opset %d", name, since)
		}
		return nil
	}
	if len(c.inputs) > input {
		return rejectf(Structure, wayConsistent,
			"%d inputs; %s is an attribute before opset %d", len(c.inputs), name, since)
	}
	if !given {
		return nil
	}
	list, ok := v.([]int)
	if !ok {
		return rejectf(Structure, "", "attribute %q has the wrong type (%T)", name, v)
	}
	delete(c.attrs, name)
	if len(list) == 0 && name == "axes" {
		return nil // "no axes" means all of them in both forms
	}
	for len(c.inputs) < input {
		c.inputs = append(c.inputs, nil)
	}
	data := make([]int64, len(list))
	for i, x := range list {
		data[i] = int64(x)
	}
	c.inputs = append(c.inputs, c.imp.newConst(c.outputs[0]+"."+name, ir.Int64s(data, len(data))))
	return nil
}

func axesInput(since int) func(*call) error {
	return func(c *call) error { return c.intsToInput("axes", 1, since) }
}

func normalizeBatchNorm(c *call) error {
	if spatial, ok := c.attrs["spatial"]; ok && c.imp.opset < 9 {
		if spatial != 1 {
			return rejectf(Unsupported, "normalise each channel over all positions (spatial=1, as nn.BatchNorm1d does)", "batch normalisation with parameters per position (spatial=0)")
		}
		delete(c.attrs, "spatial")
	}
	if c.attrs["training_mode"] == 1 {
		return rejectf(Unsupported, "call model.eval() before torch.onnx.export", "batch normalisation in training mode")
	}
	return nil
}

func normalizeCast(c *call) error {
	delete(c.attrs, "saturate") // concerns float8 only
	to, ok := c.attrs["to"].(int)
	if !ok {
		return rejectf(Structure, "", "no attribute \"to\"")
	}
	d := lookupDType(int32(min(max(to, 0), math.MaxInt32)))
	if d == nil {
		return rejectf(Structure, "", "casts to element type %d, which ONNX does not define", to)
	}
	if d.ir == ir.Invalid {
		return rejectf(ElementType, wayOutOfType(d.name), "casts to %s", d.name)
	}
	c.attrs["to"] = d.ir.String()
	return nil
}

func normalizeCastLike(c *call) error {
	if len(c.inputs) != 2 || c.inputs[1] == nil {
		return rejectf(Structure, "", "has %d inputs, takes 2", len(c.inputs))
	}
	delete(c.attrs, "saturate")
	c.op = "Cast"
	c.attrs["to"] = c.inputs[1].Type.DType.String()
	c.inputs = c.inputs[:1]
	return nil
}

// normalizeConstant binds the output to a constant; no node is left.
func normalizeConstant(c *call) error {
	if len(c.inputs) > 0 || len(c.attrs)+len(c.special) != 1 {
		return rejectf(Structure, "", "a Constant has no inputs and one attribute, this has %d and %d", len(c.inputs), len(c.attrs)+len(c.special))
	}
	var t *ir.Tensor
	var err error
	switch {
	case c.special["value"] != nil:
		if t, err = c.imp.tensor(c.special["value"].tensor, c.outputs[0]); err != nil {
			return err
		}
	case c.attrs["value_float"] != nil:
		if v, ok := c.attrs["value_float"].(float64); ok {
			t = ir.Float32s([]float32{float32(v)})
		}
	case c.attrs["value_int"] != nil:
		if v, ok := c.attrs["value_int"].(int); ok {
			t = ir.Int64s([]int64{int64(v)})
		}
	case c.attrs["value_floats"] != nil:
		if v, ok := c.attrs["value_floats"].([]float64); ok {
			data := make([]float32, len(v))
			for i, x := range v {
				data[i] = float32(x)
			}
			t = ir.Float32s(data, len(data))
		}
	case c.attrs["value_ints"] != nil:
		if v, ok := c.attrs["value_ints"].([]int); ok {
			data := make([]int64, len(v))
			for i, x := range v {
				data[i] = int64(x)
			}
			t = ir.Int64s(data, len(data))
		}
	}
	if t == nil {
		return rejectf(Unsupported, "use tensors or numbers as constants", "a constant that is no tensor of numbers")
	}
	if t.Shape == nil {
		t.Shape = []int{}
	}
	c.imp.define(c.outputs[0], &ir.Value{Name: c.outputs[0], Type: t.Type, Const: t})
	c.outputs = nil
	return nil
}

func normalizeConstantOfShape(c *call) error {
	a := c.special["value"]
	if a == nil {
		return nil
	}
	delete(c.special, "value")
	t, err := c.imp.tensor(a.tensor, c.outputs[0])
	if err != nil {
		return err
	}
	if t.Len() != 1 {
		return rejectf(Structure, "", "attribute value is %v, wants one element", t.Type)
	}
	c.attrs["dtype"] = t.DType.String()
	if b, ok := t.Data.([]bool); ok {
		v := 0
		if b[0] {
			v = 1
		}
		c.attrs["value"] = v
	} else if ints, ok := t.Ints(); ok {
		c.attrs["value"] = ints[0]
	} else if floats, ok := t.Floats(); ok {
		if x := floats[0]; x-x != 0 {
			return rejectf(NonFinite, "use a large finite number instead (-1e4 masks as well)", "fills with %v", x)
		}
		c.attrs["value"] = floats[0]
	}
	return nil
}

func normalizeDropout(c *call) error {
	if len(c.inputs) > 3 {
		return rejectf(Structure, "", "has %d inputs, takes 1 to 3", len(c.inputs))
	}
	if len(c.inputs) == 3 && c.inputs[2] != nil {
		mode := c.inputs[2].Const
		if mode == nil || mode.Len() != 1 || !isFalse(mode) {
			return rejectf(Unsupported, "call model.eval() before torch.onnx.export", "dropout in training mode")
		}
	}
	c.inputs = c.inputs[:min(len(c.inputs), 1)]
	clear(c.attrs)
	return nil
}

func isFalse(t *ir.Tensor) bool {
	b, ok := t.Data.([]bool)
	return ok && len(b) == 1 && !b[0]
}

// normalizeGroupNorm repeats the per-group scale and bias of opsets 18 to 20
// for every channel, as opset 21 has them.
func normalizeGroupNorm(c *call) error {
	groups, _ := c.attrs["num_groups"].(int)
	if c.imp.opset >= 21 || len(c.inputs) != 3 || c.inputs[0] == nil || len(c.inputs[0].Type.Shape) < 2 || groups <= 0 {
		return nil
	}
	channels := c.inputs[0].Type.Shape[1]
	if channels%groups != 0 {
		return nil // the shape rule says so
	}
	for i, what := range []string{1: "scale", 2: "bias"} {
		if what == "" {
			continue
		}
		v := c.inputs[i]
		if v == nil || v.Const == nil || !slices.Equal(v.Type.Shape, []int{groups}) {
			return rejectf(Unsupported, "export with opset_version=21", "%s of a group normalisation before opset 21 must be a constant per group", what)
		}
		src, ok := v.Const.Data.([]float32)
		if !ok {
			return rejectf(ElementType, "export in float32: model.float()", "%s is %v", what, v.Type)
		}
		data := make([]float32, channels)
		for j := range data {
			data[j] = src[j/(channels/groups)]
		}
		c.inputs[i] = c.imp.newConst(c.outputs[0]+"."+what, ir.Float32s(data, channels))
	}
	return nil
}

func normalizeMaxPool(c *call) error {
	delete(c.attrs, "storage_order") // of the indices, which are not taken
	return nil
}

// normalizeOneHot writes it as the comparison with 0, 1, ... that it is: of ids, which are not negative, those
// beyond the depth have no place in either.
func normalizeOneHot(c *call) error {
	if len(c.inputs) != 3 || slices.Contains(c.inputs, nil) {
		return rejectf(Structure, wayConsistent, "has %d inputs, takes 3", len(c.inputs))
	}
	ids, depth, values := c.inputs[0], c.inputs[1].Const, c.inputs[2].Const
	axis := len(ids.Type.Shape)
	if a, ok := c.attrs["axis"].(int); ok && a != -1 {
		if axis = a; a < 0 {
			axis = a + len(ids.Type.Shape) + 1
		}
	}
	delete(c.attrs, "axis")
	switch {
	case depth == nil || values == nil:
		return rejectf(Unsupported, "let the number of classes be fixed", "the depth or the values of a one-hot are computed")
	case depth.Len() != 1 || values.Len() != 2:
		return rejectf(Structure, wayConsistent, "depth is %v, values are %v", depth.Type, values.Type)
	case axis < 0 || axis > len(ids.Type.Shape):
		return rejectf(Shape, "", "axis is outside of rank %d", len(ids.Type.Shape)+1)
	}
	d, ok := depth.Floats()
	if !ok {
		n, _ := depth.Ints()
		d = []float64{float64(n[0])}
	}
	n := int(d[0])
	if !(d[0] >= 1 && d[0] <= maxFoldInts*4) {
		return rejectf(TooLarge, "use an embedding (nn.Embedding)", "a one-hot of %g classes", d[0])
	}
	name := c.outputs[0]
	shape := slices.Insert(slices.Clone(ids.Type.Shape), axis, 1)
	wide, err := c.imp.reshape(c.origin, name+".ids", ids, shape...)
	if err != nil {
		return err
	}
	index := make([]int64, n)
	for i := range index {
		index[i] = int64(i)
	}
	along := slices.Repeat([]int{1}, len(shape))
	along[axis] = n
	numbers := ir.Int64s(index, along...)
	if wide.Type.DType != ir.I64 {
		out, err := c.imp.emit("Cast", c.origin, []*ir.Value{wide}, ir.Attrs{"to": "i64"}, c.imp.fresh(name+".ints"))
		if err != nil {
			return err
		}
		wide = out[0]
	}
	equal, err := c.imp.emit("Equal", c.origin, []*ir.Value{wide, c.imp.newConst(name+".classes", numbers)}, nil, c.imp.fresh(name+".equal"))
	if err != nil {
		return err
	}
	if v, ok := values.Ints(); ok && v[0] == 0 && v[1] == 1 {
		c.op, c.inputs, c.attrs = "Cast", equal, ir.Attrs{"to": values.DType.String()}
		return nil
	}
	v, ok := values.Floats()
	switch {
	case !ok:
		return rejectf(Unsupported, "write the one-hot in float32, with values 0 and 1", "values are %v", values.Type)
	case v[0] == 0 && v[1] == 1:
		c.op, c.inputs, c.attrs = "Cast", equal, ir.Attrs{"to": values.DType.String()}
		return nil
	}
	on, off := ir.Float32s([]float32{float32(v[1])}, []int{}...), ir.Float32s([]float32{float32(v[0])}, []int{}...)
	c.op, c.inputs = "Where", []*ir.Value{equal[0], c.imp.newConst(name+".on", on), c.imp.newConst(name+".off", off)}
	return nil
}

func normalizePad(c *call) error {
	if c.imp.opset < 11 {
		value, given := c.attrs["value"].(float64)
		delete(c.attrs, "value")
		if err := c.intsToInput("pads", 1, 11); err != nil {
			return err
		}
		if given && value != 0 && len(c.inputs) == 2 {
			c.inputs = append(c.inputs, c.imp.newConst(c.outputs[0]+".value", ir.Float32s([]float32{float32(value)}, []int{}...)))
		}
		return nil
	}
	if len(c.inputs) > 3 && c.imp.opset < 18 {
		return rejectf(Structure, "", "input axes, which is new in opset 18")
	}
	if c.attrs["mode"] == "wrap" && c.imp.opset < 19 {
		return rejectf(Structure, "", "mode \"wrap\", which is new in opset 19")
	}
	return nil
}

// normalizeSoftmax gives the operator its opset-13 meaning. Before, it flattened
// its operand to [dims before axis, dims from axis on] and worked on rows.
func normalizeSoftmax(c *call) error {
	if c.imp.opset >= 13 || len(c.inputs) != 1 || c.inputs[0] == nil {
		return nil
	}
	x := c.inputs[0]
	shape := x.Type.Shape
	axis := 1
	if a, ok := c.attrs["axis"].(int); ok {
		axis = a
	}
	if axis < 0 {
		axis += len(shape)
	}
	if axis < 0 || axis > len(shape) || len(shape) == 0 {
		return rejectf(Shape, "", "axis %d is outside rank %d", axis, len(shape))
	}
	// At most one dimension from axis on is more than 1: same thing.
	wide, at := 0, min(axis, len(shape)-1)
	for i := axis; i < len(shape); i++ {
		if shape[i] != 1 {
			wide, at = wide+1, i
		}
	}
	c.attrs["axis"] = at
	if wide <= 1 && axis < len(shape) {
		return nil
	}
	rows, cols := ir.NumElements(shape[:axis]), ir.NumElements(shape[axis:])
	flat, err := c.imp.reshape(c.origin, c.outputs[0]+".flat", x, rows, cols)
	if err != nil {
		return err
	}
	c.attrs["axis"] = 1
	soft, err := c.imp.emit(c.op, c.origin, []*ir.Value{flat}, c.attrs, c.imp.fresh(c.outputs[0]+".rows"))
	if err != nil {
		return err
	}
	c.op, c.attrs = "Reshape", ir.Attrs{"allowzero": 1}
	c.inputs = []*ir.Value{soft[0], c.imp.shapeConst(c.outputs[0]+".shape", shape)}
	return nil
}

func normalizeSplit(c *call) error {
	if c.imp.opset < 18 {
		if _, given := c.attrs["num_outputs"]; given {
			return rejectf(Structure, "", "attribute num_outputs, which is new in opset 18")
		}
	}
	return c.intsToInput("split", 1, 13)
}

// wayOutOfType is what to do about an element type that isn't taken.
func wayOutOfType(name string) string {
	switch name {
	case "uint32", "uint64":
		return "use int64 for integers"
	case "string":
		return "keep strings outside the model and pass numbers"
	}
	return fmt.Sprintf("export in float32 instead of %s", name)
}
