package canonical

import (
	"nepcoc/ir"
	"nepcoc/passes/internal/edit"
)

// convolution is a Conv brought to one axis of positions: weights [o,k,in].
type convolution struct {
	weight, bias                            []float32
	o, k, in, groups                        int
	stride, dilation, before, after, length int // length of the result
}

// convolve makes a conv, or a linear layer where there is one position or one tap.
func (l *lowering) convolve(x *view, name string, c convolution) (*ir.Value, error) {
	if x.form == vector {
		if c.length != 1 {
			return nil, refuse("convolve sequences", "a vector is convolved to %d positions", c.length)
		}
		return l.emit("linear", nil, x.val, l.weight(name, c.tap()), l.bias(c.bias))
	}
	if c.k == 1 && c.groups == 1 && c.stride == 1 && c.before == 0 && c.after == 0 {
		return l.emit("linear", nil, x.val, l.weight(name, edit.F32(c.weight, c.o, c.in)), l.bias(c.bias))
	}
	attrs := ir.Attrs{}
	for key, v := range map[string][2]int{"stride": {c.stride, 1}, "dilation": {c.dilation, 1}, "groups": {c.groups, 1},
		"pad_left": {c.before, 0}, "pad_right": {c.after, 0}} {
		if v[0] != v[1] {
			attrs[key] = v[0]
		}
	}
	return l.emit("conv", attrs, x.val, l.weight(name, edit.F32(c.weight, c.o, c.k, c.in)), l.bias(c.bias))
}

// tap is the dense matrix of the only tap that meets a single position.
func (c *convolution) tap() *ir.Tensor {
	t, all := c.before/c.dilation, c.in*c.groups
	w := make([]float32, c.o*all)
	if c.before%c.dilation == 0 && t < c.k {
		for o := range c.o {
			first := o / (c.o / c.groups) * c.in
			copy(w[o*all+first:], c.weight[(o*c.k+t)*c.in:][:c.in])
		}
	}
	return edit.F32(w, c.o, all)
}

// textConv reads a Conv over [1,1,length,width] whose kernel is as wide as the
// data, the way text-CNNs are written: the width is the channels. ok is false
// for any other Conv.
func textConv(n *ir.Node, x *view, weight []float32, w *ir.Window) (c convolution, axes []axis, ok bool) {
	if len(x.axes) != 4 || x.axes[0] != unit || x.axes[1] != unit {
		return c, nil, false
	}
	var pos, ch int
	switch {
	case x.axes[2] == position && x.axes[3] == channel:
		pos, ch = 0, 1
	case x.axes[2] == channel && x.axes[3] == position:
		pos, ch = 1, 0
	default:
		return c, nil, false
	}
	if w.Kernel[ch] != w.In[ch] || w.Before[ch] != 0 || w.After[ch] != 0 || w.Out[ch] != 1 {
		return c, nil, false
	}
	o := n.Inputs[1].Type.Shape[0]
	c = convolution{o: o, k: w.Kernel[pos], in: w.Kernel[ch], groups: 1, weight: weight,
		stride: w.Stride[pos], dilation: w.Dilation[pos], before: w.Before[pos], after: w.After[pos], length: w.Out[pos]}
	if ch == 0 { // [o,1,width,taps]
		c.weight = make([]float32, len(weight))
		for i := range weight {
			t, in := i%c.k, i/c.k%c.in
			c.weight[(i/(c.k*c.in)*c.k+t)*c.in+in] = weight[i]
		}
	}
	axes = []axis{unit, channel, unit, unit}
	if o == 1 {
		axes[1] = unit
	}
	if c.length != 1 {
		axes[2+pos] = position
	}
	return c, axes, true
}
