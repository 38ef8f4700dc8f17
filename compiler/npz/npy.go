package npz

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"nepcoc/ir"
)

// maxHeader bounds the text of an .npy header; NumPy's own limit is 10,000.
const maxHeader = 10000

// descrs are the element types by NumPy's name without the byte order.
var descrs = map[string]ir.DType{
	"f4": ir.F32, "f8": ir.F64, "i8": ir.I64, "i4": ir.I32, "i2": ir.I16, "i1": ir.I8, "u1": ir.U8, "u2": ir.U16, "b1": ir.Bool,
}

// decode reads one .npy file: magic, version, header (a Python dict), data.
// https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
// Text is read only where it is asked for, as the characters' numbers along a last axis.
func decode(b []byte, text bool) (*ir.Tensor, error) {
	if !bytes.HasPrefix(b, npyMagic) || len(b) < 10 {
		return nil, errors.New("no .npy header; write the file with numpy.save or numpy.savez")
	}
	var size, start int
	switch b[6] {
	case 1:
		size, start = int(binary.LittleEndian.Uint16(b[8:])), 10
	case 2, 3:
		if len(b) < 12 {
			return nil, errors.New("the .npy header is cut short")
		}
		size, start = int(binary.LittleEndian.Uint32(b[8:])), 12
	default:
		return nil, fmt.Errorf(".npy version %d is not known", b[6])
	}
	if size > maxHeader || size > len(b)-start {
		return nil, fmt.Errorf("the .npy header claims %d bytes", size)
	}
	h, err := parseHeader(string(b[start : start+size]))
	if err != nil {
		return nil, fmt.Errorf(".npy header: %w", err)
	}
	if text != (h.text > 0) {
		if text {
			return nil, errors.New("holds no text")
		}
		return nil, errors.New("holds text: want numbers")
	}
	if text {
		h.shape = append(h.shape, h.text)
	}
	data := b[start+size:]
	n, err := ir.ShapeLen(h.shape)
	if err != nil {
		return nil, err
	}
	if len(data) != n*h.dtype.Size() {
		return nil, fmt.Errorf("shape %v of %v needs %d bytes of data, has %d", h.shape, h.dtype, n*h.dtype.Size(), len(data))
	}
	if h.bigEndian && h.dtype.Size() > 1 {
		data = swapBytes(data, h.dtype.Size())
	}
	t := ir.Type{DType: h.dtype, Shape: h.shape}
	if h.fortran && len(h.shape) > 1 {
		data = rowMajor(data, h.shape, h.dtype.Size())
	}
	out, err := ir.TensorFromBytes(t, data)
	if err != nil || !h.half {
		return out, err
	}
	bits := out.Data.([]uint16)
	widened := make([]float32, len(bits))
	for i, b := range bits {
		widened[i] = ir.Float16(b)
	}
	return ir.Float32s(widened, h.shape...), nil
}

func swapBytes(b []byte, size int) []byte {
	out := slices.Clone(b)
	for i := 0; i < len(out); i += size {
		slices.Reverse(out[i : i+size])
	}
	return out
}

// rowMajor reorders elements stored with the first index running fastest.
func rowMajor(b []byte, shape []int, size int) []byte {
	out := make([]byte, len(b))
	index := make([]int, len(shape))
	for to := 0; to < len(out); to += size {
		from, stride := 0, 1
		for i, d := range shape {
			from += index[i] * stride
			stride *= d
		}
		copy(out[to:to+size], b[from*size:])
		for i := len(shape) - 1; i >= 0; i-- {
			if index[i]++; index[i] < shape[i] {
				break
			}
			index[i] = 0
		}
	}
	return out
}

type header struct {
	dtype              ir.DType
	bigEndian, fortran bool
	half               bool // float16, in dtype's 16 bits
	shape              []int
	text               int // characters of an element that is text; 0: it is a number
}

// maxText bounds the width of text.
const maxText = 1 << 20

// parseHeader reads {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }.
func parseHeader(s string) (header, error) {
	h := header{shape: []int{}}
	p := &scanner{s: s}
	seen := make(map[string]bool)
	if !p.eat("{") {
		return h, errors.New("is no dictionary")
	}
	for !p.eat("}") {
		key, ok := p.quoted()
		if !ok || !p.eat(":") || seen[key] {
			return h, fmt.Errorf("can't be read at %.20q", p.s)
		}
		seen[key] = true
		var err error
		switch key {
		case "descr":
			err = p.descr(&h)
		case "fortran_order":
			switch {
			case p.eat("True"):
				h.fortran = true
			case p.eat("False"):
			default:
				err = errors.New("fortran_order is neither True nor False")
			}
		case "shape":
			err = p.shape(&h)
		default:
			err = fmt.Errorf("unknown key %.40q", key)
		}
		if err != nil {
			return h, err
		}
		if !p.eat(",") && !strings.HasPrefix(strings.TrimSpace(p.s), "}") {
			return h, fmt.Errorf("can't be read at %.20q", p.s)
		}
	}
	if strings.TrimSpace(p.s) != "" || len(seen) != 3 {
		return h, errors.New("wants exactly descr, fortran_order and shape")
	}
	return h, nil
}

type scanner struct{ s string }

func (p *scanner) eat(token string) bool {
	rest, ok := strings.CutPrefix(strings.TrimLeft(p.s, " \t\n"), token)
	if ok {
		p.s = rest
	}
	return ok
}

func (p *scanner) quoted() (string, bool) {
	for _, q := range []string{"'", `"`} {
		if p.eat(q) {
			text, rest, ok := strings.Cut(p.s, q)
			p.s = rest
			return text, ok
		}
	}
	return "", false
}

func (p *scanner) descr(h *header) error {
	text, ok := p.quoted()
	if !ok || len(text) < 2 {
		return errors.New("the array holds records; save one plain array per name")
	}
	if width, err := strconv.Atoi(strings.TrimPrefix(text[1:], "U")); text[1] == 'U' && err == nil && width > 0 && width <= maxText {
		// NumPy's text has a fixed width, four bytes a character: read as numbers, one more axis.
		h.text, text = width, text[:1]+"i4"
	}
	if h.half = text[1:] == "f2"; h.half {
		text = text[:1] + "u2"
	}
	h.dtype, ok = descrs[text[1:]]
	if !ok || !strings.ContainsRune("<>|=", rune(text[0])) {
		return fmt.Errorf("element type %.20q is not read; use float16, float32, float64, int8 to int64, uint8, uint16 or bool (astype)", text)
	}
	h.bigEndian = text[0] == '>'
	return nil
}

func (p *scanner) shape(h *header) error {
	if !p.eat("(") {
		return errors.New("shape is no tuple")
	}
	for !p.eat(")") {
		p.s = strings.TrimLeft(p.s, " ")
		end := strings.IndexFunc(p.s, func(r rune) bool { return r < '0' || r > '9' })
		if end <= 0 {
			return fmt.Errorf("shape can't be read at %.20q", p.s)
		}
		d, err := strconv.Atoi(p.s[:end])
		if err != nil || len(h.shape) == ir.MaxRank {
			return errors.New("shape is too large")
		}
		h.shape = append(h.shape, d)
		p.s = p.s[end:]
		if !p.eat(",") && !strings.HasPrefix(p.s, ")") {
			return fmt.Errorf("shape can't be read at %.20q", p.s)
		}
	}
	return nil
}
