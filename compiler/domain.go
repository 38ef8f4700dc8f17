package compiler

import (
	"fmt"

	"nepcoc/compiler/calibrate"
	"nepcoc/compiler/npz"
	"nepcoc/compiler/onnx"
	"nepcoc/ir"
	"nepcoc/passes"
	"nepcoc/runtime/traffic"
)

// inputEncoding says how a model's input of numbers stands for bytes. The traffic contract
// decides; without one the calibration arrays show it, and "" leaves it to the type of the input. Numbers
// that are no bytes are features: they are refused.
func (c *compilation) inputEncoding(g *ir.Graph) (string, error) {
	if c.ByteEncoding != "" {
		return c.ByteEncoding, nil
	}
	if c.Contract != nil {
		if c.Contract.Encoding == traffic.EncodingToken {
			return "", nil
		}
		return string(c.Contract.Encoding), nil
	}
	if arrays, err := calibrate.IsArrays(c.Calib); c.checking || err != nil || !arrays {
		return "", nil // what is wrong with the file is said where it is read
	}
	f, err := npz.Open(c.Calib)
	if err != nil {
		return "", nil
	}
	var problems []onnx.Problem
	encoding := ""
	for _, v := range g.Inputs {
		if v.Type.DType != ir.F32 || !f.Has(v.Name) {
			continue
		}
		t, err := f.Array(v.Name)
		if err != nil {
			return "", nil
		}
		x, ok := t.Floats()
		if !ok {
			continue
		}
		e, at := domain(x)
		switch {
		case at >= 0:
			problems = append(problems, onnx.Problem{Kind: onnx.Unsupported, File: c.Model, Node: v.Name, Op: "input", Opset: c.res.Info.Opset, Shapes: []string{v.Type.String()},
				Reason: fmt.Sprintf("holds numbers that are no bytes, neither 0..255 nor divided by 255 (element %d of %s in %s is %g): features of a flow, which packets can't give, and which an integer program has no input for", at, v.Name, c.Calib, x[at]),
				WayOut: "if they are bytes with a mean and a deviation, say so in a traffic contract (encoding: (byte-127.5)/127.5; --contract FILE); else train on the bytes of the packets, or quantize the features to 256 levels as token ids before the model"})
		case e != "":
			encoding = string(e)
		}
	}
	if problems != nil {
		return "", &onnx.Refusal{File: c.Model, Problems: problems}
	}
	return encoding, nil
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

// inputs says how the model's inputs are read.
func inputs(l passes.Local, given bool) []Input {
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
			means += "; a traffic contract says otherwise (encoding: byte, byte/255, (byte-MEAN)/DEVIATION)"
		}
	}
	all := []Input{{l.TokenInput, fmt.Sprintf("%d %s", l.Length, means)}}
	if l.MaskInput != "" {
		all = append(all, Input{l.MaskInput, "1 on the first valid positions, 0 after them"})
	}
	return all
}
