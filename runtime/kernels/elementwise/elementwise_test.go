package elementwise_test

import (
	"slices"
	"testing"

	"nepcoc/runtime/kernels/elementwise"
)

func TestKernels(t *testing.T) {
	a, one := []int32{-3, 5, 1 << 30, -1 << 31}, []int32{10}
	sum := &elementwise.Sum{MultA: 3, MultB: -1, Bias: 1, Shift: 1, Lo: -100, Hi: 1 << 20}
	product := &elementwise.Product{Mult: -2, Shift: 2, Lo: -1000, Hi: 1000}
	for _, c := range []struct {
		name string
		run  func(dst []int32)
		want []int32
	}{
		{"add", func(d []int32) { elementwise.Add(d, a, a, sum) }, []int32{-2, 6, 1 << 20, -100}}, // -5/2 and 11/2, halves up
		{"add one", func(d []int32) { elementwise.Add(d, a, one, sum) }, []int32{-9, 3, 1 << 20, -100}},
		{"add to one", func(d []int32) { elementwise.Add(d, one, a, sum) }, []int32{17, 13, -100, 1 << 20}},
		{"mul", func(d []int32) { elementwise.Mul(d, a, one, product) }, []int32{15, -25, -1000, 1000}},
		{"rescale", func(d []int32) { elementwise.Rescale(d, a, 3, 1, -50, 50) }, []int32{-4, 8, 50, -50}}, // -9/2 and 15/2
	} {
		got := make([]int32, len(a))
		if c.run(got); !slices.Equal(got, c.want) {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
	wide, narrow := make([]int32, 3), make([]int8, 3)
	elementwise.Widen(wide, []int8{-128, 0, 127})
	if elementwise.Narrow(narrow, wide); !slices.Equal(narrow, []int8{-128, 0, 127}) || wide[0] != -128 {
		t.Errorf("widen and narrow: %d, %d", wide, narrow)
	}
}
