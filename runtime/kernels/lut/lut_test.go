package lut_test

import (
	"math/rand/v2"
	"testing"

	"nepcoc/runtime/arith"
	"nepcoc/runtime/kernels/lut"
)

func TestMap(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct {
		n, channels int
		mult        int32
		shift       int
	}{{256, 1, 1, 0}, {1024, 1, 3, 1}, {2, 1, 1, 7}, {16, 5, -9, 4}, {8, 300, 100000, 20}} {
		entries := make([]int16, c.n*c.channels)
		for i := range entries {
			entries[i] = int16(r.IntN(256) - 128)
		}
		table := lut.New(entries, c.n, c.mult, c.shift)
		cols := max(c.channels, 257)
		if c.channels > 1 {
			cols = c.channels
		}
		want := func(i int, x int32) int16 {
			row := i
			if c.channels == 1 {
				row = 0
			}
			return entries[row*c.n+arith.TableIndex(arith.Requant(int64(x), c.mult, c.shift), c.n)]
		}
		x8, x32, y8, y16 := make([]int8, cols), make([]int32, cols), make([]int8, cols), make([]int16, cols)
		for i := range cols {
			x8[i], x32[i] = int8(i), int32(r.Uint32())
		}
		lut.Map8(table, y16, x8)
		lut.Map(table, y8, x32)
		for i := range cols {
			if y16[i] != want(i, int32(x8[i])) || int16(y8[i]) != want(i, x32[i]) {
				t.Fatalf("%+v: element %d: %d and %d, want %d and %d", c, i, y16[i], y8[i], want(i, int32(x8[i])), want(i, x32[i]))
			}
		}
	}
}
