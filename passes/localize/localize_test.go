package localize_test

import (
	"testing"

	"nepcoc/passes"
	"nepcoc/passes/internal/passtest"
	"nepcoc/passes/localize"
)

func TestGolden(t *testing.T) {
	noMask := []string{"mul", "add", "cast", "Where", "Equal"}
	passtest.Golden(t, localize.Pass, []passtest.Case{
		{Name: "mask_of_tokens", Has: []string{"pool"}, Not: []string{"Equal", "Not", "mul", "div"}},
		{Name: "mask_of_tokens_table", Has: []string{"pool"}, Not: []string{"Equal", "Not", "mul", "div"}},
		{Name: "mask_of_tokens_between", Has: []string{"mul", "embed"}, Not: []string{"Equal"}},
		{Name: "compare_of_tokens", Has: []string{"mul"}, Not: []string{"Greater"}},
		{Name: "int32_tokens", Not: []string{"cast"}},
		{Name: "mask_max", Has: []string{"embed", "pool"}, Not: noMask},
		{Name: "mask_additive", Has: []string{"embed", "pool"}, Not: noMask},
		{Name: "mask_where", Has: []string{"embed", "pool"}, Not: noMask},
		{Name: "mask_mean", Has: []string{"embed", "pool"}, Not: append(noMask, "div")},
		{Name: "mask_mean_reciprocal", Has: []string{"embed", "pool"}, Not: append(noMask, "div")},
		{Name: "mask_sum", Has: []string{"embed", "pool"}, Not: noMask},
		{Name: "mask_relu", Has: []string{"embed", "pool"}, Not: noMask},
		{Name: "mask_weak", Refused: true},
		{Name: "mask_zero", Refused: true},
		{Name: "mask_inside", Refused: true},
		{Name: "mask_count", Refused: true},
		{Name: "token_table", Has: []string{"embed", "mul"}, Not: []string{"layer_norm"}},
		{Name: "position_embedding", Has: []string{"embed", "add", "linear"}},
		{Name: "bytes", Has: []string{"embed"}, Not: []string{"affine"}},
		{Name: "bytes_direct", Has: []string{"embed", "flatten"}},
		{Name: "bytes_raw", Has: []string{"embed"}, Not: []string{"cast"}},
		{Name: "bytes_unknown", Refused: true, Options: passes.Options{ByteEncoding: "nibble"}},
		{Name: "squeeze_excite", Refused: true},
		{Name: "two_inputs", Refused: true},
	})
}
