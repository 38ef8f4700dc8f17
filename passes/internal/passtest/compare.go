package passtest

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"nepcoc/ir"
	"nepcoc/ir/eval"
	"nepcoc/passes"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/traffic"
)

// RandomInputs makes samples for a graph: floats are bytes divided by 255,
// integers 0 or 1, except that an input whose name begins with seg is a mask,
// 1 on a prefix of at least one position.
func RandomInputs(g *ir.Graph, samples int) []map[string]*ir.Tensor {
	rng := rand.New(rand.NewPCG(1, 2))
	out := make([]map[string]*ir.Tensor, samples)
	for i := range out {
		out[i] = make(map[string]*ir.Tensor)
		for _, v := range g.Inputs {
			prefix := 1 + rng.IntN(max(1, v.Type.Len()))
			mask := strings.HasPrefix(v.Name, "seg")
			t := ir.NewTensor(v.Type)
			for j := range v.Type.Len() {
				x := float64(rng.IntN(2))
				if v.Type.DType == ir.F32 {
					x = float64(rng.IntN(256)) / 255
				}
				switch {
				case v.Name == "padded" && j < prefix:
					x++
				case mask && j < prefix:
					x = 1
				case mask || v.Name == "padded":
					x = 0
				}
				set(t, j, x)
			}
			out[i][v.Name] = t
		}
	}
	return out
}

func set(t *ir.Tensor, i int, x float64) {
	switch d := t.Data.(type) {
	case []float32:
		d[i] = float32(x)
	case []int64:
		d[i] = int64(x)
	case []int32:
		d[i] = int32(x)
	case []uint8:
		d[i] = uint8(x)
	case []bool:
		d[i] = x != 0
	default:
		panic("BUG: no test inputs of type " + t.DType.String())
	}
}

// Adapt gives a sample of the model's inputs the form that g takes: inputs
// without batch, or tokens and valid.
func Adapt(t testing.TB, g *ir.Graph, sample map[string]*ir.Tensor, l passes.Local) map[string]*ir.Tensor {
	t.Helper()
	in := make(map[string]*ir.Tensor)
	for _, v := range g.Inputs {
		switch {
		case sample[v.Name] != nil:
			in[v.Name] = &ir.Tensor{Type: v.Type, Data: sample[v.Name].Data}
			if ints, ok := sample[v.Name].Ints(); ok && v.Type.DType == ir.F32 { // whole numbers beside the sequence
				f := make([]float32, len(ints))
				for i, x := range ints {
					f[i] = float32(x)
				}
				in[v.Name].Data = f
			}
		case v.Name == "tokens":
			x, ok := sample[l.TokenInput].Floats()
			if !ok {
				t.Fatal("the token input is no array of numbers")
			}
			tokens := make([]int64, len(x))
			for i := range x {
				if l.Features != nil { // the sample becomes what its levels stand for
					id, _ := l.Features[i].ID(x[i])
					mid, half := l.Features[i].Affine()
					sample[l.TokenInput].Data.([]float32)[i] = float32(mid + half*(2*float64(id)/(bundle.FeatureLevels-1)-1))
					tokens[i] = int64(id)
					continue
				}
				if b, ok := traffic.Encoding(l.Encoding).Byte(x[i]); ok {
					x[i] = float64(b)
				}
				tokens[i] = int64(math.Round(x[i]))
			}
			in[v.Name] = ir.Int64s(tokens, len(tokens))
		case v.Name == ir.SidesInput: // the sample becomes what its ids stand for
			var ids []int64
			for _, side := range l.Sides {
				d := sample[side.Name].Data.([]float32)
				for i, g := range side.Grids {
					id, _ := g.ID(d[i])
					ids, d[i] = append(ids, int64(id)), float32(g.Value(id))
				}
			}
			in[v.Name] = ir.Int64s(ids, len(ids))
		case v.Name == "valid":
			valid := int64(0)
			if l.MaskInput != "" {
				valid = ones(sample[l.MaskInput])
			} else { // the model makes the mask of its tokens
				x, _ := sample[l.TokenInput].Floats()
				for valid < int64(len(x)) && x[valid] != float64(l.PadToken) {
					valid++
				}
			}
			in[v.Name] = &ir.Tensor{Type: v.Type, Data: []int64{valid}}
		default:
			t.Fatalf("unknown input %q", v.Name)
		}
	}
	return in
}

func ones(mask *ir.Tensor) (n int64) {
	if d, ok := mask.Data.([]bool); ok {
		for _, x := range d {
			if x {
				n++
			}
		}
		return n
	}
	d, _ := mask.Floats()
	for _, x := range d {
		n += int64(x)
	}
	return n
}

// Evaluate runs g on every sample.
func Evaluate(t testing.TB, g *ir.Graph, inputs []map[string]*ir.Tensor) []map[string]*ir.Tensor {
	t.Helper()
	return evaluate(t, g, inputs, eval.New)
}

// Expected is Evaluate with another opinion on matrix products, for what a
// result is compared with.
func Expected(t testing.TB, g *ir.Graph, inputs []map[string]*ir.Tensor) []map[string]*ir.Tensor {
	t.Helper()
	return evaluate(t, g, inputs, eval.Oracle)
}

func evaluate(t testing.TB, g *ir.Graph, inputs []map[string]*ir.Tensor, machine func(*ir.Graph) (*eval.Machine, error)) []map[string]*ir.Tensor {
	t.Helper()
	m, err := machine(g)
	if err != nil {
		t.Fatal(err)
	}
	out := make([]map[string]*ir.Tensor, len(inputs))
	for i, in := range inputs {
		if out[i], err = m.Run(in); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// Compare fails where outputs differ by more than tolerance times the largest
// of them.
func Compare(t testing.TB, pass string, got, want []map[string]*ir.Tensor, tolerance float64) {
	t.Helper()
	for i := range want {
		for name, w := range want[i] {
			a, _ := got[i][name].Floats()
			b, _ := w.Floats()
			if len(a) != len(b) {
				t.Fatalf("after %s: output %s has %d elements, %d expected", pass, name, len(a), len(b))
			}
			largest, diff := 0.0, 0.0
			for j := range b {
				largest = max(largest, math.Abs(b[j]))
				if d := math.Abs(a[j] - b[j]); d > diff || math.IsNaN(d) {
					diff = d
				}
			}
			if !(diff <= tolerance*largest) {
				t.Fatalf("after %s, sample %d: output %s differs by %g, of %g", pass, i, name, diff, largest)
			}
		}
	}
}
