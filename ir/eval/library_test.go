package eval

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"nepcoc/ir"
)

// Our products and the library's agree, for all operators that have any.
func TestOracleAgrees(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 60 {
		rows, n, cols := 1+rng.IntN(9), 1+rng.IntN(70), 1+rng.IntN(9)
		shape := func(d ...int) string { return fmt.Sprint(ir.Type{DType: ir.F32, Shape: d}) }
		for _, node := range []struct{ op, x, w, y string }{
			{"MatMul(%x, %w)", shape(rows, n), shape(n, cols), shape(rows, cols)},
			{"MatMul(%x, %w)", shape(3, rows, n), shape(3, n, cols), shape(3, rows, cols)},
			{"MatMul(%x, %w)", shape(n), shape(2, n, cols), shape(2, cols)},
			{"Gemm(%x, %w) {transB=1}", shape(rows, n), shape(cols, n), shape(rows, cols)},
			{"Gemm(%x, %w) {alpha=0.5, transA=1}", shape(n, rows), shape(n, cols), shape(rows, cols)},
			{"linear(%x, %w)", shape(rows, n), shape(cols, n), shape(rows, cols)},
			{"conv(%x, %w) {pad_left=2}", shape(rows, n), shape(cols, 3, n), shape(rows, cols)},
		} {
			g := parse(t, fmt.Sprintf("graph \"g\" {\n  %%x = input %s\n  %%w = input %s\n  %%y = %s : %s\n  output %%y as \"y\"\n}\n", node.x, node.w, node.op, node.y))
			in := make(map[string]*ir.Tensor)
			for _, v := range g.Inputs {
				x := ir.NewTensor(v.Type)
				for j := range x.Data.([]float32) {
					x.Data.([]float32)[j] = float32(rng.NormFloat64() * math.Pow(10, float64(i%7-3)))
				}
				in[v.Name] = x
			}
			ours, library := compute(t, New, g, in), compute(t, Oracle, g, in)
			size := 0.0
			for _, y := range library {
				size = max(size, math.Abs(float64(y)))
			}
			for j, y := range library {
				if !(math.Abs(float64(ours[j]-y)) <= 1e-5*size) {
					t.Fatalf("%s of %s and %s, element %d: %g, the library says %g", node.op, node.x, node.w, j, ours[j], y)
				}
			}
		}
	}
}

func compute(t *testing.T, machine func(*ir.Graph) (*Machine, error), g *ir.Graph, in map[string]*ir.Tensor) []float32 {
	t.Helper()
	m, err := machine(g)
	if err != nil {
		t.Fatal(err)
	}
	out, err := m.Run(in)
	if err != nil {
		t.Fatal(err)
	}
	return out["y"].Data.([]float32)
}
