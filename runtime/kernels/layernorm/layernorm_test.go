package layernorm_test

import (
	"math"
	"testing"

	"nepcoc/runtime/kernels/layernorm"
)

// Against LayerNorm in float: within half a unit of the output, and a
// little for the reciprocal's last bit.
func TestRow(t *testing.T) {
	for _, c := range []int{1, 2, 16, 33, 300} {
		x, gamma, beta := make([]int16, c), make([]int32, c), make([]int32, c)
		for i := range x {
			x[i], gamma[i], beta[i] = int16(i*i*37%2001-900), int32(i%7-3)*500, int32(i%5)<<20
		}
		p := &layernorm.Params{Eps: int64(c * c), Gamma: gamma, Beta: beta, Shift: 16, Lo: -32768, Hi: 32767}
		got := make([]int16, c)
		layernorm.Row(p, got, x)
		var mean, variance float64
		for _, v := range x {
			mean += float64(v) / float64(c)
		}
		for _, v := range x {
			variance += (float64(v) - mean) * (float64(v) - mean) / float64(c)
		}
		for i, v := range x {
			n := (float64(v) - mean) / math.Sqrt(variance+1) * 32768
			want := (n*float64(gamma[i]) + float64(beta[i])) / 65536
			if math.Abs(want-float64(got[i])) > 0.52+math.Abs(float64(gamma[i]))/65536 {
				t.Errorf("%d channels, element %d: %d, want %g", c, i, got[i], want)
			}
		}
	}
}
