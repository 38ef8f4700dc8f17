package layernorm_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"nepcoc/runtime/arith"
	"nepcoc/runtime/cpu"
	"nepcoc/runtime/internal/kernels/layernorm"
	"nepcoc/runtime/internal/kernels/rescale"
)

// Against LayerNorm in float: within half a unit of the output, and a
// little for the reciprocal's last bit.
func TestMeaning(t *testing.T) {
	for _, path := range cpu.Available() {
		for _, c := range []int{1, 2, 16, 33, 300} {
			x, gamma, beta := make([]int32, c, rescale.Pad(c)), make([]int32, c), make([]int32, c)
			var mean, variance float64
			for i := range x {
				x[i], gamma[i], beta[i] = int32(i*i*37%2001-900), int32(i%7-3)*500, int32(i%5)<<20
				mean += float64(x[i]) / float64(c)
			}
			for _, v := range x {
				variance += (float64(v) - mean) * (float64(v) - mean) / float64(c)
			}
			want := make([]float64, c)
			for i, v := range x {
				n := (float64(v) - mean) / math.Sqrt(variance+1) * 32768
				want[i] = (n*float64(gamma[i]) + float64(beta[i])) / 65536
			}
			l := layernorm.New(layernorm.Params{Eps: int64(c * c), Gamma: gamma, Beta: beta, Shift: 16, Lo: -32768, Hi: 32767}, 32768, path)
			l.Row(x)
			for i, v := range x {
				if math.Abs(want[i]-float64(v)) > 0.52+math.Abs(float64(gamma[i]))/65536 {
					t.Errorf("%v, %d channels, element %d: %d, want %g", path, c, i, v, want[i])
				}
			}
		}
	}
}

// Against the definition, to the bit.
func TestRow(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, path := range cpu.Available() {
		for _, c := range []int{1, 2, 7, 8, 9, 48, 4096, 4097, 20000} {
			for _, limit := range []int32{0, 1, 2, 128, 32768} { // 0: no variance; few values: powers of two
				for _, k := range []struct {
					eps   int64
					gamma int32
					shift int
				}{{0, 5000, 18}, {4, 1<<31 - 1, 24}, {1 << 40, 1<<31 - 1, 46}, {1, 1<<31 - 1, 1}, {3, 77, 8}} {
					gamma, beta := make([]int32, c), make([]int32, c)
					x, want := make([]int32, c, rescale.Pad(c)), make([]int32, c)
					var s1, s2 int64
					for i := range x {
						gamma[i] = int32(r.Int64N(2*int64(k.gamma)+1) - int64(k.gamma))
						beta[i] = int32(r.Uint32())
						x[i] = r.Int32N(2*limit+1) - limit
						if limit > 2 && i%3 == 0 {
							x[i] = -limit
						}
						s1 += int64(x[i])
						s2 += int64(x[i]) * int64(x[i])
					}
					p := layernorm.Params{Eps: k.eps, Gamma: gamma, Beta: beta, Shift: k.shift, Lo: -128, Hi: 127, RMS: c%3 == 0}
					if p.RMS {
						s1 = 0
					}
					m, s := arith.LayerNormStats(s1, s2, c, k.eps)
					for i, v := range x {
						want[i] = arith.Clamp(arith.LayerNormApply(int64(v), s1, c, m, s, gamma[i], beta[i], k.shift), -128, 127)
					}
					layernorm.New(p, int64(limit), path).Row(x)
					for i := range x {
						if x[i] != want[i] {
							t.Fatalf("%v, %d channels, limit %d, %+v, element %d: %d, want %d", path, c, limit, k, i, x[i], want[i])
						}
					}
				}
			}
		}
	}
}
