// Command c compares the time per inference of the emitted C and of the engine, path by path, for a bundle's golden inputs.
//
//	c [-cc gcc] [-path PATH] [-pairs 200] BUNDLE
//	c -arm [-cc aarch64-linux-gnu-gcc] BUNDLE
//	c -flows CAPTURE [-cc gcc] [-pairs 200] BUNDLE
//
// or, with -arm, how many instructions an inference takes there; or, with -flows, the time per packet of the emitted flow table and of the agent's, tokens included and
// without the model.
//
// The C is emitted, compiled with -O3 and run by a small program beside this one. Turns alternate, so that whatever slows the
// machine down slows both; the figure is the median of the pairs' ratios. `make bench-c` pins everything to one core.
// Nothing here is part of the product or of CI.
package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"time"

	"nepcoc/bench/internal/emitted"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/cpu"
	"nepcoc/runtime/engine"
)

func main() {
	arm := flag.Bool("arm", false, "count instructions on arm64, under qemu-user")
	cc := flag.String("cc", "", "C compiler (default: gcc, for arm64 aarch64-linux-gnu-gcc)")
	flows := flag.String("flows", "", "compare the flow tables on this capture")
	only := flag.String("path", "", "the path to compare (default: all that this machine has)")
	pairs := flag.Int("pairs", 200, "pairs of turns per path")
	flag.Parse()
	if flag.NArg() != 1 || *pairs < 1 {
		fmt.Fprintln(os.Stderr, "usage: c [-arm | -flows CAPTURE] [-cc gcc] [-path PATH] [-pairs N] BUNDLE")
		os.Exit(2)
	}
	if *cc == "" {
		*cc = map[bool]string{false: "gcc", true: "aarch64-linux-gnu-gcc"}[*arm]
	}
	if err := run(flag.Arg(0), *cc, *only, *flows, *pairs, *arm); err != nil {
		fmt.Fprintln(os.Stderr, "c:", err)
		os.Exit(1)
	}
}

func run(path, cc, only, flows string, pairs int, arm bool) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	b, err := bundle.Decode(data)
	if err != nil {
		return err
	}
	if flows != "" {
		return compareFlows(b, cc, flows, pairs)
	}
	if len(b.Golden) == 0 || b.Program.Sides > 0 {
		return fmt.Errorf("%s: a bundle with golden vectors of tokens is needed", path)
	}
	dir, err := os.MkdirTemp("", "bench-c")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if arm {
		return count(b, cc, dir)
	}
	exe, err := emitted.Build(b, []string{cc, "-O3"}, dir)
	if err != nil {
		return err
	}
	fmt.Printf("%d inputs; medians in us; ratio: the engine's time by that of C, of each pair of turns: above 1 C is faster\n", len(b.Golden))
	for _, p := range cpu.Available() {
		name := p.String()
		if p == cpu.Purego {
			name = "portable"
		}
		if only != "" && only != name {
			continue
		}
		if err := compare(b, p, name, exe, dir, pairs); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func compare(b *bundle.Bundle, p cpu.Path, name, exe, dir string, pairs int) error {
	e, err := engine.Bind(b.Program, engine.Options{Kernel: p.String()})
	if err != nil {
		return err
	}
	ctx, out := e.NewContext(), e.NewOutput()
	own := func() (float64, error) {
		start := time.Now()
		for i := range b.Golden {
			if err := ctx.Run(b.Golden[i].Tokens, b.Golden[i].Valid, out); err != nil {
				return 0, err
			}
		}
		return float64(time.Since(start).Nanoseconds()) / 1e3 / float64(len(b.Golden)), nil
	}
	program, err := emitted.Start(exe, name, inputs(b))
	if err != nil {
		return err
	}
	other := func() (float64, error) {
		d, err := program.Run(emitted.All)
		return float64(d.Nanoseconds()) / 1e3 / float64(len(b.Golden)), err
	}
	var gos, cs, ratios []float64
	for i := range pairs + 10 {
		x, err := own()
		if err != nil {
			return err
		}
		y, err := other()
		if err != nil {
			return err
		}
		if i >= 10 { // the first warm up
			gos, cs, ratios = append(gos, x), append(cs, y), append(ratios, x/y)
		}
	}
	fmt.Printf("%-9s engine %8.1f   C %8.1f   ratio %.2f (quartiles %.2f to %.2f)\n", name, quantile(gos, 0.5), quantile(cs, 0.5),
		quantile(ratios, 0.5), quantile(ratios, 0.25), quantile(ratios, 0.75))
	return program.Stop()
}

// inputs are a bundle's golden ones.
func inputs(b *bundle.Bundle) (lines []string) {
	for _, g := range b.Golden {
		lines = append(lines, emitted.Line(g.Tokens, g.Valid))
	}
	return lines
}

func quantile(v []float64, q float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return s[int(q*float64(len(s)-1)+0.5)]
}
