// Command peer compares the time per inference of ONNX Runtime and of the
// engine, for the same model on the same inputs, on one core.
//
//	peer [flags] [MODEL.onnx ...]
//
// Each model is compiled as it would be for use. ONNX Runtime is npm's
// onnxruntime-node, fetched into a folder that git ignores and run by node
// (peer.js). Inferences alternate in pairs, so that whatever slows the machine down
// slows both; the figure is the median of the pairs' ratios. `make bench-peer`
// pins everything to one core. With -c PATH, emitted C on that kernel path stands in the
// engine's place (`make bench-c-peer`). Nothing here is part of the product or of CI.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"nepcoc/bench/internal/emitted"
	"nepcoc/compiler"
	"nepcoc/compiler/calibrate"
	"nepcoc/internal/cli"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/engine"
	"nepcoc/runtime/traffic"
)

type options struct {
	dir, version string
	pairs        int
	c, cc        string
}

func main() {
	var o options
	flag.StringVar(&o.dir, "dir", "build/peer", "folder to fetch the peer to")
	flag.StringVar(&o.version, "ort", "1.30.0", "version of onnxruntime-node")
	flag.IntVar(&o.pairs, "pairs", 300, "pairs of inferences per model")
	flag.StringVar(&o.c, "c", "", "time emitted C on this kernel path (portable, avx2, ...), not the engine")
	flag.StringVar(&o.cc, "cc", "gcc -O3", "the C compiler, with flags")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), `usage: peer [flags] [MODEL.onnx ...]
Without models: the test data's (NEPCOC_DATA, else ../shared/data), or the example model.
Arrays or a capture to calibrate with and to run must lie beside a model; see findInputs.`)
		flag.PrintDefaults()
	}
	flag.Parse()
	if err := run(o, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "peer:", err)
		os.Exit(1)
	}
}

func run(o options, paths []string) error {
	if o.pairs < 1 {
		return errors.New("-pairs must be at least 1")
	}
	if len(paths) == 0 {
		paths = defaultModels()
	}
	models, err := findInputs(paths)
	if err != nil {
		return err
	}
	if err := fetch(o.dir, o.version); err != nil {
		return err
	}
	var rows []row
	for _, m := range models {
		fmt.Fprintf(os.Stderr, "%s ...\n", m.name)
		r, err := compare(o, m)
		if err != nil {
			return fmt.Errorf("%s: %w", m.path, err)
		}
		rows = append(rows, r)
	}
	overhead, err := callOverhead(o)
	if err != nil {
		return err
	}
	report(o, rows, overhead)
	return nil
}

// row is the result for one model; times in microseconds.
type row struct {
	name           string
	inputs         int
	valid          int     // tokens of the inputs, median
	peer, own      float64 // medians
	ratio          float64 // median of the pairs' ratios
	lo, hi         float64 // their quartiles
	agree          int     // inputs with the same verdict
	ort, node      string  // versions
	kernel, pinned string
}

// contender runs input i and returns how long that took.
type contender func(i int) (time.Duration, error)

func compare(o options, m model) (row, error) {
	b, set, err := build(m)
	if err != nil {
		return row{}, err
	}
	inputs := fullLength(set.Inputs)
	n := len(inputs)
	r := row{name: m.name, inputs: n, valid: inputs[n/2].Valid}

	e, err := engine.Bind(b.Program, engine.Options{})
	if err != nil {
		return row{}, err
	}
	r.kernel = e.KernelPath()
	ctx, out := e.NewContext(), e.NewOutput()
	own := func(i int) (time.Duration, error) {
		in := &inputs[i]
		start := time.Now()
		err := ctx.Run(in.Tokens, in.Valid, out)
		return time.Since(start), err
	}
	timed := contender(own)
	if o.c != "" {
		program, stop, err := startC(o, b, inputs)
		if err != nil {
			return row{}, err
		}
		defer stop()
		timed, r.kernel = program.Run, o.c
	}
	enc, err := encoding(b)
	if err != nil {
		return row{}, err
	}
	p, err := startPeer(o.dir, m.path, &b.Manifest.Model, enc, inputs)
	if err != nil {
		return row{}, err
	}
	defer p.stop()
	r.ort, r.node, r.pinned = p.hello.ORT, p.hello.Node, p.hello.CPUs
	for i := range inputs {
		if _, err := own(i); err != nil {
			return row{}, err
		}
		verdict, err := p.verdict(i)
		if err != nil {
			return row{}, err
		}
		if verdict == calibrate.ArgMax(out[0]) {
			r.agree++
		}
	}
	if r.agree < n*9/10 {
		return row{}, fmt.Errorf("only %d of %d verdicts agree with the peer's: the two do not compute the same", r.agree, n)
	}
	peerTimes, ownTimes, err := alternate(o.pairs, n, p.run, timed)
	if err != nil {
		return row{}, err
	}
	ratios := make([]float64, len(ownTimes))
	for i := range ratios {
		ratios[i] = peerTimes[i] / ownTimes[i]
	}
	r.peer, r.own = quantile(peerTimes, 0.5), quantile(ownTimes, 0.5)
	r.ratio, r.lo, r.hi = quantile(ratios, 0.5), quantile(ratios, 0.25), quantile(ratios, 0.75)
	return r, nil
}

// startC compiles the bundle's C and starts it on these inputs.
func startC(o options, b *bundle.Bundle, inputs []calibrate.Input) (p *emitted.Program, stop func(), err error) {
	cc := strings.Fields(o.cc)
	if len(cc) == 0 {
		return nil, nil, errors.New("-cc names no compiler")
	}
	dir, err := os.MkdirTemp("", "bench-peer")
	if err != nil {
		return nil, nil, err
	}
	var lines []string
	for _, in := range inputs {
		lines = append(lines, emitted.Line(in.Tokens, in.Valid))
	}
	exe, err := emitted.Build(b, cc, dir)
	if err == nil {
		p, err = emitted.Start(exe, o.c, lines)
	}
	if err != nil {
		os.RemoveAll(dir)
		return nil, nil, err
	}
	return p, func() {
		p.Stop()
		os.RemoveAll(dir)
	}, nil
}

// warmPairs are run first and not counted.
const warmPairs = 20

// alternate times pairs of inferences on n inputs, in microseconds. Each turn is two
// inferences, of which the second counts: the first brings the contender's own weights
// back to the caches, as they would be if it had the core to itself. Who goes first
// changes from pair to pair.
func alternate(pairs, n int, a, b contender) (ta, tb []float64, err error) {
	turn := func(c contender, i int) float64 {
		_, err1 := c((i + 1) % n)
		d, err2 := c(i % n)
		err = errors.Join(err, err1, err2)
		return float64(d.Nanoseconds()) / 1e3
	}
	for i := range warmPairs + pairs {
		var x, y float64
		if i%2 == 0 {
			x = turn(a, i)
			y = turn(b, i)
		} else {
			y = turn(b, i)
			x = turn(a, i)
		}
		if err != nil {
			return nil, nil, err
		}
		if i >= warmPairs {
			ta, tb = append(ta, x), append(tb, y)
		}
	}
	return ta, tb, nil
}

// build compiles the model and reads the inputs to run.
func build(m model) (*bundle.Bundle, *calibrate.Set, error) {
	opts := compiler.Options{Model: m.path, Calib: m.calib, MaxDisagreement: compiler.DefaultMaxDisagreement}
	contract := strings.TrimSuffix(m.path, ".onnx") + ".contract.yaml"
	if _, err := os.Stat(contract); err == nil {
		c, err := traffic.Load(contract)
		if err != nil {
			return nil, nil, err
		}
		opts.Contract = &c
	}
	res, err := compiler.Compile(context.Background(), opts)
	if err != nil {
		return nil, nil, err
	}
	set, err := readSet(m.inputs, res.Bundle)
	return res.Bundle, set, err
}

func readSet(path string, b *bundle.Bundle) (*calibrate.Set, error) {
	if filepath.Ext(path) == ".npz" {
		return calibrate.ForBundle(path, b)
	}
	c, err := classify.Contract(b)
	if err != nil {
		return nil, err
	}
	return calibrate.FromCapture([]string{path}, c, b.Manifest.View)
}

// encoding says how a model's input stands for a byte; see traffic.Contract.
func encoding(b *bundle.Bundle) (string, error) {
	if b.Manifest.Contract.YAML == "" && b.Manifest.Model.Features == nil {
		return "", nil
	}
	c, err := classify.Contract(b)
	return string(c.Encoding), err
}

// fullLength keeps the inputs without padding if there are some, so that ONNX
// Runtime, which computes padding too, does no work that the engine leaves out.
func fullLength(inputs []calibrate.Input) []calibrate.Input {
	const enough, most = 8, 200
	full := slices.DeleteFunc(slices.Clone(inputs), func(in calibrate.Input) bool { return in.Valid < len(in.Tokens) })
	if len(full) < enough {
		full = inputs
	}
	return full[:min(len(full), most)]
}

func quantile(v []float64, q float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return s[int(q*float64(len(s)-1)+0.5)]
}

func geometricMean(v []float64) float64 {
	sum := 0.0
	for _, x := range v {
		sum += math.Log(x)
	}
	return math.Exp(sum / float64(len(v)))
}

func report(o options, rows []row, overhead float64) {
	first := rows[0]
	fmt.Printf("%s, %s/%s, %s CPU(s) to run on\n", cpuName(), runtime.GOOS, runtime.GOARCH, first.pinned)
	fmt.Printf("peer: ONNX Runtime %s (onnxruntime-node, node %s), fp32, batch 1, all graph optimisations, 1 intra-op and 1 inter-op thread, sequential\n", first.ort, first.node)
	made := runtime.Version()
	if o.c != "" {
		made = "emitted C by " + o.cc
	}
	fmt.Printf("nepcoc: kernels %s, integers, %s\n", first.kernel, made)
	fmt.Printf("%d pairs per model, taking turns in one run on the same inputs; a turn is one inference to warm the caches and one that counts.\n", o.pairs)
	fmt.Printf("Times are medians in us; ratio is the median of the pairs' ratios, quartiles beside it. Inputs have no padding, where there are such.\n\n")
	table := [][]string{{"model", "inputs", "tokens", "ONNX Runtime", "nepcoc", "ratio", "quartiles", "same verdict"}}
	var ratios, net []float64
	for _, r := range rows {
		table = append(table, []string{r.name, fmt.Sprint(r.inputs), fmt.Sprint(r.valid), fmt.Sprintf("%.1f", r.peer), fmt.Sprintf("%.1f", r.own),
			fmt.Sprintf("%.2f", r.ratio), fmt.Sprintf("%.2f-%.2f", r.lo, r.hi), fmt.Sprintf("%d of %d", r.agree, r.inputs)})
		ratios = append(ratios, r.ratio)
		net = append(net, max(r.peer-overhead, 0.1)/r.own)
	}
	cli.Table(os.Stdout, table)
	fmt.Printf("\ngeometric mean of the ratios %.2f, least %.2f\n", geometricMean(ratios), slices.Min(ratios))
	fmt.Printf("A model that computes nothing takes the peer %.1f us, the cost of a call from node; without it: geometric mean %.2f, least %.2f\n",
		overhead, geometricMean(net), slices.Min(net))
}

// cpuName is the processor's name, as far as the system tells.
func cpuName() string {
	data, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(data)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
			return strings.TrimSpace(v)
		}
	}
	return "unknown CPU"
}
