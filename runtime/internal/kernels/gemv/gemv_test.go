package gemv

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"nepcoc/runtime/cpu"
)

func ref[T int8 | int16](out []int32, w []int8, x []T) {
	for o := range out {
		for i, v := range x {
			out[o] += int32(w[o*len(x)+i]) * int32(v)
		}
	}
}

const guard = 0x5a5a5a

func TestAll(t *testing.T) {
	for _, path := range cpu.Available() {
		t.Run(path.String(), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, 2))
			for _, rows := range []int{1, 2, 3, 4, 5, 7, 8, 10, 33, 256} {
				for _, cols := range []int{1, 2, 15, 16, 17, 31, 32, 48, 63, 64, 100, 256, 257} {
					for _, extreme := range []bool{false, true} {
						check1(t, rng, path, rows, cols, extreme)
					}
				}
			}
			I8(path, nil, nil, nil)
			I16(path, nil, nil, []int16{1})
		})
	}
}

func check1(t *testing.T, rng *rand.Rand, path cpu.Path, rows, cols int, extreme bool) {
	t.Helper()
	w, x8, x16 := make([]int8, rows*cols), make([]int8, cols), make([]int16, cols)
	for i := range w {
		w[i] = int8(rng.IntN(256))
		if extreme {
			w[i] = -128
		}
	}
	for i := range x8 {
		x8[i], x16[i] = int8(rng.IntN(256)), int16(rng.IntN(65536))
		if extreme {
			x8[i], x16[i] = -128, -32768
		}
	}
	buf := make([]int32, rows+2)
	for i := range buf {
		buf[i] = guard
	}
	want8, want16 := slices.Clone(buf), slices.Clone(buf)
	got8, got16 := slices.Clone(buf), slices.Clone(buf)
	ref(want8[1:rows+1], w, x8)
	ref(want16[1:rows+1], w, x16)
	I8(path, got8[1:rows+1], w, x8)
	I16(path, got16[1:rows+1], w, x16)
	name := fmt.Sprintf("%dx%d extreme=%v", rows, cols, extreme)
	if !slices.Equal(got8, want8) {
		t.Fatalf("int8 %s: %v, want %v", name, got8, want8)
	}
	if !slices.Equal(got16, want16) {
		t.Fatalf("int16 %s: %v, want %v", name, got16, want16)
	}
}

func BenchmarkGEMV(b *testing.B) {
	for _, path := range cpu.Available() {
		for _, s := range [][2]int{{256, 256}, {10, 256}} {
			w, x8, x16, out := make([]int8, s[0]*s[1]), make([]int8, s[1]), make([]int16, s[1]), make([]int32, s[0])
			b.Run(fmt.Sprintf("i8/%v/%dx%d", path, s[0], s[1]), func(b *testing.B) {
				for b.Loop() {
					I8(path, out, w, x8)
				}
			})
			b.Run(fmt.Sprintf("i16/%v/%dx%d", path, s[0], s[1]), func(b *testing.B) {
				for b.Loop() {
					I16(path, out, w, x16)
				}
			})
		}
	}
}
