package compiler

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"nepcoc/compiler/calibrate"
	"nepcoc/compiler/npz"
	"nepcoc/compiler/onnx"
	"nepcoc/internal/files"
	"nepcoc/ir"
	"nepcoc/passes"
	"nepcoc/passes/canonical"
	"nepcoc/runtime/arith"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/traffic"
)

// inputDomain says what the numbers of a model's input mean: o's ByteEncoding or Features. The traffic contract
// decides; without one --features or the calibration arrays, and if these show nothing the type of the
// input does.
func (c *compilation) inputDomain(g *ir.Graph, o *passes.Options) error {
	switch {
	case c.Features && c.Contract != nil:
		return inFile(c.Model, errors.New("--features says that the input holds no bytes, the traffic contract (given, or beside the model) says which bytes it holds: leave out one of the two"))
	case c.Features && numberInput(g) == nil:
		return inFile(c.Model, errors.New("no input holds numbers, features can't be token ids: leave out --features"))
	}
	c.sideGrids(o)
	switch {
	case c.ByteEncoding != "":
		o.ByteEncoding = c.ByteEncoding
		return nil
	case c.Contract != nil:
		if c.Contract.Encoding != traffic.EncodingToken {
			o.ByteEncoding = string(c.Contract.Encoding)
		}
		return nil
	case c.checking:
		if c.Features {
			o.Features = slices.Repeat([]bundle.Range{{-1, 1}}, numberInput(g).Type.Len()) // as good as any
		}
		return nil
	}
	// What is wrong with the file itself is said where it is read.
	if arrays, err := calibrate.IsArrays(c.Calib); err != nil {
		return nil
	} else if !arrays {
		if c.Features {
			return fmt.Errorf("%s: features can't be read from packets: calibrate with an .npz of them", files.Show(c.Calib))
		}
		return nil
	}
	f, err := npz.Open(c.Calib)
	if err != nil {
		return nil
	}
	sides := canonical.SideInputs(g)
	for _, v := range g.Inputs {
		if v.Type.DType != ir.F32 || sides[v] || !f.Has(v.Name) {
			continue
		}
		t, err := f.Array(v.Name)
		if err != nil {
			return nil
		}
		x, ok := t.Floats()
		if !ok {
			continue
		}
		e, at := domain(x)
		switch {
		case c.Features && v == numberInput(g), at >= 0 && !onGrid(x):
			if o.Features, err = calibrate.Ranges(c.Calib, f, v.Name, v.Type.Len()); err != nil {
				return err
			}
		case at >= 0:
			return &onnx.Refusal{File: c.Model, Problems: []onnx.Problem{{Kind: onnx.Unsupported, File: c.Model, Node: v.Name, Op: "input", Opset: c.res.Info.Opset, Shapes: []string{v.Type.String()},
				Reason: fmt.Sprintf("holds numbers on a grid of at most 256 steps, neither 0..255 nor divided by 255 (element %d of %s in %s is %g): bytes with a mean and a deviation, or features of a flow", at, v.Name, c.Calib, x[at]),
				WayOut: "if they are bytes, say so in a traffic contract (encoding: (byte-127.5)/127.5; --contract FILE); if they are features, --features"}}}
		case e != "":
			o.ByteEncoding = string(e)
		}
	}
	return nil
}

// sideGrids says on what grids the numbers of inputs beside the sequence lie. A traffic contract supplies whole numbers, arrays show
// what they reach to.
func (c *compilation) sideGrids(o *passes.Options) {
	switch arrays, err := calibrate.IsArrays(c.Calib); {
	case c.Contract != nil:
	case c.checking:
		o.Sides = func(_ string, n int) ([]arith.Grid, error) {
			return slices.Repeat([]arith.Grid{arith.GridOver(-1, 1)}, n), nil // as good as any
		}
	case err == nil && arrays:
		o.Sides = func(input string, n int) (g []arith.Grid, err error) {
			f, err := npz.Open(c.Calib)
			if err == nil {
				g, err = calibrate.Grids(c.Calib, f, input, n)
			}
			c.dataErr = err
			return g, err
		}
	}
}

// numberInput is the first input that can hold features, not beside a sequence but as one.
func numberInput(g *ir.Graph) *ir.Value {
	sides := canonical.SideInputs(g)
	for _, v := range g.Inputs {
		if v.Type.DType == ir.F32 && !sides[v] {
			return v
		}
	}
	return nil
}

// onGrid says that numbers lie on a grid as bytes do: at most 256 of one distance.
func onGrid(x []float64) bool {
	seen := make(map[float64]bool)
	for _, v := range x {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return false
		}
		if seen[v] = true; len(seen) > 256 {
			return false
		}
	}
	levels := slices.Sorted(maps.Keys(seen))
	step := math.Inf(1)
	for i := 1; i < len(levels); i++ {
		step = min(step, levels[i]-levels[i-1])
	}
	for _, v := range levels {
		n := (v - levels[0]) / step
		if n > 255.5 || math.Abs(n-math.Round(n)) > 0.02 {
			return false
		}
	}
	return true
}

// domain is the encoding of bytes that numbers have, "" where all are 0 or 1, as those of a mask are; at is the
// first that no encoding has, or -1.
func domain(x []float64) (e traffic.Encoding, at int) {
	first := map[traffic.Encoding]int{}
	one := true
	for _, e := range []traffic.Encoding{traffic.EncodingByte, traffic.EncodingByte255} {
		first[e] = -1
		for i, v := range x {
			one = one && (v == 0 || v == 1)
			if _, ok := e.Byte(v); !ok {
				first[e] = i
				break
			}
		}
	}
	switch {
	case one:
		return "", -1
	case first[traffic.EncodingByte] < 0:
		return traffic.EncodingByte, -1
	case first[traffic.EncodingByte255] < 0:
		return traffic.EncodingByte255, -1
	}
	return "", max(first[traffic.EncodingByte], first[traffic.EncodingByte255])
}

// Input is how the compiler reads one of the model's inputs.
type Input struct {
	Name string `json:"name"`
	// Means is what it holds, in words.
	Means string `json:"means"`
}

// sideInputs says how the inputs beside the sequence are read.
func (c *compilation) sideInputs(l passes.Local) (all []Input) {
	for _, s := range l.Sides {
		means := fmt.Sprintf("%d numbers beside the sequence", len(s.Grids))
		if c.Contract != nil {
			means += ", whole ones, as the traffic contract gives them"
		}
		all = append(all, Input{s.Name, means})
	}
	return all
}

// inputs says how the model's inputs are read.
func (c *compilation) inputs(l passes.Local) []Input {
	given := c.Contract != nil
	if l.Features != nil {
		means := fmt.Sprintf("%d features, each in %d levels of its range in the calibration data; no packets", l.Length, bundle.FeatureLevels)
		if c.checking {
			means = fmt.Sprintf("%d features, each in %d levels of its range; no packets", l.Length, bundle.FeatureLevels)
		} else if !c.Features {
			means += "; if they are bytes with a mean and a deviation, a traffic contract says so (encoding: (byte-MEAN)/DEVIATION)"
		}
		return append([]Input{{l.TokenInput, means}}, c.sideInputs(l)...)
	}
	means := fmt.Sprintf("token ids 0..%d", l.Vocab-1)
	if mean, deviation, ok := traffic.Encoding(l.Encoding).Affine(); ok {
		means = "bytes 0..255 as " + l.Encoding
		if mean == 0 && deviation == 1 {
			means = "bytes 0..255"
		}
		switch {
		case given:
			means += ", as the traffic contract says"
		case l.TokenType.DType == ir.F32:
			if means += "; a traffic contract says otherwise (encoding: byte, byte/255, (byte-MEAN)/DEVIATION)"; c.checking {
				means += "; float input: bytes or features can't be told without data (--features)"
			} else {
				means += ", --features that they are no bytes"
			}
		}
	}
	all := []Input{{l.TokenInput, fmt.Sprintf("%d %s", l.Length, means)}}
	if l.MaskInput != "" {
		all = append(all, Input{l.MaskInput, "1 on the first valid positions, 0 after them"})
	}
	return append(all, c.sideInputs(l)...)
}

// StoredSides gives the grids that a bundle has of its model's inputs beside the sequence.
func StoredSides(sides []bundle.SideInput) func(string, int) ([]arith.Grid, error) {
	return func(input string, n int) ([]arith.Grid, error) {
		for _, s := range sides {
			if s.Name == input && len(s.Grids) == n {
				return s.Grids, nil
			}
		}
		return nil, fmt.Errorf("the bundle's model has no input %q of %d numbers beside the sequence", input, n)
	}
}
