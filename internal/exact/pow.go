package exact

import "math"

// whole is up to which exponent Pow multiplies.
const whole = 64

// Pow is x to the power y, with the special cases of math.Pow. Small whole powers
// are products, so that those of small integers are exact; halves are products and a
// square root. Other powers are e^(y*log x), whose relative error grows with
// |y*log x|: up to 1e-13 where the result is near the limits of float64.
func Pow(x, y float64) float64 {
	switch {
	case y == 0 || x == 1:
		return 1
	case x != x || y != y:
		return math.NaN()
	case math.IsInf(y, 0):
		switch a := math.Abs(x); {
		case a == 1:
			return 1
		case (a < 1) == (y < 0):
			return math.Inf(1)
		}
		return 0
	case x == 0 || math.IsInf(x, 0):
		size := 0.0
		if (x == 0) == (y < 0) {
			size = math.Inf(1)
		}
		if odd(y) {
			return math.Copysign(size, x)
		}
		return size
	case x < 0 && y != math.Floor(y):
		return math.NaN()
	}
	if n := math.Floor(math.Abs(y)); n <= whole && (math.Abs(y) == n || math.Abs(y) == n+0.5) {
		p := product(x, int(n))
		if math.Abs(y) != n {
			p *= math.Sqrt(x)
		}
		if y < 0 {
			p = 1 / p
		}
		if p != 0 && !math.IsInf(p, 0) {
			return p
		}
		// What is out of range on the way need not be at the end.
	}
	p := Exp(y * Log(math.Abs(x)))
	if x < 0 && odd(y) {
		return -p
	}
	return p
}

// product is x*x*...*x, n times.
func product(x float64, n int) float64 {
	p := 1.0
	for ; n > 0; n >>= 1 {
		if n&1 != 0 {
			p *= x
		}
		x *= x
	}
	return p
}

// odd says whether y is an odd integer.
func odd(y float64) bool { return math.Floor(y) == y && math.Floor(y/2) != y/2 }
