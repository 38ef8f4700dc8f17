package c

import (
	"fmt"
	"strings"

	"nepcoc/runtime/arith"
	"nepcoc/runtime/bundle"
)

// emitter writes the code of one program.
type emitter struct {
	p       *bundle.Program
	l       *layout
	used    map[string]bool // helpers
	tables  strings.Builder // constant data
	written map[int]string  // tensors that are there already, by index
	lookups map[int]string  // of steps that look up a table outside the program's tensors: the element [i]
	body    strings.Builder
	kernels bool // some step has
	gated   bool // some gated layer has
	tokens  bool // some look-up has
	convs   bool // some convolution has
}

var cTypes = map[bundle.DType]string{bundle.I8: "int8_t", bundle.U8: "uint8_t", bundle.I16: "int16_t", bundle.U16: "uint16_t", bundle.I32: "int32_t"}

func (e *emitter) line(format string, args ...any) { fmt.Fprintf(&e.body, format+"\n", args...) }

func (e *emitter) use(name string) string {
	if !e.used[name] {
		e.used[name] = true
		for _, n := range helpers[name].calls {
			e.use(n)
		}
	}
	return name
}

// tensor is the name of a constant array that holds tensor i.
func (e *emitter) tensor(i int) string {
	if name, ok := e.written[i]; ok {
		return name
	}
	t := &e.p.Tensors[i]
	name := fmt.Sprintf("tensor%d", i)
	e.array(name, t.DType, t.Ints(), fmt.Sprintf("%s %v", comment(t.Name), t.Shape))
	e.written[i] = name
	return name
}

func (e *emitter) array(name string, d bundle.DType, v []int32, what string) {
	w := &e.tables
	fmt.Fprintf(w, "\n/* %s */\nALIGNED static const %s %s[%d] = {", what, cTypes[d], name, len(v))
	for i, x := range v {
		if i%24 == 0 {
			w.WriteString("\n\t")
		}
		if x == -1<<31 {
			w.WriteString("-2147483647 - 1,") // 2147483648 is no int
		} else {
			fmt.Fprintf(w, "%d,", x)
		}
	}
	w.WriteString("\n};\n")
}

// at is the element of value v at a position and channel, both C expressions.
func (e *emitter) at(ptr string, v int, t, ch string) string {
	x := &e.p.Values[v]
	switch {
	case e.l.planes[v]:
		return fmt.Sprintf("%s[%s * %d + %d + %s]", ptr, ch, e.l.stride[v], e.l.left[v], t)
	case x.Rows == 1:
		return fmt.Sprintf("%s[%s]", ptr, ch)
	case x.Cols == 1:
		return fmt.Sprintf("%s[%s]", ptr, t)
	}
	return fmt.Sprintf("%s[%s * %d + %s]", ptr, t, x.Cols, ch)
}

// value is a pointer to value v, in the context or the state.
func (e *emitter) value(v int) string {
	memory := "mem"
	if e.l.inState[v] {
		memory = "state"
	}
	return fmt.Sprintf("(%s *)(%s + %d)", cTypes[e.p.Values[v].DType], memory, e.l.at[v])
}

// step writes the function of step i. It is given the rows to compute, for steps of the region those that its first row stands for too;
// its name is in the call.
func (e *emitter) step(i int) {
	s := &e.p.Steps[i]
	if e.l.taken(s) {
		return
	}
	out := &e.p.Values[s.Out]
	var in []string
	for j, v := range s.In {
		if j == 1 && e.l.inPlace[i] {
			continue
		}
		constant := "const "
		if s.Op == bundle.OpGatedConv && j == 0 {
			constant = "" // its margins are filled
		}
		in = append(in, fmt.Sprintf("%s%s *x%d", constant, cTypes[e.p.Values[v].DType], j))
	}
	shapes := make([]string, 0, len(s.In))
	for _, v := range s.In {
		shapes = append(shapes, shape(&e.p.Values[v]))
	}
	if s.Op == bundle.OpTokenTable {
		shapes = []string{"tokens"}
	}
	e.line("\n/* %s: %s -> %s */", comment(s.Name), strings.TrimSuffix(s.Op+" "+strings.Join(shapes, ", "), " "), shape(out))
	if e.l.fused[s.Out] < 0 {
		in = append(in, fmt.Sprintf("%s *restrict out", cTypes[out.DType]))
	} else {
		in = append(in, fmt.Sprintf("%s *restrict top", cTypes[out.DType]))
	}
	switch s.Op {
	case bundle.OpTokenTable:
		in = append(in, "const int32_t *tokens")
		if _, ok := e.lookups[i]; ok {
			in = append(in, "const uint8_t *tables")
		}
	case bundle.OpSide:
		in = append(in, "const int32_t *numbers")
	case bundle.OpGatedConv:
		if s.GatedConv.Norm != nil {
			in = append(in, "int16_t *restrict y")
		}
	case bundle.OpPool:
		if s.Pool.Over == "prefix" && s.Pool.Kind != "select" && !e.l.steps[i] {
			in = append(in, "int valid")
		}
	}
	if e.based(i) {
		in = append(in, "int base")
	}
	if from, _ := e.span(s); from == "from" {
		in = append(in, "int from, int to")
	} else if e.rows(s) == "rows" {
		in = append(in, "int rows")
	}
	if e.pathed(s) {
		in = append(in, "int path")
	}
	e.line("static void step%d(%s)\n{", i, strings.Join(in, ", "))
	if e.tokenRows(s) {
		if e.l.byRows {
			e.lookupRows(s, e.table(s, i))
		}
		e.rowsOf(s, e.table(s, i))
		e.line("}")
		return
	}
	switch element, ok := e.lookups[i]; {
	case ok:
		e.lookup(s, element)
	case s.Op == bundle.OpGatedConv:
		e.gatedConv(s, i)
	case e.l.steps[i] && s.Op == bundle.OpPool:
		e.maximum(s)
	default:
		emitters[s.Op](e, s)
	}
	e.line("}")
}

// based tells whether step i is given base, the row that position 0 stands for.
func (e *emitter) based(i int) bool {
	s := &e.p.Steps[i]
	return s.GatedConv != nil && (s.GatedConv.K > 1 || e.l.fused[s.Out] >= 0) || s.Op == bundle.OpPool && e.l.steps[i]
}

// span are the bounds of a step's loop over positions, which those of the region and all gated layers are given, relative to base.
func (e *emitter) span(s *bundle.Step) (from, to string) {
	if s.Op == bundle.OpGatedConv || e.l.local[s.Out] || s.Op == bundle.OpPool && e.l.local[s.In[0]] && s.Pool.Kind == "max" {
		return "from", "to"
	}
	return "0", e.rows(s)
}

// rows is what bounds a step's loop over positions: a number where it is always the same.
func (e *emitter) rows(s *bundle.Step) string {
	switch s.Op {
	case bundle.OpFlatten, bundle.OpRegroup, bundle.OpTranspose, bundle.OpConcat, bundle.OpSlice, bundle.OpGather, bundle.OpConstant, bundle.OpPool:
		return fmt.Sprint(e.p.Values[s.Out].Rows) // no rows are saved, or none asked for
	}
	if e.p.Values[s.Out].Rows == 1 {
		return "1"
	}
	return "rows"
}

func shape(v *bundle.Value) string { return fmt.Sprintf("%s[%d,%d]", v.DType, v.Rows, v.Cols) }

// comment keeps a name from ending the comment that it stands in.
func comment(s string) string {
	s = strings.NewReplacer("*/", "* /", "/*", "/ *", "\\", "/").Replace(s)
	return strings.ToValidUTF8(s, "?")
}

var emitters = map[string]func(*emitter, *bundle.Step){
	bundle.OpTokenTable: (*emitter).tokenTable,
	bundle.OpConv:       (*emitter).conv,
	bundle.OpPool:       (*emitter).pool,
	bundle.OpWindowPool: (*emitter).windowPool,
	bundle.OpLut:        (*emitter).lut,
	bundle.OpAdd:        (*emitter).add,
	bundle.OpMul:        (*emitter).mul,
	bundle.OpLayerNorm:  (*emitter).layerNorm,
	bundle.OpConcat:     (*emitter).concat,
	bundle.OpSlice:      (*emitter).slice,
	bundle.OpFlatten:    (*emitter).reshape,
	bundle.OpRegroup:    (*emitter).reshape,
	bundle.OpTranspose:  (*emitter).transpose,
	bundle.OpGather:     (*emitter).gather,
	bundle.OpConstant:   (*emitter).constant,
	bundle.OpSoftmax:    (*emitter).softmax,
	bundle.OpSide:       (*emitter).side,
}

// each writes the loops over the elements of a step's output, in the order in which it lies.
func (e *emitter) each(s *bundle.Step, body func()) {
	out := &e.p.Values[s.Out]
	from, to := e.span(s)
	e.line("\tint t, c;")
	if e.l.planes[s.Out] {
		e.line("\tfor (c = 0; c < %d; c++) {\n\t\tfor (t = %s; t < %s; t++) {", out.Cols, from, to)
	} else {
		e.line("\tfor (t = %s; t < %s; t++) {\n\t\tfor (c = 0; c < %d; c++) {", from, to, out.Cols)
	}
	body()
	e.line("\t\t}\n\t}")
}

// store is the assignment of a 64-bit expression to an element, clamped to [lo,hi] and the type.
func (e *emitter) store(target, v string, d bundle.DType, lo, hi int32) {
	tlo, thi := d.Range()
	e.line("\t\t\t%s = (%s)%s(%s, %s, %s);", target, cTypes[d], e.use("clamp"), v, lit(max(min(lo, thi), tlo)), lit(min(max(hi, tlo), thi)))
}

func lit(v int32) string {
	if v == -1<<31 {
		return "(-2147483647 - 1)"
	}
	return fmt.Sprint(v)
}

// requant is the C expression of arith.Requant.
func (e *emitter) requant(acc, mult string, shift int) string {
	if shift == 0 {
		return fmt.Sprintf("(int64_t)(%s) * %s", acc, mult)
	}
	return fmt.Sprintf("%s((int64_t)(%s) * %s, %d)", e.use("round_shift"), acc, mult, shift)
}

func (e *emitter) tokenTable(s *bundle.Step) {
	e.lookup(s, e.tensor(s.TokenTable.Table)+"[%s]")
}

// lookup writes a look-up of tokens; element is a format of an element by its index.
func (e *emitter) lookup(s *bundle.Step, element string) {
	e.each(s, func() {
		i := fmt.Sprintf("(size_t)tokens[t] * %d + (size_t)c", e.p.Values[s.Out].Cols)
		e.line("\t\t\t%s = %s;", e.at("out", s.Out, "t", "c"), fmt.Sprintf(element, i))
	})
}

func (e *emitter) conv(s *bundle.Step) {
	k, in, out := s.Conv, &e.p.Values[s.In[0]], &e.p.Values[s.Out]
	target := e.at("out", s.Out, "t", "c")
	result := func() {
		switch r := &k.Requant; {
		case r.Mult < 0:
			e.line("\t\t\t%s = acc;", target)
		case r.Table < 0:
			e.store(target, e.requant("acc", e.tensor(r.Mult)+"[c]", r.Shift), out.DType, r.Lo, r.Hi)
		default:
			q := e.requant("acc", e.tensor(r.Mult)+"[c]", r.Shift)
			e.line("\t\t\t%s = (%s)%s[%s(%s, %d)];", target, cTypes[out.DType], e.tensor(r.Table), e.use("table_index"), q, e.p.Tensors[r.Table].Len())
		}
	}
	if e.dense(s) {
		target = e.at("out", s.Out, "0", "c")
		e.denseSums(s, result)
		return
	}
	if e.blocks(s) {
		e.convBlocks(s, result)
		return
	}
	if e.taps(s) {
		e.convTaps(s, result)
		return
	}
	w, bias := e.tensor(k.W), e.tensor(k.Bias)
	perIn, perOut := in.Cols/k.Groups, out.Cols/k.Groups
	from := fmt.Sprintf("(c / %d * %d + i)", perOut, perIn)
	if k.Groups == 1 {
		from = "i"
	}
	e.line("\tint t, c, i, j;")
	e.line("\tfor (t = 0; t < %s; t++) {\n\t\tfor (c = 0; c < %d; c++) {", e.rows(s), out.Cols)
	e.line("\t\t\tint32_t acc = %s[c];", bias)
	e.line("\t\t\tfor (j = 0; j < %d; j++) {", k.K)
	e.line("\t\t\t\tconst %s *w = %s + (c * %d + j) * %d;", cTypes[e.p.Tensors[k.W].DType], w, k.K, perIn)
	e.line("\t\t\t\tint pos = t * %d + j * %d - %d;", k.Stride, k.Dilation, k.PadLeft)
	e.line("\t\t\t\tif (pos >= 0 && pos < %d) {", in.Rows)
	e.line("\t\t\t\t\tfor (i = 0; i < %d; i++) {\n\t\t\t\t\t\tacc += (int32_t)w[i] * %s;\n\t\t\t\t\t}", perIn, e.at("x0", s.In[0], "pos", from))
	if k.Pad >= 0 {
		e.line("\t\t\t\t} else {\n\t\t\t\t\tfor (i = 0; i < %d; i++) {\n\t\t\t\t\t\tacc += (int32_t)w[i] * %s[%s];\n\t\t\t\t\t}", perIn, e.tensor(k.Pad), from)
	}
	e.line("\t\t\t\t}\n\t\t\t}")
	result()
	e.line("\t\t}\n\t}")
}

// gatedConv writes a gated layer: rows [from,to) of its output, block by block. Rows outside the input are written where they
// are looked at.
func (e *emitter) gatedConv(s *bundle.Step, i int) {
	k, in, out := s.GatedConv, &e.p.Values[s.In[0]], &e.p.Values[s.Out]
	e.line("\tint t0, t, c, n;")
	gate := e.gate(s)
	kernels := e.layer(s, gate)
	if !kernels {
		e.line("\tint8_t h[%d];\n\tuint8_t g[%d];", block, block)
		if k.Norm != nil {
			e.line("\tint32_t s1[%d], s2[%d];\n\tint16_t r[%d], m[%d];", block, block, block, block)
		}
	}
	stride, left := e.l.stride[s.In[0]], e.l.left[s.In[0]]
	if f := e.l.fused[s.Out]; f >= 0 {
		e.start(f, "top")
	}
	rows := kernels && e.l.byRows
	e.line("\t(void)path;\n\t(void)t;\n\t(void)c;")
	if rows {
		e.gatedRows(s, i)
		e.line("#if defined(HAVE_NEON)")
	}
	raise := "0"
	if e.l.raised {
		raise = "RAISE(path)"
	}
	pad := func(at, n int, where string) {
		if n > 0 {
			e.line("\tif (base + %s) {\n\t\t%s(x0 + %d - base, %d, %s, %d, %d, %s);\n\t}", where, e.use("pad"), at, stride, e.tensor(k.PadIn), in.Cols, n, raise)
		}
	}
	behind := k.K - 1 - k.PadLeft
	pad(left-k.PadLeft, k.PadLeft, fmt.Sprintf("from < %d", k.PadLeft))
	pad(left+in.Rows, behind, fmt.Sprintf("to > %d", in.Rows-behind))
	e.line("\tfor (t0 = from; t0 < to; t0 += %d) {", block)
	if kernels {
		room := "0"
		if out.DType == bundle.I8 && e.l.fused[s.Out] < 0 {
			room = fmt.Sprintf("%d - t0", e.l.stride[s.Out]-e.l.left[s.Out])
		}
		e.line("\t\tn = positions(path, to - t0, %s);", room)
		e.block(s, i)
		e.line("\t}")
		if rows {
			e.line("#endif")
		}
		return
	}
	e.line("\t\tn = to - t0 < %d ? to - t0 : %d;", block, block)
	if k.Norm != nil {
		e.line("\t\tmemset(s1, 0, sizeof s1);\n\t\tmemset(s2, 0, sizeof s2);")
	}
	e.line("\t\tfor (c = 0; c < %d; c++) {", out.Cols)
	for _, b := range []struct {
		name    string
		channel int
	}{{"h", k.ChanH}, {"g", k.ChanG}} {
		e.line("\t\t\tconst int8_t *w%s = x0 + %s[c] * %d + %d + t0;", b.name, e.tensor(b.channel), stride, left-k.PadLeft)
	}
	acc := func(w, taps, bias string) string {
		terms := []string{fmt.Sprintf("(uint16_t)%s[c]", bias)}
		for i := range k.K {
			at := "t"
			if i > 0 {
				at = fmt.Sprintf("t + %d", i)
			}
			terms = append(terms, fmt.Sprintf("(uint16_t)(%s[c * %d + %d] * %s[%s])", taps, k.K, i, w, at))
		}
		return strings.Join(terms, " + ")
	}
	// Sums are modulo 2^16: the compiler has proved that the true ones fit.
	e.line("\t\t\tfor (t = 0; t < %d; t++) {", block)
	e.line("\t\t\t\tuint16_t a = (uint16_t)(%s);", acc("wh", e.tensor(k.TapsH), e.tensor(k.BiasH)))
	e.line("\t\t\t\tuint16_t b = (uint16_t)(%s);", acc("wg", e.tensor(k.TapsG), e.tensor(k.BiasG)))
	e.line("\t\t\t\th[t] = (int8_t)(a >> 8);\n\t\t\t\tg[t] = (uint8_t)(b >> 8);\n\t\t\t}")
	e.line("\t\t\tfor (t = 0; t < %d; t++) {\n\t\t\t\tg[t] = %s[64 + g[t]];\n\t\t\t}", block, gate)
	if k.Norm == nil {
		e.line("\t\t\tfor (t = 0; t < n; t++) {")
		e.line("\t\t\t\tint16_t v = (int16_t)((h[t] * g[t] + %d) >> %d);", 1<<(k.Shift-1), k.Shift)
		e.line("\t\t\t\t%s = (int8_t)(v < -128 ? -128 : v > 127 ? 127 : v);", e.at("out", s.Out, "(t0 + t)", "c"))
		e.line("\t\t\t}\n\t\t}\n\t}")
		return
	}
	e.norm(s, i)
}

// start writes the beginning of a maximum that is taken tile by tile.
func (e *emitter) start(v int, name string) {
	x := &e.p.Values[v]
	lo, _ := x.DType.Range()
	e.line("\tif (base + from == 0) {\n\t\tfor (c = 0; c < %d; c++) {\n\t\t\t%s = %s;\n\t\t}\n\t}", x.Cols, e.at(name, v, "0", "c"), lit(lo))
}

// norm writes the rest of a gated layer with LayerNorm: residual, sums, factors, and the normalised values.
func (e *emitter) norm(s *bundle.Step, i int) {
	k, out := s.GatedConv.Norm, &e.p.Values[s.Out]
	residual := ""
	if len(s.In) == 2 {
		from := "x1"
		if e.l.inPlace[i] {
			from = "out"
		}
		residual = fmt.Sprintf(" + %s * %s[c]", e.at(from, s.In[1], "(t0 + t)", "c"), e.tensor(k.Rho))
	}
	e.line("\t\t\tfor (t = 0; t < n; t++) {")
	e.line("\t\t\t\tint16_t v = (int16_t)(h[t] * g[t]%s + %s[c]);", residual, e.tensor(k.Cst))
	e.line("\t\t\t\ty[c * %d + t] = v;\n\t\t\t\tv = (int16_t)(v >> 8);\n\t\t\t\ts1[t] += v;\n\t\t\t\ts2[t] += v * v;\n\t\t\t}\n\t\t}", block)
	e.line("\t\tfor (t = 0; t < n; t++) {\n\t\t\t%s(s1[t], s2[t], %d, %d, %d, %d, %d, &r[t], &m[t]);\n\t\t}", e.use("norm_factors"), out.Cols, k.MeanM, k.Eps, k.A, k.S)
	e.line("\t\tfor (c = 0; c < %d; c++) {\n\t\t\tconst %s flip = (%s)-%s[c];", out.Cols, cTypes[out.DType], cTypes[out.DType], e.tensor(k.Flip))
	top := e.l.fused[s.Out]
	if top >= 0 {
		e.line("\t\t\tint32_t best = %s;", e.at("top", top, "0", "c"))
	}
	e.line("\t\t\tfor (t = 0; t < n; t++) {")
	e.line("\t\t\t\tint32_t v = m[t] + ((y[c * %d + t] * r[t] + (1 << 14)) >> 15);", block)
	e.line("\t\t\t\tv = v < -32768 ? -32768 : v > 32767 ? 32767 : v;")
	if out.DType == bundle.I8 {
		e.line("\t\t\t\tv = (v + %d) >> %d;\n\t\t\t\tv = v < -128 ? -128 : v > 127 ? 127 : v;", 1<<(k.Shift-1), k.Shift)
	}
	if top >= 0 {
		e.line("\t\t\t\tv ^= flip;\n\t\t\t\tbest = v > best ? v : best;\n\t\t\t}\n\t\t\t%s = (%s)best;\n\t\t}\n\t}", e.at("top", top, "0", "c"), cTypes[out.DType])
		return
	}
	e.line("\t\t\t\t%s = (%s)(v ^ flip);\n\t\t\t}\n\t\t}\n\t}", e.at("out", s.Out, "(t0 + t)", "c"), cTypes[out.DType])
}

// maximum writes a maximum of the region: what rows [from,to) of its input add to it.
func (e *emitter) maximum(s *bundle.Step) {
	cols, x, out := e.p.Values[s.Out].Cols, e.at("x0", s.In[0], "t", "c"), e.at("out", s.Out, "0", "c")
	e.line("\tint t, c;")
	e.start(s.Out, "out")
	if e.l.planes[s.In[0]] {
		e.line("\tfor (c = 0; c < %d; c++) {\n\t\tfor (t = from; t < to; t++) {", cols)
	} else {
		e.line("\tfor (t = from; t < to; t++) {\n\t\tfor (c = 0; c < %d; c++) {", cols)
	}
	e.line("\t\t\t%s = %s > %s ? %s : %s;\n\t\t}\n\t}", out, x, out, x, out)
}

func (e *emitter) pool(s *bundle.Step) {
	k, in, out := s.Pool, &e.p.Values[s.In[0]], &e.p.Values[s.Out]
	rows := fmt.Sprint(in.Rows)
	if k.Over == "prefix" {
		rows = "valid"
	}
	x := e.at("x0", s.In[0], "t", "c")
	first, y := e.at("x0", s.In[0], "0", "c"), e.at("out", s.Out, "0", "c")
	if k.Kind == "select" {
		e.line("\tint c;\n\tfor (c = 0; c < %d; c++) {\n\t\t%s = %s;\n\t}", out.Cols, y, e.at("x0", s.In[0], fmt.Sprint(k.At), "c"))
		return
	}
	e.line("\tint t, c;")
	if k.Kind == "max" {
		if e.l.planes[s.In[0]] || in.Rows == 1 {
			e.line("\tfor (c = 0; c < %d; c++) {\n\t\t%s v = %s;", out.Cols, cTypes[in.DType], first)
			e.line("\t\tfor (t = 1; t < %s; t++) {\n\t\t\tv = %s > v ? %s : v;\n\t\t}\n\t\t%s = v;\n\t}", rows, x, x, y)
			return
		}
		e.line("\tfor (c = 0; c < %d; c++) {\n\t\t%s = %s;\n\t}", out.Cols, y, first)
		e.line("\tfor (t = 1; t < %s; t++) {\n\t\tfor (c = 0; c < %d; c++) {\n\t\t\t%s = %s > %s ? %s : %s;\n\t\t}\n\t}", rows, out.Cols, y, x, y, x, y)
		return
	}
	e.line("\tfor (c = 0; c < %d; c++) {\n\t\tint64_t sum = 0;", out.Cols)
	e.line("\t\tfor (t = 0; t < %s; t++) {\n\t\t\tsum += %s;\n\t\t}", rows, x)
	if k.Kind == "mean" {
		e.line("\t\t%s = (%s)%s(sum, %s);\n\t}", y, cTypes[out.DType], e.use("div_round"), rows)
		return
	}
	lo, hi := out.DType.Range()
	e.store(y, e.requant("sum", lit(k.Mult), k.Shift), out.DType, lo, hi)
	e.line("\t}")
}

func (e *emitter) windowPool(s *bundle.Step) {
	k, in, out := s.WindowPool, &e.p.Values[s.In[0]], &e.p.Values[s.Out]
	e.each(s, func() {
		e.line("\t\t\tint lo = t * %d - %d, hi = lo + %d, pos;", k.Stride, k.PadLeft, k.K)
		e.line("\t\t\tlo = lo < 0 ? 0 : lo;\n\t\t\thi = hi > %d ? %d : hi;", in.Rows, in.Rows)
		x := e.at("x0", s.In[0], "pos", "c")
		if k.Kind == "max" {
			e.line("\t\t\t%s v = %s;", cTypes[in.DType], e.at("x0", s.In[0], "lo", "c"))
			e.line("\t\t\tfor (pos = lo + 1; pos < hi; pos++) {\n\t\t\t\tv = %s > v ? %s : v;\n\t\t\t}", x, x)
			e.line("\t\t\t%s = (%s)v;", e.at("out", s.Out, "t", "c"), cTypes[out.DType])
			return
		}
		count := "hi - lo"
		if k.CountPad {
			count = fmt.Sprint(k.K)
		}
		e.line("\t\t\tint64_t sum = 0;\n\t\t\tfor (pos = lo; pos < hi; pos++) {\n\t\t\t\tsum += %s;\n\t\t\t}", x)
		e.line("\t\t\t%s = (%s)%s(sum, %s);", e.at("out", s.Out, "t", "c"), cTypes[out.DType], e.use("div_round"), count)
	})
}

func (e *emitter) lut(s *bundle.Step) {
	k, in, out := s.Lut, &e.p.Values[s.In[0]], &e.p.Values[s.Out]
	shape := e.p.Tensors[k.Table].Shape
	n := shape[len(shape)-1]
	row := ""
	if len(shape) == 2 {
		row = fmt.Sprintf("c * %d + ", n)
	} else if in.DType == bundle.I8 {
		// A byte has but 256 answers.
		v := make([]int32, 256)
		for i := range v {
			v[i] = e.p.Tensors[k.Table].At(arith.TableIndex(arith.Requant(int64(i-128), k.Mult, k.Shift), n))
		}
		name := fmt.Sprintf("lut%d", len(e.tables.String()))
		e.array(name, out.DType, v, comment(s.Name)+", of x + 128")
		e.each(s, func() {
			e.line("\t\t\t%s = %s[%s + 128];", e.at("out", s.Out, "t", "c"), name, e.at("x0", s.In[0], "t", "c"))
		})
		return
	}
	table := e.tensor(k.Table)
	e.each(s, func() {
		q := e.requant(e.at("x0", s.In[0], "t", "c"), lit(k.Mult), k.Shift)
		e.line("\t\t\t%s = (%s)%s[%s%s(%s, %d)];", e.at("out", s.Out, "t", "c"), cTypes[out.DType], table, row, e.use("table_index"), q, n)
	})
}

// operand is the element of an operand of Add or Mul: one row stands for all, and one column.
func (e *emitter) operand(s *bundle.Step, i int) string {
	v := &e.p.Values[s.In[i]]
	t, c := "t", "c"
	if v.Rows == 1 {
		t = "0"
	}
	if v.Cols == 1 {
		c = "0"
	}
	return e.at(fmt.Sprintf("x%d", i), s.In[i], t, c)
}

func (e *emitter) add(s *bundle.Step) {
	k, out := s.Add, &e.p.Values[s.Out]
	e.each(s, func() {
		sum := fmt.Sprintf("(int64_t)%s * %s + (int64_t)%s * %s", e.operand(s, 0), lit(k.MultA), e.operand(s, 1), lit(k.MultB))
		if k.Bias != 0 {
			sum += fmt.Sprintf(" + (int64_t)%d", k.Bias)
		}
		if k.Shift != 0 {
			sum = fmt.Sprintf("%s(%s, %d)", e.use("round_shift"), sum, k.Shift)
		}
		e.store(e.at("out", s.Out, "t", "c"), sum, out.DType, k.Lo, k.Hi)
	})
}

func (e *emitter) mul(s *bundle.Step) {
	k, out := s.Mul, &e.p.Values[s.Out]
	e.each(s, func() {
		x := fmt.Sprintf("(int64_t)%s * %s", e.operand(s, 0), e.operand(s, 1))
		e.store(e.at("out", s.Out, "t", "c"), e.requant(x, lit(k.Mult), k.Shift), out.DType, k.Lo, k.Hi)
	})
}

func (e *emitter) layerNorm(s *bundle.Step) {
	k, out := s.LayerNorm, &e.p.Values[s.Out]
	x := e.at("x0", s.In[0], "t", "c")
	lo, hi := out.DType.Range()
	e.use("layer_norm")
	e.line("\tint t, c;\n\tfor (t = 0; t < %s; t++) {", e.rows(s))
	e.line("\t\tint64_t s1 = 0, s2 = 0;\n\t\tuint64_t m;\n\t\tint shift;")
	e.line("\t\tfor (c = 0; c < %d; c++) {\n\t\t\ts1 += %s;\n\t\t\ts2 += (int64_t)%s * %s;\n\t\t}", out.Cols, x, x, x)
	if k.RMS {
		e.line("\t\ts1 = 0;")
	}
	e.line("\t\tm = layer_norm_stats(s1, s2, %d, (int64_t)%d, &shift);", out.Cols, k.Eps)
	e.line("\t\tfor (c = 0; c < %d; c++) {", out.Cols)
	y := fmt.Sprintf("layer_norm_apply(%s, s1, %d, m, shift, %s[c], %s[c], %d)", x, out.Cols, e.tensor(k.Gamma), e.tensor(k.Beta), k.Shift)
	e.store(e.at("out", s.Out, "t", "c"), y, out.DType, lo, hi)
	e.line("\t\t}\n\t}")
}

func (e *emitter) concat(s *bundle.Step) {
	k, out := s.Concat, &e.p.Values[s.Out]
	lo, hi := out.DType.Range()
	t0, c0 := 0, 0
	e.line("\tint t, c;")
	for i, v := range s.In {
		in := &e.p.Values[v]
		e.line("\tfor (t = 0; t < %d; t++) {\n\t\tfor (c = 0; c < %d; c++) {", in.Rows, in.Cols)
		x := e.at(fmt.Sprintf("x%d", i), v, "t", "c")
		target := e.at("out", s.Out, fmt.Sprintf("(t + %d)", t0), fmt.Sprintf("(c + %d)", c0))
		if k.Shift[i] != 0 {
			e.store(target, e.requant(x, lit(k.Mult[i]), k.Shift[i]), out.DType, lo, hi)
		} else {
			e.line("\t\t\t%s = (%s)%s;", target, cTypes[out.DType], x)
		}
		e.line("\t\t}\n\t}")
		if k.Axis == 0 {
			t0 += in.Rows
		} else {
			c0 += in.Cols
		}
	}
}

func (e *emitter) slice(s *bundle.Step) {
	k := s.Slice
	t, c := "t", "c"
	from := func(i string) string { return fmt.Sprintf("(%d + %s * %d)", k.Start, i, k.Step) }
	if k.Axis == 0 {
		t = from(t)
	} else {
		c = from(c)
	}
	e.each(s, func() {
		e.line("\t\t\t%s = (%s)%s;", e.at("out", s.Out, "t", "c"), cTypes[e.p.Values[s.Out].DType], e.at("x0", s.In[0], t, c))
	})
}

// reshape is the same elements in another shape, position by position.
func (e *emitter) reshape(s *bundle.Step) {
	in, out := &e.p.Values[s.In[0]], &e.p.Values[s.Out]
	if !e.l.planes[s.In[0]] && !e.l.planes[s.Out] {
		e.line("\tmemcpy(out, x0, %d);", out.Rows*out.Cols*out.DType.Size())
		return
	}
	e.each(s, func() {
		i := fmt.Sprintf("(t * %d + c)", out.Cols)
		e.line("\t\t\t%s = %s;", e.at("out", s.Out, "t", "c"), e.at("x0", s.In[0], fmt.Sprintf("(%s / %d)", i, in.Cols), fmt.Sprintf("(%s %% %d)", i, in.Cols)))
	})
}

func (e *emitter) transpose(s *bundle.Step) {
	e.each(s, func() {
		e.line("\t\t\t%s = %s;", e.at("out", s.Out, "t", "c"), e.at("x0", s.In[0], "c", "t"))
	})
}

func (e *emitter) gather(s *bundle.Step) {
	k := s.Gather
	pad := "0"
	if k.Pad >= 0 {
		pad = fmt.Sprintf("(%s)%s[c]", cTypes[e.p.Values[s.Out].DType], e.tensor(k.Pad))
	}
	index := e.tensor(k.Index)
	e.each(s, func() {
		e.line("\t\t\t%s = %s[t] < 0 ? %s : %s;", e.at("out", s.Out, "t", "c"), index, pad, e.at("x0", s.In[0], index+"[t]", "c"))
	})
}

func (e *emitter) constant(s *bundle.Step) {
	data := e.tensor(s.Constant.Data)
	e.each(s, func() {
		e.line("\t\t\t%s = (%s)%s[t * %d + c];", e.at("out", s.Out, "t", "c"), cTypes[e.p.Values[s.Out].DType], data, e.p.Values[s.Out].Cols)
	})
}

func (e *emitter) softmax(s *bundle.Step) {
	k, out := s.Softmax, &e.p.Values[s.Out]
	exp, n := e.tensor(k.Exp), e.p.Tensors[k.Exp].Len()
	x := e.at("x0", s.In[0], "t", "c")
	e.line("\tint t, c;\n\tfor (t = 0; t < %s; t++) {", e.rows(s))
	e.line("\t\tint32_t top = %s;\n\t\tint64_t sum = 0;", e.at("x0", s.In[0], "t", "0"))
	e.line("\t\tfor (c = 1; c < %d; c++) {\n\t\t\ttop = %s > top ? %s : top;\n\t\t}", out.Cols, x, x)
	p := fmt.Sprintf("%s[%s((int64_t)top - %s, %s, %d, %d)]", exp, e.use("exp_index"), x, lit(k.Mult), k.Shift, n)
	e.line("\t\tfor (c = 0; c < %d; c++) {\n\t\t\tsum += %s;\n\t\t}", out.Cols, p)
	e.line("\t\tfor (c = 0; c < %d; c++) {", out.Cols)
	e.store(e.at("out", s.Out, "t", "c"), fmt.Sprintf("%s((int64_t)%s * 32768, sum)", e.use("div_round"), p), out.DType, 0, 1<<15-1)
	e.line("\t\t}\n\t}")
}

func (e *emitter) side(s *bundle.Step) {
	k, out := s.Side, &e.p.Values[s.Out]
	lo, hi := out.DType.Range()
	zero, mult := e.tensor(k.Zero), e.tensor(k.Mult)
	e.each(s, func() {
		e.store(e.at("out", s.Out, "t", "c"), e.requant(fmt.Sprintf("(int64_t)numbers[%d + c] - %s[c]", k.At, zero), mult+"[c]", k.Shift), out.DType, lo, hi)
	})
}
