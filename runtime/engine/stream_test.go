package engine_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"nepcoc/internal/randprog"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/engine"
)

// inChunks runs a flow through a stream, cut at random.
func inChunks(t testing.TB, c *engine.Context, s *engine.Stream, tokens, sides []int32, valid int, pad int32, r *rand.Rand, out [][]int32) {
	t.Helper()
	s.Begin()
	longest := 1 + r.IntN(valid)
	for at := 0; at < valid; {
		n := min(r.IntN(longest+1), valid-at)
		if err := c.Append(s, tokens[at:at+n]); err != nil {
			t.Fatal(err)
		}
		at += n
	}
	if err := c.Finish(s, pad, sides, out); err != nil {
		t.Fatal(err)
	}
}

// streamed compares streams with Run: two flows at a time take turns in one
// context, so that nothing of one can leak into the other.
func streamed(t *testing.T, p *bundle.Program, path string, rounds int, seed uint64) (chunked bool) {
	e := bind(t, p, path)
	c, out, want := e.NewContext(), e.NewOutput(), e.NewOutput()
	one, two := e.NewStream(), e.NewStream()
	r := rand.New(rand.NewPCG(seed, 9))
	for range rounds {
		tokens, valid, pad := flow(p, r), 1+r.IntN(p.Length), int32(r.IntN(p.Vocab))
		for i := valid; i < p.Length; i++ {
			tokens[i] = pad
		}
		if err := c.Run(tokens, valid, want); err != nil {
			t.Fatal(err)
		}
		two.Begin()
		at := 0
		if half := r.IntN(valid + 1); half > 0 {
			if err := c.Append(two, tokens[:half]); err != nil {
				t.Fatal(err)
			}
			at = half
		}
		inChunks(t, c, one, tokens, tokens[p.Length:], valid, pad, r, out)
		if !equal(out, want) {
			t.Fatalf("seed %d, %s, %d valid: streamed %v, at once %v", seed, path, valid, out, want)
		}
		if err := c.Append(two, tokens[at:valid]); err != nil {
			t.Fatal(err)
		}
		if err := c.Finish(two, pad, tokens[p.Length:], out); err != nil {
			t.Fatal(err)
		}
		if !equal(out, want) {
			t.Fatalf("seed %d, %s, %d valid, in two parts of %d: streamed %v, at once %v", seed, path, valid, at, out, want)
		}
	}
	return e.Streams()
}

func TestStreams(t *testing.T) {
	for _, k := range []chain{
		{1000, 128, 256, 22, published.norm}, {261, 100, 64, 5, []bool{true, false, true}}, {300, 7, 6, 3, []bool{false, true}},
	} {
		for _, path := range paths() {
			if !streamed(t, k.program(1), path, 40, 1) {
				t.Errorf("%v does not run chunk by chunk", k)
			}
		}
	}
	chunked, n := 0, uint64(1000)
	if testing.Short() {
		n = 100
	}
	for seed := range n {
		for _, path := range paths() {
			if streamed(t, randprog.New(seed), path, 2, seed) {
				chunked++
			}
		}
	}
	t.Logf("%d random programs ran chunk by chunk", chunked)
}

func TestStateIsSmall(t *testing.T) {
	e := bind(t, chain{1000, 128, 256, 22, published.norm}.program(1), paths()[0])
	if n := e.StateBytes(); n > 16<<10 {
		t.Errorf("%d bytes of state per flow", n)
	}
}

func TestStreamErrors(t *testing.T) {
	p := chain{50, 40, 8, 2, []bool{true}}.program(1)
	e := bind(t, p, paths()[0])
	c, s, out := e.NewContext(), e.NewStream(), e.NewOutput()
	for _, f := range []struct {
		name string
		err  error
	}{
		{"too many tokens", c.Append(s, make([]int32, 41))}, {"unknown token", c.Append(s, []int32{50})},
		{"nothing appended", c.Finish(s, 0, nil, out)}, {"unknown padding", c.Finish(s, -1, nil, out)},
		{"another engine", c.Append(bind(t, p, paths()[0]).NewStream(), nil)},
	} {
		if f.err == nil {
			t.Errorf("%s: no error", f.name)
		}
	}
}

// The last 32 tokens of 128, to the verdict.
func BenchmarkLastChunk(b *testing.B) {
	p := published.program(1)
	for _, path := range paths() {
		e := bind(b, p, path)
		c, s, out, tokens := e.NewContext(), e.NewStream(), e.NewOutput(), flow(p, rand.New(rand.NewPCG(1, 1)))
		b.Run(fmt.Sprintf("%s/state=%d", path, e.StateBytes()), func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				b.StopTimer()
				s.Begin()
				first := c.Append(s, tokens[:96])
				b.StartTimer()
				if err := slices.Max([]int{errs(first), errs(c.Append(s, tokens[96:])), errs(c.Finish(s, 0, nil, out))}); err != 0 {
					b.Fatal("stream failed")
				}
			}
		})
	}
}

func errs(err error) int {
	if err != nil {
		return 1
	}
	return 0
}
