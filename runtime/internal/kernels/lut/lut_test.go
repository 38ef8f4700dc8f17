package lut_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"nepcoc/internal/testmem"
	"nepcoc/runtime/arith"
	"nepcoc/runtime/cpu"
	"nepcoc/runtime/internal/kernels/lut"
)

// shape is a table of rows of n entries, one for all channels or one each.
type shape struct {
	n, channels int
	mult        int32
	shift       int
	wide        bool // entries that no byte holds
}

func TestMap(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, path := range cpu.Available() {
		for _, s := range []shape{{256, 1, 1, 0, false}, {256, 1, 1, 0, true}, {1024, 1, 3, 1, false}, {2, 1, 1, 7, false}, {16, 5, -9, 4, false}, {8, 300, 100000, 20, true}} {
			lengths := []int{s.channels}
			if s.channels == 1 {
				lengths = []int{1, 7, 15, 16, 17, 31, 32, 33, 63, 64, 65, 128, 200, 257}
			}
			for _, n := range lengths {
				testMap(t, r, path, s, n)
			}
		}
	}
}

func testMap(t *testing.T, r *rand.Rand, path cpu.Path, s shape, n int) {
	t.Helper()
	entries := make([]int16, s.n*s.channels)
	for i := range entries {
		entries[i] = int16(r.IntN(256) - 128)
		if s.wide {
			entries[i] = int16(r.Uint32())
		}
	}
	table := lut.New(path, entries, s.n, s.mult, s.shift)
	want := func(i int, x int32) int16 {
		row := i
		if s.channels == 1 {
			row = 0
		}
		return entries[row*s.n+arith.TableIndex(arith.Requant(int64(x), s.mult, s.shift), s.n)]
	}
	const guard = 99
	x8, x32, from8, narrow, wide := make([]int8, n), make([]int32, n), make([]int16, n+1), make([]int8, n+1), make([]int32, n+1)
	for i := range n {
		x8[i], x32[i] = int8(i), int32(r.Uint32())
	}
	from8[n], narrow[n], wide[n] = guard, guard, guard
	lut.Map8(table, narrow[:n], x8)
	lut.Map8(table, from8[:n], x8)
	lut.Map(table, wide[:n], x32)
	name := fmt.Sprintf("%v %+v, %d elements", path, s, n)
	for i := range n {
		w := want(i, int32(x8[i]))
		if from8[i] != w || narrow[i] != int8(w) || wide[i] != int32(want(i, x32[i])) {
			t.Fatalf("%s: element %d: %d, %d and %d, want %d and %d", name, i, from8[i], narrow[i], wide[i], w, want(i, x32[i]))
		}
	}
	if from8[n] != guard || narrow[n] != guard || wide[n] != guard {
		t.Fatalf("%s: wrote beyond the end", name)
	}
	// The same where memory ends.
	src, dst := testmem.Move(t, x8), testmem.Before[int8](t, n)
	lut.Map8(table, dst, src)
	if !slices.Equal(dst, narrow[:n]) {
		t.Fatalf("%s: %v before the end of memory, else %v", name, dst, narrow[:n])
	}
}
