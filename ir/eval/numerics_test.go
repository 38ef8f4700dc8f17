package eval

import (
	"math"
	"testing"

	"nepcoc/ir"
)

func f32(data []float32, shape ...int) *ir.Tensor { return ir.Float32s(data, shape...) }

func i64(data []int64, shape ...int) *ir.Tensor { return ir.Int64s(data, shape...) }

func vec(v ...int64) *ir.Tensor { return i64(v, len(v)) }

func scalar(v float32) *ir.Tensor { return f32([]float32{v}) }

func typed(d ir.DType, data any, shape ...int) *ir.Tensor {
	return &ir.Tensor{Type: ir.Type{DType: d, Shape: shape}, Data: data}
}

func ramp(shape ...int) *ir.Tensor {
	v := make([]float32, ir.NumElements(shape))
	for i := range v {
		v[i] = float32(i)
	}
	return f32(v, shape...)
}

type attrs = ir.Attrs

// Results computed by hand, or by the formula of the standard.
var numerics = []struct {
	name, op string
	attrs    attrs
	in       []*ir.Tensor
	want     []*ir.Tensor
}{
	{"broadcast both ways", "Add", nil, []*ir.Tensor{f32([]float32{1, 2}, 2, 1), f32([]float32{10, 20, 30}, 3)},
		[]*ir.Tensor{f32([]float32{11, 21, 31, 12, 22, 32}, 2, 3)}},
	{"integer division truncates", "Div", nil, []*ir.Tensor{vec(-7, 7, -8), vec(2, 2, 3)}, []*ir.Tensor{vec(-3, 3, -2)}},
	{"pow keeps the base's type", "Pow", nil, []*ir.Tensor{vec(2, 3), f32([]float32{3, 0.5}, 2)}, []*ir.Tensor{vec(8, 1)}},
	{"max of three", "Max", nil, []*ir.Tensor{f32([]float32{1, 5}, 2), scalar(2), f32([]float32{0, 9}, 2)}, []*ir.Tensor{f32([]float32{2, 9}, 2)}},
	{"mean of inputs", "Mean", nil, []*ir.Tensor{f32([]float32{1, 5}, 2), f32([]float32{3, 7}, 2)}, []*ir.Tensor{f32([]float32{2, 6}, 2)}},
	{"where", "Where", nil, []*ir.Tensor{typed(ir.Bool, []bool{true, false}, 2, 1), vec(1, 2), i64([]int64{9})}, []*ir.Tensor{i64([]int64{1, 2, 9, 9}, 2, 2)}},
	{"equal", "Equal", nil, []*ir.Tensor{vec(1, 2), i64([]int64{2})}, []*ir.Tensor{typed(ir.Bool, []bool{false, true}, 2)}},
	{"clip, no lower bound", "Clip", nil, []*ir.Tensor{f32([]float32{-9, 9}, 2), nil, scalar(6)}, []*ir.Tensor{f32([]float32{-9, 6}, 2)}},
	{"cast truncates and saturates", "Cast", attrs{"to": "i8"}, []*ir.Tensor{f32([]float32{-1.9, 1.9, 300, -300, float32(math.NaN())}, 5)},
		[]*ir.Tensor{typed(ir.I8, []int8{-1, 1, 127, -128, 0}, 5)}},
	{"cast of integers wraps", "Cast", attrs{"to": "u8"}, []*ir.Tensor{vec(-1, 257)}, []*ir.Tensor{typed(ir.U8, []uint8{255, 1}, 2)}},
	{"cast to bool", "Cast", attrs{"to": "bool"}, []*ir.Tensor{f32([]float32{0, 0.2}, 2)}, []*ir.Tensor{typed(ir.Bool, []bool{false, true}, 2)}},
	{"cast of the exporter's huge mask value", "Cast", attrs{"to": "f32"}, []*ir.Tensor{vec(math.MaxInt64)}, []*ir.Tensor{f32([]float32{9223372036854775807}, 1)}},

	{"numbers of ids, on grids of their own", "side", attrs{"at": 1, "low": []int{0, -8, 1 << 30}, "exp": []int{0, -2, 10}}, []*ir.Tensor{vec(9, 1500, 1<<24-1, 1)},
		[]*ir.Tensor{f32([]float32{1500, 4194301.75, 1099511628800}, 3)}},

	{"gelu", "Gelu", nil, []*ir.Tensor{f32([]float32{-1, 0, 2}, 3)}, []*ir.Tensor{f32([]float32{-0.15865526, 0, 1.9544997}, 3)}},
	{"gelu by tanh", "Gelu", attrs{"approximate": "tanh"}, []*ir.Tensor{f32([]float32{-1, 0, 2}, 3)}, []*ir.Tensor{f32([]float32{-0.15880801, 0, 1.9545977}, 3)}},
	{"hard sigmoid", "HardSigmoid", attrs{"alpha": 0.5, "beta": 0.6}, []*ir.Tensor{f32([]float32{-1, 0, 1}, 3)}, []*ir.Tensor{f32([]float32{0.1, 0.6, 1}, 3)}},
	{"prelu per channel", "PRelu", nil, []*ir.Tensor{f32([]float32{-1, 2, -3, -4}, 2, 2), f32([]float32{0.5, 2}, 2, 1)}, []*ir.Tensor{f32([]float32{-0.5, 2, -6, -8}, 2, 2)}},
	{"softmax on axis 0", "Softmax", attrs{"axis": 0}, []*ir.Tensor{f32([]float32{0, 1000, 0, 1000}, 2, 2)}, []*ir.Tensor{f32([]float32{.5, .5, .5, .5}, 2, 2)}},
	{"log-softmax far from zero", "LogSoftmax", nil, []*ir.Tensor{f32([]float32{1000, 0}, 2)}, []*ir.Tensor{f32([]float32{0, -1000}, 2)}},

	{"conv: grouped, one tap each", "Conv", attrs{"group": 2}, []*ir.Tensor{ramp(1, 2, 3), f32([]float32{2, 3, 4, 5}, 4, 1, 1), f32([]float32{0, 0, 0, 1}, 4)},
		[]*ir.Tensor{f32([]float32{0, 2, 4, 0, 3, 6, 12, 16, 20, 16, 21, 26}, 1, 4, 3)}},
	{"conv: stride, dilation, uneven pads", "Conv", attrs{"strides": []int{2}, "dilations": []int{2}, "pads": []int{1, 2}}, []*ir.Tensor{ramp(1, 1, 5), f32([]float32{1, 10}, 1, 1, 2)},
		[]*ir.Tensor{f32([]float32{10, 31, 3}, 1, 1, 3)}},
	{"conv: SAME_UPPER", "Conv", attrs{"auto_pad": "SAME_UPPER"}, []*ir.Tensor{ramp(1, 1, 3), f32([]float32{1, 10}, 1, 1, 2)}, []*ir.Tensor{f32([]float32{10, 21, 2}, 1, 1, 3)}},
	{"conv: SAME_LOWER", "Conv", attrs{"auto_pad": "SAME_LOWER"}, []*ir.Tensor{ramp(1, 1, 3), f32([]float32{1, 10}, 1, 1, 2)}, []*ir.Tensor{f32([]float32{0, 10, 21}, 1, 1, 3)}},
	{"conv: two-dimensional", "Conv", attrs{"pads": []int{0, 1, 0, 0}}, []*ir.Tensor{ramp(1, 1, 2, 2), f32([]float32{1, 2, 3, 4}, 1, 1, 2, 2)}, []*ir.Tensor{f32([]float32{8, 20}, 1, 1, 1, 2)}},
	{"max pool: ceil_mode", "MaxPool", attrs{"kernel_shape": []int{2}, "strides": []int{2}, "ceil_mode": 1}, []*ir.Tensor{ramp(1, 1, 5)}, []*ir.Tensor{f32([]float32{1, 3, 4}, 1, 1, 3)}},
	{"average pool: padding not counted", "AveragePool", attrs{"kernel_shape": []int{2}, "pads": []int{1, 1}}, []*ir.Tensor{f32([]float32{2, 4}, 1, 1, 2)}, []*ir.Tensor{f32([]float32{2, 3, 4}, 1, 1, 3)}},
	{"average pool: padding counted", "AveragePool", attrs{"kernel_shape": []int{2}, "pads": []int{1, 1}, "count_include_pad": 1}, []*ir.Tensor{f32([]float32{2, 4}, 1, 1, 2)}, []*ir.Tensor{f32([]float32{1, 3, 2}, 1, 1, 3)}},
	{"global average pool", "GlobalAveragePool", nil, []*ir.Tensor{ramp(1, 2, 2, 2)}, []*ir.Tensor{f32([]float32{1.5, 5.5}, 1, 2, 1, 1)}},
	{"gemm: all options", "Gemm", attrs{"transA": 1, "transB": 1, "alpha": 2.0, "beta": 0.5}, []*ir.Tensor{f32([]float32{1, 2, 3, 4}, 2, 2), f32([]float32{5, 6, 7, 8}, 2, 2), f32([]float32{10, 20}, 2, 1)},
		[]*ir.Tensor{f32([]float32{51, 67, 78, 102}, 2, 2)}},
	{"matmul: batch broadcast", "MatMul", nil, []*ir.Tensor{ramp(2, 1, 2), ramp(2, 2, 1)}, []*ir.Tensor{f32([]float32{1, 13}, 2, 1, 1)}},
	{"matmul: vectors", "MatMul", nil, []*ir.Tensor{f32([]float32{1, 2}, 2), f32([]float32{3, 4}, 2)}, []*ir.Tensor{scalar(11)}},
	{"matmul: vector and matrix", "MatMul", nil, []*ir.Tensor{f32([]float32{1, 2}, 2), ramp(2, 2)}, []*ir.Tensor{f32([]float32{4, 7}, 2)}},
	{"batch norm", "BatchNormalization", attrs{"epsilon": 0.0}, []*ir.Tensor{f32([]float32{1, 2}, 1, 2), f32([]float32{2, 1}, 2), f32([]float32{0, 5}, 2), f32([]float32{3, 2}, 2), f32([]float32{4, 1}, 2)},
		[]*ir.Tensor{f32([]float32{-2, 5}, 1, 2)}},
	{"layer norm with statistics", "LayerNormalization", attrs{"epsilon": 0.0}, []*ir.Tensor{f32([]float32{1, 3}, 1, 2), f32([]float32{1, 2}, 2), f32([]float32{0, 1}, 2)},
		[]*ir.Tensor{f32([]float32{-1, 3}, 1, 2), f32([]float32{2}, 1, 1), f32([]float32{1}, 1, 1)}},
	{"instance norm", "InstanceNormalization", attrs{"epsilon": 0.0}, []*ir.Tensor{f32([]float32{1, 3, 2, 2}, 1, 2, 2), f32([]float32{1, 1}, 2), f32([]float32{0, 1}, 2)},
		[]*ir.Tensor{f32([]float32{-1, 1, float32(math.NaN()), float32(math.NaN())}, 1, 2, 2)}},
	{"group norm", "GroupNormalization", attrs{"epsilon": 0.0, "num_groups": 1}, []*ir.Tensor{f32([]float32{1, 3}, 1, 2, 1), f32([]float32{1, 10}, 2), f32([]float32{0, 1}, 2)},
		[]*ir.Tensor{f32([]float32{-1, 11}, 1, 2, 1)}},

	{"reduce: negative axis, dropped", "ReduceSum", attrs{"keepdims": 0}, []*ir.Tensor{ramp(2, 3), vec(-1)}, []*ir.Tensor{f32([]float32{3, 12}, 2)}},
	{"reduce: middle axis", "ReduceMax", nil, []*ir.Tensor{ramp(2, 2, 2), vec(1)}, []*ir.Tensor{f32([]float32{2, 3, 6, 7}, 2, 1, 2)}},
	{"reduce: magnitudes", "ReduceL1", attrs{"keepdims": 0}, []*ir.Tensor{f32([]float32{-1, 2, 3, -4}, 2, 2), vec(1)}, []*ir.Tensor{f32([]float32{3, 7}, 2)}},
	{"reduce: squares", "ReduceSumSquare", attrs{"keepdims": 0}, []*ir.Tensor{f32([]float32{-1, 2, 3, -4}, 2, 2), vec(0)}, []*ir.Tensor{f32([]float32{10, 20}, 2)}},
	{"reduce: no axes means all", "ReduceMean", nil, []*ir.Tensor{ramp(2, 3)}, []*ir.Tensor{f32([]float32{2.5}, 1, 1)}},
	{"reduce: no axes means none", "ReduceSum", attrs{"noop_with_empty_axes": 1}, []*ir.Tensor{ramp(2), i64(nil, 0)}, []*ir.Tensor{ramp(2)}},
	{"argmax: first of equals", "ArgMax", attrs{"axis": -1, "keepdims": 0}, []*ir.Tensor{f32([]float32{1, 7, 7, 0}, 1, 4)}, []*ir.Tensor{vec(1)}},
	{"argmax: last of equals", "ArgMax", attrs{"axis": 1, "select_last_index": 1}, []*ir.Tensor{f32([]float32{1, 7, 7, 0}, 1, 4)}, []*ir.Tensor{i64([]int64{2}, 1, 1)}},

	{"slice backwards", "Slice", nil, []*ir.Tensor{ramp(2, 3), vec(-1), vec(math.MinInt64), vec(1), vec(-2)}, []*ir.Tensor{f32([]float32{2, 0, 5, 3}, 2, 2)}},
	{"slice past the end", "Slice", nil, []*ir.Tensor{ramp(3), vec(1), vec(math.MaxInt64)}, []*ir.Tensor{f32([]float32{1, 2}, 2)}},
	{"pad reflect", "Pad", attrs{"mode": "reflect"}, []*ir.Tensor{ramp(3), vec(2, 1)}, []*ir.Tensor{f32([]float32{2, 1, 0, 1, 2, 1}, 6)}},
	{"pad wrap", "Pad", attrs{"mode": "wrap"}, []*ir.Tensor{ramp(3), vec(1, 2)}, []*ir.Tensor{f32([]float32{2, 0, 1, 2, 0, 1}, 6)}},
	{"pad edge", "Pad", attrs{"mode": "edge"}, []*ir.Tensor{ramp(2, 2), vec(1, 0, 0, 1)}, []*ir.Tensor{f32([]float32{0, 1, 1, 0, 1, 1, 2, 3, 3}, 3, 3)}},
	{"pad with a value on one axis, cutting", "Pad", nil, []*ir.Tensor{ramp(2, 3), vec(-1, 2), scalar(9), vec(-1)}, []*ir.Tensor{f32([]float32{1, 2, 9, 9, 4, 5, 9, 9}, 2, 4)}},
	{"transpose", "Transpose", attrs{"perm": []int{2, 0, 1}}, []*ir.Tensor{ramp(2, 1, 3)}, []*ir.Tensor{f32([]float32{0, 3, 1, 4, 2, 5}, 3, 2, 1)}},
	{"reshape 0 and -1", "Reshape", nil, []*ir.Tensor{ramp(2, 3), vec(0, -1, 1)}, []*ir.Tensor{ramp(2, 3, 1)}},
	{"gather: negative index, middle axis", "Gather", attrs{"axis": 1}, []*ir.Tensor{ramp(2, 3), vec(-1, 0)}, []*ir.Tensor{f32([]float32{2, 0, 5, 3}, 2, 2)}},
	{"gather: scalar index drops the axis", "Gather", nil, []*ir.Tensor{vec(4, 5), i64([]int64{1})}, []*ir.Tensor{i64([]int64{5})}},
	{"split, uneven", "Split", attrs{"num_outputs": 2}, []*ir.Tensor{ramp(5)}, []*ir.Tensor{ramp(3), f32([]float32{3, 4}, 2)}},
	{"split by sizes", "Split", attrs{"axis": 1}, []*ir.Tensor{ramp(2, 3), vec(1, 2)}, []*ir.Tensor{f32([]float32{0, 3}, 2, 1), f32([]float32{1, 2, 4, 5}, 2, 2)}},
	{"concat", "Concat", attrs{"axis": -1}, []*ir.Tensor{ramp(2, 1), ramp(2, 2)}, []*ir.Tensor{f32([]float32{0, 0, 1, 1, 2, 3}, 2, 3)}},
	{"shape, part", "Shape", attrs{"start": -2, "end": 9}, []*ir.Tensor{ramp(4, 2, 3)}, []*ir.Tensor{vec(2, 3)}},
	{"constant of shape", "ConstantOfShape", attrs{"value": 7, "dtype": "i64"}, []*ir.Tensor{vec(2)}, []*ir.Tensor{vec(7, 7)}},
	{"expand", "Expand", nil, []*ir.Tensor{ramp(2, 1), vec(3)}, []*ir.Tensor{f32([]float32{0, 0, 0, 1, 1, 1}, 2, 3)}},
	{"tile", "Tile", nil, []*ir.Tensor{ramp(1, 2), vec(2, 2)}, []*ir.Tensor{f32([]float32{0, 1, 0, 1, 0, 1, 0, 1}, 2, 4)}},
	{"range backwards", "Range", nil, []*ir.Tensor{i64([]int64{5}), i64([]int64{0}), i64([]int64{-2})}, []*ir.Tensor{vec(5, 3, 1)}},
	{"squeeze", "Squeeze", nil, []*ir.Tensor{ramp(1, 2, 1), vec(-1)}, []*ir.Tensor{ramp(1, 2)}},
	{"unsqueeze", "Unsqueeze", nil, []*ir.Tensor{ramp(2), vec(0, -1)}, []*ir.Tensor{ramp(1, 2, 1)}},

	{"quantize: half to even, saturate", "QuantizeLinear", nil, []*ir.Tensor{f32([]float32{1, 3, -3, 1000}, 4), scalar(2), typed(ir.I8, []int8{1})},
		[]*ir.Tensor{typed(ir.I8, []int8{1, 3, -1, 127}, 4)}},
	{"dequantize per axis", "DequantizeLinear", attrs{"axis": 0}, []*ir.Tensor{typed(ir.U8, []uint8{3, 5}, 2, 1), f32([]float32{2, 10}, 2), typed(ir.U8, []uint8{1, 6}, 2)},
		[]*ir.Tensor{f32([]float32{4, -10}, 2, 1)}},

	{"embed", "embed", nil, []*ir.Tensor{vec(2, 0), ramp(3, 2)}, []*ir.Tensor{f32([]float32{4, 5, 0, 1}, 2, 2)}},
	{"linear with relu", "linear", attrs{"act": "relu"}, []*ir.Tensor{f32([]float32{1, 2}, 1, 2), f32([]float32{1, 1, -1, -1}, 2, 2), f32([]float32{1, 1}, 2)}, []*ir.Tensor{f32([]float32{4, 0}, 1, 2)}},
	{"conv: dense, time-major", "conv", attrs{"pad_left": 1}, []*ir.Tensor{f32([]float32{1, 2, 3, 4}, 2, 2), f32([]float32{1, 10, 100, 1000}, 1, 2, 2)}, []*ir.Tensor{f32([]float32{2100, 4321}, 2, 1)}},
	{"conv: grouped, time-major", "conv", attrs{"groups": 2, "stride": 2, "dilation": 2, "pad_right": 1}, []*ir.Tensor{ramp(4, 2), f32([]float32{1, 10, 2, 20}, 2, 2, 1), f32([]float32{0, 5}, 2)},
		[]*ir.Tensor{f32([]float32{40, 107, 4, 15}, 2, 2)}},
	{"affine", "affine", nil, []*ir.Tensor{ramp(2, 2), f32([]float32{2, 3}, 2), f32([]float32{1, 0}, 2)}, []*ir.Tensor{f32([]float32{1, 3, 5, 9}, 2, 2)}},
	{"pool: mean of the valid prefix", "pool", attrs{"kind": "mean"}, []*ir.Tensor{ramp(4, 1), i64([]int64{3})}, []*ir.Tensor{f32([]float32{1}, 1)}},
	{"pool: select", "pool", attrs{"kind": "select", "at": 1}, []*ir.Tensor{ramp(2, 2)}, []*ir.Tensor{f32([]float32{2, 3}, 2)}},
	{"window_pool: max skips padding", "window_pool", attrs{"kind": "max", "k": 2, "stride": 2, "pad_left": 1, "pad_right": 1}, []*ir.Tensor{f32([]float32{-1, -2}, 2, 1)}, []*ir.Tensor{f32([]float32{-1, -2}, 2, 1)}},
	{"window_pool: mean counts padding", "window_pool", attrs{"kind": "mean", "k": 2, "stride": 2, "pad_left": 1, "pad_right": 1, "count_pad": 1}, []*ir.Tensor{f32([]float32{-1, -2}, 2, 1)}, []*ir.Tensor{f32([]float32{-.5, -1}, 2, 1)}},
	{"slice: channels", "slice", attrs{"axis": 1, "start": 1, "step": 2, "count": 1}, []*ir.Tensor{ramp(2, 3)}, []*ir.Tensor{f32([]float32{1, 4}, 2, 1)}},
	{"pad: positions", "pad", attrs{"left": 1, "value": 7.0}, []*ir.Tensor{ramp(1, 2)}, []*ir.Tensor{f32([]float32{7, 7, 0, 1}, 2, 2)}},
	{"cast", "cast", attrs{"to": "f32"}, []*ir.Tensor{vec(-1, 2)}, []*ir.Tensor{f32([]float32{-1, 2}, 2)}},
	{"reshape", "reshape", attrs{"shape": []int{3, 2}}, []*ir.Tensor{ramp(2, 3)}, []*ir.Tensor{ramp(3, 2)}},
	{"flatten: position by position", "flatten", nil, []*ir.Tensor{ramp(2, 3)}, []*ir.Tensor{ramp(6)}},
	{"transpose: channels become positions", "transpose", nil, []*ir.Tensor{ramp(2, 3)}, []*ir.Tensor{f32([]float32{0, 3, 1, 4, 2, 5}, 3, 2)}},
	{"regroup: row-major", "regroup", attrs{"rows": 3}, []*ir.Tensor{ramp(2, 3)}, []*ir.Tensor{ramp(3, 2)}},
	{"gather: positions and padding", "gather", nil, []*ir.Tensor{ramp(3, 2), i64([]int64{2, -1, 2}, 3)}, []*ir.Tensor{f32([]float32{4, 5, 0, 0, 4, 5}, 3, 2)}},
	{"concat: channels", "concat", attrs{"axis": 1}, []*ir.Tensor{ramp(2, 1), ramp(2, 2)}, []*ir.Tensor{f32([]float32{0, 0, 1, 1, 2, 3}, 2, 3)}},
	{"act", "act", attrs{"fn": "leaky_relu", "alpha": 0.5}, []*ir.Tensor{f32([]float32{-2, 3}, 2)}, []*ir.Tensor{f32([]float32{-1, 3}, 2)}},
	{"act: a slope per channel", "act", attrs{"fn": "prelu"}, []*ir.Tensor{f32([]float32{-1, -1, 2, -2}, 2, 2), f32([]float32{0.5, -1}, 2)}, []*ir.Tensor{f32([]float32{-0.5, 1, 2, 2}, 2, 2)}},
	{"add: a vector to each position", "add", nil, []*ir.Tensor{ramp(2, 2), f32([]float32{10, 20}, 2)}, []*ir.Tensor{f32([]float32{10, 21, 12, 23}, 2, 2)}},
	{"sub", "sub", nil, []*ir.Tensor{ramp(2, 2), f32([]float32{10, 20}, 2)}, []*ir.Tensor{f32([]float32{-10, -19, -8, -17}, 2, 2)}},
	{"mul", "mul", nil, []*ir.Tensor{ramp(2, 2), f32([]float32{10, 20}, 2)}, []*ir.Tensor{f32([]float32{0, 20, 20, 60}, 2, 2)}},
	{"div", "div", nil, []*ir.Tensor{ramp(2, 2), f32([]float32{2, 4}, 2)}, []*ir.Tensor{f32([]float32{0, 0.25, 1, 0.75}, 2, 2)}},
	{"min", "min", nil, []*ir.Tensor{ramp(2, 2), scalar(1.5)}, []*ir.Tensor{f32([]float32{0, 1, 1.5, 1.5}, 2, 2)}},
	{"max", "max", nil, []*ir.Tensor{ramp(2, 2), scalar(1.5)}, []*ir.Tensor{f32([]float32{1.5, 1.5, 2, 3}, 2, 2)}},
	{"pow", "pow", nil, []*ir.Tensor{ramp(2, 2), scalar(3)}, []*ir.Tensor{f32([]float32{0, 1, 8, 27}, 2, 2)}},
	{"layer_norm", "layer_norm", attrs{"epsilon": 0.0}, []*ir.Tensor{f32([]float32{1, 3}, 1, 2), f32([]float32{1, 2}, 2), f32([]float32{0, 1}, 2)}, []*ir.Tensor{f32([]float32{-1, 3}, 1, 2)}},
	{"layer_norm without the mean", "layer_norm", attrs{"epsilon": 0.0, "rms": 1}, []*ir.Tensor{f32([]float32{1, 7}, 1, 2), f32([]float32{5, 10}, 2), f32([]float32{0, 1}, 2)}, []*ir.Tensor{f32([]float32{1, 15}, 1, 2)}},
	{"softmax", "softmax", nil, []*ir.Tensor{f32([]float32{0, float32(math.Log(3))}, 2)}, []*ir.Tensor{f32([]float32{.25, .75}, 2)}},
	{"log_softmax", "log_softmax", nil, []*ir.Tensor{f32([]float32{1000, 0}, 2)}, []*ir.Tensor{f32([]float32{0, -1000}, 2)}},
	{"argmax", "argmax", nil, []*ir.Tensor{f32([]float32{1, 7, 7, 0}, 4)}, []*ir.Tensor{i64([]int64{1})}},
	{"mish", "Mish", nil, []*ir.Tensor{f32([]float32{0, 1}, 2)}, []*ir.Tensor{f32([]float32{0, 0.86509839}, 2)}},
	{"hard swish", "HardSwish", nil, []*ir.Tensor{f32([]float32{-4, 1, 4}, 3)}, []*ir.Tensor{f32([]float32{0, 2.0 / 3, 4}, 3)}},
	{"gated conv: gate open by half", "gated_conv", attrs{"k": 2, "pad_right": 1, "alpha": 0.5},
		[]*ir.Tensor{ramp(2, 2), f32([]float32{10, 20}, 2, 1), typed(ir.I32, []int32{1}, 1), typed(ir.I32, []int32{0}, 1), f32([]float32{1, 10}, 1, 2), f32([]float32{0, 0}, 1, 2), f32([]float32{1}, 1), f32([]float32{0}, 1)},
		[]*ir.Tensor{f32([]float32{16 + 5, 2 + 10}, 2, 1)}},
	{"gated conv with layer norm", "gated_conv", attrs{"k": 1, "epsilon": 0.0},
		[]*ir.Tensor{f32([]float32{1, 3}, 1, 2), nil, typed(ir.I32, []int32{0, 1}, 2), typed(ir.I32, []int32{0, 1}, 2), f32([]float32{1, 1}, 2, 1), f32([]float32{0, 0}, 2, 1), f32([]float32{0, 0}, 2), f32([]float32{0, 0}, 2), f32([]float32{1, 2}, 2), f32([]float32{0, 1}, 2)},
		[]*ir.Tensor{f32([]float32{-1, 3}, 1, 2)}},
}

// Every operator that the ONNX standard's own tests say nothing of has numbers
// here: ours, and the standard's that are younger than the suite at hand.
func TestNumericsCoverTable(t *testing.T) {
	const suiteOpset = 17
	for _, g := range []ir.OpGroup{ir.GroupONNX, ir.GroupCanonical, ir.GroupFused} {
		for _, op := range ir.Ops(g) {
			tested := false
			for _, c := range numerics {
				tested = tested || c.op == op.Name
			}
			if !tested && (g != ir.GroupONNX || op.MinOpset > suiteOpset) {
				t.Errorf("%s: no numbers to compare with", op.Name)
			}
		}
	}
}

func TestNumerics(t *testing.T) {
	for _, tt := range numerics {
		t.Run(tt.op+": "+tt.name, func(t *testing.T) {
			n := &ir.Node{Op: tt.op, Attrs: tt.attrs, Inputs: make([]*ir.Value, len(tt.in))}
			for range tt.want {
				n.Outputs = append(n.Outputs, &ir.Value{Def: n})
			}
			got, err := Node(n, tt.in)
			if err != nil {
				t.Fatal(err)
			}
			for i, w := range tt.want {
				if !got[i].Type.Equal(w.Type) {
					t.Fatalf("output %d is %s, want %s", i, got[i].Type, w.Type)
				}
				if at := differ(got[i], w, 1e-6); at >= 0 {
					t.Fatalf("output %d differs at %d: got %v, want %v", i, at, got[i].Data, w.Data)
				}
			}
		})
	}
}

// differ is the first element beyond a tolerance relative to max(1, |want|).
func differ(got, want *ir.Tensor, tol float64) int {
	a, ok := got.Floats()
	if !ok {
		x, y := got.Data.([]bool), want.Data.([]bool)
		for i := range x {
			if x[i] != y[i] {
				return i
			}
		}
		return -1
	}
	b, _ := want.Floats()
	for i := range a {
		if a[i] == b[i] || a[i] != a[i] && b[i] != b[i] {
			continue
		}
		if !(math.Abs(a[i]-b[i]) <= tol*max(1, math.Abs(b[i]))) {
			return i
		}
	}
	return -1
}
