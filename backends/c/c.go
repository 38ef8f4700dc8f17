// Package c writes a program as C99: one header, one source file, tables, a self-test and what builds them. The code needs no
// memory but the caller's, no floating point and no library but memcpy and memset; what it computes is to the bit what package
// refexec does, on every machine whose compiler shifts negative numbers arithmetically.
//
// Each step is one function whose shapes are literals; the arithmetic is that of runtime/arith under the same names. A value lies
// position by position, or channel by channel where a gated layer reads or writes it (see layout).
package c

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
	"unicode"

	"nepcoc/backends"
	"nepcoc/runtime/arith"
	"nepcoc/runtime/bundle"
)

// Options say how the code is written, never what it computes.
type Options struct {
	// Name is part of every symbol: nepco_NAME_run. Empty: the bundle's name.
	Name string
	// MaxTable are the bytes above which a token table is written to a file of its own, to be mapped; 0: the constant of that name.
	MaxTable int
	// Tile is the number of positions that a program which can runs at a time; 0: such that a context has at most 64 KiB.
	Tile int
	// Flows are held to by the self-test from their packets on, where the bundle has a contract.
	Flows []backends.FlowVector
}

// MaxTable is the default of Options.MaxTable: numbers in a source file take four times their bytes, and the compiler more.
const MaxTable = 256 << 10

// Artifact is the code.
var Artifact = backends.Artifact{
	Name: "c", Doc: "a C99 library for data paths in C: no memory of its own, no floating point", Folder: true, Build: build,
}

func build(b *bundle.Bundle, o backends.ArtifactOptions) ([]backends.File, error) {
	if o.Key != nil {
		return nil, errors.New("source code can't be signed: sign the bundle, and emit c of it; the code then names the bundle's digest")
	}
	if b.Digest == (bundle.Digest{}) { // it was not read from a file; the code names that which it would be in
		data, err := bundle.Encode(b, bundle.Options{})
		if err != nil {
			return nil, err
		}
		if b, err = bundle.Decode(data); err != nil {
			return nil, err
		}
	}
	most := 0
	if o.TablesInSource {
		most = math.MaxInt
	}
	return Emit(b, Options{Name: o.Symbol, MaxTable: most, Flows: o.Flows})
}

// Emit writes a validated bundle as C. The same bundle and options give the same bytes on every machine.
func Emit(b *bundle.Bundle, o Options) ([]backends.File, error) {
	if o.Name == "" {
		o.Name = b.Name()
	}
	if o.MaxTable == 0 {
		o.MaxTable = MaxTable
	}
	u := &unit{b: b, p: widened(b.Program.Judged()), name: identifier(o.Name), flows: o.Flows}
	if u.name == "" {
		return nil, fmt.Errorf("name %q has no letter or digit that a C symbol can have: choose another", o.Name)
	}
	for i := range u.p.Steps {
		if s := &u.p.Steps[i]; s.Op != bundle.OpGatedConv && emitters[s.Op] == nil {
			return nil, fmt.Errorf("step %d, %s: there is no C code for %s", i, s.Name, s.Op)
		}
	}
	u.emitter = &emitter{p: u.p, l: newLayout(u.p, o.Tile), used: make(map[string]bool), written: make(map[int]string), lookups: make(map[int]string)}
	u.mapTables(o.MaxTable)
	for _, i := range u.l.order {
		u.step(i)
	}
	declared, words := u.words()
	numbered, choose := u.byIndex()
	declared, words = declared+numbered, words+choose
	if u.b.Manifest.Contract.YAML == "" {
		u.flows = nil
	}
	flowDeclared, flowSource, err := u.flow()
	if err != nil {
		return nil, err
	}
	files := []backends.File{
		{Name: u.prefix() + ".h", Data: []byte(u.header(declared + flowDeclared))},
		{Name: u.prefix() + ".c", Data: []byte(u.source(words + flowSource))},
		{Name: "selftest.c", Data: []byte(u.selftest())},
		{Name: "Makefile", Data: []byte(u.makefile())},
		{Name: "meson.build", Data: []byte(u.meson())},
		{Name: u.prefix() + ".pc", Data: []byte(u.pkgConfig())},
		{Name: "README.md", Data: []byte(u.readme())},
	}
	if len(u.file) > 0 {
		files = append(files, backends.File{Name: u.prefix() + ".bin", Data: u.file})
	}
	return files, nil
}

// unit is one emitted library.
type unit struct {
	*emitter
	b    *bundle.Bundle
	p    *bundle.Program
	name string
	file []byte // tables to be mapped
	// flows are the self-test's: Options.Flows, none where the bundle has no contract.
	flows []backends.FlowVector
}

func (u *unit) prefix() string { return "nepco_" + u.name }
func (u *unit) macro() string  { return strings.ToUpper(u.prefix()) }

// identifier is s as part of a C symbol.
func identifier(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < unicode.MaxASCII && (unicode.IsLetter(r) || unicode.IsDigit(r)) {
			return unicode.ToLower(r)
		}
		return '_'
	}, s)
	return strings.Trim(s, "_")
}

// widened is p with the token tables that are stored narrow as they are looked up.
func widened(p *bundle.Program) *bundle.Program {
	return p.Widened(func(s *bundle.Step, narrow *bundle.Tensor) []byte { return widen(p, s, narrow) })
}

// widen is the rows that convolution s of window 1 makes of a table's.
func widen(p *bundle.Program, s *bundle.Step, table *bundle.Tensor) []byte {
	k, from, to := s.Conv, p.Values[s.In[0]].Cols, p.Values[s.Out].Cols
	w, bias := p.Tensors[k.W].Ints(), p.Tensors[k.Bias].Ints()
	var mult, lut []int32
	if k.Requant.Mult >= 0 {
		mult = p.Tensors[k.Requant.Mult].Ints()
	}
	if k.Requant.Table >= 0 {
		lut = p.Tensors[k.Requant.Table].Ints()
	}
	perIn, perOut := from/k.Groups, to/k.Groups
	dst, row := make([]byte, p.Vocab*to), make([]int32, from)
	for t := range p.Vocab {
		for i := range row {
			row[i] = int32(int8(table.Data[t*from+i]))
		}
		for c := range to {
			acc, x := bias[c], row[c/perOut*perIn:][:perIn]
			for i, v := range w[c*perIn:][:perIn] {
				acc += v * x[i]
			}
			v := acc
			if mult != nil {
				q := arith.Requant(int64(acc), mult[c], k.Requant.Shift)
				if v = arith.Clamp(q, k.Requant.Lo, k.Requant.Hi); lut != nil {
					v = lut[arith.TableIndex(q, len(lut))]
				}
			}
			dst[t*to+c] = byte(v)
		}
	}
	return dst
}

// mapTables puts the token tables of more than most bytes into the file of tables.
func (u *unit) mapTables(most int) {
	for i := range u.p.Steps {
		s := &u.p.Steps[i]
		if s.TokenTable == nil || !u.l.live[i] {
			continue
		}
		t := &u.p.Tensors[s.TokenTable.Table]
		if len(t.Data) <= most {
			continue
		}
		for len(u.file)%align != 0 {
			u.file = append(u.file, 0)
		}
		if t.DType == bundle.I8 {
			u.lookups[i] = fmt.Sprintf("(int8_t)tables[%d + %%s]", len(u.file))
		} else {
			u.lookups[i] = fmt.Sprintf("%s(tables + %d, %%s)", u.use("le16"), len(u.file))
		}
		u.file = append(u.file, t.Data...)
	}
}

// sum is FNV-1a of 64 bits over words of 8 bytes, little endian, the rest byte by byte: enough to refuse a wrong file.
func sum(b []byte) uint64 {
	h := uint64(14695981039346656037)
	for ; len(b) >= 8; b = b[8:] {
		h = (h ^ binary.LittleEndian.Uint64(b)) * 1099511628211
	}
	for _, x := range b {
		h = (h ^ uint64(x)) * 1099511628211
	}
	return h
}
