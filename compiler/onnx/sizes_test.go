package onnx

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestSizes(t *testing.T) {
	one := func() *testModel {
		return newModel(17).input("x", 1, "n", 4, "t").output("y", 1, "n", 4, "t").node("Relu", in("x"), in("y"))
	}
	none := func() *testModel {
		return newModel(17).input("x", 1, nil, nil).output("y", 1).node("Relu", in("x"), in("y"))
	}
	two := func() *testModel {
		return newModel(17).input("x", 1, 1, "p", "b").input("m", 1, 1, "p", 1).output("y", 1).node("Mul", in("x", "m"), in("y"))
	}
	fixed := func() *testModel {
		return newModel(17).input("x", 1, "n", 8).output("y", 1).node("Relu", in("x"), in("y"))
	}
	for _, c := range []struct {
		name  string
		model *testModel
		o     Options
		want  string // the inputs' types, or what the refusal says
	}{
		{"length", one(), Options{Length: 6}, "[f32[1,4,6]]"},
		{"by name", one(), Options{Sizes: map[string]int{"t": 6}}, "[f32[1,4,6]]"},
		{"name before length", one(), Options{Length: 6, Sizes: map[string]int{"t": 7}}, "--length 6: the inputs have other lengths"},
		{"batch of 1", one(), Options{Length: 6, Sizes: map[string]int{"n": 1}}, "[f32[1,4,6]]"},
		{"batch of 2", one(), Options{Length: 6, Sizes: map[string]int{"n": 2}}, "always 1"},
		{"neither", one(), Options{}, "--length 128; or by name: --set-dim t=128"},
		{"no such name", one(), Options{Sizes: map[string]int{"u": 6}}, "the dynamic dimensions are n, t"},
		{"without a name", none(), Options{Length: 6}, "[f32[1,6]]"},
		{"named by its place", none(), Options{Sizes: map[string]int{"x.1": 6}}, "[f32[1,6]]"},
		{"two, and one length", two(), Options{Length: 6}, "--set-dim p=128 --set-dim b=128"},
		{"two by name", two(), Options{Sizes: map[string]int{"p": 3, "b": 5}}, "[f32[1,3,5] f32[1,3,1]]"},
		{"one of two by name", two(), Options{Length: 5, Sizes: map[string]int{"p": 3}}, "[f32[1,3,5] f32[1,3,1]]"},
		{"the length that it has", fixed(), Options{Length: 8}, "[f32[1,8]]"},
		{"another than it has", fixed(), Options{Length: 9}, "leave out --length"},
		{"a name where none is dynamic", newModel(17).input("x", 1, 1, 8).output("y", 1).node("Relu", in("x"), in("y")), Options{Sizes: map[string]int{"t": 8}}, "no dimension is dynamic"},
		{"too long", one(), Options{Length: 1 << 17}, "1 to 65535 positions"},
		{"negative", one(), Options{Sizes: map[string]int{"t": -1}}, "1 to 65535 positions"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g, info, err := importModel("test.onnx", c.model.bytes(), c.o, nil)
			var r *Refusal
			switch {
			case errors.As(err, &r):
				if !strings.Contains(err.Error(), c.want) {
					t.Errorf("want %q, got %v", c.want, err)
				}
				return
			case err != nil:
				t.Fatal(err)
			}
			var types []string
			for _, v := range g.Inputs {
				types = append(types, v.Type.String())
			}
			if got := fmt.Sprint(types); got != c.want {
				t.Errorf("inputs %s, want %s", got, c.want)
			}
			// What is written down gives the same again.
			again, _, err := importModel("test.onnx", c.model.bytes(), Options{Sizes: info.Sizes}, nil)
			if err != nil || fmt.Sprint(again.Inputs[0].Type) != fmt.Sprint(g.Inputs[0].Type) {
				t.Errorf("with %v: %v", info.Sizes, err)
			}
		})
	}
}
