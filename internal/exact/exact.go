// Package exact computes functions of real numbers to the same bits on every
// CPU: what reaches a bundle must not depend on where it was compiled.
//
// Package math can't promise that. Some of its functions are assembly on some
// architectures, and the rest is Go code in which the compiler joins x*y + z to
// one fused multiply-add, with one rounding instead of two, where the CPU has the
// instruction. Here everything is made of additions, products, quotients and square roots,
// which IEEE 754 defines to the bit, and each product that is added to something
// stands in a conversion, float64(x*y), which the language defines to round. The
// functions of math that are exact anyway (Sqrt, Floor, Ldexp, Frexp, Abs and
// the like) are used as they are.
//
// "Exact" says that results are reproducible, not that they are correctly
// rounded: errors are some units in the last place of a float64, far below
// those of the float32 that most results become.
package exact

import "math"

// ln2 in two parts, the first of which has so few bits that its product with
// an exponent is exact.
const (
	ln2Hi = 0x1.62e42feep-1
	ln2Lo = math.Ln2 - ln2Hi
)

// steps is into how many parts Exp cuts a factor of two.
const steps = 32

// roots[j] is 2^(j/steps).
var roots = func() (t [steps]float64) {
	for j := range t {
		t[j] = 1 + expSeries(float64(j)*(math.Ln2/steps), 24)
	}
	return t
}()

// expSeries is exp(x)-1 by n terms of x + x^2/2! + x^3/3! ...
func expSeries(x float64, n int) float64 {
	sum := 1.0
	for i := n; i > 1; i-- {
		sum = 1 + float64(sum*x)/float64(i)
	}
	return float64(sum * x) // converted here, since what is inlined may be fused, too
}

// Exp is e^x: 2^(k/32) from a table, times the series for what is left, which is
// at most ln(2)/64.
func Exp(x float64) float64 {
	switch {
	case x != x || x > 710:
		return x * math.Inf(1)
	case x < -746:
		return 0
	}
	k := math.Floor(float64(x*(steps/math.Ln2)) + 0.5)
	r := x - float64(k*(ln2Hi/steps)) - float64(k*(ln2Lo/steps))
	// r + r^2/2 + ... + r^6/720, written out: calibration calls it for every
	// gate of every position.
	p := float64(r*(1.0/720)) + 1.0/120
	p = float64(r*p) + 1.0/24
	p = float64(r*p) + 1.0/6
	p = float64(r*p) + 0.5
	p = float64(float64(r*r)*p) + r
	n := int(k)
	y := roots[n&(steps-1)]
	y += float64(y * p)
	if n >>= 5; n > -1000 && n < 1000 {
		return y * math.Float64frombits(uint64(1023+n)<<52) // as Ldexp does it, in a third of the time
	}
	return math.Ldexp(y, n)
}

// Expm1 is e^x - 1, also near 0.
func Expm1(x float64) float64 {
	if math.Abs(x) < 0.35 {
		return expSeries(x, 15)
	}
	return Exp(x) - 1
}

// atanhSeries is 2*atanh(s) = log((1+s)/(1-s)) for |s| up to 0.18: 2s + 2s^3/3 + ... + 2s^23/23, written out like Exp,
// since calibration by entropy takes most of its time here.
func atanhSeries(s float64) float64 {
	z := s * s
	sum := float64(2.0 / 23 * z)
	sum = float64((sum + 2.0/21) * z)
	sum = float64((sum + 2.0/19) * z)
	sum = float64((sum + 2.0/17) * z)
	sum = float64((sum + 2.0/15) * z)
	sum = float64((sum + 2.0/13) * z)
	sum = float64((sum + 2.0/11) * z)
	sum = float64((sum + 2.0/9) * z)
	sum = float64((sum + 2.0/7) * z)
	sum = float64((sum + 2.0/5) * z)
	sum = float64((sum + 2.0/3) * z)
	return 2*s + float64(sum*s)
}

// Log is the natural logarithm: that of the mantissa by atanh, plus the
// exponent's.
func Log(x float64) float64 {
	switch {
	case x != x || x < 0:
		return math.NaN()
	case x == 0:
		return math.Inf(-1)
	case x > math.MaxFloat64:
		return x
	}
	var m float64
	var e int
	if b := math.Float64bits(x); x >= 0x1p-1022 { // as Frexp does it, in a third of the time
		m, e = math.Float64frombits(b&(1<<52-1)|1022<<52), int(b>>52)-1022
	} else {
		m, e = math.Frexp(x)
	}
	if m < math.Sqrt2/2 {
		m, e = 2*m, e-1
	}
	k := float64(e)
	return float64(k*ln2Hi) + (atanhSeries((m-1)/(m+1)) + float64(k*ln2Lo))
}

// Log1p is log(1+x), also near 0.
func Log1p(x float64) float64 {
	if math.Abs(x) < 0.3 {
		return atanhSeries(x / (2 + x))
	}
	return Log(1 + x)
}

// Tanh is the hyperbolic tangent.
func Tanh(x float64) float64 {
	a := math.Abs(x)
	if a > 22 {
		return math.Copysign(1, x)
	}
	t := Expm1(2 * a)
	return math.Copysign(t/(t+2), x)
}

// Sigmoid is 1/(1+e^-x).
func Sigmoid(x float64) float64 { return 1 / (1 + Exp(-x)) }

// Softplus is log(1+e^x), without the overflow of e^x for large x.
func Softplus(x float64) float64 { return max(x, 0) + Log1p(Exp(-math.Abs(x))) }
