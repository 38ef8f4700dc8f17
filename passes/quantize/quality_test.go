package quantize

import (
	"math"
	"testing"

	"nepcoc/ir"
	"nepcoc/ir/eval"
)

// TestGatedQuality bounds the root mean square error of fused gated layers
// relative to the deviation of what they compute. A gate has 8 bits for its
// input, shared by all channels, so the error follows from how far they reach.
func TestGatedQuality(t *testing.T) {
	layers, worst := 0, 0.0
	for seed := range uint64(300) {
		d, x := newDrawer(seed+5000, 16, 30, 8)
		data := x.Def.Inputs[1].Const.Data.([]float32)
		for i := range data { // of deviation 1, as after training
			data[i] = float32(d.rng.NormFloat64())
		}
		norm := seed%2 == 0
		d.finish(d.gated(x, norm))
		if d.err != nil {
			t.Fatal(d.err)
		}
		expand(d.g, func(string, ...any) {})
		inputs := draw(d.g, 6)
		q, err := quantizeGraph(t, d.g, observations(t, d.g, inputs), Options{})
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		for _, n := range d.g.Nodes {
			if n.Op != "gated_conv" {
				continue
			}
			if c := n.Out().Type.Shape[1]; c < 6 {
				continue // LayerNorm over few channels turns the smallest difference into a sign
			}
			layers++
			e := relativeError(t, q, n, inputs)
			worst = max(worst, e)
			if e > 0.08 {
				t.Errorf("seed %d: error %.3f of the deviation\n%s", seed, e, ir.Print(d.g))
			}
		}
	}
	if layers < 80 {
		t.Errorf("only %d layers were fused", layers)
	}
	t.Logf("%d layers, the worst error is %.4f of the deviation", layers, worst)
}

// relativeError is the error of one step over all inputs, relative to the
// deviation of its result in float.
func relativeError(t *testing.T, q *quantized, n *ir.Node, inputs []sample) float64 {
	t.Helper()
	var e, sum, squares, count float64
	for _, s := range inputs {
		vals := q.trace(t, s)
		in := make([]*ir.Tensor, len(n.Inputs))
		for i, v := range n.Inputs {
			if v != nil && v.Const != nil {
				in[i] = v.Const
			} else if v != nil {
				in[i], _ = q.real(v, vals)
			}
		}
		want, err := eval.Node(n, in)
		if err != nil {
			t.Fatal(err)
		}
		got, _ := q.real(n.Out(), vals)
		for i, w := range want[0].Data.([]float32) {
			d := float64(w) - float64(got.Data.([]float32)[i])
			e, sum, squares, count = e+d*d, sum+float64(w), squares+float64(w)*float64(w), count+1
		}
	}
	return math.Sqrt(e / (squares - sum*sum/count))
}
