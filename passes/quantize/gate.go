package quantize

import (
	"math"

	"nepcoc/internal/exact"
	"nepcoc/runtime/arith"
)

// gateTable fits arith.Gate to 127*sigmoid: 32 linear pieces over the 256
// gate inputs g, which stand for (g-128)*unit. Each piece is the exhaustive least-squares
// choice of an 8-bit start and a slope below 32 that does not leave 8 bits;
// the start is stored with the piece's own offset taken out, modulo 256.
func gateTable(unit float64) (base, slope [32]uint8) {
	for s := range base {
		var want [8]float64
		for r := range want {
			want[r] = 127 * exact.Sigmoid(float64(s*8+r-128)*unit)
		}
		best := math.Inf(1)
		for k := range 32 {
			// Values rise by k per step: the start that centres them.
			for b := 0; b+7*k <= 255; b++ {
				e := 0.0
				for r, w := range want {
					d := float64((b+k*r)>>1) - w
					e += float64(d * d)
					if e >= best {
						break
					}
				}
				if e < best {
					best = e
					base[s], slope[s] = uint8(b-8*s*k), uint8(k)
				}
			}
		}
	}
	return base, slope
}

// gateError is the root mean square error of a table, in units of 1/127.
func gateError(base, slope *[32]uint8, unit float64) float64 {
	e := 0.0
	for g := range 256 {
		d := float64(arith.Gate(base, slope, uint8(g))) - float64(127*exact.Sigmoid(float64(g-128)*unit))
		e += float64(d * d)
	}
	return math.Sqrt(e / 256)
}
