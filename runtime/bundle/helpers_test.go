package bundle

import (
	"encoding/binary"
	"hash/crc32"
	"strings"
	"testing"
)

// small is a hand-made bundle with most kinds of step: two gated layers, one
// with LayerNorm, pooling, and a head with a table.
func small() *Bundle {
	const length, vocab, ch = 6, 11, 4
	p := &Program{Length: length, Vocab: vocab, Left: 2, Right: 2}
	tensor := func(d DType, f func(i int) int32, shape ...int) int {
		t := Tensor{DType: d, Shape: shape}
		v := make([]int32, t.Len())
		for i := range v {
			v[i] = f(i)
		}
		p.Tensors = append(p.Tensors, NewTensor("t"+string(rune('a'+len(p.Tensors))), d, shape, v))
		return len(p.Tensors) - 1
	}
	value := func(name string, d DType, rows, cols int) int {
		p.Values = append(p.Values, Value{Name: name, DType: d, Rows: rows, Cols: cols})
		return len(p.Values) - 1
	}
	same := func(x int32) func(int) int32 { return func(int) int32 { return x } }
	gated := func() *GatedConv {
		return &GatedConv{
			K: 3, PadLeft: 1,
			ChanH: tensor(U16, func(i int) int32 { return int32(i / 2) }, ch),
			ChanG: tensor(U16, func(i int) int32 { return int32(2 + i/2) }, ch),
			TapsH: tensor(U8, same(85), ch, 3), TapsG: tensor(U8, same(85), ch, 3),
			BiasH: tensor(I32, same(128), ch), BiasG: tensor(I32, same(32768+128), ch),
			PadIn: tensor(I8, same(-1), ch),
			Base:  tensor(U8, func(i int) int32 { return int32(8 * i) }, 32), Slope: tensor(U8, same(0), 32),
		}
	}
	x := value("x", I8, length, ch)
	a := value("a", I8, length, ch)
	b := value("b", I8, length, ch)
	pooled := value("pooled", I8, 1, ch)
	hidden := value("hidden", I8, 1, 3)
	logits := value("logits", I32, 1, 2)
	table := tensor(I8, func(i int) int32 { return int32(i*37%256) - 128 }, vocab, ch)
	plain, normed := gated(), gated()
	plain.Shift = 7
	normed.Norm = &Norm{
		Rho: tensor(I8, same(64), ch), Cst: tensor(I16, same(-8), ch), Flip: tensor(U8, func(i int) int32 { return int32(i % 2) }, ch),
		MeanM: 1 << 21, Eps: 3, A: 40000, S: 14, Shift: 4,
	}
	p.Steps = []Step{
		{Op: OpTokenTable, Name: "embed", Out: x, TokenTable: &TokenTable{Table: table}},
		{Op: OpGatedConv, Name: "layer1", In: []int{x}, Out: a, GatedConv: plain},
		{Op: OpGatedConv, Name: "layer2", In: []int{a, x}, Out: b, GatedConv: normed},
		{Op: OpPool, Name: "pool", In: []int{b}, Out: pooled, Pool: &Pool{Kind: "max", Over: "prefix"}},
		{Op: OpConv, Name: "hidden", In: []int{pooled}, Out: hidden, Conv: &Conv{
			K: 1, Stride: 1, Dilation: 1, Groups: 1, W: tensor(I8, func(i int) int32 { return int32(i*5 - 20) }, 3, 1, ch),
			Bias: tensor(I32, same(100), 3), Pad: -1,
			Requant: Requant{Mult: tensor(I32, same(1<<14), 3), Shift: 20, Table: tensor(I16, func(i int) int32 { return int32(i*16 - 127) }, 16)},
		}},
		{Op: OpConv, Name: "head", In: []int{hidden}, Out: logits, Conv: &Conv{
			K: 1, Stride: 1, Dilation: 1, Groups: 1, W: tensor(I8, func(i int) int32 { return int32(7 - 3*i) }, 2, 1, 3),
			Bias: tensor(I32, same(-5), 2), Pad: -1, Requant: Requant{Mult: -1, Table: -1},
		}},
	}
	p.Outputs = []Output{{Name: "logits", Value: logits, Ending: EndLogits, Scale: 1.0 / 64,
		ExpMult: 1 << 8, ExpShift: 8, Exp: tensor(I32, func(i int) int32 { return 1 << 24 >> i }, 16)}}
	p.Plan = Plan{Tile: 4}
	threshold := 0.5
	return &Bundle{
		Manifest: Manifest{
			Format: FormatVersion, Tool: "nepcoc 0.0.0-test",
			Model:       Model{File: "small.onnx", SHA256: strings.Repeat("ab", 32), Producer: "by hand", Opset: 17},
			Target:      Target{Name: "bf3"},
			Contract:    Contract{YAML: "name: test\nlength: 6\n", Hash: "00"},
			Outputs:     []OutputInfo{{Name: "logits", Labels: []string{"web <&>", "dns"}, UnknownThreshold: &threshold}},
			Calibration: Calibration{Method: "minmax", Samples: 3, SourceSHA256: strings.Repeat("cd", 32)},
			Measured:    Measured{Samples: 3, Agreement: 1, Cosine: 0.9999, MaxError: 0.125},
			Sizes:       Sizes{Weights: 200, MACs: 300},
			Notes:       []StepNote{{Step: "head", Note: "kept wide"}},
		},
		Program: p,
		Golden: []Golden{
			{Tokens: []int32{2, 5, 6, 7, 1, 0}, Valid: 5, Logits: [][]int32{{10, -3}}},
			{Tokens: []int32{2, 5, 6, 7, 8, 9}, Valid: 6, Logits: [][]int32{{-1 << 31, 1<<31 - 1}}},
		},
	}
}

func mustEncode(t testing.TB, b *Bundle, o Options) []byte {
	t.Helper()
	data, err := Encode(b, o)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// reseal makes checksums and digest right again after a change, as an attacker
// would; ok is false where the table makes no sense.
func reseal(data []byte) (ok bool) {
	if len(data) < headerSize {
		return false
	}
	le := binary.LittleEndian
	n := int(le.Uint32(data[12:]))
	if n > maxSections || headerSize+n*entrySize > len(data) {
		return false
	}
	var sections []section
	for i := range n {
		e := data[headerSize+i*entrySize:]
		kind, offset, stored := sectionKind(le.Uint32(e)), le.Uint64(e[8:]), le.Uint64(e[16:])
		if offset < headerSize || offset > uint64(len(data)) || stored > uint64(len(data))-offset {
			continue
		}
		s := section{kind: kind, offset: offset, stored: data[offset : offset+stored]}
		if kind == signatureSection {
			if stored != signatureSize && stored != signatureSize+statementSize {
				return false // parse refuses it before it looks at the digest
			}
			sections = append(sections, s)
		} else {
			le.PutUint32(e[32:], crc32.Checksum(s.stored, castagnoli))
		}
	}
	if len(sections) > 1 {
		return false
	}
	d := digestOf(data, sections)
	copy(data[digestAt:], d[:])
	return true
}

// assemble builds a file from raw sections, without any check.
func assemble(manifest, program, weights, golden []byte) []byte {
	sections := []section{
		{kind: manifestSection, raw: uint64(len(manifest)), stored: manifest},
		{kind: programSection, raw: uint64(len(program)), stored: program},
		{kind: weightsSection, raw: uint64(len(weights)), stored: weights},
		{kind: goldenSection, raw: uint64(len(golden)), stored: golden},
	}
	return build(FormatVersion, sections)
}

// rawParts are the sections of a bundle before compression.
func rawParts(t testing.TB, b *Bundle) (manifest, program, weights, golden []byte) {
	t.Helper()
	m, err := encodeJSON(&b.Manifest)
	if err != nil {
		t.Fatal(err)
	}
	p, err := encodeJSON(b.Program)
	if err != nil {
		t.Fatal(err)
	}
	return m, p, joinTensors(b.Program.Tensors), encodeGolden(b.Golden)
}

func wantError(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case err == nil:
		t.Errorf("no error, want %q", want)
	case !strings.Contains(err.Error(), want):
		t.Errorf("error %q, want %q", err, want)
	case strings.Contains(err.Error(), "\n"):
		t.Errorf("error has more than one line: %q", err)
	}
}
