package canonical_test

import (
	"testing"

	"nepcoc/passes/canonical"
	"nepcoc/passes/internal/passtest"
)

func TestGolden(t *testing.T) {
	passtest.Golden(t, canonical.Pass, []passtest.Case{
		{Name: "layer_norm", Has: []string{"layer_norm"}},
		{Name: "layer_norm_axis1", Has: []string{"layer_norm"}},
		{Name: "layer_norm_two_axes", Has: []string{"sub", "layer_norm"}},
		{Name: "layer_norm_moments", Has: []string{"layer_norm"}, Not: []string{"mul", "sub"}},
		{Name: "layer_norm_squares", Has: []string{"layer_norm"}, Not: []string{"mul", "sub"}},
		{Name: "layer_norm_not", Not: []string{"layer_norm"}},
		{Name: "one_hot", Has: []string{"embed"}, Not: []string{"Equal", "linear"}},
		{Name: "one_hot_not", Has: []string{"Equal"}},
		{Name: "softmax_primitives", Has: []string{"softmax"}},
		{Name: "qdq", Has: []string{"embed", "pool"}, Not: []string{"QuantizeLinear", "affine"}},
		{Name: "qdq_not", Refused: true},
		{Name: "gelu_not", Has: []string{"mul"}},
		{Name: "gelu_moved", Has: []string{"act"}, Not: []string{"mul"}},
		{Name: "gelu", Has: []string{"act"}, Not: []string{"mul"}},
		{Name: "gelu_tanh", Has: []string{"act"}, Not: []string{"mul"}},
		{Name: "silu", Has: []string{"act"}, Not: []string{"mul"}},
		{Name: "silu_not", Has: []string{"mul"}},
		{Name: "hard_swish", Has: []string{"act"}, Not: []string{"mul"}},
		{Name: "hard_swish_not", Has: []string{"mul"}},
		{Name: "mish", Has: []string{"act"}, Not: []string{"mul"}},
		{Name: "softsign", Has: []string{"act"}, Not: []string{"div"}},
		{Name: "conv_pad", Has: []string{"conv"}, Not: []string{"pad"}},
		{Name: "conv_pad_not", Has: []string{"conv", "pad"}},
		{Name: "conv_pad_reflect", Has: []string{"conv", "pad"}},
		{Name: "chomp", Has: []string{"conv"}, Not: []string{"slice"}},
		{Name: "chomp_not", Has: []string{"conv", "slice"}},
		{Name: "batch_norm_after", Has: []string{"conv"}, Not: []string{"affine"}},
		{Name: "batch_norm_before", Has: []string{"affine", "conv"}},
		{Name: "batch_norm_shared", Has: []string{"affine", "conv"}},
		{Name: "flatten", Has: []string{"flatten", "linear"}},
		{Name: "flatten_output", Refused: true},
		{Name: "conv2d", Has: []string{"conv", "window_pool", "pool"}},
		{Name: "conv2d_swapped", Has: []string{"transpose", "conv"}, Not: []string{"gather"}},
		{Name: "conv2d_tall", Has: []string{"gather", "conv"}},
		{Name: "image", Has: []string{"gather", "conv", "window_pool"}, Not: []string{"transpose", "regroup"}},
		{Name: "attention", Refused: true},
		{Name: "per_position", Refused: true},
		{Name: "shape_arithmetic", Has: []string{"embed", "pool"}, Not: []string{"reshape"}},
		{Name: "linear", Has: []string{"linear"}, Not: []string{"add"}},
		{Name: "select", Has: []string{"pool", "concat", "log_softmax"}},
		{Name: "side", Has: []string{"sub", "div", "linear", "concat"}, Not: []string{"flatten", "reshape", "cast"}},
		{Name: "mask", Has: []string{"Equal", "Where"}},
		{Name: "split", Has: []string{"slice"}},
	})
}
