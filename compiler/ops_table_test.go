package compiler_test

import m "nepcoc/internal/onnxmodel"

type attrs = m.Attrs

// apply is an operator of one input.
func apply(op string, a attrs) func(*m.Model, string) string {
	return func(g *m.Model, x string) string { return g.Op(op, a, x) }
}

// beside is the input of n numbers beside the sequence.
func beside(g *m.Model, n int) string { return g.Input("beside", m.F32, -1, n) }

// then chains steps.
func then(steps ...func(*m.Model, string) string) func(*m.Model, string) string {
	return func(g *m.Model, x string) string {
		for _, s := range steps {
			x = s(g, x)
		}
		return x
	}
}

// conv is a convolution over positions with random weights.
func conv(out, in, k int, a attrs) func(*m.Model, string) string {
	return func(g *m.Model, x string) string {
		all := attrs{"kernel_shape": []int{k}}
		groups := 1
		for key, v := range a {
			all[key] = v
			if key == "group" {
				groups = v.(int)
			}
		}
		return g.Op("Conv", all, x, g.Random(out, in/groups, k), g.RandomScaled(0.1, 0, out))
	}
}

var same3 = conv(8, 8, 3, attrs{"pads": []int{1, 1}})

// with applies an operator to x and a constant, in either order.
func with(op string, c func(g *m.Model) string) func(*m.Model, string) string {
	return func(g *m.Model, x string) string { return g.Op(op, nil, x, c(g)) }
}

func perChannel(lo, hi float64) func(g *m.Model) string {
	return func(g *m.Model) string { return g.Uniform(lo, hi, 1, 8, 1) }
}

func scalar(x float64) func(g *m.Model) string { return func(g *m.Model) string { return g.Scalar(x) } }

func pad(mode string, before, after int) func(*m.Model, string) string {
	return func(g *m.Model, x string) string {
		return g.Op("Pad", attrs{"mode": mode}, x, g.Ints(0, 0, before, 0, 0, after))
	}
}

func slice(axis, start, end, step int) func(*m.Model, string) string {
	return func(g *m.Model, x string) string {
		return g.Op("Slice", nil, x, g.Ints(start), g.Ints(end), g.Ints(axis), g.Ints(step))
	}
}

func batchNorm(c int) func(*m.Model, string) string {
	return func(g *m.Model, x string) string {
		return g.Op("BatchNormalization", nil, x, g.Uniform(0.5, 1.5, c), g.RandomScaled(0.3, 0, c), g.RandomScaled(0.3, 0, c), g.Uniform(0.5, 2, c))
	}
}

// branch is a convolution of each channel by itself, with taps that are not negative.
func branch(g *m.Model, x string) string {
	return g.Op("Conv", attrs{"kernel_shape": []int{4}, "group": 8, "pads": []int{1, 2}}, x, g.Uniform(0.05, 0.5, 8, 1, 4), g.RandomScaled(0.3, 0, 8))
}

// two makes two different values of x and combines them.
func two(op string) func(*m.Model, string) string {
	return func(g *m.Model, x string) string { return g.Op(op, nil, same3(g, x), same3(g, x)) }
}

func twoHead(op string) func(*m.Model, string) string {
	return func(g *m.Model, x string) string { return g.Op(op, nil, linear(8, 8)(g, x), linear(8, 8)(g, x)) }
}

func linear(out, in int) func(*m.Model, string) string {
	return func(g *m.Model, x string) string {
		return g.Op("Gemm", attrs{"transB": 1}, x, g.Random(out, in), g.RandomScaled(0.1, 0, out))
	}
}

// conv2 is a convolution over height and width.
func conv2(out, in, h, w int, a attrs) func(*m.Model, string) string {
	return func(g *m.Model, x string) string {
		groups := 1
		if n, ok := a["group"].(int); ok {
			groups = n
		}
		return g.Op("Conv", a, x, g.Random(out, in/groups, h, w), g.RandomScaled(0.1, 0, out))
	}
}

// asImage does something with x [1,8,24] as an image [1,8,4,6], and makes a sequence of the result.
func asImage(f func(*m.Model, string) string) func(*m.Model, string) string {
	return func(g *m.Model, x string) string {
		y := f(g, g.Op("Reshape", nil, x, g.Ints(1, 8, 4, 6)))
		return g.Op("Reshape", nil, y, g.Ints(0, 0, -1))
	}
}

// normByHand is LayerNorm over an axis of x [1,8,length], without scale and shift.
func normByHand(axis int) func(*m.Model, string) string {
	return func(g *m.Model, x string) string {
		d := g.Op("Sub", nil, x, g.Reduce("ReduceMean", x, 1, axis))
		v := g.Reduce("ReduceMean", g.Op("Mul", nil, d, d), 1, axis)
		return g.Op("Div", nil, d, g.Op("Sqrt", nil, g.Op("Add", nil, v, g.Scalar(1e-5))))
	}
}

// layerNormByHand is LayerNorm over channels as exporters before opset 17 write it.
func layerNormByHand(g *m.Model, x string) string {
	x = g.Op("Transpose", attrs{"perm": []int{0, 2, 1}}, x)
	d := g.Op("Sub", nil, x, g.Reduce("ReduceMean", x, 1, -1))
	v := g.Reduce("ReduceMean", g.Op("Pow", nil, d, g.Scalar(2)), 1, -1)
	y := g.Op("Div", nil, d, g.Op("Sqrt", nil, g.Op("Add", nil, v, g.Scalar(1e-5))))
	y = g.Op("Add", nil, g.Op("Mul", nil, y, g.Uniform(0.5, 1.5, 8)), g.RandomScaled(0.2, 0, 8))
	return g.Op("Transpose", attrs{"perm": []int{0, 2, 1}}, y)
}

func geluByHand(g *m.Model, x string) string {
	e := g.Op("Erf", nil, g.Op("Div", nil, x, g.Scalar(1.4142135)))
	return g.Op("Mul", nil, g.Op("Mul", nil, x, g.Op("Add", nil, e, g.Scalar(1))), g.Scalar(0.5))
}

func geluTanhByHand(g *m.Model, x string) string {
	cube := g.Op("Mul", nil, g.Op("Pow", nil, x, g.Scalar(3)), g.Scalar(0.044715))
	inner := g.Op("Mul", nil, g.Op("Add", nil, x, cube), g.Scalar(0.7978845608))
	return g.Op("Mul", nil, g.Op("Mul", nil, x, g.Scalar(0.5)), g.Op("Add", nil, g.Op("Tanh", nil, inner), g.Scalar(1)))
}

var opCases = []opCase{
	// Convolutions.
	{name: "Conv", build: conv(6, 8, 5, nil), channels: 6},
	{name: "Conv strided", build: conv(8, 8, 4, attrs{"strides": []int{3}})},
	{name: "Conv dilated", build: conv(8, 8, 3, attrs{"dilations": []int{4}, "pads": []int{4, 4}})},
	{name: "Conv groups", build: conv(12, 8, 3, attrs{"group": 4}), channels: 12},
	{name: "Conv depthwise", build: conv(8, 8, 7, attrs{"group": 8, "pads": []int{3, 3}})},
	{name: "Conv causal", build: conv(8, 8, 3, attrs{"pads": []int{2, 0}})},
	{name: "Conv SAME_UPPER", build: conv(8, 8, 4, attrs{"auto_pad": "SAME_UPPER"})},
	{name: "Conv SAME_LOWER strided", build: conv(8, 8, 4, attrs{"auto_pad": "SAME_LOWER", "strides": []int{2}})},
	{name: "Conv VALID", build: conv(8, 8, 4, attrs{"auto_pad": "VALID"})},
	{name: "Conv pointwise", build: conv(8, 8, 1, nil)},
	{name: "Conv two-dimensional, height 1", build: func(g *m.Model, x string) string {
		x = g.Unsqueeze(x, 2)
		x = g.Op("Conv", attrs{"kernel_shape": []int{1, 3}, "pads": []int{0, 1, 0, 1}}, x, g.Random(8, 8, 1, 3), g.Random(8))
		return g.Squeeze(x, 2)
	}},
	{name: "Conv two-dimensional, width 1", build: func(g *m.Model, x string) string {
		x = g.Unsqueeze(x, 3)
		x = g.Op("Conv", attrs{"kernel_shape": []int{3, 1}, "pads": []int{1, 0, 1, 0}, "strides": []int{2, 1}}, x, g.Random(8, 8, 3, 1))
		return g.Squeeze(x, 3)
	}},
	{name: "Conv two-dimensional, 3x3 on height 1", build: func(g *m.Model, x string) string {
		x = g.Unsqueeze(x, 2)
		x = g.Op("Conv", attrs{"pads": []int{1, 1, 1, 1}}, x, g.Random(8, 8, 3, 3), g.Random(8))
		return g.Squeeze(x, 2)
	}},
	{name: "Conv two-dimensional, channels as height", channels: 6, build: func(g *m.Model, x string) string {
		// Text-CNN: [1,1,length,width], a kernel as wide as the embedding.
		x = g.Unsqueeze(g.Op("Transpose", attrs{"perm": []int{0, 2, 1}}, x), 1)
		x = g.Op("Conv", nil, x, g.Random(6, 1, 3, 8), g.Random(6))
		return g.Squeeze(x, 3)
	}},

	// Images: positions on two axes.
	{name: "Conv 3x3", build: asImage(conv2(8, 8, 3, 3, attrs{"pads": []int{1, 1, 1, 1}}))},
	{name: "Conv 2x3 strided, dilated, padded on one side", channels: 6, build: asImage(conv2(6, 8, 2, 3, attrs{"pads": []int{1, 0, 0, 2}, "strides": []int{1, 2}, "dilations": []int{2, 1}}))},
	{name: "Conv two-dimensional, depthwise", build: asImage(conv2(8, 8, 3, 3, attrs{"pads": []int{1, 1, 1, 1}, "group": 8}))},
	{name: "Conv two-dimensional to one column", build: asImage(conv2(8, 8, 2, 6, nil))},
	{name: "Conv over the embedding", channels: 6, build: func(g *m.Model, x string) string { // the plane of positions and channels
		x = g.Op("Conv", attrs{"pads": []int{1, 1, 1, 1}}, g.Unsqueeze(x, 1), g.Random(6, 1, 3, 3), g.Random(6))
		return g.Op("Reshape", nil, x, g.Ints(1, 6, -1))
	}},
	{name: "image blocks", build: asImage(then(conv2(8, 8, 3, 3, attrs{"pads": []int{1, 1, 1, 1}}), batchNorm(8), apply("Relu", nil), apply("MaxPool", attrs{"kernel_shape": []int{2, 2}, "strides": []int{2, 2}}),
		conv2(8, 8, 1, 3, nil), apply("Sigmoid", nil)))},
	{name: "image with residual and squeeze", build: asImage(func(g *m.Model, x string) string {
		y := conv2(8, 8, 3, 3, attrs{"pads": []int{1, 1, 1, 1}})(g, x)
		s := g.Op("Sigmoid", nil, conv2(8, 8, 1, 1, nil)(g, g.Op("GlobalAveragePool", nil, y)))
		return g.Op("Add", nil, x, g.Op("Mul", nil, y, s))
	})},
	{name: "AveragePool 2x2 padded", build: asImage(apply("AveragePool", attrs{"kernel_shape": []int{2, 3}, "pads": []int{1, 1, 0, 1}}))},
	{name: "AveragePool 2x2, padding counts", build: asImage(apply("AveragePool", attrs{"kernel_shape": []int{2, 2}, "pads": []int{1, 1, 1, 1}, "strides": []int{2, 2}, "count_include_pad": 1}))},
	{name: "MaxPool 3x3 ceil", build: asImage(apply("MaxPool", attrs{"kernel_shape": []int{3, 3}, "strides": []int{2, 2}, "pads": []int{0, 1, 0, 1}, "ceil_mode": 1}))},
	{name: "maxima of each row, then over rows", build: func(g *m.Model, x string) string {
		x = g.Op("Reshape", nil, x, g.Ints(1, 8, 4, 6))
		return same3(g, g.Reduce("ReduceMax", x, 0, 3))
	}},
	{name: "sums of each column, taken off", build: asImage(func(g *m.Model, x string) string {
		return g.Op("Sub", nil, x, g.Op("Mul", nil, g.Reduce("ReduceSum", x, 1, 2), g.Scalar(0.25)))
	})},
	{name: "mean over the channels of an image", build: asImage(func(g *m.Model, x string) string {
		return g.Op("Sub", nil, x, g.Reduce("ReduceMean", x, 1, 1))
	})},
	{name: "tables per row and per column", build: asImage(func(g *m.Model, x string) string {
		x = g.Op("Add", nil, x, g.RandomScaled(0.4, 0, 1, 8, 4, 1))
		return g.Op("Add", nil, g.Op("Mul", nil, x, g.Uniform(0.3, 1, 1, 1, 6)), g.RandomScaled(0.3, 0, 8, 4, 6))
	})},
	{name: "InstanceNormalization of an image", build: asImage(func(g *m.Model, x string) string {
		return g.Op("InstanceNormalization", nil, x, g.Uniform(0.5, 1.5, 8), g.Random(8))
	})},
	{name: "LayerNormalization over width", from: 17, build: asImage(func(g *m.Model, x string) string {
		return g.Op("LayerNormalization", attrs{"axis": -1}, x, g.Uniform(0.5, 1.5, 6), g.Random(6))
	})},
	{name: "LayerNormalization over height and width", from: 17, build: asImage(func(g *m.Model, x string) string {
		return g.Op("LayerNormalization", attrs{"axis": -2}, x, g.Uniform(0.5, 1.5, 4, 6), g.RandomScaled(0.3, 0, 4, 6))
	})},
	{name: "MatMul over width", build: asImage(func(g *m.Model, x string) string {
		return g.Op("Relu", nil, g.Op("MatMul", nil, x, g.Random(6, 5)))
	})},
	{name: "Slice and Pad of an image", build: asImage(func(g *m.Model, x string) string {
		x = g.Op("Slice", nil, x, g.Ints(1, 0), g.Ints(4, 5), g.Ints(2, 3))
		x = g.Op("Pad", attrs{"mode": "edge"}, x, g.Ints(0, 0, 1, 0, 0, 0, 0, 2))
		return conv2(8, 8, 2, 2, nil)(g, g.Op("Pad", nil, x, g.Ints(0, 0, 0, 1, 0, 0, 0, 1)))
	})},
	{name: "Gather row of an image", build: func(g *m.Model, x string) string {
		return same3(g, g.Op("Gather", attrs{"axis": 2}, g.Op("Reshape", nil, x, g.Ints(1, 8, 4, 6)), g.Int(2)))
	}},
	{name: "Concat of images", channels: 16, build: asImage(func(g *m.Model, x string) string {
		y := conv2(8, 8, 3, 3, attrs{"pads": []int{1, 1, 1, 1}})(g, x)
		rows := g.Op("Concat", attrs{"axis": 2}, x, y)
		cols := g.Op("Concat", attrs{"axis": 3}, rows, g.Op("Relu", nil, rows))
		return g.Op("Concat", attrs{"axis": 1}, cols, g.Op("Neg", nil, cols))
	})},
	{name: "Transpose of an image", build: asImage(func(g *m.Model, x string) string {
		x = g.Op("Transpose", attrs{"perm": []int{0, 1, 3, 2}}, x)
		return conv2(8, 8, 3, 2, nil)(g, x)
	})},
	{name: "Flatten of an image", channels: 8 * opLength, build: func(g *m.Model, x string) string {
		x = conv2(8, 8, 3, 3, attrs{"pads": []int{1, 1, 1, 1}})(g, g.Op("Reshape", nil, x, g.Ints(1, 8, 4, 6)))
		return g.Unsqueeze(g.Op("Flatten", nil, x), 2)
	}},
	{name: "groups of channels normalised by hand", build: func(g *m.Model, x string) string { // [batch, length, groups, channels of a group]
		y := g.Op("Reshape", nil, g.Op("Transpose", attrs{"perm": []int{0, 2, 1}}, x), g.Ints(1, opLength, 2, 4))
		y = normByHand(3)(g, y)
		return g.Op("Transpose", attrs{"perm": []int{0, 2, 1}}, g.Op("Reshape", nil, y, g.Ints(1, opLength, 8)))
	}},

	// Matrices.
	{name: "Gemm", at: inHead, build: func(g *m.Model, x string) string {
		return g.Op("Gemm", attrs{"alpha": 0.5, "beta": 2.0}, x, g.Random(8, 8), g.Scalar(0.3))
	}},
	{name: "MatMul per position", build: func(g *m.Model, x string) string {
		x = g.Op("Transpose", attrs{"perm": []int{0, 2, 1}}, x)
		x = g.Op("Add", nil, g.Op("MatMul", nil, x, g.Random(8, 8)), g.Random(8))
		return g.Op("Transpose", attrs{"perm": []int{0, 2, 1}}, x)
	}},
	{name: "MatMul from the left", build: func(g *m.Model, x string) string { return g.Op("MatMul", nil, g.Random(8, 8), x) }},
	{name: "MatMul of two activations", build: func(g *m.Model, x string) string {
		return g.Op("MatMul", nil, g.Op("MatMul", nil, x, g.Op("Transpose", attrs{"perm": []int{0, 2, 1}}, x)), x)
	}, refused: []string{"self-attention, without a softmax", "nn.Conv1d"}},

	// Normalisation.
	{name: "BatchNormalization", build: then(same3, batchNorm(8))},
	{name: "BatchNormalization before padding", build: then(batchNorm(8), apply("Relu", nil), batchNorm(8), same3)},
	{name: "BatchNormalization in the head", at: inHead, build: then(batchNorm(8), apply("Relu", nil))},
	{name: "LayerNormalization", from: 17, build: func(g *m.Model, x string) string {
		x = g.Op("Transpose", attrs{"perm": []int{0, 2, 1}}, x)
		x = g.Op("LayerNormalization", attrs{"axis": -1}, x, g.Uniform(0.5, 1.5, 8), g.Random(8))
		return g.Op("Transpose", attrs{"perm": []int{0, 2, 1}}, x)
	}},
	{name: "LayerNormalization by hand", build: layerNormByHand},
	{name: "LayerNormalization in the head", from: 17, at: inHead, build: func(g *m.Model, x string) string {
		return g.Op("LayerNormalization", nil, x, g.Uniform(0.5, 1.5, 8), g.Random(8))
	}},
	{name: "InstanceNormalization", build: func(g *m.Model, x string) string {
		return g.Op("InstanceNormalization", nil, x, g.Uniform(0.5, 1.5, 8), g.Random(8))
	}},
	{name: "GroupNormalization", from: 21, build: func(g *m.Model, x string) string {
		return g.Op("GroupNormalization", attrs{"num_groups": 2}, x, g.Uniform(0.5, 1.5, 8), g.Random(8))
	}},
	{name: "GroupNormalization as PyTorch writes it", build: func(g *m.Model, x string) string {
		y := g.Op("Reshape", nil, x, g.Ints(0, 2, -1))
		y = g.Op("InstanceNormalization", nil, y, g.Const(m.Tensor{Dims: []int{2}, Data: []float32{1, 1}}), g.Const(m.Tensor{Dims: []int{2}, Data: []float32{0, 0}}))
		y = g.Op("Reshape", nil, y, g.Op("Shape", nil, x))
		return g.Op("Add", nil, g.Op("Mul", nil, y, g.Uniform(0.5, 1.5, 8, 1)), g.Random(8, 1))
	}},
	{name: "GroupNormalization, scale per group", from: 18, to: 20, build: func(g *m.Model, x string) string {
		return g.Op("GroupNormalization", attrs{"num_groups": 4}, x, g.Uniform(0.5, 1.5, 4), g.Random(4))
	}},
	{name: "LayerNormalization over positions", from: 17, build: func(g *m.Model, x string) string {
		return g.Op("LayerNormalization", attrs{"axis": -1}, x, g.Uniform(0.5, 1.5, opLength), g.RandomScaled(0.3, 0, opLength))
	}},
	{name: "LayerNormalization over positions by hand", build: normByHand(2)},
	{name: "LayerNormalization over positions, then channels", from: 17, build: func(g *m.Model, x string) string {
		x = g.Op("LayerNormalization", attrs{"axis": -1}, x, g.Uniform(0.5, 1.5, opLength), g.RandomScaled(0.3, 0, opLength))
		return g.Op("Add", nil, layerNormByHand(g, g.Op("Relu", nil, x)), same3(g, x))
	}},
	{name: "LayerNormalization over channels and positions", from: 17, build: func(g *m.Model, x string) string {
		return same3(g, g.Op("LayerNormalization", attrs{"axis": 1}, x, g.Uniform(0.5, 1.5, 8, opLength), g.RandomScaled(0.3, 0, 8, opLength)))
	}},
	{name: "LayerNormalization over blocks of positions", from: 17, build: func(g *m.Model, x string) string {
		x = g.Op("Reshape", nil, x, g.Ints(1, 8*opLength/6, 6))
		x = g.Op("LayerNormalization", attrs{"axis": -1}, x, g.Uniform(0.5, 1.5, 6), g.Random(6))
		return same3(g, g.Op("Reshape", nil, x, g.Ints(1, 8, opLength)))
	}},
	{name: "L2 norm over channels", build: func(g *m.Model, x string) string {
		n := g.Op("Clip", nil, g.Op("ReduceL2", attrs{"axes": []int{1}}, x), g.Scalar(1e-12))
		return g.Op("Mul", nil, g.Op("Div", nil, x, g.Op("Expand", nil, n, g.Op("Shape", nil, x))), g.Scalar(2))
	}, to: 17},
	{name: "L2 norm over positions", build: func(g *m.Model, x string) string {
		s := g.Reduce("ReduceSum", g.Op("Mul", nil, x, x), 1, 2)
		return g.Op("Div", nil, x, g.Op("Sqrt", nil, g.Op("Add", nil, s, g.Scalar(1e-6))))
	}},
	{name: "RMS norm over channels", build: func(g *m.Model, x string) string {
		r := g.Op("Sqrt", nil, g.Op("Add", nil, g.Reduce("ReduceMean", g.Op("Pow", nil, x, g.Scalar(2)), 1, 1), g.Scalar(1e-6)))
		return g.Op("Mul", nil, g.Op("Mul", nil, x, g.Op("Reciprocal", nil, r)), g.Uniform(0.5, 1.5, 8, 1))
	}},
	{name: "InstanceNormalization of one channel", build: func(g *m.Model, x string) string {
		x = g.Op("InstanceNormalization", nil, conv(1, 8, 1, nil)(g, x), g.Uniform(0.5, 1.5, 1), g.Random(1))
		return conv(8, 1, 3, nil)(g, x)
	}},
	{name: "GroupNormalization in the head, in groups", from: 21, at: inHead, build: func(g *m.Model, x string) string {
		x = g.Unsqueeze(x, 2)
		return g.Squeeze(g.Op("GroupNormalization", attrs{"num_groups": 2}, x, g.Uniform(0.5, 1.5, 8), g.Random(8)), 2)
	}},
	{name: "GroupNormalization in the head", from: 21, at: inHead, build: func(g *m.Model, x string) string {
		x = g.Unsqueeze(x, 2)
		return g.Squeeze(g.Op("GroupNormalization", attrs{"num_groups": 1}, x, g.Uniform(0.5, 1.5, 8), g.Random(8)), 2)
	}},

	// Gated layers.
	{name: "gated layer", build: func(g *m.Model, x string) string {
		return g.Op("Mul", nil, branch(g, x), g.Op("Sigmoid", nil, branch(g, x)))
	}, loose: 0.2}, // a gate has seven bits
	{name: "gated layer with residual and LayerNormalization", from: 17, build: func(g *m.Model, x string) string {
		y := g.Op("Mul", nil, branch(g, x), g.Op("Sigmoid", nil, branch(g, x)))
		y = g.Op("Add", nil, y, g.Op("Mul", nil, x, g.Scalar(0.5)))
		y = g.Op("Transpose", attrs{"perm": []int{0, 2, 1}}, y)
		y = g.Op("LayerNormalization", attrs{"axis": -1}, y, g.Uniform(0.5, 1.5, 8), g.RandomScaled(0.2, 0, 8))
		return g.Op("Transpose", attrs{"perm": []int{0, 2, 1}}, y)
	}},

	// Arithmetic with constants.
	{name: "Add constant", build: with("Add", perChannel(-1, 1))},
	{name: "Sub constant", build: with("Sub", perChannel(-1, 1))},
	{name: "Sub from constant", build: func(g *m.Model, x string) string { return g.Op("Sub", nil, g.Scalar(1), x) }},
	{name: "Mul constant", build: with("Mul", perChannel(-2, 2))},
	{name: "Div constant", build: with("Div", perChannel(1, 3))},
	{name: "Div by activation", build: func(g *m.Model, x string) string {
		return g.Op("Div", nil, g.Scalar(1), g.Op("Add", nil, g.Op("Abs", nil, x), g.Scalar(1)))
	}, loose: 0.3},
	{name: "Div of two activations", build: func(g *m.Model, x string) string {
		return g.Op("Div", nil, same3(g, x), g.Op("Add", nil, g.Op("Abs", nil, same3(g, x)), g.Scalar(1)))
	}},
	{name: "Pow 2", build: with("Pow", scalar(2))},
	{name: "Pow 3", build: with("Pow", scalar(3)), loose: 0.2},
	{name: "Pow 0.5", build: then(apply("Abs", nil), with("Pow", scalar(0.5)))},
	{name: "Pow of two activations", build: func(g *m.Model, x string) string {
		return g.Op("Pow", nil, g.Op("Sigmoid", nil, x), same3(g, x))
	}, refused: []string{"Pow"}},
	{name: "Min constant", mean: true, build: with("Min", scalar(0.5))},
	{name: "Max constant", build: with("Max", scalar(-0.2))},
	{name: "Min per channel", mean: true, build: with("Min", perChannel(-0.5, 0.5))},
	{name: "Max per channel", build: with("Max", perChannel(-0.5, 0.5))},
	{name: "Sqrt", build: then(apply("Abs", nil), apply("Sqrt", nil))},
	{name: "Neg", build: apply("Neg", nil)},
	{name: "Abs", build: apply("Abs", nil)},
	{name: "Exp", mean: true, build: apply("Exp", nil)},
	{name: "Log", build: then(apply("Softplus", nil), with("Add", scalar(0.1)), apply("Log", nil))},
	{name: "Reciprocal", build: then(apply("Softplus", nil), with("Add", scalar(0.5)), apply("Reciprocal", nil))},
	{name: "Add per position", build: func(g *m.Model, x string) string {
		return g.Op("Add", nil, x, g.RandomScaled(0.5, 0, 1, 8, opLength)) // a position embedding
	}},
	{name: "Mul per position", build: func(g *m.Model, x string) string {
		return g.Op("Mul", nil, x, g.Uniform(0.1, 1, 1, 1, opLength))
	}},
	{name: "Mul per position in the head", at: inSequence, channels: 8 * opLength, build: func(g *m.Model, x string) string {
		x = g.Op("Flatten", nil, x)
		return g.Unsqueeze(g.Op("Mul", nil, x, g.Uniform(0.1, 1, 8*opLength)), 2)
	}},
	{name: "Floor", build: apply("Floor", nil), refused: []string{"Floor"}},
	{name: "Ceil", build: apply("Ceil", nil), refused: []string{"Ceil"}},

	// Arithmetic of two activations.
	{name: "Add", build: two("Add")},
	{name: "Sub", build: two("Sub")},
	{name: "Mul", build: two("Mul")},
	{name: "Min", build: two("Min")},
	{name: "Max", build: two("Max")},
	{name: "Sum", build: func(g *m.Model, x string) string { return g.Op("Sum", nil, x, same3(g, x), same3(g, x)) }},
	{name: "Mean", build: func(g *m.Model, x string) string { return g.Op("Mean", nil, x, same3(g, x)) }},
	{name: "Max of three", build: func(g *m.Model, x string) string { return g.Op("Max", nil, x, same3(g, x), same3(g, x)) }, loose: 0.2},
	{name: "Add residual", build: func(g *m.Model, x string) string {
		return g.Op("Relu", nil, g.Op("Add", nil, x, same3(g, g.Op("Relu", nil, same3(g, x)))))
	}},
	{name: "Mul by one channel", build: func(g *m.Model, x string) string {
		return g.Op("Mul", nil, x, g.Op("Sigmoid", nil, conv(1, 8, 1, nil)(g, x)))
	}},
	{name: "Add one channel", build: func(g *m.Model, x string) string { return g.Op("Add", nil, x, conv(1, 8, 1, nil)(g, x)) }},
	{name: "Add in the head", at: inHead, build: twoHead("Add")},
	{name: "Mul in the head", at: inHead, build: twoHead("Mul")},
	{name: "Max in the head", at: inHead, build: twoHead("Max")},
	{name: "Min in the head", at: inHead, build: twoHead("Min")},
	{name: "squeeze and excitation", build: func(g *m.Model, x string) string {
		s := g.Op("GlobalAveragePool", nil, x)
		s = g.Op("Sigmoid", nil, conv(8, 8, 1, nil)(g, s))
		return g.Op("Mul", nil, x, s)
	}},
	{name: "squeeze and excitation by the maximum", build: func(g *m.Model, x string) string {
		s := g.Op("Relu", nil, conv(4, 8, 1, nil)(g, g.Op("GlobalMaxPool", nil, x)))
		return same3(g, g.Op("Mul", nil, x, g.Op("Sigmoid", nil, conv(8, 4, 1, nil)(g, s))))
	}},
	{name: "mean over positions taken off", build: func(g *m.Model, x string) string {
		return g.Op("Sub", nil, x, g.Reduce("ReduceMean", x, 1, 2))
	}},
	{name: "MatMul over positions", build: func(g *m.Model, x string) string {
		return same3(g, g.Op("MatMul", nil, x, g.Random(opLength, opLength)))
	}},
	{name: "mixer", from: 17, build: func(g *m.Model, x string) string {
		y := g.Op("LayerNormalization", attrs{"axis": -1}, g.Op("Transpose", attrs{"perm": []int{0, 2, 1}}, x), g.Uniform(0.5, 1.5, 8), g.Random(8))
		y = g.Op("Transpose", attrs{"perm": []int{0, 2, 1}}, y)
		y = geluByHand(g, g.Op("Add", nil, g.Op("MatMul", nil, y, g.Random(opLength, 16)), g.Random(16)))
		return g.Op("Add", nil, x, g.Op("MatMul", nil, y, g.Random(16, opLength)))
	}},
	{name: "Conv across channels", build: func(g *m.Model, x string) string { // [batch, length, channels] as it is
		x = g.Op("Transpose", attrs{"perm": []int{0, 2, 1}}, x)
		x = g.Op("Conv", attrs{"kernel_shape": []int{3}, "pads": []int{1, 1}}, x, g.Random(16, opLength, 3), g.Random(16))
		return g.Op("Transpose", attrs{"perm": []int{0, 2, 1}}, x)
	}},

	// Activations.
	{name: "Relu", build: apply("Relu", nil)},
	{name: "LeakyRelu", build: apply("LeakyRelu", attrs{"alpha": 0.2})},
	{name: "LeakyRelu negative slope", build: apply("LeakyRelu", attrs{"alpha": -0.2})},
	{name: "PRelu", build: func(g *m.Model, x string) string { return g.Op("PRelu", nil, x, g.Uniform(-0.2, 0.5, 8, 1)) }},
	{name: "PRelu one slope", build: func(g *m.Model, x string) string { return g.Op("PRelu", nil, x, g.Uniform(0.1, 0.2, 1)) }},
	{name: "PRelu in the head", at: inHead, build: func(g *m.Model, x string) string { return g.Op("PRelu", nil, x, g.Uniform(-0.2, 0.5, 8)) }},
	{name: "Elu", build: apply("Elu", attrs{"alpha": 0.7})},
	{name: "Selu", build: apply("Selu", nil)},
	{name: "Celu", from: 12, build: apply("Celu", attrs{"alpha": 0.5})},
	{name: "Sigmoid", mean: true, build: apply("Sigmoid", nil)},
	{name: "HardSigmoid", mean: true, build: apply("HardSigmoid", nil)},
	{name: "HardSwish", from: 14, build: apply("HardSwish", nil)},
	{name: "HardSwish by hand", build: func(g *m.Model, x string) string {
		y := g.Op("Clip", nil, g.Op("Add", nil, x, g.Scalar(3)), g.Scalar(0), g.Scalar(6))
		return g.Op("Div", nil, g.Op("Mul", nil, x, y), g.Scalar(6))
	}},
	{name: "Silu by hand", build: func(g *m.Model, x string) string { return g.Op("Mul", nil, x, g.Op("Sigmoid", nil, x)) }},
	{name: "Tanh", mean: true, build: apply("Tanh", nil)},
	{name: "Softplus", build: apply("Softplus", nil)},
	{name: "Softsign", mean: true, build: apply("Softsign", nil)},
	{name: "Mish", from: 18, build: apply("Mish", nil)},
	{name: "Mish by hand", build: func(g *m.Model, x string) string {
		return g.Op("Mul", nil, x, g.Op("Tanh", nil, g.Op("Softplus", nil, x)))
	}},
	{name: "Gelu", from: 20, build: apply("Gelu", nil)},
	{name: "Gelu tanh", from: 20, build: apply("Gelu", attrs{"approximate": "tanh"})},
	{name: "Gelu by hand", build: geluByHand},
	{name: "Gelu tanh by hand", build: geluTanhByHand},
	{name: "Erf", mean: true, build: apply("Erf", nil)},
	{name: "Clip", build: func(g *m.Model, x string) string { return g.Op("Clip", nil, x, g.Scalar(-0.5), g.Scalar(1)) }},
	{name: "Clip from below", build: func(g *m.Model, x string) string { return g.Op("Clip", nil, x, g.Scalar(-0.1)) }},
	{name: "Clip from above", mean: true, build: func(g *m.Model, x string) string { return g.Op("Clip", nil, x, "", g.Scalar(0.4)) }},
	{name: "Tanh in the head", at: inHead, build: then(linear(8, 8), apply("Tanh", nil))},
	{name: "Gelu in the head", at: inHead, build: geluByHand},

	// Windows and reductions.
	{name: "MaxPool", build: apply("MaxPool", attrs{"kernel_shape": []int{3}, "strides": []int{2}, "pads": []int{1, 1}})},
	{name: "MaxPool ceil", build: apply("MaxPool", attrs{"kernel_shape": []int{5}, "strides": []int{3}, "ceil_mode": 1})},
	{name: "MaxPool dilated", build: apply("MaxPool", attrs{"kernel_shape": []int{3}, "dilations": []int{2}}), refused: []string{"dilat"}},
	{name: "MaxPool of all", build: then(apply("MaxPool", attrs{"kernel_shape": []int{opLength}}))},
	{name: "AveragePool", build: apply("AveragePool", attrs{"kernel_shape": []int{4}, "strides": []int{4}})},
	{name: "AveragePool padded", build: apply("AveragePool", attrs{"kernel_shape": []int{3}, "pads": []int{1, 1}})},
	{name: "AveragePool count_include_pad", build: apply("AveragePool", attrs{"kernel_shape": []int{3}, "pads": []int{1, 1}, "count_include_pad": 1})},
	{name: "AveragePool count_include_pad before conv", build: then(apply("AveragePool", attrs{"kernel_shape": []int{3}, "pads": []int{1, 1}, "strides": []int{2}, "count_include_pad": 1}), same3)},
	{name: "AveragePool ceil", build: apply("AveragePool", attrs{"kernel_shape": []int{5}, "strides": []int{3}, "ceil_mode": 1})},
	{name: "AveragePool ceil count_include_pad", build: apply("AveragePool", attrs{"kernel_shape": []int{5}, "strides": []int{3}, "pads": []int{2, 2}, "ceil_mode": 1, "count_include_pad": 1})},
	{name: "AveragePool dilated", from: 19, build: apply("AveragePool", attrs{"kernel_shape": []int{3}, "dilations": []int{3}})},
	{name: "AveragePool dilated padded", from: 19, build: apply("AveragePool", attrs{"kernel_shape": []int{4}, "strides": []int{2}, "dilations": []int{2}, "pads": []int{3, 3}, "ceil_mode": 1})},
	{name: "AveragePool dilated count_include_pad", from: 19, build: apply("AveragePool", attrs{"kernel_shape": []int{4}, "strides": []int{2}, "dilations": []int{2}, "pads": []int{3, 3}, "count_include_pad": 1, "ceil_mode": 1})},
	{name: "AveragePool over padding across", build: func(g *m.Model, x string) string {
		x = g.Op("AveragePool", attrs{"kernel_shape": []int{3, 2}, "pads": []int{1, 0, 1, 1}, "strides": []int{1, 2}, "count_include_pad": 1}, g.Unsqueeze(x, 2))
		return g.Squeeze(x, 2)
	}},
	{name: "AveragePool SAME_UPPER", build: apply("AveragePool", attrs{"kernel_shape": []int{4}, "strides": []int{3}, "auto_pad": "SAME_UPPER"})},
	{name: "AveragePool two-dimensional", build: func(g *m.Model, x string) string {
		x = g.Op("AveragePool", attrs{"kernel_shape": []int{1, 2}, "strides": []int{1, 2}}, g.Unsqueeze(x, 2))
		return g.Squeeze(x, 2)
	}},
	{name: "GlobalMaxPool", build: apply("GlobalMaxPool", nil)},
	{name: "GlobalAveragePool", build: apply("GlobalAveragePool", nil)},
	{name: "ReduceMax", build: func(g *m.Model, x string) string { return g.Reduce("ReduceMax", x, 1, -1) }},
	{name: "ReduceMean", build: func(g *m.Model, x string) string { return g.Reduce("ReduceMean", x, 1, 2) }},
	{name: "ReduceSum", build: func(g *m.Model, x string) string { return g.Reduce("ReduceSum", x, 1, 2) }},
	{name: "ReduceMin", build: func(g *m.Model, x string) string { return g.Reduce("ReduceMin", x, 1, 2) }},
	{name: "ReduceL1", build: func(g *m.Model, x string) string { return g.Reduce("ReduceL1", x, 1, 2) }},
	{name: "ReduceSumSquare", build: func(g *m.Model, x string) string { return g.Reduce("ReduceSumSquare", x, 1, 2) }},
	{name: "ReduceL2", build: func(g *m.Model, x string) string { return g.Reduce("ReduceL2", x, 1, 2) }},
	{name: "ReduceProd", build: func(g *m.Model, x string) string { return g.Reduce("ReduceProd", x, 1, 2) }, refused: []string{"ReduceProd", "pool"}},
	{name: "ReduceMean over channels", build: func(g *m.Model, x string) string {
		return g.Op("Sub", nil, x, g.Reduce("ReduceMean", x, 1, 1))
	}},
	{name: "ReduceSum over channels", build: func(g *m.Model, x string) string {
		return g.Op("Add", nil, x, g.Reduce("ReduceSum", x, 1, 1))
	}},
	{name: "ReduceMax over channels", build: func(g *m.Model, x string) string {
		return g.Op("Sub", nil, x, g.Reduce("ReduceMax", x, 1, 1))
	}},
	{name: "mean and max pooling", channels: 16, build: func(g *m.Model, x string) string {
		return g.Op("Concat", attrs{"axis": 1}, g.Op("GlobalMaxPool", nil, x), g.Op("GlobalAveragePool", nil, x))
	}},

	// Layout.
	{name: "Concat channels", channels: 16, build: func(g *m.Model, x string) string {
		return g.Op("Concat", attrs{"axis": 1}, same3(g, x), g.Op("Tanh", nil, x))
	}},
	{name: "Concat in the head", at: inHead, channels: 16, build: func(g *m.Model, x string) string {
		return g.Op("Concat", attrs{"axis": -1}, x, linear(8, 8)(g, x))
	}},
	{name: "Concat positions", build: func(g *m.Model, x string) string { return g.Op("Concat", attrs{"axis": 2}, x, same3(g, x)) }},
	{name: "Concat positions, then conv", build: func(g *m.Model, x string) string {
		return same3(g, g.Op("Concat", attrs{"axis": 2}, x, slice(2, 1, 1000, 3)(g, same3(g, x))))
	}},
	{name: "Slice positions", build: slice(2, 3, 20, 1)},
	{name: "Slice from the end", build: then(same3, slice(2, 0, -4, 1))},
	{name: "Slice stepped", build: slice(2, 1, 1000, 3)},
	{name: "Slice channels", channels: 3, build: slice(1, 2, 5, 1)},
	{name: "Slice reversed", build: then(slice(2, -1, -1000, -1), conv(8, 8, 3, attrs{"pads": []int{2, 0}}))},
	{name: "Slice reversed channels", build: then(slice(1, -1, -1000, -1), same3)},
	{name: "Slice last position", build: slice(2, -1, 1000, 1)},
	{name: "Split gate", channels: 4, build: func(g *m.Model, x string) string {
		s := g.Split(x, 1, 4, 4)
		return g.Op("Mul", nil, s[0], g.Op("Sigmoid", nil, s[1]))
	}},
	{name: "Split num_outputs", from: 18, channels: 2, build: func(g *m.Model, x string) string {
		g.Node("", "Split", attrs{"axis": 1, "num_outputs": 3}, []string{x}, []string{"s0", "s1", "s2"})
		return g.Op("Relu", nil, "s2")
	}},
	{name: "Split shuffle", build: func(g *m.Model, x string) string {
		s := g.Split(x, -2, 2, 6)
		return g.Op("Concat", attrs{"axis": 1}, s[1], g.Op("Neg", nil, s[0]))
	}},
	{name: "Pad constant before conv", build: then(pad("constant", 3, 1), conv(8, 8, 5, nil))},
	{name: "Pad reflect before conv", build: then(pad("reflect", 2, 2), conv(8, 8, 5, nil))},
	{name: "Pad edge before conv", build: then(pad("edge", 2, 2), conv(8, 8, 5, nil))},
	{name: "Pad wrap before conv", from: 19, build: then(pad("wrap", 2, 2), conv(8, 8, 5, nil))},
	{name: "Pad value before conv", build: func(g *m.Model, x string) string {
		return conv(8, 8, 5, nil)(g, g.Op("Pad", nil, x, g.Ints(0, 0, 2, 0, 0, 2), g.Scalar(0.7)))
	}},
	{name: "Pad before MaxPool", build: then(apply("Relu", nil), pad("constant", 1, 1), apply("MaxPool", attrs{"kernel_shape": []int{3}}))},
	{name: "Pad value before MaxPool", build: func(g *m.Model, x string) string {
		return g.Op("MaxPool", attrs{"kernel_shape": []int{3}}, g.Op("Pad", nil, x, g.Ints(0, 0, 1, 0, 0, 1), g.Scalar(-1000)))
	}},
	{name: "Pad before AveragePool", build: then(pad("constant", 1, 1), apply("AveragePool", attrs{"kernel_shape": []int{3}}))},
	{name: "Pad reflect before AveragePool", build: then(pad("reflect", 1, 1), apply("AveragePool", attrs{"kernel_shape": []int{3}}))},
	{name: "Pad before activation and conv", build: then(pad("constant", 2, 2), apply("Relu", nil), conv(8, 8, 5, nil))},
	{name: "Pad negative", build: then(same3, pad("constant", -2, -3))},
	{name: "Pad shared by two convolutions", build: func(g *m.Model, x string) string {
		p := pad("constant", 1, 1)(g, x)
		return g.Op("Mul", nil, conv(8, 8, 3, nil)(g, p), g.Op("Sigmoid", nil, conv(8, 8, 3, nil)(g, p)))
	}},
	{name: "Pad before reduction", build: pad("constant", 1, 1)},
	{name: "Pad channels", channels: 10, build: func(g *m.Model, x string) string {
		return g.Op("Pad", nil, x, g.Ints(0, 1, 0, 0, 1, 0))
	}, refused: []string{"pad along positions only"}},
	{name: "Transpose and back", build: then(apply("Transpose", attrs{"perm": []int{2, 1, 0}}), apply("Transpose", nil))},
	{name: "Reshape to flat", channels: 8 * opLength, build: func(g *m.Model, x string) string {
		return g.Op("Reshape", nil, x, g.Ints(0, -1, 1))
	}},
	{name: "Reshape by shape arithmetic", channels: 8 * opLength, build: func(g *m.Model, x string) string {
		s := g.Op("Shape", nil, x)
		n := g.Op("Mul", nil, g.Op("Gather", attrs{"axis": 0}, s, g.Ints(1)), g.Op("Gather", attrs{"axis": 0}, s, g.Ints(2)))
		shape := g.Op("Concat", attrs{"axis": 0}, g.Op("Gather", attrs{"axis": 0}, s, g.Ints(0)), n, g.Ints(1))
		return g.Op("Reshape", nil, x, shape)
	}},
	{name: "Reshape splits channels", build: func(g *m.Model, x string) string { // channel shuffle
		x = g.Op("Reshape", nil, x, g.Ints(0, 2, 4, opLength))
		x = g.Op("Transpose", attrs{"perm": []int{0, 2, 1, 3}}, x)
		return g.Op("Reshape", nil, x, g.Ints(0, 8, opLength))
	}},
	{name: "Reshape splits in four", build: func(g *m.Model, x string) string {
		x = g.Op("Reshape", nil, x, g.Ints(2, 4, 4, 6))
		x = g.Op("Transpose", attrs{"perm": []int{1, 0, 2, 3}}, x)
		return g.Op("Reshape", nil, x, g.Ints(1, 8, opLength))
	}, refused: []string{"more than three axes"}},
	{name: "Flatten", channels: 8 * opLength, build: func(g *m.Model, x string) string {
		return g.Unsqueeze(g.Op("Flatten", nil, x), 2)
	}},
	{name: "Flatten after transposition", channels: 8 * opLength, build: func(g *m.Model, x string) string {
		x = g.Op("Transpose", attrs{"perm": []int{0, 2, 1}}, x)
		return g.Unsqueeze(g.Op("Flatten", nil, x), 2)
	}},
	{name: "Squeeze of all", at: inHead, build: func(g *m.Model, x string) string {
		return g.Unsqueeze(g.Squeeze(x), 0)
	}},
	{name: "Expand to its own shape", build: func(g *m.Model, x string) string { return g.Op("Expand", nil, x, g.Op("Shape", nil, x)) }},
	{name: "Expand a weight", build: func(g *m.Model, x string) string {
		w := g.Op("Expand", nil, g.Uniform(0.5, 1.5, 8, 1), g.Op("Shape", nil, x))
		return g.Op("Mul", nil, x, w)
	}},
	{name: "Gather position", build: func(g *m.Model, x string) string {
		return g.Unsqueeze(g.Op("Gather", attrs{"axis": 2}, x, g.Int(0)), 2)
	}},
	{name: "Gather any positions", build: func(g *m.Model, x string) string {
		return conv(8, 8, 3, nil)(g, g.Op("Gather", attrs{"axis": 2}, x, g.Ints(3, 3, 0, 17, 5, -1, 4)))
	}},
	{name: "Gather channels", channels: 3, build: func(g *m.Model, x string) string {
		return g.Op("Gather", attrs{"axis": 1}, x, g.Ints(1, 3, 5))
	}},
	{name: "Gather any channels", channels: 3, build: func(g *m.Model, x string) string {
		return g.Op("Gather", attrs{"axis": 1}, x, g.Ints(1, 6, 2))
	}},
	{name: "Cast to float", build: apply("Cast", attrs{"to": m.F32})},
	{name: "Cast to int and back", build: then(apply("Cast", attrs{"to": m.I64}), apply("Cast", attrs{"to": m.F32})), refused: []string{"Cast"}},
	{name: "Tile", build: func(g *m.Model, x string) string { return g.Op("Tile", nil, x, g.Ints(1, 1, 2)) }, refused: []string{"Tile"}},
	{name: "Identity, Dropout", build: then(apply("Identity", nil), apply("Dropout", nil))},
	{name: "Constant", build: func(g *m.Model, x string) string {
		return g.Op("Mul", nil, x, g.Op("Constant", attrs{"value": m.Tensor{Dims: []int{1}, Data: []float32{1.5}}}))
	}},
	{name: "ConstantOfShape, Where, Equal", build: func(g *m.Model, x string) string {
		// expand(-1, 8, -1) as PyTorch writes it.
		want := g.Ints(-1, 8, -1)
		ones := g.Op("ConstantOfShape", attrs{"value": m.Tensor{Dims: []int{1}, Data: []int64{1}}}, g.Ints(3))
		minus := g.Op("Mul", nil, ones, g.Int(-1))
		shape := g.Op("Where", nil, g.Op("Equal", nil, want, minus), ones, want)
		return g.Op("Add", nil, x, g.Op("Expand", nil, g.Random(1, 8, 1), shape))
	}},
	{name: "ConstantOfShape of a computed shape", build: func(g *m.Model, x string) string {
		most := g.Op("Reshape", nil, g.Op("GlobalMaxPool", nil, x), g.Ints(8))
		return g.Op("Mul", nil, x, g.Op("ConstantOfShape", nil, g.Op("Cast", attrs{"to": m.I64}, g.Op("Slice", nil, most, g.Ints(0), g.Ints(1)))))
	}, refused: []string{"not known at compile time"}},
	{name: "Range", build: func(g *m.Model, x string) string {
		n := g.Op("Gather", attrs{"axis": 0}, g.Op("Shape", nil, x), g.Int(2))
		p := g.Op("Cast", attrs{"to": m.F32}, g.Op("Range", nil, g.Int(0), n, g.Int(1)))
		return g.Op("Add", nil, x, g.Op("Mul", nil, p, g.Scalar(0.05)))
	}},
	{name: "Range of a computed length", build: func(g *m.Model, x string) string {
		n := g.Op("Cast", attrs{"to": m.I64}, g.Reduce("ReduceMax", x, 0, 0, 1, 2))
		return g.Op("Mul", nil, x, g.Op("Cast", attrs{"to": m.F32}, g.Op("Range", nil, g.Int(0), n, g.Int(1))))
	}, refused: []string{"not known at compile time"}},
	{name: "position embedding", build: func(g *m.Model, x string) string {
		p := g.Op("Gather", nil, g.RandomScaled(0.5, 0, 64, 8), g.Op("Range", nil, g.Int(0), g.Int(opLength), g.Int(1)))
		return g.Op("Add", nil, x, g.Op("Transpose", attrs{"perm": []int{1, 0}}, p))
	}},

	// Ends.
	{name: "numbers beside, a layer of their own", at: inHead, beside: 6, channels: 16, build: func(g *m.Model, x string) string {
		return g.Op("Concat", attrs{"axis": 1}, x, g.Op("Relu", nil, linear(8, 6)(g, beside(g, 6))))
	}},
	{name: "numbers beside, joined as they are scaled", at: inHead, beside: 6, channels: 14, build: func(g *m.Model, x string) string {
		s := g.Op("Div", nil, g.Op("Sub", nil, beside(g, 6), g.Uniform(-1, 1, 1, 6)), g.Const(m.Tensor{Dims: []int{1, 6}, Data: []float32{0.1, 1, 10, 100, 0.1, 1}}))
		return g.Op("Concat", attrs{"axis": 1}, x, s)
	}},
	{name: "numbers beside, normalised", at: inHead, beside: 8, channels: 16, build: func(g *m.Model, x string) string {
		s := g.Op("Mul", nil, beside(g, 8), g.Const(m.Tensor{Dims: []int{1, 8}, Data: []float32{10, 1, 0.1, 0.01, 10, 1, 0.1, 0.01}}))
		return g.Op("Concat", attrs{"axis": 1}, g.Op("LayerNormalization", nil, s, g.RandomScaled(1, 1, 8), g.RandomScaled(0.1, 0, 8)), x)
	}},
	{name: "numbers beside, one, added behind a layer", at: inHead, beside: 1, build: func(g *m.Model, x string) string {
		return g.Op("Add", nil, x, g.Op("Tanh", nil, linear(8, 1)(g, beside(g, 1))))
	}},
	{name: "numbers beside, as a gate", at: inHead, beside: 5, build: func(g *m.Model, x string) string {
		return g.Op("Mul", nil, x, g.Op("Sigmoid", nil, linear(8, 5)(g, beside(g, 5))))
	}},
	{name: "numbers beside, added as they are", at: inHead, beside: 8, refused: []string{`both "tokens" and "beside" are data`, "go through a layer of their own, or join what was made of it by Concat"}, build: func(g *m.Model, x string) string {
		return g.Op("Add", nil, x, beside(g, 8))
	}},
	{name: "Softmax at the end", at: atEnd, build: apply("Softmax", attrs{"axis": -1})},
	{name: "LogSoftmax at the end", at: atEnd, build: apply("LogSoftmax", attrs{"axis": 1})},
	{name: "ArgMax at the end", at: atEnd, dtype: m.I64, build: apply("ArgMax", attrs{"axis": 1, "keepdims": 0})},
	{name: "ArgMax keepdims", at: atEnd, dtype: m.I64, build: apply("ArgMax", attrs{"axis": -1})},
	{name: "ArgMax of Softmax", at: atEnd, dtype: m.I64, build: then(apply("Softmax", attrs{"axis": 1}), apply("ArgMax", attrs{"axis": 1}))},
	{name: "ArgMax cast", at: atEnd, dtype: m.I32, build: then(apply("ArgMax", attrs{"axis": 1}), apply("Cast", attrs{"to": m.I32}))},
	{name: "ArgMin", at: atEnd, dtype: m.I64, build: apply("ArgMin", attrs{"axis": 1}), refused: []string{"ArgMin"}},
	{name: "ArgMax last of equals", from: 12, at: atEnd, dtype: m.I64, build: apply("ArgMax", attrs{"axis": 1, "select_last_index": 1}), refused: []string{"last of equals"}},
	{name: "Sigmoid at the end", at: atEnd, build: apply("Sigmoid", nil)},
	{name: "Clip at the end", at: atEnd, build: func(g *m.Model, x string) string { return g.Op("Clip", nil, x, g.Scalar(-1), g.Scalar(1)) }, agree: 0.9},
	{name: "temperature at the end", at: atEnd, build: then(with("Div", scalar(3)), apply("Softmax", attrs{"axis": -1}))},
	{name: "Softmax in the head", at: inHead, build: then(linear(8, 8), apply("Softmax", attrs{"axis": 1}))},
	{name: "Softmax over channels", mean: true, build: apply("Softmax", attrs{"axis": 1}), from: 13},
	{name: "Softmax over positions", build: func(g *m.Model, x string) string {
		return g.Op("Mul", nil, x, g.Op("Softmax", attrs{"axis": 2}, conv(1, 8, 1, nil)(g, x)))
	}},
	{name: "pooling by a softmax over positions", channels: 8, build: func(g *m.Model, x string) string {
		w := g.Op("Softmax", attrs{"axis": 2}, conv(1, 8, 1, nil)(g, g.Op("Tanh", nil, same3(g, x))))
		return g.Reduce("ReduceSum", g.Op("Mul", nil, x, w), 1, 2)
	}},
	{name: "LogSoftmax in the head", at: inHead, build: apply("LogSoftmax", attrs{"axis": 1}), refused: []string{"log_softmax in the middle of the model", "last operator"}},

	// Quantised models.
	{name: "QDQ", build: func(g *m.Model, x string) string {
		zero := g.Const(m.Tensor{DType: m.I8, Data: []byte{0}})
		scale := g.Scalar(0.05)
		q := g.Op("Transpose", attrs{"perm": []int{0, 2, 1}}, g.Op("QuantizeLinear", nil, x, scale, zero))
		return g.Op("Transpose", attrs{"perm": []int{0, 2, 1}}, g.Op("DequantizeLinear", nil, q, scale, zero))
	}, apart: 0.1}, // which rounds, where the float model doesn't
	{name: "DequantizeLinear of weights", build: func(g *m.Model, x string) string {
		w := make([]byte, 64)
		for i := range w {
			w[i] = byte(i * 37)
		}
		weight := g.Op("DequantizeLinear", attrs{"axis": 0}, g.Const(m.Tensor{DType: m.I8, Dims: []int{8, 8, 1}, Data: w}), g.Uniform(0.002, 0.005, 8), g.Const(m.Tensor{DType: m.I8, Dims: []int{8}, Data: make([]byte, 8)}))
		return g.Op("Conv", attrs{"kernel_shape": []int{1}}, x, weight)
	}, from: 13},
	{name: "QuantizeLinear per channel", build: func(g *m.Model, x string) string {
		zero := g.Const(m.Tensor{DType: m.I8, Dims: []int{8}, Data: make([]byte, 8)})
		q := g.Op("QuantizeLinear", attrs{"axis": 1}, x, g.Uniform(0.1, 0.2, 8), zero)
		return g.Op("DequantizeLinear", attrs{"axis": 1}, q, g.Uniform(0.1, 0.2, 8), zero)
	}, from: 13, refused: []string{"per tensor"}},
	{name: "QuantizeLinear alone", build: func(g *m.Model, x string) string {
		zero := g.Const(m.Tensor{DType: m.U8, Data: []byte{128}})
		return g.Op("Cast", attrs{"to": m.F32}, g.Op("QuantizeLinear", nil, x, g.Scalar(0.05), zero))
	}, refused: []string{"Cast reads a quantised value", "QDQ form"}},
	{name: "QDQ of two scales", build: func(g *m.Model, x string) string {
		zero := g.Const(m.Tensor{DType: m.U8, Data: []byte{128}})
		return g.Op("DequantizeLinear", nil, g.Op("QuantizeLinear", nil, x, g.Scalar(0.05), zero), g.Scalar(0.1), zero)
	}, refused: []string{"read with another"}},
}
