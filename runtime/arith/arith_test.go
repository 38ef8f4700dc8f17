package arith

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestRounding(t *testing.T) {
	for _, c := range []struct {
		v    int64
		s    int
		want int64
	}{{3, 1, 2}, {-3, 1, -1}, {1, 1, 1}, {-1, 1, 0}, {5, 2, 1}, {6, 2, 2}, {-6, 2, -1}, {-7, 2, -2}, {7, 0, 7}, {math.MaxInt32, 62, 0}} {
		if got := RoundShift(c.v, c.s); got != c.want {
			t.Errorf("RoundShift(%d,%d) = %d, want %d", c.v, c.s, got, c.want)
		}
	}
	for _, c := range []struct{ a, b, want int64 }{{3, 2, 2}, {-3, 2, -1}, {1, 3, 0}, {2, 3, 1}, {-2, 3, -1}, {-5, 2, -2}, {7, 1, 7}, {-128 * 7, 7, -128}} {
		if got := DivRound(c.a, c.b); got != c.want {
			t.Errorf("DivRound(%d,%d) = %d, want %d", c.a, c.b, got, c.want)
		}
	}
}

func TestTableIndex(t *testing.T) {
	for _, c := range []struct {
		q    int64
		n    int
		want int
	}{{0, 256, 128}, {-128, 256, 0}, {-129, 256, 0}, {127, 256, 255}, {1 << 40, 256, 255}, {511, 1024, 1023}} {
		if got := TableIndex(c.q, c.n); got != c.want {
			t.Errorf("TableIndex(%d,%d) = %d, want %d", c.q, c.n, got, c.want)
		}
	}
}

// The fused LayerNorm against its meaning in float: relative error of the
// reciprocal below 2e-4 where nothing saturates.
func TestNormFactors(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, c := range []int32{16, 48, 64, 100, 256} {
		p := NormParams{C: c, MeanM: int32(math.Round((1 << 23) / float64(c))), A: 40000, S: 12}
		for range 2000 {
			var s1, s2 int32
			for range c {
				y := int32(rng.NormFloat64()*20) + 3
				y = min(max(y, -128), 127)
				s1 += y
				s2 += y * y
			}
			v := float64(c)*float64(s2) - float64(s1)*float64(s1)
			if v < 1 {
				continue
			}
			// r = q*A >> (S - e/2), with q/2^14 = 1/sqrt(v*2^e/2^31):
			// r = 2^14 * 2^15.5 / sqrt(v) * A / 2^S.
			want := math.Exp2(29.5) / math.Sqrt(v) * float64(p.A) / math.Exp2(float64(p.S))
			r, k := NormFactors(s1, s2, &p)
			if want < 32000 && math.Abs(float64(r)-want) > 2e-4*want+1 {
				t.Fatalf("C=%d v=%g: r = %d, want %.1f", c, v, r, want)
			}
			mean := 256*float64(s1)/float64(c) + 128
			wantK := -mean * float64(r) / 32768
			if math.Abs(wantK) < 16000 && math.Abs(float64(k)-wantK) > 2 {
				t.Fatalf("C=%d: k = %d, want %.1f", c, k, wantK)
			}
		}
	}
}

func TestNormFactorsExtremes(t *testing.T) {
	for _, c := range []int32{1, 2, 16, 256} {
		p := NormParams{C: c, MeanM: int32(math.Round((1 << 23) / float64(c))), Eps: math.MaxInt32 >> 2, A: 65535, S: 0}
		for _, y := range []int32{-128, 0, 127} {
			NormFactors(y*c, y*y*c, &p) // must not divide, shift or index out of range
		}
	}
}

func TestInvSqrt(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for i := range 20000 {
		v := rng.Uint64()>>rng.IntN(64) | 1
		if i < 64 {
			v = 1 << i
		}
		m, s := InvSqrt(v)
		got := float64(m) / math.Exp2(float64(s))
		want := 1 / math.Sqrt(float64(v))
		if math.Abs(got-want) > want*math.Exp2(-29) {
			t.Fatalf("InvSqrt(%d) = %g, want %g", v, got, want)
		}
		if s-NormBits < 0 || s-NormBits > 63 {
			t.Fatalf("InvSqrt(%d): shift %d out of mulShift's range", v, s)
		}
	}
}

func TestIsqrt(t *testing.T) {
	for _, v := range []uint64{0, 1, 2, 3, 4, 15, 16, 1<<62 - 1, 1 << 62, math.MaxUint64} {
		r := isqrt(v)
		if r*r > v || (r < math.MaxUint32 && (r+1)*(r+1) <= v) {
			t.Errorf("isqrt(%d) = %d", v, r)
		}
	}
}

func TestMulShift(t *testing.T) {
	for _, c := range []struct {
		d    int64
		m    uint64
		s    int
		want int64
	}{{3, 5, 1, 7}, {-3, 5, 1, -8}, {-4, 4, 4, -1}, {7, 9, 0, 63}, {-7, 9, 0, -63}, {1 << 40, 1 << 31, 60, 1 << 11}} {
		if got := mulShift(c.d, c.m, c.s); got != c.want {
			t.Errorf("mulShift(%d,%d,%d) = %d, want %d", c.d, c.m, c.s, got, c.want)
		}
	}
}

func TestLayerNorm(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	const c = 37
	x := make([]int64, c)
	for range 200 {
		var s1, s2 int64
		for i := range x {
			x[i] = int64(rng.NormFloat64() * 3000)
			s1 += x[i]
			s2 += x[i] * x[i]
		}
		m, s := LayerNormStats(s1, s2, c, 1)
		mean := float64(s1) / c
		dev := math.Sqrt(float64(s2)/c - mean*mean)
		for _, v := range x {
			want := (float64(v)-mean)/dev*1000 + 5
			got := LayerNormApply(v, s1, c, m, s, 1000<<3, 5<<18, 18)
			if math.Abs(float64(got)-want) > 1 {
				t.Fatalf("LayerNormApply = %d, want %.2f", got, want)
			}
		}
	}
}

func TestSoftmax(t *testing.T) {
	exp := make([]int32, 2048)
	for i := range exp {
		exp[i] = int32(math.Round(math.Exp(-float64(i)/128) * (1 << 24)))
	}
	logits := []int32{1000, 2000, -500, 2000}
	p := make([]int32, len(logits))
	Softmax(p, logits, exp, 128<<10/1000, 10) // 1000 units = 1 logit
	var sum float64
	for _, x := range logits {
		sum += math.Exp(float64(x) / 1000)
	}
	for i, x := range logits {
		if want := math.Exp(float64(x)/1000) / sum; math.Abs(float64(p[i])/(1<<24)-want) > 0.01 {
			t.Errorf("p[%d] = %.4f, want %.4f", i, float64(p[i])/(1<<24), want)
		}
	}
	if ArgMax(logits) != 1 {
		t.Error("ArgMax: want the first of equals")
	}
}

// Sigmoid is the real one's to 2^-17 at every scale, never falls, and is exact where it
// must be: a half at 0, and 1-p on the other side.
func TestSigmoid(t *testing.T) {
	exp := make([]int32, 2048)
	for i := range exp {
		exp[i] = int32(math.Round(math.Exp(-float64(i)/128) * (1 << 24)))
	}
	for _, c := range []struct {
		scale float64
		shift int
	}{{1, 0}, {0.01, 20}, {1e-3, 24}, {3e-7, 40}, {1e-9, 52}, {1e-12, 62}} {
		mult := int32(math.Round(math.Ldexp(c.scale*128, c.shift)))
		if Sigmoid(0, exp, mult, c.shift) != 1<<23 {
			t.Errorf("scale %g: Sigmoid(0) is no half", c.scale)
		}
		last := int32(0)
		for _, x := range sigmoidInputs() {
			p := Sigmoid(x, exp, mult, c.shift)
			if x > math.MinInt32 && p+Sigmoid(-x, exp, mult, c.shift) != 1<<24 {
				t.Fatalf("scale %g: Sigmoid(%d) + Sigmoid(%d) is not 1", c.scale, x, -x)
			}
			if p < last {
				t.Fatalf("scale %g: Sigmoid(%d) = %d, less than at the logit before: %d", c.scale, x, p, last)
			}
			last = p
			// What mult stands for is not quite the scale.
			want := 1 / (1 + math.Exp(-float64(x)*math.Ldexp(float64(mult), -c.shift)/128))
			if got := float64(p) / (1 << 24); math.Abs(got-want) > 1./(1<<17) {
				t.Fatalf("scale %g: Sigmoid(%d) = %.8f, want %.8f", c.scale, x, got, want)
			}
		}
	}
	// The first logit below 0 is below a half: a threshold of 0.5 is the sign.
	if p := Sigmoid(-1, exp, int32(math.Round(math.Ldexp(1e-6*128, 40))), 40); p >= 1<<23 {
		t.Errorf("Sigmoid(-1) = %d of %d", p, 1<<24)
	}
}

// sigmoidInputs are integers in order: all around 0, then ever sparser up to the limits.
func sigmoidInputs() []int32 {
	var v []int32
	for x := int64(1); x <= math.MaxInt32; x += 1 + x/300 {
		v = append(v, int32(x))
	}
	v = append(v, math.MaxInt32)
	n := len(v)
	for _, x := range v[:n:n] {
		v = append(v, -x)
	}
	v = append(v, 0, math.MinInt32)
	slices.Sort(v)
	return v
}

// The nearest prototype's distance, whatever is left out on the way, at the ends of the range, too.
func TestNearest(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for n := range 300 {
		dims, count := 1+rng.IntN(70), 1+rng.IntN(9)
		z, p := make([]int32, dims), make([]int16, dims*count)
		span := []int32{2, 200, 1 << 15}[n%3]
		for i := range z {
			z[i] = rng.Int32N(2*span) - span
		}
		for i := range p {
			p[i] = int16(rng.Int32N(2*span) - span)
		}
		want := int64(math.MaxInt64)
		for k := range count {
			sum := int64(0)
			for d := range dims {
				x := int64(z[d]) - int64(p[k*dims+d])
				sum += x * x
			}
			want = min(want, sum)
		}
		if got := Nearest(z, p, math.MaxInt64); got != want {
			t.Fatalf("%d, want %d", got, want)
		}
	}
}
