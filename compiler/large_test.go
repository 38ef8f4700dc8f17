package compiler_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nepcoc/compiler"
	m "nepcoc/internal/onnxmodel"
)

// largeCases are models beyond what a bundle may hold, each beyond another limit.
var largeCases = []struct {
	name, says string
	build      func(g *m.Model)
}{
	{"length", "input length 100000 is more than the 65535", func(g *m.Model) { pooled(g, byteInput(g, 100_000), 4) }},
	{"memory", "90000000 is more than the 67108864", func(g *m.Model) { pooled(g, byteInput(g, 60_000), 1500) }},
	{"float memory", "360000000 is more than", func(g *m.Model) { pooled(g, byteInput(g, 60_000), 6000) }},
	{"wide flatten", "number of channels 1280000 is more than", func(g *m.Model) {
		x := g.Op("Conv", attrs{"kernel_shape": []int{3}, "pads": []int{1, 1}}, byteInput(g, 20_000), g.Random(64, 1, 3))
		g.Output(linear(2, 64*20_000)(g, g.Op("Flatten", attrs{"axis": 1}, x)), m.F32)
	}},
	{"long sum", "", func(g *m.Model) {
		g.Output(linear(2, 60_000)(g, g.Op("Flatten", attrs{"axis": 1}, byteInput(g, 60_000))), m.F32)
	}},
	{"steps", "steps", func(g *m.Model) {
		x := g.Op("Conv", attrs{"kernel_shape": []int{3}, "pads": []int{1, 1}}, byteInput(g, 16), g.Random(2, 1, 3))
		for range 4200 {
			x = g.Op("Relu", nil, g.Op("Conv", attrs{"kernel_shape": []int{3}, "pads": []int{1, 1}}, x, g.Random(2, 2, 3)))
		}
		verdictOf(g, x, 2)
	}},
	{"vocabulary", "token ids", func(g *m.Model) {
		x := g.Op("Gather", nil, g.RandomScaled(1, 0, 1<<20+1, 2), g.Input("tokens", m.I64, -1, 16))
		verdictOf(g, g.Op("Transpose", attrs{"perm": []int{0, 2, 1}}, x), 2)
	}},
	{"kernel", "kernel", func(g *m.Model) {
		verdictOf(g, g.Op("Conv", attrs{"kernel_shape": []int{5001}, "pads": []int{2500, 2500}}, byteInput(g, 8000), g.Random(2, 1, 5001)), 2)
	}},
}

// byteInput is a model input of raw bytes, [1,1,length].
func byteInput(g *m.Model, length int) string {
	return g.Unsqueeze(g.Op("Div", nil, g.Input("x", m.F32, -1, length), g.Scalar(255)), 1)
}

// pooled is a layer of the given channels and the maximum over positions.
func pooled(g *m.Model, x string, channels int) {
	x = g.Op("Conv", attrs{"kernel_shape": []int{3}, "pads": []int{1, 1}}, x, g.Random(channels, 1, 3))
	verdictOf(g, g.Op("Relu", nil, x), channels)
}

func verdictOf(g *m.Model, x string, channels int) {
	g.Output(linear(3, channels)(g, g.Reduce("ReduceMax", x, 0, 2)), m.F32)
}

// A model too large for a bundle is refused like any other: what is too large, how large it may be, and
// the way out; never as a bug of the compiler.
func TestLargeModels(t *testing.T) {
	for _, c := range largeCases {
		t.Run(c.name, func(t *testing.T) {
			g := m.New(17)
			c.build(g)
			path := filepath.Join(t.TempDir(), "large.onnx")
			if err := os.WriteFile(path, g.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
			_, err := compiler.Check(t.Context(), compiler.Options{Model: path})
			if c.says == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if p := compiler.Problems(err); p == nil || p[0].WayOut == "" || strings.Contains(err.Error(), "BUG") || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v", err)
			}
		})
	}
}
