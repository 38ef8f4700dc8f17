package localize_test

import (
	"math"
	"testing"

	"nepcoc/passes"
	"nepcoc/passes/internal/passtest"
	"nepcoc/passes/localize"
	"nepcoc/runtime/bundle"
)

// features are ranges of n features: 0 to 1, 0 to 10, ...; the last is always 7.
func features(n int) passes.Options {
	r := make([]bundle.Range, n)
	for i := range r {
		r[i] = bundle.Range{0, math.Pow10(i)}
	}
	r[n-1] = bundle.Range{7, 7}
	return passes.Options{Features: r}
}

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
		{Name: "features", Has: []string{"embed", "flatten", "affine", "linear"}, Not: []string{"sub", "div"}, Options: features(3)},
		{Name: "features_convolved", Has: []string{"embed", "conv"}, Not: []string{"sub", "mul", "affine"}, Options: features(3)},
		{Name: "features_image", Has: []string{"embed", "gather", "conv"}, Not: []string{"mul", "affine"}, Options: features(4)},
		{Name: "features_refused", Refused: true, Options: features(3)},
		{Name: "features_scaled_twice", Refused: true, Options: features(3)},
		{Name: "features_of_another_model", Refused: true, Options: features(4)},
		{Name: "squeeze_excite", Has: []string{"mul"}},
		{Name: "two_inputs", Refused: true},
		{Name: "side", Has: []string{"side", "embed", "concat"}},
	})
}
