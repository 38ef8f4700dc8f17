// Command flow runs the kernels of the published configuration on one flow after
// another: 256 channels, five gated layers of four taps, three of them with
// LayerNorm, and the products of the classifier. Only the LAST of the TOKENS are new: the others have
// been streamed, as the engine does. The weights are random; the kernels'
// work does not depend on them. It is the program that cycles counts.
package main

import (
	"fmt"
	"log"
	"os"
	"strconv"

	"nepcoc/runtime/arith"
	"nepcoc/runtime/cpu"
	"nepcoc/runtime/internal/kernels/gated"
	"nepcoc/runtime/internal/kernels/gemv"
	"nepcoc/runtime/internal/kernels/lookup"
	"nepcoc/runtime/internal/kernels/plane"
)

const channels, length, classes = 256, 128, 22

func main() {
	log.SetFlags(0)
	if len(os.Args) != 4 {
		log.Fatal("usage: flow FLOWS TOKENS LAST")
	}
	flows, err := strconv.Atoi(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	valid, err := strconv.Atoi(os.Args[2])
	if err != nil || valid < 1 || valid > length {
		log.Fatalf("tokens %s: want 1 to %d", os.Args[2], length)
	}
	last, err := strconv.Atoi(os.Args[3])
	if err != nil || last < 1 || last > valid {
		log.Fatalf("last tokens %s: want 1 to %d", os.Args[3], valid)
	}
	if err := run(flows, valid, last); err != nil {
		log.Fatal(err)
	}
}

// random is a small generator: math/rand would be counted with the kernels.
type random uint32

func (r *random) next(n int) int {
	*r = *r*1664525 + 1013904223
	return int(*r>>8) % n
}

func layer(r *random, path cpu.Path, norm bool) (*gated.Layer, error) {
	p := gated.Params{C: channels, Cin: channels, K: 4, PadLeft: 1, PadIn: make([]int8, channels), Base: make([]uint8, 32), Slope: make([]uint8, 32), Shift: 5}
	for c := range channels {
		p.ChanH, p.ChanG = append(p.ChanH, uint16(c/2)), append(p.ChanG, uint16(channels/2+c/2))
		for range p.K {
			p.TapsH, p.TapsG = append(p.TapsH, uint8(r.next(64))), append(p.TapsG, uint8(r.next(64)))
		}
		p.BiasH, p.BiasG = append(p.BiasH, 128), append(p.BiasG, 32768+128)
	}
	if norm {
		n := &gated.Norm{Shift: 5, Flip: make([]uint8, channels), Factor: arith.NormParams{C: channels, MeanM: 1 << 15, Eps: 100, A: 40000, S: 12}}
		for range channels {
			n.Rho, n.Cst = append(n.Rho, int8(r.next(100))), append(n.Cst, int16(r.next(1000)))
		}
		p.Norm, p.Shift = n, 0
	}
	return gated.New(p, path)
}

func run(flows, valid, last int) error {
	path, err := cpu.Choose()
	if err != nil {
		return err
	}
	r := random(1)
	layers := make([]*gated.Layer, 5)
	for i := range layers {
		if layers[i], err = layer(&r, path, i == 1 || i >= 3); err != nil {
			return err
		}
	}
	table, err := lookup.New(make([]int8, 64*channels), channels, path)
	if err != nil {
		return err
	}
	tokens := make([]int32, length)
	const left, right = plane.Word - 1, 2
	a, b := plane.New(path, channels, length, left, right), plane.New(path, channels, length, left, right)
	acc, scratch, pooled := gated.NewAcc(channels, path), gated.NewScratch(channels), make([]int16, channels)
	w1, x1, h1 := make([]int8, channels*channels), make([]int8, channels), make([]int32, channels)
	w2, x2, h2 := make([]int8, classes*channels), make([]int16, channels), make([]int32, classes)
	// What done layers have computed: each looks two positions further ahead than the one before it, so
	// streams are as many behind.
	from := func(done int) int { return max(0, valid-last-2*done) }
	to := func(done int) int { return min(valid+2*(len(layers)-done), length) }
	// What the next layers look back at is kept where a flow streams.
	history := make([]int8, channels*plane.Word)
	restore := func(p *plane.Plane, done int) {
		if last < valid {
			p.Restore(history, plane.Word, 0, from(done))
		}
	}
	if last < valid {
		base := from(len(layers)-1) - plane.Word
		a, b = a.Part(base, length, left, right), b.Part(base, length, left, right)
	}
	// compute runs layer i from src, with residual and LayerNorm over dst, or to dst.
	compute := func(i int, dst, src *plane.Plane) {
		at, n := from(i+1), to(i+1)-from(i+1)
		layers[i].Pad(src, length, at, n)
		if i == 1 || i == 3 {
			layers[i].Norm(dst, src, dst, at, n, scratch)
		} else {
			layers[i].Plain(dst, src, at, n)
		}
		restore(dst, i+1)
	}
	for range flows {
		table.Load(&a, from(0), tokens[from(0):to(0)])
		restore(&a, 0)
		compute(0, &b, &a)
		compute(1, &a, &b)
		compute(2, &b, &a)
		compute(3, &a, &b)
		layers[4].Pad(&a, length, from(5), to(5)-from(5))
		acc.Reset()
		layers[4].NormPool(acc, &a, &a, from(5), to(5)-from(5), scratch)
		acc.Max(pooled)
		gemv.I8(path, h1, w1, x1)
		gemv.I16(path, h2, w2, x2)
	}
	fmt.Println(path, pooled[0], h1[0], h2[0])
	return nil
}
