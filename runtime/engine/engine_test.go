package engine_test

import (
	"os"
	"slices"
	"testing"

	"nepcoc/internal/randprog"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/engine"
	"nepcoc/runtime/kernels/cpu"
	"nepcoc/runtime/refexec"
)

// paths are the kernel paths to test on this machine.
func paths() []string {
	var names []string
	for _, p := range cpu.Available() {
		names = append(names, p.String())
	}
	return names
}

func bind(t testing.TB, p *bundle.Program, path string) *engine.Engine {
	t.Helper()
	e, err := engine.Bind(p, engine.Options{Kernel: path})
	if err != nil {
		t.Fatal(err)
	}
	if e.KernelPath() != path {
		t.Fatalf("kernel path %s, want %s", e.KernelPath(), path)
	}
	return e
}

func reference(t testing.TB, p *bundle.Program, tokens []int32, valid int) [][]int32 {
	t.Helper()
	x, err := refexec.New(p)
	if err != nil {
		t.Fatal(err)
	}
	want, err := x.Run(tokens, valid)
	if err != nil {
		t.Fatal(err)
	}
	return want
}

func equal(a, b [][]int32) bool { return slices.EqualFunc(a, b, slices.Equal) }

// differential runs a program through all paths, each context several
// times so that nothing left over from one flow can help the next.
func differential(t testing.TB, p *bundle.Program, seed uint64) {
	t.Helper()
	var contexts []*engine.Context
	var out [][]int32
	for _, path := range paths() {
		e := bind(t, p, path)
		contexts, out = append(contexts, e.NewContext()), e.NewOutput()
	}
	for i := range uint64(4) {
		tokens, valid := randprog.Input(p, seed*4+i)
		want := reference(t, p, tokens, valid)
		for j, c := range contexts {
			if err := c.Run(tokens, valid, out); err != nil {
				t.Fatal(err)
			}
			if !equal(out, want) {
				t.Fatalf("seed %d, %s, %d of %d valid: engine %v, refexec %v", seed, paths()[j], valid, p.Length, out, want)
			}
		}
	}
}

func TestRandomPrograms(t *testing.T) {
	n := uint64(2000)
	if testing.Short() || os.Getenv("NEPCOC_QUICK") != "" {
		n = 200
	}
	for seed := range n {
		differential(t, randprog.New(seed), seed)
	}
}

// FuzzEngine lets the fuzzer search among programs: both kinds of random program,
// engine against refexec.
func FuzzEngine(f *testing.F) {
	for seed := range uint64(8) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		differential(t, randprog.New(seed), seed)
		differential(t, randomChain(seed), seed)
	})
}
