package exact

import (
	"hash/fnv"
	"math"
	"math/rand/v2"
	"testing"
)

var functions = []struct {
	name       string
	f, library func(float64) float64
	lo, hi     float64
	ulps       float64
}{
	{"Exp", Exp, math.Exp, -745, 710, 4},
	{"Expm1", Expm1, math.Expm1, -40, 700, 6},
	{"Log", Log, logOf, 0, 1e9, 4},
	{"Log1p", Log1p, math.Log1p, -1, 1e9, 6},
	{"Tanh", Tanh, math.Tanh, -30, 30, 8},
	{"Erf", Erf, math.Erf, -7, 7, 16},
	{"Sigmoid", Sigmoid, func(x float64) float64 { return 1 / (1 + math.Exp(-x)) }, -700, 700, 8},
	{"Softplus", Softplus, func(x float64) float64 { return max(x, 0) + math.Log1p(math.Exp(-math.Abs(x))) }, -700, 700, 8},
}

// logOf is the library's logarithm, helped over subnormal numbers, of which its
// assembly for amd64 takes the exponent for that of the smallest normal one.
func logOf(x float64) float64 {
	if x > 0 && x < 0x1p-1022 {
		return math.Log(x*0x1p64) - 64*math.Ln2
	}
	return math.Log(x)
}

// points are arguments in [lo,hi], many of them near 0, and special ones.
func points(lo, hi float64) []float64 {
	rng := rand.New(rand.NewPCG(1, 2))
	x := []float64{0, math.Copysign(0, -1), 1, -1, 0.5, math.SmallestNonzeroFloat64, math.MaxFloat64, -math.MaxFloat64, math.Inf(1), math.Inf(-1), math.NaN()}
	for range 20000 {
		x = append(x, lo+rng.Float64()*(hi-lo))
		if small := math.Exp(30 * (rng.Float64() - 0.9)); small <= hi {
			x = append(x, small)
			if -small >= lo {
				x = append(x, -small)
			}
		}
	}
	return x
}

// apart is how far a is from b in units of b's last place.
func apart(a, b float64) float64 {
	switch {
	case a == b || a != a && b != b:
		return 0
	case math.Abs(a-b) < 1e-300: // what is next to nothing has fewer places
		return 0
	}
	return math.Abs(a-b) / (math.Nextafter(math.Abs(b), math.Inf(1)) - math.Abs(b))
}

func TestAccuracy(t *testing.T) {
	for _, f := range functions {
		worst, at := 0.0, 0.0
		for _, x := range points(f.lo, f.hi) {
			if d := apart(f.f(x), f.library(x)); !(d <= worst) {
				worst, at = d, x
			}
		}
		if t.Logf("%s: %.1f units", f.name, worst); !(worst <= f.ulps) {
			t.Errorf("%s(%g) = %g, the library says %g: %g units apart", f.name, at, f.f(at), f.library(at), worst)
		}
	}
}

func TestPow(t *testing.T) {
	special := append(points(0, 1)[:5], points(0, 1)[6:11]...) // not the subnormal one, of which math.Pow takes the wrong logarithm
	special = append(special, 2, -2, 3, -3, 2.5, -0.5, 0.25)
	for _, x := range special {
		for _, y := range special {
			if got, want := Pow(x, y), math.Pow(x, y); !(apart(got, want) <= 1e3) || got == 0 && math.Signbit(got) != math.Signbit(want) {
				t.Errorf("Pow(%g, %g) = %g, the library says %g", x, y, got, want)
			}
		}
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 50000 {
		x, y := math.Exp(20*(rng.Float64()-0.5)), 20*(rng.Float64()-0.5)
		if got, want := Pow(x, y), math.Pow(x, y); !(math.Abs(got-want) <= 1e-13*want) {
			t.Fatalf("Pow(%g, %g) = %g, the library says %g", x, y, got, want)
		}
	}
	for x := -9; x <= 9; x++ {
		want := 1.0
		for n := range 16 {
			if got := Pow(float64(x), float64(n)); got != want {
				t.Errorf("Pow(%d, %d) = %g, want exactly %g", x, n, got, want)
			}
			want *= float64(x)
		}
	}
}

// The bits themselves, which every architecture's tests compare with: those that
// run under emulation, too.
func TestBits(t *testing.T) {
	sum := fnv.New64a()
	add := func(x float64) {
		b := math.Float64bits(x)
		if x != x {
			b = 1 // the sign of NaN is no business of ours
		}
		for i := range 8 {
			sum.Write([]byte{byte(b >> (8 * i))})
		}
	}
	for _, f := range functions {
		for i := range 20000 {
			add(f.f(f.lo + (f.hi-f.lo)*float64(i)/20000))
			add(f.f(float64(i-10000) / 4096))
		}
	}
	for i := range 20000 {
		add(Pow(float64(i)/997, float64(i%89)/8-5))
	}
	const want = 0xf63fd5670f65e389
	if got := sum.Sum64(); got != want {
		t.Errorf("the functions' bits have hash %#x, want %#x", got, uint64(want))
	}
}

func BenchmarkExp(b *testing.B) { bench(b, Exp) }

func BenchmarkLibraryExp(b *testing.B) { bench(b, math.Exp) }

func BenchmarkErf(b *testing.B) { bench(b, Erf) }

func bench(b *testing.B, f func(float64) float64) {
	x, sum := -3.0, 0.0
	for b.Loop() {
		sum += f(x)
		if x += 0.01; x > 3 {
			x = -3
		}
	}
	_ = sum
}
