package legalize_test

import (
	"testing"

	"nepcoc/passes/internal/passtest"
	"nepcoc/passes/legalize"
)

func TestGolden(t *testing.T) {
	passtest.Golden(t, legalize.Pass, []passtest.Case{
		{Name: "max_two", Has: []string{"sub", "act", "add"}, Not: []string{"max"}},
		{Name: "min_two", Has: []string{"sub", "act"}, Not: []string{"min", "add"}},
		{Name: "max_per_channel", Not: []string{"max"}},
		{Name: "min_per_channel", Not: []string{"min"}},
		{Name: "max_one_bound", Has: []string{"max"}, Not: []string{"act"}},
		{Name: "quotient", Has: []string{"act", "mul"}, Not: []string{"div"}},
		{Name: "quotient_constant", Has: []string{"div"}, Not: []string{"mul"}},
		{Name: "power", Has: []string{"act"}, Not: []string{"pow"}},
		{Name: "power_of_base", Has: []string{"act"}, Not: []string{"pow"}},
		{Name: "widened", Has: []string{"linear", "add"}},
		{Name: "widened_constant", Has: []string{"linear", "sub"}},
		{Name: "product_of_one_channel", Has: []string{"mul"}},
		{Name: "pad_zeros", Has: []string{"conv"}, Not: []string{"pad", "affine"}},
		{Name: "pad_value", Has: []string{"affine", "conv"}, Not: []string{"pad"}},
		{Name: "pad_edge", Has: []string{"pad"}, Not: []string{"conv"}},
		{Name: "ending", Has: []string{"softmax", "argmax", "cast"}},
		{Name: "refused", Refused: true},
	})
}
