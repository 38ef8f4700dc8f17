package fuse_test

import (
	"testing"

	"nepcoc/passes/fuse"
	"nepcoc/passes/internal/passtest"
)

func TestGolden(t *testing.T) {
	gated := []string{"gated_conv"}
	passtest.Golden(t, fuse.Pass, []passtest.Case{
		{Name: "gated_norm", Has: gated, Not: []string{"layer_norm", "add", "mul", "affine"}},
		{Name: "gated_plain", Has: gated, Not: []string{"mul"}},
		{Name: "gated_two_convs", Has: gated, Not: []string{"layer_norm", "conv"}},
		{Name: "gated_residual_only", Has: []string{"gated_conv", "add"}},
		{Name: "gated_sum_shared", Has: []string{"gated_conv", "add", "layer_norm"}},
		{Name: "gate_tanh", Not: gated},
		{Name: "gate_shared", Not: gated},
		{Name: "conv_shared", Not: gated},
		{Name: "gated_dense", Not: gated},
		{Name: "gated_dilated", Not: gated},
		{Name: "glu_linear", Not: gated},
		{Name: "conv_act", Has: []string{"conv"}, Not: []string{"act", "mul", "sub", "affine"}},
		{Name: "affine_before", Has: []string{"conv"}, Not: []string{"affine"}},
		{Name: "affine_before_padding", Has: []string{"affine", "conv"}},
		{Name: "scale_before_padding", Has: []string{"conv"}, Not: []string{"affine", "mul"}},
		{Name: "affine_chain", Has: []string{"affine"}, Not: []string{"add", "div"}},
		{Name: "act_shared", Has: []string{"linear", "act"}},
		{Name: "sigmoid_output", Has: []string{"linear", "act"}},
		{Name: "act_prelu", Has: []string{"linear", "act"}},
		{Name: "position_constant", Has: []string{"add"}, Not: []string{"affine"}},
	})
}
