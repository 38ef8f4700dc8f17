package exact

import "math"

// The error function is tabulated at multiples of 1/erfGrid up to erfEnd,
// beyond which it is 1; between them it is the Taylor series at the nearest one.
const (
	erfGrid  = 8
	erfEnd   = 6
	erfTerms = 14
	// 2/sqrt(pi), the slope at 0.
	erfSlope = 1.1283791670955125738961589031215451716881012586579977
)

// erfTable[i][n] is the n-th derivative of erf at i/erfGrid, over n!.
var erfTable = func() (t [erfEnd*erfGrid + 1][erfTerms]float64) {
	for i := range t {
		x := float64(i) / erfGrid
		t[i][0] = erfSeries(x)
		// g = erf' satisfies g' = -2x*g, hence the n-th derivatives of g:
		// g(n+1) = -2x*g(n) - 2n*g(n-1).
		g, before, factorial := erfSlope*Exp(-x*x), 0.0, 1.0
		for n := 1; n < erfTerms; n++ {
			factorial *= float64(n)
			t[i][n] = g / factorial
			g, before = float64(-2*x*g)-float64(float64(2*n-2)*before), g
		}
	}
	return t
}()

// erfSeries is erf by a series of positive terms,
// 2/sqrt(pi) * e^(-x^2) * (x + 2x^3/3 + 4x^5/15 + ...).
func erfSeries(x float64) float64 {
	term, sum := x, x
	for n := 1; term > 1e-20*sum; n++ {
		term = term * 2 * x * x / float64(2*n+1)
		sum += term
	}
	return erfSlope * Exp(-x*x) * sum
}

// Erf is the error function.
func Erf(x float64) float64 {
	a := math.Abs(x)
	switch {
	case x != x:
		return x
	case a >= erfEnd:
		return math.Copysign(1, x)
	}
	i := int(float64(a*erfGrid) + 0.5)
	h, sum := a-float64(float64(i)/erfGrid), 0.0
	for n := erfTerms - 1; n >= 0; n-- {
		sum = float64(sum*h) + erfTable[i][n]
	}
	return math.Copysign(sum, x)
}
