// Package testbundle makes bundles that classify flows without a model having
// been trained or compiled: random programs that take the bytes of packets and
// tell many flows apart. Tests of the runtime use it, since they must not
// import the compiler.
package testbundle

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"

	"nepcoc/internal/files"
	"nepcoc/internal/randprog"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/refexec"
	"nepcoc/runtime/traffic"
)

// New is a bundle with the program of a number; its labels are the prefix and
// a class's index.
func New(number int, prefix string) (*bundle.Bundle, error) {
	c, err := traffic.Named("byte")
	if err != nil {
		return nil, err
	}
	p, err := Program(number)
	if err != nil {
		return nil, err
	}
	c.Length = p.Length
	return Make(p, c, prefix)
}

// Write writes a bundle to a file.
func Write(path string, b *bundle.Bundle, opts bundle.Options) error {
	data, err := bundle.Encode(b, opts)
	if err != nil {
		return err
	}
	return files.Write(path, data)
}

// Make is a bundle of a program and a contract, as if read from a file.
func Make(p *bundle.Program, c traffic.Contract, prefix string) (*bundle.Bundle, error) {
	b := &bundle.Bundle{Program: p, Manifest: bundle.Manifest{
		Format: bundle.FormatVersion, Tool: "test",
		Model: bundle.Model{File: prefix + ".onnx"}, Target: bundle.Target{Name: "host"},
		Contract:   bundle.Contract{YAML: string(c.Canonical()), Hash: c.Hash()},
		MinPayload: bundle.MinPayloadOf(0), // of many flows a short sequence holds headers only
	}}
	for _, o := range p.Outputs {
		info := bundle.OutputInfo{Name: o.Name}
		for i := range p.Values[o.Value].Cols {
			info.Labels = append(info.Labels, fmt.Sprintf("%s%d", prefix, i))
		}
		b.Manifest.Outputs = append(b.Manifest.Outputs, info)
	}
	return finish(b)
}

// EveryKind is a bundle whose program has an output of each kind, by the kind's name. The outputs are
// made of the same logits.
func EveryKind(number int) (*bundle.Bundle, error) {
	b, err := New(number, "class")
	if err != nil {
		return nil, err
	}
	p, o, m := b.Program, b.Program.Outputs[0], &b.Manifest
	logits := &p.Values[o.Value]
	pick := func(start, cols int) int {
		p.Steps = append(p.Steps, bundle.Step{Op: bundle.OpSlice, Name: fmt.Sprint("pick", start), In: []int{o.Value}, Out: len(p.Values),
			Slice: &bundle.Slice{Axis: 1, Start: start, Step: 1}})
		p.Values = append(p.Values, bundle.Value{Name: fmt.Sprint("pick", start), DType: logits.DType, Rows: 1, Cols: cols})
		return len(p.Values) - 1
	}
	classes := m.Outputs[0].Labels
	p.Plan, p.Outputs, m.Outputs = bundle.Plan{}, nil, nil
	for _, head := range []struct {
		value int
		info  bundle.OutputInfo
	}{
		{o.Value, bundle.OutputInfo{Kind: bundle.KindClasses, Labels: classes}},
		{pick(15, 1), bundle.OutputInfo{Kind: bundle.KindBinary, Labels: []string{"benign", "attack"}, Thresholds: []float64{0.875}}},
		{pick(17, 2), bundle.OutputInfo{Kind: bundle.KindLabels, Thresholds: []float64{0.875, 0.75}}},
		{o.Value, bundle.OutputInfo{Kind: bundle.KindValues}},
	} {
		out := o
		out.Name, out.Value = string(head.info.Kind), head.value
		head.info.Name = out.Name
		p.Outputs, m.Outputs = append(p.Outputs, out), append(m.Outputs, head.info)
	}
	b.Golden = nil
	return finish(b)
}

// finish adds golden vectors, and reads the bundle as if from a file.
func finish(b *bundle.Bundle) (*bundle.Bundle, error) {
	p := b.Program
	x, err := refexec.New(p)
	if err != nil {
		return nil, err
	}
	for i := range uint64(5) {
		g := bundle.Golden{}
		g.Tokens, g.Valid = randprog.Input(p, i)
		if g.Logits, err = x.Run(g.Tokens, g.Valid); err != nil {
			return nil, err
		}
		b.Golden = append(b.Golden, g)
	}
	data, err := bundle.Encode(b, bundle.Options{})
	if err != nil {
		return nil, err
	}
	return bundle.Decode(data)
}

var programs struct {
	sync.Mutex
	found []*bundle.Program
	seed  uint64
}

// Program is the number-th random program that takes at least 60 bytes and has
// one output, whose class depends on them.
func Program(number int) (*bundle.Program, error) {
	programs.Lock()
	defer programs.Unlock()
	for ; len(programs.found) <= number; programs.seed++ {
		if programs.seed > 20000 {
			return nil, errors.New("testbundle: no random program will do")
		}
		p := randprog.New(programs.seed)
		if p.Vocab < 256 || p.Length < 60 || len(p.Outputs) != 1 || len(p.Steps) > 8 {
			continue
		}
		x, err := refexec.New(p)
		if err != nil {
			return nil, err
		}
		seen := map[int]bool{}
		for i := range uint64(12) {
			tokens, valid := randprog.Input(p, i)
			for k := range tokens {
				tokens[k] %= 256
			}
			logits, err := x.Run(tokens, valid)
			if err != nil {
				return nil, err
			}
			seen[slices.Index(logits[0], slices.Max(logits[0]))] = true
		}
		if len(seen) >= 3 {
			withScores(p)
			programs.found = append(programs.found, p)
		}
	}
	return programs.found[number], nil
}

// withScores gives a program's output a table of exponentials.
func withScores(p *bundle.Program) {
	const n = 512
	data := make([]byte, 4*n)
	for i := range n {
		binary.LittleEndian.PutUint32(data[4*i:], uint32(math.Round(math.Exp(-float64(i)/64)*(1<<24))))
	}
	o := &p.Outputs[0]
	o.Exp, o.ExpMult, o.ExpShift = len(p.Tensors), 1, 0
	p.Tensors = append(p.Tensors, bundle.Tensor{Name: "exp", DType: bundle.I32, Shape: []int{n}, Data: data})
}
