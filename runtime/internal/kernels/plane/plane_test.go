package plane_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"nepcoc/runtime/cpu"
	"nepcoc/runtime/internal/kernels/plane"
)

// allPaths are those of all builds: a plane's form depends on nothing else.
var allPaths = []cpu.Path{cpu.Purego, cpu.AVX2, cpu.AVX512, cpu.NEON, cpu.DotProd}

// Rows go in and come out; no two values share a place, with padding on both sides.
func TestRows(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, path := range allPaths {
		for _, channels := range []int{1, 2, 64, 100} {
			for _, length := range []int{1, 31, 32, 100} {
				p := plane.New(path, channels, length, 3, 2)
				rows := make([]int8, channels*length)
				for i := range rows {
					rows[i] = int8(r.Uint32())
				}
				for c := range channels {
					p.Fill(c, -3, 0, int8(c))
					p.Fill(c, length, length+2, int8(c+1))
				}
				p.SetRows(rows)
				got := make([]int8, len(rows))
				p.GetRows(got, 0)
				if !slices.Equal(got, rows) {
					t.Fatalf("%v, %d channels, %d positions: other rows come out", path, channels, length)
				}
				for c := range channels {
					for at := range length {
						if p.At(c, at) != rows[at*channels+c] {
							t.Fatalf("%v: channel %d position %d", path, c, at)
						}
					}
					if p.At(c, -3) != int8(c) || p.At(c, length+1) != int8(c+1) {
						t.Fatalf("%v, %d channels, %d positions: padding of channel %d is overwritten", path, channels, length, c)
					}
				}
			}
		}
	}
}

// What is saved of a plane is restored in a shorter one over the same memory, at the same positions.
func TestHistory(t *testing.T) {
	const channels, length, left, right, to = 20, 128, 3, 2, 70
	for _, path := range allPaths {
		for _, columns := range []int{plane.Word, 2 * plane.Word} {
			for skip := 0; skip < columns; skip += plane.Word {
				p := plane.New(path, channels, length, left, right)
				for c := range channels {
					for at := range length {
						p.Set(c, at, int8(3*c+at))
					}
				}
				buf := make([]int8, channels*columns)
				p.Save(buf, columns, skip, to)
				part := p.Part(to-columns, to+32, left, right)
				clear(part.Data)
				part.Restore(buf, columns, skip, to)
				for c := range channels {
					for at := to - columns + skip; at < to; at++ {
						if got := part.At(c, at); got != int8(3*c+at) {
							t.Fatalf("%v, %d columns without %d: channel %d position %d is %d", path, columns, skip, c, at, got)
						}
					}
				}
			}
		}
	}
}
