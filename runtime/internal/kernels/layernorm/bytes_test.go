package layernorm

import (
	"math"
	"math/rand/v2"
	"testing"

	"nepcoc/internal/testmem"
	"nepcoc/runtime/arith"
	"nepcoc/runtime/cpu"
)

// tight are roots by which 2^62 is so little less than an integer that float64 rounds the quotient up to it.
var tight = []uint64{4294705160, 4285655616, 4278847826, 4264657636, 4251188965, 4202616913}

// near are numbers around those where roundings change.
func near(r *rand.Rand) uint64 {
	v := uint64(1) << r.IntN(64)
	switch r.IntN(5) {
	case 0:
		v = r.Uint64() >> r.IntN(64)
	case 1: // around squares
		q := r.Uint64()>>32 | 1<<31
		v = q * q >> (2 * r.IntN(32))
	case 2:
		v = math.MaxUint64 >> r.IntN(3)
	case 3: // with such roots
		q := tight[r.IntN(len(tight))]
		return (q*q + r.Uint64N(2*q)) >> (2 * r.IntN(2))
	}
	return max(1, v+uint64(r.IntN(5))-2)
}

func TestInvSqrt(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200000 {
		v := near(r)
		m, s := invSqrt(v)
		if wm, ws := arith.InvSqrt(v); m != wm || s != ws {
			t.Fatalf("%d: %d, %d, want %d, %d", v, m, s, wm, ws)
		}
	}
}

// Epsilon alone, below 2^63, is the variance of positions without any.
func TestReciprocals(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, path := range cpu.Available() {
		if !hasBytes(path, 8) {
			continue
		}
		for range 20000 {
			k := byteLayer{n: int64(1 + r.IntN(maxChannels)), eps: int64(near(r) >> (1 + r.IntN(2)))}
			var f, was factors
			for i := range f.m {
				switch f.s1[i] = k.n * int64(r.IntN(257)-128); r.IntN(3) {
				case 0:
					f.m[i] = f.s1[i] * f.s1[i] / k.n // no variance
				case 1:
					f.s1[i] = 0
				default:
					f.m[i] = min(f.s1[i]*f.s1[i]/k.n+int64(r.IntN(1<<20)), k.n<<14)
				}
			}
			if k.eps > 1<<62 {
				f.s1, f.m = [groupRows]int64{}, [groupRows]int64{}
			}
			was = f
			reciprocals(path, &f, &k)
			for i := range f.m {
				m, s := arith.LayerNormStats(was.s1[i], was.m[i], int(k.n), k.eps)
				if f.m[i] != int64(m) || f.shift[i] != uint64(s-arith.NormBits) {
					t.Fatalf("%v, %d channels, sums %d and %d, epsilon %d: %d, %d, want %d, %d", path, k.n, was.s1[i], was.m[i], k.eps, f.m[i], f.shift[i], m, s-arith.NormBits)
				}
			}
		}
	}
}

// Against the definition, to the bit; what is read and written ends where memory can't be touched.
func TestBytes(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for _, path := range cpu.Available() {
		if !hasBytes(path, 8) {
			continue
		}
		for _, c := range []int{1, 2, 7, 8, 15, 16, 17, 24, 31, 32, 40, 48, 63, 300, 304, 4096, maxChannels} {
			for _, limit := range []int{0, 1, 128} {
				for _, k := range []struct {
					eps   int64
					gamma int32
					shift int
				}{{0, 5000, 18}, {4, 1<<31 - 1, 24}, {1 << 40, 1<<31 - 1, 46}, {1 << 62, 5, 1}, {3, 77, 8}} {
					rows := 1 + r.IntN(20)
					gamma, beta := make([]int32, c), make([]int32, c)
					for i := range gamma {
						gamma[i], beta[i] = int32(r.Int64N(2*int64(k.gamma)+1)-int64(k.gamma)), int32(r.Uint32())
					}
					src, dst := testmem.Before[int8](t, rows*c), testmem.Before[int8](t, rows*c)
					for i := range src {
						if src[i] = int8(r.IntN(2*limit+1) - limit); limit == 128 && i%5 == 0 {
							src[i] = -128
						}
					}
					l := New(Params{Eps: k.eps, Gamma: gamma, Beta: beta, Shift: k.shift, Lo: -128, Hi: 127, RMS: rows%3 == 0}, 128, path)
					if l.HasBytes() != (l.fast && hasBytes(path, c)) {
						t.Fatalf("%v, %d channels: in bytes: %t", path, c, l.HasBytes())
					}
					if !l.HasBytes() {
						continue
					}
					l.bytes.gamma, l.bytes.beta = testmem.Move(t, l.bytes.gamma), testmem.Move(t, l.bytes.beta)
					l.Bytes(dst, src, rows)
					want := make([]int8, c)
					for row := range rows {
						l.genericBytes(want, src[row*c:][:c])
						for i, w := range want {
							if got := dst[row*c+i]; got != w {
								t.Fatalf("%v, %d channels, limit %d, %+v, row %d of %d, element %d: %d, want %d", path, c, limit, k, row, rows, i, got, w)
							}
						}
					}
				}
			}
		}
	}
}

func TestBytesNeedBytes(t *testing.T) {
	for _, path := range cpu.Available() {
		p := Params{Gamma: make([]int32, 16), Beta: make([]int32, 16), Shift: 8, Lo: -32768, Hi: 32767}
		if New(p, 128, path).HasBytes() {
			t.Errorf("%v: outputs of 16 bits", path)
		}
		p.Lo, p.Hi = -128, 127
		if New(p, 32768, path).HasBytes() {
			t.Errorf("%v: inputs of 16 bits", path)
		}
	}
}
