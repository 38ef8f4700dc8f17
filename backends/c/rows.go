package c

import (
	_ "embed"
	"fmt"

	"nepcoc/runtime/bundle"
)

// On x86, and in C alone, a program of the published kind computes with rows: its region's values lie position by position, and the planes'
// memory, margins included, holds rows instead. Registers then hold channels of one position, whose constants need no broadcast, and no position
// is computed that nobody wants. What a stream keeps lies as ever, so that any context can go on with it.

var (
	//go:embed kernels/rows.c
	kernelRows string
	//go:embed kernels/avx2rows.c
	kernelAVX2Rows string
	//go:embed kernels/crows.c
	kernelCRows string
)

// rowsGroup is the number of channels whose constants lie together, those of a register of AVX-512.
const rowsGroup = 64

// rowsTaps are those that the kernels take; a filter with fewer has zeros.
const rowsTaps = 4

// fitsRows tells whether all that the program computes with planes can be computed with rows: gated layers of at most four taps, of whole
// groups of channels with the channel map c/2, and maxima that are taken while they run.
func fitsRows(p *bundle.Program, r *region) bool {
	found := false
	for i := range p.Steps {
		s := &p.Steps[i]
		if !r.live[i] {
			continue
		}
		for _, v := range s.In {
			if r.local[v] && !r.steps[i] {
				return false
			}
		}
		switch {
		case s.Op == bundle.OpTokenTable:
			if !r.steps[i] || p.Values[s.Out].DType != bundle.I8 || p.Values[s.Out].Cols%16 != 0 {
				return false
			}
		case s.Op == bundle.OpGatedConv:
			if !r.steps[i] || !gatedRows(p, s) || (p.Values[s.Out].DType == bundle.I16) != (r.fused[s.Out] >= 0) {
				return false
			}
			found = true
		case r.steps[i] && r.fused[s.In[0]] < 0:
			return false
		}
	}
	for _, o := range p.Outputs {
		if r.local[o.Value] {
			return false
		}
	}
	return found
}

func gatedRows(p *bundle.Program, s *bundle.Step) bool {
	k, channels := s.GatedConv, p.Values[s.Out].Cols
	if k.K > rowsTaps || channels%rowsGroup != 0 {
		return false
	}
	chanH, chanG := p.Tensors[k.ChanH].Ints(), p.Tensors[k.ChanG].Ints()
	for c := range channels {
		if int(chanH[c]) != int(chanH[0])+c/2 || int(chanG[c]) != int(chanG[0])+c/2 {
			return false
		}
	}
	for _, t := range []int{k.TapsH, k.TapsG} {
		taps := p.Tensors[t].Ints()
		for c := range channels {
			for i := 0; i+1 < k.K; i += 2 { // pairs must not saturate
				if taps[c*k.K+i]+taps[c*k.K+i+1] > 256 {
					return false
				}
			}
		}
	}
	return true
}

// gatedRows writes a gated layer with rows.
func (e *emitter) gatedRows(s *bundle.Step, i int) {
	k, in, out := s.GatedConv, &e.p.Values[s.In[0]], &e.p.Values[s.Out]
	x86, alone := e.rowConstants(s), e.rowWords(s)
	left := e.l.left[s.In[0]]
	e.line("\tif (ROWS_OF(path)) {")
	for _, pad := range []struct {
		n     int
		where string // are the rows of padding
		from  int
	}{{k.PadLeft, fmt.Sprintf("from < %d", k.PadLeft), left - k.PadLeft}, {k.K - 1 - k.PadLeft, fmt.Sprintf("to > %d", in.Rows-(k.K-1-k.PadLeft)), left + in.Rows}} {
		if pad.n > 0 {
			e.line("\t\tif (base + %s) {\n\t\t\tfor (t = 0; t < %d; t++) {\n\t\t\t\tmemcpy(x0 + (%d - base + t) * %d, %s, %d);\n\t\t\t}\n\t\t}", pad.where, pad.n, pad.from, in.Cols, e.tensor(k.PadIn), in.Cols)
		}
	}
	res, target, y := "NULL", "top", "NULL"
	if len(s.In) == 2 {
		from := "x1"
		if e.l.inPlace[i] {
			from = "out"
		}
		res = fmt.Sprintf("%s + (%d + t0) * %d", from, e.l.left[s.In[1]], out.Cols)
	}
	if e.l.fused[s.Out] < 0 {
		target = fmt.Sprintf("out + (%d + t0) * %d", e.l.left[s.Out], out.Cols)
	}
	if k.Norm != nil {
		y = "y"
	}
	e.line("\t\tfor (t0 = from; t0 < to; t0 += %d) {\n\t\t\tn = to - t0 < %d ? to - t0 : %d;", block, block, block)
	e.line("\t\t\tlayer_by_rows(path, &layer, X86(%s), %s, x0 + (%d + t0) * %d, %d, %d, %d, %s, %s, n, %s);\n\t\t}\n\t\treturn;\n\t}", x86, alone, left-k.PadLeft, in.Cols,
		e.p.Tensors[k.ChanH].Ints()[0], e.p.Tensors[k.ChanG].Ints()[0], in.Cols, res, target, y)
}

// rowConstants writes a layer's constants for x86, 18 vectors of 32 words for each 64 channels, those of even channels (E) before those of odd ones (O):
//
//	0   taps 01, 23 of h, E, then O; the same of g
//	8   biases of h, E and O, of g
//	12  rho, the constant, flip (0 or -1), each E and O
func (e *emitter) rowConstants(s *bundle.Step) string {
	const vectors, words = 18, rowsGroup / 2
	k, channels := s.GatedConv, e.p.Values[s.Out].Cols
	v := make([]int16, channels/rowsGroup*vectors*words)
	ints := func(i int) []int32 { return e.p.Tensors[i].Ints() }
	put := func(c, vector int, x int32) {
		v[(c/rowsGroup*vectors+vector)*words+c%rowsGroup/2] = int16(x)
	}
	for f, q := range []struct{ taps, bias int }{{k.TapsH, k.BiasH}, {k.TapsG, k.BiasG}} {
		taps, bias := ints(q.taps), ints(q.bias)
		for c := range channels {
			var all [rowsTaps]int32
			copy(all[:], taps[c*k.K:][:k.K])
			for i := range 2 {
				put(c, 4*f+2*(c%2)+i, all[2*i]|all[2*i+1]<<8)
			}
			put(c, 8+2*f+c%2, bias[c])
		}
	}
	if n := k.Norm; n != nil {
		for c := range channels {
			if len(s.In) == 2 {
				put(c, 12+c%2, ints(n.Rho)[c])
			}
			put(c, 14+c%2, ints(n.Cst)[c])
			put(c, 16+c%2, -ints(n.Flip)[c])
		}
	}
	name := fmt.Sprintf("rows%d", len(e.tables.String()))
	e.tables.WriteString("\n#if defined(HAVE_X86)")
	e.channelTable(s, "kernels on rows", name, v, words)
	e.tables.WriteString("#endif\n")
	return name
}

// channelTable writes constants of a layer's channels, so many to a line, and what they are for.
func (e *emitter) channelTable(s *bundle.Step, use, name string, v []int16, words int) {
	w := &e.tables
	fmt.Fprintf(w, "\n/* %s: constants of its channels, for %s */\nALIGNED static const int16_t %s[%d] = {", comment(s.Name), use, name, len(v))
	for i, x := range v {
		if i%words == 0 {
			w.WriteString("\n\t")
		}
		fmt.Fprintf(w, "%d,", x)
	}
	w.WriteString("\n};\n")
}

// rowWords writes a layer's constants for the kernels in C alone, 13 vectors of 64 words for each 64 channels: four taps of h and its bias, the same
// of g, rho, the constant, and flip (0 or -1).
func (e *emitter) rowWords(s *bundle.Step) string {
	const vectors = 13
	k, channels := s.GatedConv, e.p.Values[s.Out].Cols
	v := make([]int16, channels*vectors)
	ints := func(i int) []int32 { return e.p.Tensors[i].Ints() }
	put := func(c, vector int, x int32) { v[(c/rowsGroup*vectors+vector)*rowsGroup+c%rowsGroup] = int16(x) }
	for f, q := range []struct{ taps, bias int }{{k.TapsH, k.BiasH}, {k.TapsG, k.BiasG}} {
		taps, bias := ints(q.taps), ints(q.bias)
		for c := range channels {
			for i, tap := range taps[c*k.K:][:k.K] {
				put(c, 5*f+i, tap)
			}
			put(c, 5*f+4, bias[c])
		}
	}
	if n := k.Norm; n != nil {
		for c := range channels {
			if len(s.In) == 2 {
				put(c, 10, ints(n.Rho)[c])
			}
			put(c, 11, ints(n.Cst)[c])
			put(c, 12, -ints(n.Flip)[c])
		}
	}
	name := fmt.Sprintf("words%d", len(e.tables.String()))
	e.channelTable(s, "rows in C alone", name, v, rowsGroup)
	return name
}

// lookupRows writes the look-up of tokens in the table of 8 bits that the expression names.
func (e *emitter) lookupRows(s *bundle.Step, table string) {
	cols := e.p.Values[s.Out].Cols
	e.line("\tif (ROWS_OF(path)) {\n\t\ttokens_by_rows(path, %s, %d, tokens + from, to - from, out + (%d + from) * %d);\n\t\treturn;\n\t}", table, cols, e.l.left[s.Out], cols)
}

// carryRows writes, before what carries n columns of value v, at position at, from or to the state, the same with rows.
func (u *unit) carryRows(f write, v, n int, at string, save bool) {
	if !u.l.byRows {
		return
	}
	name := "restore_by_rows"
	if save {
		name = "save_by_rows"
	}
	cols := u.p.Values[v].Cols
	f("\t\tif (ROWS_OF(x->path)) {\n\t\t\t%s(x->path, %s + (%d + %s - base) * %d, (int8_t *)(state + %d), %d, %d);\n\t\t} else", name, u.value(v), u.l.left[v]-n, at, cols, u.l.past[v], n, cols)
}
