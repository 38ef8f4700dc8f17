package engine_test

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"nepcoc/internal/randprog"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/cpu"
	"nepcoc/runtime/engine"
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

// reference is refexec for p.
func reference(t testing.TB, p *bundle.Program) func(tokens []int32, valid int) [][]int32 {
	t.Helper()
	x, err := refexec.New(p)
	if err != nil {
		t.Fatal(err)
	}
	return func(tokens []int32, valid int) [][]int32 {
		want, err := x.Run(tokens, valid)
		if err != nil {
			t.Fatal(err)
		}
		return want
	}
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
	ref := reference(t, p)
	for i := range uint64(4) {
		tokens, valid := randprog.Input(p, seed*4+i)
		want := ref(tokens, valid)
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
	if testing.Short() {
		n = 200
	}
	for seed := range n {
		differential(t, randprog.New(seed), seed)
		if seed%4 == 0 {
			differential(t, randprog.NewPublished(seed), seed)
		}
	}
}

// Workers share an engine; run with -race.
func TestWorkersShareAnEngine(t *testing.T) {
	p := chain{300, 60, 64, 3, []bool{false, true}}.program(1)
	tokens := flow(p, rand.New(rand.NewPCG(1, 1)))
	want := reference(t, p)(tokens, 50)
	for _, path := range paths() {
		e := bind(t, p, path)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				c, out := e.NewContext(), e.NewOutput()
				for range 50 {
					if err := c.Run(tokens, 50, out); err != nil || !equal(out, want) {
						t.Errorf("%s: %v, %v; want %v", path, out, err, want)
						return
					}
				}
			})
		}
		wg.Wait()
	}
}

func TestRefusals(t *testing.T) {
	p := chain{300, 60, 32, 3, []bool{false}}.program(1)
	if _, err := engine.Bind(p, engine.Options{Kernel: "sse9"}); err == nil {
		t.Error("an unknown kernel path was bound")
	}
	t.Setenv("NEPCOC_KERNEL", "purego")
	if e, err := engine.Bind(p, engine.Options{}); err != nil || e.KernelPath() != "purego" {
		t.Errorf("NEPCOC_KERNEL=purego: %v", err)
	}
	e := bind(t, p, paths()[0])
	c, out := e.NewContext(), e.NewOutput()
	for _, f := range []struct {
		name string
		err  error
	}{
		{"short", c.Run(make([]int32, 59), 1, out)}, {"no valid token", c.Run(make([]int32, 60), 0, out)},
		{"unknown token", c.Run(append(make([]int32, 59), 300), 1, out)}, {"no room", c.Run(make([]int32, 60), 1, nil)},
		{"wrong room", c.Run(make([]int32, 60), 1, [][]int32{make([]int32, 2)})},
	} {
		if f.err == nil {
			t.Errorf("%s: no error", f.name)
		}
	}
	broken := *p
	broken.Outputs = nil
	if _, err := engine.Bind(&broken, engine.Options{}); err == nil {
		t.Error("an invalid program was bound")
	}
}

// The profile accounts for every step, and does not change results.
func TestProfile(t *testing.T) {
	p := chain{300, 60, 64, 3, []bool{false, true}}.program(1)
	tokens := flow(p, rand.New(rand.NewPCG(1, 1)))
	e := bind(t, p, paths()[0])
	c, out := e.NewContext(), e.NewOutput()
	c.Profile = &engine.Profile{}
	for range 3 {
		if err := c.Run(tokens, 50, out); err != nil || !equal(out, reference(t, p)(tokens, 50)) {
			t.Fatal(out, err)
		}
	}
	if c.Profile.Runs != 3 || len(c.Profile.Nanoseconds) != len(e.StepNames()) {
		t.Errorf("profile %+v of steps %v", c.Profile, e.StepNames())
	}
}

// Every value that can be seen equals refexec's, as far as it was computed.
func TestTrace(t *testing.T) {
	for seed := range uint64(200) {
		p := randprog.New(seed)
		if seed >= 150 {
			p = randprog.NewPublished(seed)
		}
		tokens, valid := randprog.Input(p, seed)
		x, err := refexec.New(p)
		if err != nil {
			t.Fatal(err)
		}
		want := make([][]int32, len(p.Values))
		x.Trace = func(v int, data []int32) { want[v] = data }
		if _, err := x.Run(tokens, valid); err != nil {
			t.Fatal(err)
		}
		for _, path := range paths() {
			e := bind(t, p, path)
			c, seen := e.NewContext(), 0
			c.Trace = func(v, rows int, data []int32) {
				seen++
				if !slices.Equal(data, want[v][:rows*p.Values[v].Cols]) {
					t.Errorf("seed %d, %s: value %d differs", seed, path, v)
				}
			}
			if err := c.Run(tokens, valid, e.NewOutput()); err != nil {
				t.Fatal(err)
			}
			if seen == 0 && readsTokens(p) {
				t.Errorf("seed %d: nothing traced", seed)
			}
		}
	}
}

// readsTokens says that an output depends on the tokens: all may be made of constants, which no step computes.
func readsTokens(p *bundle.Program) bool {
	reads := make([]bool, len(p.Values))
	for _, s := range p.Steps {
		reads[s.Out] = s.Op == bundle.OpTokenTable || slices.ContainsFunc(s.In, func(v int) bool { return reads[v] })
	}
	return slices.ContainsFunc(p.Outputs, func(o bundle.Output) bool { return reads[o.Value] })
}

// FuzzEngine lets the fuzzer search among programs: all kinds of random program,
// engine against refexec.
func FuzzEngine(f *testing.F) {
	for seed := range uint64(8) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		differential(t, randprog.New(seed), seed)
		differential(t, randprog.NewPublished(seed), seed)
		differential(t, randomChain(seed), seed)
	})
}
