// Package calibrate turns captures and arrays into what a model reads, and
// runs it through the float interpreter: to collect ranges before quantization
// and to have something to compare integers with after it.
package calibrate

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"
	"path/filepath"
	"strings"

	"nepcoc/compiler/dataset"
	"nepcoc/compiler/npz"
	"nepcoc/internal/files"
	"nepcoc/ir"
	"nepcoc/passes"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/flow"
	"nepcoc/runtime/traffic"
	"nepcoc/runtime/verdict"
)

// Input is one input of a model: its full length of tokens, of which the first
// Valid are not padding, and behind them the ids of numbers beside the sequence.
type Input struct {
	Tokens []int32
	Valid  int
	// Features, of a model that reads them, are what the tokens are levels of.
	Features []float32
}

// LeastFlows is the least number of flows that shares, medians and areas under curves are given of: those of fewer would praise, or blame, by chance.
const LeastFlows = 10

// Set is a list of inputs and where they came from.
type Set struct {
	Name   string // file name
	SHA256 string
	Inputs []Input
	// Flows has, for a capture, what is known of input i besides its tokens.
	Flows []verdict.Record
	// Numbers has, for a capture, the number of flow i in the order of first packets, from 1.
	Numbers []int
	// Labels has, where the source knows it, the right verdict of input i (see Judge), nil where it
	// has no label, by output name; "" stands for the first output.
	Labels map[string][][]int
	// Expect has, for arrays, the outputs that another runtime computed, by output name:
	// one row per input.
	Expect map[string][][]float64
	// Notes are remarks on the source: a last record that was cut off, packets
	// that the capture holds too little of.
	Notes []string

	classes []string // of a token set, what its labels are indices of
}

// LabelsOf are the labels of one output, nil where there are none.
func (s *Set) LabelsOf(output string, first bool) [][]int {
	if l := s.Labels[output]; l != nil || !first {
		return l
	}
	return s.Labels[""]
}

// FromCapture reads every flow of captures by the contract, in the given view: of several as of one, in
// the order in which they are given. SHA256 is then that of the files' own sums, one behind another.
func FromCapture(paths []string, c traffic.Contract, view bundle.View) (*Set, error) {
	var list []*capture.File
	var rest []io.Reader
	var sums []hash.Hash
	var errs []error
	for _, path := range paths {
		f, err := files.Open(path)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		defer f.Close()
		// Hashed as it is read: a pipe comes by once.
		sum := sha256.New()
		src, err := capture.NewFile(files.Show(path), io.TeeReader(f, sum))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		list, rest, sums = append(list, src), append(rest, f), append(sums, sum)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	src := capture.Join(list...)
	opt, err := classify.OptionsFor(c, view)
	if err != nil {
		return nil, err
	}
	s := &Set{Name: Name(paths)}
	// Not flow.CollectAs, which sorts: which flows calibrate follows from the order of verdicts, and bundles from that.
	opt.Ready = func(f *flow.Flow) {
		s.Inputs = append(s.Inputs, Input{Tokens: append([]int32(nil), f.Tokens...), Valid: f.Valid})
		var r verdict.Record
		r.FromFlow(f)
		s.Flows, s.Numbers = append(s.Flows, r), append(s.Numbers, int(f.Seq)+1)
	}
	in, err := flow.NewInput(opt)
	if err != nil {
		return nil, err
	}
	if err := in.Run(src); err != nil {
		return nil, err
	}
	s.Notes = append(in.Counters().Notes(&opt), src.Notes()...)
	var all []byte
	for i, sum := range sums {
		if _, err := io.Copy(sum, rest[i]); err != nil {
			return nil, err
		}
		all = sum.Sum(all)
	}
	if len(sums) > 1 {
		sum := sha256.Sum256(all)
		all = sum[:]
	}
	s.SHA256 = hex.EncodeToString(all)
	return s, s.notEmpty()
}

// Name is how messages call files that are read as one.
func Name(paths []string) string {
	name := files.Show(paths[0])
	if n := len(paths) - 1; n > 0 {
		name += fmt.Sprintf(" and %d more", n)
	}
	return name
}

// FromArrays reads an .npz of named arrays whose first axis counts samples:
// the model's inputs by their names, and optionally `label` (`label.OUTPUT` for
// an output that is not the first), the index of each sample's class or a row of
// ones and zeros (see labelRows), and `expect.OUTPUT`, what another runtime computed.
//
// A token set (nepcoc tokens) is read by its own names, whatever the model calls its inputs. It must have been made
// for reader, where that is known; its labels are of its own classes until NameLabels.
func FromArrays(path string, local passes.Local, reader *dataset.Reader) (*Set, error) {
	f, err := npz.Open(path)
	if err != nil {
		return nil, err
	}
	path = files.Show(path)
	digest := f.SHA256()
	s := &Set{Name: path, SHA256: hex.EncodeToString(digest[:]), Expect: make(map[string][][]float64), Labels: make(map[string][][]int)}
	meta, err := dataset.MetaOf(path, f)
	if err != nil {
		return nil, err
	}
	if meta != nil && local.Features == nil {
		made, err := meta.Source(path)
		if err != nil {
			return nil, err
		}
		if reader != nil {
			if err := made.Fits(path, reader); err != nil {
				return nil, err
			}
		}
		if s.classes, err = f.Strings("labels"); err != nil {
			return nil, err
		}
		local.TokenInput, local.Encoding = "tokens", "" // ids, whatever a model's input holds
		if local.MaskInput != "" {
			local.MaskInput = "mask"
		}
	}
	rows, err := samples(path, f, local.TokenInput, "the model's input", local.Length)
	if err != nil {
		return nil, err
	}
	var mask [][]float64
	if local.MaskInput != "" {
		if mask, err = samples(path, f, local.MaskInput, "the model's mask of valid positions", local.Length); err != nil {
			return nil, err
		}
		if len(mask) != len(rows) {
			return nil, fmt.Errorf("%s: %d rows of %q but %d of %q", path, len(rows), local.TokenInput, len(mask), local.MaskInput)
		}
	}
	if local.Features != nil {
		if err := s.features(rows, local); err != nil {
			return nil, err
		}
		return s, errors.Join(s.sides(f, local), s.extras(f, len(rows)), s.notEmpty())
	}
	for i, row := range rows {
		in := Input{Tokens: make([]int32, len(row)), Valid: len(row)}
		for p, x := range row {
			if in.Tokens[p], err = tokenOf(x, local); err != nil {
				return nil, fmt.Errorf("%s: %s[%d,%d]: %w", path, local.TokenInput, i, p, err)
			}
		}
		switch {
		case mask == nil && local.Masked:
			in.Valid = unpadded(in.Tokens, int32(local.PadToken))
		case mask != nil:
			if in.Valid, err = prefix(mask[i]); err != nil {
				return nil, fmt.Errorf("%s: %s[%d]: %w", path, local.MaskInput, i, err)
			}
		}
		s.Inputs = append(s.Inputs, in)
	}
	return s, errors.Join(s.sides(f, local), s.extras(f, len(rows)), s.notEmpty())
}

// ForBundle reads an .npz for a bundle, without its model: the manifest has the
// names of the arrays.
func ForBundle(path string, b *bundle.Bundle) (*Set, error) {
	m := &b.Manifest.Model
	var reader *dataset.Reader
	local := passes.Local{Length: b.Program.Length, Vocab: b.Program.Vocab, TokenInput: m.TokenInput, MaskInput: m.MaskInput, Features: m.Features, Sides: m.Sides}
	if m.PadToken != nil {
		local.Masked, local.PadToken = true, *m.PadToken
	}
	if b.Manifest.Contract.YAML != "" {
		c, err := classify.Contract(b)
		if err != nil {
			return nil, err
		}
		local.Encoding = string(c.Encoding)
		reader = &dataset.Reader{Source: dataset.Source{Contract: c, View: b.Manifest.View}, Name: "the bundle", Args: "--contract BUNDLE.nepco"}
	}
	s, err := FromArrays(path, local, reader)
	if err != nil {
		return nil, err
	}
	s.NameLabels(b.Manifest.Outputs)
	return s, nil
}

// extras reads what an archive may hold besides the inputs.
func (s *Set) extras(f *npz.File, n int) error {
	for _, name := range f.Names() {
		output, expected := strings.CutPrefix(name, "expect.")
		labelled, label := strings.CutPrefix(name, "label.")
		if name == "label" {
			labelled, label = "", true
		}
		if !label && !expected {
			continue
		}
		data, shape, err := numbers(s.Name, f, name)
		if err != nil {
			return err
		}
		if len(shape) == 0 || shape[0] != n || len(data) == 0 {
			each := ""
			if label {
				each = ", one class each"
			}
			return fmt.Errorf("%s: array %q has the shape %v: its first axis must count the %d samples%s", s.Name, name, shape, n, each)
		}
		if expected {
			s.Expect[output] = split(data, n)
			continue
		}
		if s.Labels[labelled], err = labelRows(data, n); err != nil {
			return fmt.Errorf("%s: %s%w", s.Name, name, err)
		}
	}
	return nil
}

// labelRows are the labels of n samples: the index of a class each, or -1 where there is none; or rows
// of ones and zeros, one column per label that a sample has or not, of an output of any number of labels.
func labelRows(data []float64, n int) ([][]int, error) {
	labels := make([][]int, n)
	if len(data) == n {
		for i, x := range data {
			if x != math.Trunc(x) || x < -1 || x > 1<<30 {
				return nil, fmt.Errorf("[%d] is %g: want the index of a class, or -1", i, x)
			}
			if x >= 0 {
				labels[i] = []int{int(x)}
			}
		}
		return labels, nil
	}
	for i, row := range split(data, n) {
		labels[i] = []int{}
		for k, x := range row {
			switch x {
			case 1:
				labels[i] = append(labels[i], k)
			case 0:
			default:
				return nil, fmt.Errorf("[%d,%d] is %g: want 1 where the sample has the label, 0 where not", i, k, x)
			}
		}
	}
	return labels, nil
}

// numbers reads an array as float64, whatever its type, and its shape.
func numbers(path string, f *npz.File, name string) ([]float64, []int, error) {
	t, err := f.Array(name)
	if err != nil {
		return nil, nil, err
	}
	data, err := floats(name, t)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return data, t.Shape, nil
}

func floats(name string, t *ir.Tensor) ([]float64, error) {
	switch d := t.Data.(type) {
	case []float32:
		return widened(d), nil
	case []float64:
		return d, nil
	case []int64:
		return widened(d), nil
	case []int32:
		return widened(d), nil
	case []int16:
		return widened(d), nil
	case []int8:
		return widened(d), nil
	case []uint8:
		return widened(d), nil
	case []uint16:
		return widened(d), nil
	case []bool:
		out := make([]float64, len(d))
		for i, x := range d {
			if x {
				out[i] = 1
			}
		}
		return out, nil
	}
	return nil, fmt.Errorf("array %q is of type %s: want numbers", name, t.DType)
}

func widened[T float32 | int64 | int32 | int16 | int8 | uint8 | uint16](d []T) []float64 {
	out := make([]float64, len(d))
	for i, x := range d {
		out[i] = float64(x)
	}
	return out
}

// samples reads an array as rows of length elements.
func samples(path string, f *npz.File, name, what string, length int) ([][]float64, error) {
	if !f.Has(name) {
		return nil, fmt.Errorf("%s: no array %q: it must hold %s, one row per sample (the file has: %s)", path, name, what, strings.Join(f.Names(), ", "))
	}
	data, shape, err := numbers(path, f, name)
	if err != nil {
		return nil, err
	}
	if len(data) == 0 || len(shape) == 0 || ir.NumElements(shape[1:]) != length {
		return nil, fmt.Errorf("%s: array %q has the shape %v: want [samples,%d]", path, name, shape, length)
	}
	return split(data, len(data)/length), nil
}

func split(data []float64, n int) [][]float64 {
	rows := make([][]float64, n)
	for i := range rows {
		rows[i] = data[i*len(data)/n : (i+1)*len(data)/n]
	}
	return rows
}

// tokenOf is the token id that an input element stands for.
func tokenOf(x float64, local passes.Local) (int32, error) {
	if e := traffic.Encoding(local.Encoding); e != "" && e != traffic.EncodingToken {
		b, ok := e.Byte(x)
		if !ok {
			return 0, fmt.Errorf("%g is not a byte value, as %s", x, e)
		}
		return int32(b), nil
	}
	if x != math.Trunc(x) || x < 0 || x >= float64(local.Vocab) {
		return 0, fmt.Errorf("token id %g is not in 0..%d", x, local.Vocab-1)
	}
	return int32(x), nil
}

// prefix is the number of ones of a mask, which must come first.
func prefix(mask []float64) (int, error) {
	n := 0
	for n < len(mask) && mask[n] == 1 {
		n++
	}
	for p, x := range mask[n:] {
		if x != 0 {
			return 0, fmt.Errorf("the mask is %g at position %d after zeros before it: valid positions must come first", x, n+p)
		}
	}
	if n == 0 {
		return 0, fmt.Errorf("the mask is empty: at least one position must be valid")
	}
	return n, nil
}

// unpadded is the number of tokens in front of the padding, at least 1.
func unpadded(tokens []int32, pad int32) int {
	n := len(tokens)
	for n > 1 && tokens[n-1] == pad {
		n--
	}
	return n
}

func (s *Set) notEmpty() error {
	if len(s.Inputs) == 0 {
		return fmt.Errorf("%s: holds no flow that a verdict could be made for", s.Name)
	}
	return nil
}

// IsArrays says whether a file holds arrays, rather than packets: by its name or, as
// a pipe's says nothing, by how it begins.
func IsArrays(path string) (bool, error) {
	if strings.EqualFold(filepath.Ext(path), ".npz") {
		return true, nil
	}
	head, err := files.Head(path, 8)
	return npz.Is(head), err
}

// Spread are the indices of most of n things at most, evenly spread; 0 is all.
func Spread(n, most int) []int {
	if most == 0 || most > n {
		most = n
	}
	list := make([]int, most)
	for i := range list {
		list[i] = i * n / most
	}
	return list
}

// At are the inputs of a list of indices.
func (s *Set) At(index []int) []Input {
	list := make([]Input, len(index))
	for i, k := range index {
		list[i] = s.Inputs[k]
	}
	return list
}

// Spread are n of the inputs, evenly spread, all where there are no more.
func (s *Set) Spread(n int) []Input { return s.At(Spread(len(s.Inputs), n)) }
