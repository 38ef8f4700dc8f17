// Command cycles writes the cycle report of the arm64 kernels: it builds the
// program flow, counts the instructions that one more flow takes by tracing
// it under qemu, and lets llvm-mca estimate the cycles of the innermost loops.
//
//	go run ./runtime/internal/kernels/internal/cycles -o docs/arm-cycles.md
//
// It needs qemu-aarch64, aarch64-linux-gnu-objdump and an llvm-mca of version
// 16 or later (older ones take the Cortex-A57 for every Neoverse).
package main

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// target is a CPU to report on.
type target struct {
	title  string
	qemu   string   // what qemu emulates: it decides the kernels' path
	models []string // llvm-mca's schedules
	runs   []run
}

// run is a flow: its tokens, of which the last ones are new.
type run struct{ tokens, last int }

func (r run) String() string {
	if r.last < r.tokens {
		return fmt.Sprintf("last %d of %d tokens, streamed", r.last, r.tokens)
	}
	return fmt.Sprintf("%d tokens", r.tokens)
}

var targets = []target{
	{"With dot product (Cortex-A78: BlueField-3)", "cortex-a76", []string{"neoverse-n1", "neoverse-n2"}, []run{{128, 128}, {16, 16}, {128, 32}}},
	{"Without dot product (Cortex-A72: BlueField-2)", "cortex-a72", []string{"cortex-a72", "neoverse-n1"}, []run{{128, 128}, {16, 16}, {128, 32}}},
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("cycles: ")
	out := flag.String("o", "", "file to write, default standard output")
	mca := flag.String("llvm-mca", "", "llvm-mca to run, default the newest in the path")
	ghz := flag.Float64("ghz", 2.5, "clock that the times are for")
	flag.Parse()
	text, err := report(*mca, *ghz)
	if err != nil {
		log.Fatal(err)
	}
	if *out == "" {
		os.Stdout.Write(text)
		return
	}
	if err := os.WriteFile(*out, text, 0o666); err != nil {
		log.Fatal(err)
	}
}

func report(mcaPath string, ghz float64) ([]byte, error) {
	mca, version, err := findMCA(mcaPath)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "cycles")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	bin := filepath.Join(dir, "flow")
	build := exec.Command("go", "build", "-o", bin, "nepcoc/runtime/internal/kernels/internal/cycles/flow")
	build.Env = append(os.Environ(), "GOARCH=arm64", "GOOS=linux", "CGO_ENABLED=0")
	if err := runTool(build); err != nil {
		return nil, err
	}
	prog, err := disassemble(bin)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, preamble, ghz, version)
	for _, t := range targets {
		fmt.Fprintf(&b, "\n## %s\n", t.title)
		for _, r := range t.runs {
			counts, err := trace(bin, prog, t.qemu, r)
			if err != nil {
				return nil, err
			}
			if err := table(&b, mca, prog, counts, t, r, ghz); err != nil {
				return nil, err
			}
		}
	}
	return b.Bytes(), nil
}

const preamble = `# Cycles of the arm64 kernels

Written by ` + "`go run ./runtime/internal/kernels/internal/cycles -o docs/arm-cycles.md`" + `; do not edit.

The published configuration (256 channels, five gated layers, classifier's products), one flow. **Instructions** are counted: the
difference between two runs under qemu that differ by one flow, all of Go's code around the kernels included. **Cycles** are
just an estimate: llvm-mca's for the innermost loops times their count, two instructions a cycle for the rest. It knows the
pipelines, not the caches, and assumes that every load hits L1. Times are at %.1f GHz. LLVM calls the A78 an A57;
neoverse-n1 (of the A76) and neoverse-n2 (of the A710) bracket it. Models: %s.
`

func table(b *bytes.Buffer, mca string, prog *program, counts map[uint64]int, t target, flow run, ghz float64) error {
	type row struct {
		name   string
		instrs int
		loop   string
		cycles []float64
	}
	var rows []row
	total := row{cycles: make([]float64, len(t.models))}
	for _, f := range prog.funcs {
		r := row{name: f.short(), cycles: make([]float64, len(t.models))}
		for _, in := range f.code {
			r.instrs += counts[in.addr]
		}
		if r.instrs == 0 {
			continue
		}
		inner := 0
		for _, loop := range f.innermost() {
			n := counts[loop[len(loop)-1].addr]
			if n == 0 {
				continue
			}
			inner += n * len(loop)
			var per []string
			for i, m := range t.models {
				c, err := estimate(mca, m, loop)
				if err != nil {
					return fmt.Errorf("%s: %w", f.name, err)
				}
				r.cycles[i] += float64(n) * c
				per = append(per, fmt.Sprintf("%.1f", c))
			}
			if 10*n*len(loop) > r.instrs {
				r.loop += fmt.Sprintf("%d × %d: %s; ", n, len(loop), strings.Join(per, " / "))
			}
		}
		for i := range r.cycles {
			r.cycles[i] += float64(max(r.instrs-inner, 0)) / 2
			total.cycles[i] += r.cycles[i]
		}
		total.instrs += r.instrs
		rows = append(rows, r)
	}
	if total.instrs == 0 {
		return fmt.Errorf("%s: the trace has no instruction of the kernels", t.qemu)
	}
	slices.SortFunc(rows, func(a, b row) int { return cmp.Compare(b.instrs, a.instrs) })
	fmt.Fprintf(b, "\n%v:\n\n| function | instructions | main loops: runs × instructions: cycles (%s) | cycles (%s) |\n|---|---:|---|---:|\n",
		flow, strings.Join(t.models, " / "), strings.Join(t.models, " / "))
	rest := row{name: "all else", cycles: make([]float64, len(t.models))}
	join := func(c []float64) string {
		var s []string
		for _, v := range c {
			s = append(s, fmt.Sprintf("%.0f", v))
		}
		return strings.Join(s, " / ")
	}
	for _, r := range rows {
		if r.instrs*200 < total.instrs {
			rest.instrs += r.instrs
			for i, c := range r.cycles {
				rest.cycles[i] += c
			}
			continue
		}
		fmt.Fprintf(b, "| %s | %d | %s | %s |\n", r.name, r.instrs, strings.TrimSuffix(r.loop, "; "), join(r.cycles))
	}
	fmt.Fprintf(b, "| %s | %d | | %s |\n", rest.name, rest.instrs, join(rest.cycles))
	var us []string
	for _, c := range total.cycles {
		us = append(us, fmt.Sprintf("%.1f", c/ghz/1000))
	}
	fmt.Fprintf(b, "| **sum** | **%d** | | **%s** = **%s us** |\n", total.instrs, join(total.cycles), strings.Join(us, " / "))
	return nil
}

// runTool runs a command; its error carries what the tool said.
func runTool(c *exec.Cmd) error {
	out, err := c.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(c.Args, " "), err, out)
	}
	return nil
}
