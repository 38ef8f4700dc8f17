package lookup

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"nepcoc/runtime/cpu"
	"nepcoc/runtime/internal/kernels/plane"
)

const guard = 0x5a

func TestLoad(t *testing.T) {
	for _, path := range cpu.Available() {
		t.Run(path.String(), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(5, 6))
			for _, cols := range []int{1, 15, 16, 17, 32, 63, 64, 100, 256} {
				data := make([]int8, 40*cols)
				for i := range data {
					data[i] = int8(rng.IntN(256))
				}
				tab, err := New(data, cols, path)
				if err != nil {
					t.Fatal(err)
				}
				for _, n := range []int{0, 1, 31, 32, 33, 64, 100} {
					for _, pos := range []int{0, 32} {
						checkLoad(t, rng, tab, path, cols, pos, n)
					}
				}
			}
		})
	}
}

func checkLoad(t *testing.T, rng *rand.Rand, tab *Table, path cpu.Path, cols, pos, n int) {
	t.Helper()
	name := fmt.Sprintf("%d columns, %d tokens at %d", cols, n, pos)
	tokens := make([]int32, n)
	for i := range tokens {
		tokens[i] = int32(rng.IntN(tab.rows))
	}
	size := plane.Size(path, cols, 160, 1, 2)
	buf := plane.Aligned(size + 128)
	for i := range buf {
		buf[i] = guard
	}
	p := plane.Over(buf[64:64+size], path, cols, 160, 1, 2)
	before := slices.Clone(buf)
	tab.Load(&p, pos, tokens)
	for c := range cols {
		for i, tok := range tokens {
			if got, want := p.At(c, pos+i), tab.Row(tok)[c]; got != want {
				t.Fatalf("%s: channel %d position %d: %d, want %d", name, c, pos+i, got, want)
			}
		}
		end := pos + (n+plane.Block-1)/plane.Block*plane.Block
		if plane.TimeMajor(path) {
			break
		}
		row := buf[64+c*p.Stride+p.Margin:]
		was := before[64+c*p.Stride+p.Margin:]
		if !slices.Equal(row[:pos], was[:pos]) || !slices.Equal(row[end:p.Stride-1], was[end:p.Stride-1]) {
			t.Fatalf("%s: wrote outside its blocks in channel %d", name, c)
		}
	}
	if plane.TimeMajor(path) {
		lo, hi := p.Index(0, pos), p.Index(0, pos+n)
		if !slices.Equal(p.Data[:lo], before[64:][:lo]) || !slices.Equal(p.Data[hi:], before[64+hi:64+size]) {
			t.Fatalf("%s: wrote outside its rows", name)
		}
	}
	if !slices.Equal(buf[:64], before[:64]) || !slices.Equal(buf[len(buf)-64:], before[len(buf)-64:]) {
		t.Fatalf("%s: wrote outside the plane", name)
	}
}

func TestNewRefuses(t *testing.T) {
	for _, c := range []struct{ bytes, cols int }{{0, 1}, {10, 0}, {10, 3}} {
		if _, err := New(make([]int8, c.bytes), c.cols, cpu.Purego); err == nil {
			t.Errorf("%d bytes of %d columns: no error", c.bytes, c.cols)
		}
	}
}

// The published table's shape: 16 MB, more than the caches of small cards.
func BenchmarkLoad(b *testing.B) {
	const cols, rows = 256, 65541
	data := plane.Aligned(cols * rows)
	rng := rand.New(rand.NewPCG(1, 1))
	tokens := make([]int32, 1<<16)
	for i := range tokens {
		tokens[i] = int32(rng.IntN(rows))
	}
	for _, path := range cpu.Available() {
		tab, _ := New(data, cols, path)
		p := plane.New(path, cols, 128, 1, 2)
		b.Run(path.String()+"/same", func(b *testing.B) {
			for b.Loop() {
				tab.Load(&p, 0, tokens[:128])
			}
		})
		b.Run(path.String()+"/new", func(b *testing.B) {
			at := 0
			for b.Loop() {
				tab.Load(&p, 0, tokens[at:at+128])
				at = (at + 128) % len(tokens)
			}
		})
	}
}
