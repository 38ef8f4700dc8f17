package transpose

import (
	"math/rand/v2"
	"testing"

	"nepcoc/internal/testmem"
	"nepcoc/runtime/cpu"
	"nepcoc/runtime/internal/kernels/rescale"
)

// Every size around the kernels' blocks, with memory that ends where the values do.
func TestRun(t *testing.T) {
	for _, path := range cpu.Available() {
		for _, rows := range []int{1, 2, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 100} {
			for _, cols := range []int{1, 3, 7, 8, 9, 15, 16, 17, 31, 32, 40, 65} {
				check[int8](t, path, rows, cols)
				check[int16](t, path, rows, cols)
				check[int32](t, path, rows, cols)
			}
		}
	}
}

func check[T rescale.Int](t *testing.T, path cpu.Path, rows, cols int) {
	t.Helper()
	r := rand.New(rand.NewPCG(uint64(rows), uint64(cols)))
	src, dst := testmem.Before[T](t, rows*cols), testmem.Before[T](t, rows*cols)
	for i := range src {
		src[i] = T(r.Uint32())
	}
	Run(path, dst, src, rows, cols)
	for i, v := range src {
		if got := dst[i%cols*rows+i/cols]; got != v {
			t.Fatalf("%v, %T[%d,%d], row %d, column %d: %d, want %d", path, v, rows, cols, i/cols, i%cols, got, v)
		}
	}
}

func BenchmarkRun(b *testing.B) {
	const rows, cols = 512, 64
	src, dst := make([]int8, rows*cols), make([]int8, rows*cols)
	for _, path := range cpu.Available() {
		b.Run(path.String(), func(b *testing.B) {
			b.SetBytes(rows * cols)
			for b.Loop() {
				Run(path, dst, src, rows, cols)
			}
		})
	}
}
