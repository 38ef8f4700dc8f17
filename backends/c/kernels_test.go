package c_test

import (
	"fmt"
	"strings"
	"testing"

	emit "nepcoc/backends/c"
	"nepcoc/internal/randprog"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/cpu"
)

// native are the paths of this machine, which the emitted code has by the engine's names; nil in a build without the engine's assembly.
func native() []string {
	paths := []string{"portable"}
	for _, p := range cpu.Available() {
		if p != cpu.Purego {
			paths = append(paths, p.String())
		}
	}
	if len(paths) == 1 {
		return nil
	}
	return paths
}

// Where the maximum of flipped bytes is taken, these are written over the words that they come from.
func TestArmOverScratch(t *testing.T) {
	c := toolchain{"arm64", []string{"aarch64-linux-gnu-gcc", "-O1", "-static"}, cortexA76, dotprod}
	c.check(t, withGolden(t, randprog.NewChain(516), 8), emit.Options{})
}

// raised tells whether a bundle's kernels for Arm keep the bytes of planes as x + 128.
func raised(t *testing.T, b *bundle.Bundle) bool {
	t.Helper()
	files, err := emit.Emit(b, emit.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(files[1].Data), "#define RAISED 1")
}

// Chains whose factors of residuals are positive, as a model's are whose LayerNorm has no negative factors: kernels for Arm keep bytes as x + 128.
func TestRaised(t *testing.T) {
	chains := []toolchain{
		{"O3", []string{"aarch64-linux-gnu-gcc", "-O3", "-static"}, cortexA76, dotprod},
		{"O1", []string{"aarch64-linux-gnu-gcc", "-O1", "-static"}, cortexA76, dotprod},
		{"intrinsics", []string{"aarch64-linux-gnu-gcc", "-O1", "-static", "-DNEPCO_INTRINSICS"}, cortexA76, dotprod},
	}
	seeds := []uint64{124, 4, 29, 82, 220} // few chains are such
	if testing.Short() {
		seeds = seeds[:2]
	}
	for i, seed := range seeds {
		p := randprog.NewChain(seed)
		for _, s := range p.Steps {
			if s.GatedConv == nil || s.GatedConv.Norm == nil {
				continue
			}
			rho := p.Tensors[s.GatedConv.Norm.Rho].Data
			for j, v := range rho {
				rho[j] = byte(max(int8(v), -int8(v)))
			}
			if i%2 == 0 {
				clear(p.Tensors[s.GatedConv.Norm.Flip].Data)
			}
		}
		b, c, o := withGolden(t, p, 12), &chains[i%len(chains)], emit.Options{Tile: []int{0, 16, 64, 3}[i%4]}
		if !raised(t, b) {
			t.Fatalf("chain %d does not keep bytes as x + 128", seed)
		}
		t.Run(fmt.Sprintf("%d-%s-%d", seed, c.name, o.Tile), func(t *testing.T) { c.check(t, b, o) })
	}
}
