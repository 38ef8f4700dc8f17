package bundle

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Golden is a proof that a machine computes what the compiler computed: Tokens
// (all Length of them, the first Valid valid) must give exactly Logits, one
// slice per output of Program.Judged.
type Golden struct {
	Tokens []int32
	Valid  int
	Logits [][]int32
}

// The golden section: count, then per vector valid, tokens and outputs, each
// list preceded by its length; all u32.
func encodeGolden(gs []Golden) []byte {
	le := binary.LittleEndian
	list := func(b []byte, v []int32) []byte {
		b = le.AppendUint32(b, uint32(len(v)))
		for _, x := range v {
			b = le.AppendUint32(b, uint32(x))
		}
		return b
	}
	b := le.AppendUint32(nil, uint32(len(gs)))
	for _, g := range gs {
		b = le.AppendUint32(b, uint32(g.Valid))
		b = list(b, g.Tokens)
		b = le.AppendUint32(b, uint32(len(g.Logits)))
		for _, l := range g.Logits {
			b = list(b, l)
		}
	}
	return b
}

var errGoldenShort = errors.New("ends in the middle of a vector")

// wordReader reads u32 after u32; a length is never believed beyond the bytes
// that are there.
type wordReader struct {
	b   []byte
	err error
}

func (r *wordReader) word() uint32 {
	if len(r.b) < 4 {
		r.err = errGoldenShort
		return 0
	}
	v := binary.LittleEndian.Uint32(r.b)
	r.b = r.b[4:]
	return v
}

// count is a number of things that take at least size bytes each.
func (r *wordReader) count(size int) int {
	n := r.word()
	if uint64(n) > uint64(len(r.b)/size) {
		r.err = errGoldenShort
		return 0
	}
	return int(n)
}

func (r *wordReader) list() []int32 {
	v := make([]int32, r.count(4))
	for i := range v {
		v[i] = int32(r.word())
	}
	return v
}

func decodeGolden(b []byte) ([]Golden, error) {
	r := &wordReader{b: b}
	var gs []Golden
	for n := r.count(12); n > 0 && r.err == nil; n-- {
		g := Golden{Valid: int(r.word()), Tokens: r.list()}
		for m := r.count(4); m > 0 && r.err == nil; m-- {
			g.Logits = append(g.Logits, r.list())
		}
		gs = append(gs, g)
	}
	if r.err != nil {
		return nil, r.err
	}
	if len(r.b) != 0 {
		return nil, fmt.Errorf("%d bytes follow the last vector", len(r.b))
	}
	return gs, nil
}

// validate checks a vector against the program it is for.
func (g *Golden) validate(p *Program) error {
	if err := p.CheckInput(g.Tokens, g.Valid); err != nil {
		return err
	}
	p = p.Judged()
	if len(g.Logits) != len(p.Outputs) {
		return fmt.Errorf("%d outputs, the program has %d", len(g.Logits), len(p.Outputs))
	}
	for i, l := range g.Logits {
		if n := p.Values[p.Outputs[i].Value].Cols; len(l) != n {
			return fmt.Errorf("output %d has %d logits, expected %d", i, len(l), n)
		}
	}
	return nil
}
