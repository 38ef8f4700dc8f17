package c_test

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"

	emit "nepcoc/backends/c"
	"nepcoc/internal/randprog"
	"nepcoc/internal/testfiles"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/cpu"
)

// native are the names of the paths of this machine, as the emitted code has them.
func native() []string {
	paths := []string{"portable"}
	for _, p := range cpu.Available() {
		if p != cpu.Purego {
			paths = append(paths, p.String())
		}
	}
	return paths
}

// The self-test, which every other test runs, runs each path that the machine has: the same as the engine's, by the same names.
func TestPaths(t *testing.T) {
	paths := native()
	if slices.Equal(paths, []string{"portable"}) { // a build without the engine's assembly
		paths = nil
	}
	p := randprog.NewChain(0)
	for seed := uint64(1); !slices.ContainsFunc(p.Steps, func(s bundle.Step) bool { return s.GatedConv != nil && s.GatedConv.K <= 4 }); seed++ {
		p = randprog.NewChain(seed)
	}
	for _, test := range []struct {
		cc, run []string
		want    []string
	}{
		{[]string{"gcc", "-O2"}, nil, paths},
		{[]string{"clang", "-O2"}, nil, paths},
		{[]string{"gcc", "-O2", "-DNEPCO_PORTABLE"}, nil, []string{"portable"}},
		{[]string{"aarch64-linux-gnu-gcc", "-O2", "-static"}, []string{"qemu-aarch64", "-cpu", "cortex-a72"}, []string{"portable", "neon"}},
		{[]string{"aarch64-linux-gnu-gcc", "-O2", "-static"}, []string{"qemu-aarch64", "-cpu", "cortex-a76"}, []string{"portable", "neon", "dotprod"}},
		// Without the statements in assembly that some compilers need to be fast.
		{[]string{"aarch64-linux-gnu-gcc", "-O2", "-static", "-DNEPCO_INTRINSICS"}, []string{"qemu-aarch64", "-cpu", "cortex-a76"}, []string{"portable", "neon", "dotprod"}},
		{[]string{"s390x-linux-gnu-gcc", "-O2", "-static"}, []string{"qemu-s390x"}, []string{"portable"}},
	} {
		t.Run(strings.Join(append(test.cc, test.run...), " "), func(t *testing.T) {
			testfiles.Tool(t, test.cc[0])
			if test.run != nil {
				testfiles.Tool(t, test.run[0])
			}
			dir, exe := build(t, withGolden(t, p, 4), emit.Options{}, test.cc[0], test.cc[1:]...)
			command := append(slices.Clone(test.run), exe)
			cmd := exec.Command(command[0], command[1:]...)
			cmd.Dir = dir
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			var got []string
			for line := range strings.Lines(string(out)) {
				f := strings.Fields(line)
				got = append(got, f[len(f)-1])
			}
			if test.want != nil && !slices.Equal(got, test.want) {
				t.Errorf("it ran %v, want %v", got, test.want)
			}
		})
	}
}

// Where the maximum of flipped bytes is taken, these are written over the words that they come from.
func TestArmOverScratch(t *testing.T) {
	c := toolchain{"arm64", []string{"aarch64-linux-gnu-gcc", "-O1", "-static"}, []string{"qemu-aarch64", "-cpu", "cortex-a76"}}
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
		{"O3", []string{"aarch64-linux-gnu-gcc", "-O3", "-static"}, []string{"qemu-aarch64", "-cpu", "cortex-a76"}},
		{"O1", []string{"aarch64-linux-gnu-gcc", "-O1", "-static"}, []string{"qemu-aarch64", "-cpu", "cortex-a76"}},
		{"intrinsics", []string{"aarch64-linux-gnu-gcc", "-O1", "-static", "-DNEPCO_INTRINSICS"}, []string{"qemu-aarch64", "-cpu", "cortex-a76"}},
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
