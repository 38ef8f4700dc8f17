package c

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"

	"nepcoc/runtime/arith"
	"nepcoc/runtime/bundle"
)

// The kernels are C with intrinsics, for the instruction sets that runtime/cpu names. Each computes a block of positions of a
// gated layer; which positions, and where values lie, is the layout's to say. They are compiled whatever the machine of the
// compiler is told to be, by attributes of functions, and chosen when a context is made. Those in C alone stand beside them.
var (
	//go:embed kernels/layer.c
	kernelLayer string
	//go:embed kernels/machine.c
	kernelMachine string
	//go:embed kernels/detect.c
	kernelDetect string
	//go:embed kernels/choose.c
	kernelChoose string
	//go:embed kernels/block.c
	kernelBlock string
	//go:embed kernels/tokens.c
	kernelTokens string
	//go:embed kernels/portable.c
	kernelPortable string
	//go:embed kernels/conv.c
	kernelConv string
	//go:embed kernels/avx2.c
	kernelAVX2 string
	//go:embed kernels/avx512.c
	kernelAVX512 string
	//go:embed kernels/neon.c
	kernelNEON string
)

// packed are a gated layer's constants for the kernels.
type packed struct {
	w     []uint32
	words int // of a channel
	rho   int // of the layer's struct
	// neighbours, two by two, read the same inputs
	paired bool
	// some channel of LayerNorm is flipped
	flipped bool
}

// pack packs a layer as kernels broadcast its constants, 14 words a channel, 20 where there are more than four taps:
//
//	0   taps 01 and 23 of h, of g, each pair twice
//	4   biases of h and g, the constant, rho, all as 16 bits, twice
//	8   flip, 0 or -1
//	9   input channels of h and g, 16 bits each
//	10  biases of h and g for inputs x + 128, as 16 bits, twice
//	12  the first four taps of h, of g
//	14  taps 45 and 67 of h, of g, each pair twice
//
// Not taken are more than eight taps, and neighbours whose sum of products would saturate 16 bits.
func (e *emitter) pack(s *bundle.Step) (packed, bool) {
	k, channels := s.GatedConv, e.p.Values[s.Out].Cols
	ints := func(i int) []int32 { return e.p.Tensors[i].Ints() }
	if !packs(e.p, k) {
		return packed{}, false
	}
	q, pairs := packed{words: 14}, 2
	if k.K > 4 {
		q.words, pairs = 20, 4
	}
	q.w = make([]uint32, channels*q.words)
	twice := func(v int32) uint32 { return uint32(uint16(v)) * 0x10001 }
	chanH, chanG, tapsH, tapsG, biasH, biasG := ints(k.ChanH), ints(k.ChanG), ints(k.TapsH), ints(k.TapsG), ints(k.BiasH), ints(k.BiasG)
	q.paired = channels%2 == 0
	for c := range channels {
		q.paired = q.paired && chanH[c] == chanH[c&^1] && chanG[c] == chanG[c&^1]
		w := q.w[c*q.words:][:q.words]
		for f, taps := range [][]int32{tapsH[c*k.K:][:k.K], tapsG[c*k.K:][:k.K]} {
			var all [8]int32
			copy(all[:], taps)
			for i := range pairs {
				at := 2*f + i
				if i >= 2 {
					at = 14 + 2*f + i - 2
				}
				w[at] = twice(all[2*i] | all[2*i+1]<<8)
			}
			sum := int32(0)
			for _, v := range all {
				sum += v
			}
			w[10+f] = twice([]int32{biasH[c], biasG[c]}[f] - 128*sum)
			w[12+f] = uint32(all[0] | all[1]<<8 | all[2]<<16 | all[3]<<24)
		}
		w[4], w[5] = twice(biasH[c]), twice(biasG[c])
		w[9] = uint32(chanH[c]) | uint32(chanG[c])<<16
		if n := k.Norm; n != nil {
			w[6] = twice(ints(n.Cst)[c])
			w[8] = -uint32(ints(n.Flip)[c])
			q.flipped = q.flipped || w[8] != 0
			if len(s.In) == 2 {
				rho := ints(n.Rho)[c]
				if w[7] = twice(rho); rho < 0 {
					q.rho = -1
				} else if q.rho == 0 {
					q.rho = 1
				}
			}
		}
	}
	return q, true
}

// packs tells whether kernels take a gated layer.
func packs(p *bundle.Program, k *bundle.GatedConv) bool {
	if k.K > 8 {
		return false
	}
	for _, t := range []int{k.TapsH, k.TapsG} {
		taps := p.Tensors[t].Ints()
		for row := 0; row < len(taps); row += k.K {
			for i := 0; i+1 < k.K; i += 2 {
				if taps[row+i]+taps[row+i+1] > 256 {
					return false
				}
			}
		}
	}
	return true
}

// fitsRaised tells whether the kernels for Arm may keep the bytes of planes as x + 128, unsigned as their taps are: nothing but
// kernels makes or reads them, none is kept in a stream's state, and residuals, which then are unsigned too, have no negative factor.
func fitsRaised(p *bundle.Program, r *region) bool {
	var bytes []int
	made := make([]bool, len(p.Values)) // by a kernel
	for i := range p.Steps {
		s := &p.Steps[i]
		if !r.live[i] {
			continue
		}
		if k := s.GatedConv; k != nil && packs(p, k) {
			if k.Norm != nil && len(s.In) == 2 && slices.Min(p.Tensors[k.Norm.Rho].Ints()) < 0 {
				return false
			}
			made[s.Out] = r.fused[s.Out] < 0 && !r.kept[s.Out]
			bytes = append(bytes, s.In...)
		} else {
			for _, v := range s.In {
				made[v] = false
			}
			made[s.Out] = s.Op == bundle.OpTokenTable && p.Tensors[s.TokenTable.Table].DType == bundle.I8 && !r.kept[s.Out]
		}
	}
	for i := range p.Steps {
		if s := &p.Steps[i]; r.live[i] && s.GatedConv != nil && p.Values[s.Out].DType == bundle.I8 {
			bytes = append(bytes, s.Out)
		}
	}
	for _, o := range p.Outputs {
		made[o.Value] = false
	}
	return len(bytes) > 0 && !slices.ContainsFunc(bytes, func(v int) bool { return !made[v] })
}

// pairs are the constants as kernels for Arm load them, by pairs of channels: see neon.c.
func (q *packed) pairs(norm, raised bool) string {
	var text strings.Builder
	list := func(format string, v ...uint32) {
		for _, x := range v {
			fmt.Fprintf(&text, format, x)
		}
	}
	const once, four = "0x%xu,", "FOUR(0x%xu),"
	for at := 0; at < len(q.w); at += 2 * q.words {
		a, b := q.w[at:][:q.words], make([]uint32, q.words) // the last of an odd number has no neighbour
		if at+q.words < len(q.w) {
			b = q.w[at+q.words:][:q.words]
		}
		text.WriteString("\n\t")
		list(four, a[10], b[10], a[11], b[11])
		list(once, a[12], b[12], a[13], b[13], a[9], b[9], a[8], b[8])
		if norm {
			constant := func(w []uint32) uint32 {
				v := w[6]
				if raised { // as the residual is 128 more
					v -= w[7] << 7
				}
				return v & 0xffff * 0x10001
			}
			list(four, constant(a), constant(b), a[7]&0xff*0x1010101, b[7]&0xff*0x1010101)
		}
		if q.words > 14 {
			for i := 14; i < 18; i += 2 { // pairs of taps, each twice in a word
				list(once, a[i]&0xffff|a[i+1]<<16, b[i]&0xffff|b[i+1]<<16)
			}
		}
	}
	return text.String()
}

func flag(v bool) string {
	if v {
		return "1"
	}
	return "0"
}

// pathed tells whether a step's function is given the path.
func (e *emitter) pathed(s *bundle.Step) bool {
	return s.Op == bundle.OpGatedConv || e.tokenRows(s) || e.dense(s) || e.blocks(s) || e.taps(s)
}

// tokenRows tells whether a step looks up rows that kernels bring to planes.
func (e *emitter) tokenRows(s *bundle.Step) bool {
	return s.Op == bundle.OpTokenTable && e.l.planes[s.Out] && e.p.Tensors[s.TokenTable.Table].DType == bundle.I8
}

// dense tells whether a step is a product of a matrix and a vector that kernels take.
func (e *emitter) dense(s *bundle.Step) bool {
	if s.Op != bundle.OpConv {
		return false
	}
	k, in := s.Conv, &e.p.Values[s.In[0]]
	return k.K == 1 && k.Groups == 1 && in.Rows == 1 && e.p.Values[s.Out].Rows == 1 && k.PadLeft == 0 && in.Cols > 1 && !e.l.planes[s.In[0]] && in.DType.Size() <= 2 && in.DType != bundle.U8 && in.DType != bundle.U16 &&
		e.p.Tensors[k.W].DType == bundle.I8
}

// layer writes the local description of a gated layer that has kernels, and tells whether it has.
func (e *emitter) layer(s *bundle.Step, gate string) bool {
	q, ok := e.pack(s)
	if !ok {
		return false
	}
	e.kernels, e.gated = true, true
	e.use("norm_factors")
	k, out := s.GatedConv, &e.p.Values[s.Out]
	name := fmt.Sprintf("w%d", len(e.tables.String()))
	w := &e.tables
	fmt.Fprintf(w, "\n/* %s: constants of its channels, for kernels */\nALIGNED static const uint32_t %s[%d] = {", comment(s.Name), name, len(q.w))
	for i, x := range q.w {
		if i%q.words == 0 {
			w.WriteString("\n\t")
		}
		fmt.Fprintf(w, "0x%xu,", x)
	}
	fmt.Fprintf(w, "\n};\n#if defined(HAVE_NEON)\nALIGNED static const uint32_t %s_pairs[] = {%s\n};\n#endif\n", name, q.pairs(k.Norm != nil, e.l.raised))
	fields := []string{gate, name, fmt.Sprint(q.words), fmt.Sprint(out.Cols), flag(q.paired)}
	if n := k.Norm; n != nil {
		wide := 0
		if out.DType == bundle.I16 {
			if wide = 1; e.l.fused[s.Out] >= 0 {
				wide = 2
			}
		}
		fields = append(fields, "1", fmt.Sprint(wide), fmt.Sprint(q.rho), fmt.Sprint(max(n.Shift, 1)), lit(n.MeanM), lit(n.Eps), lit(n.A), fmt.Sprint(min(max(n.S, 0), 63)), flag(q.flipped))
	} else {
		fields = append(fields, "0", "0", "0", fmt.Sprint(k.Shift), "0", "0", "0", "0", "0")
	}
	e.line("\tconst gated_layer layer = {%s, PAIRS(%s_pairs)};", strings.Join(fields, ", "), name)
	return true
}

// gate writes the gate's table: what the kernels look up piece by piece, and every byte's.
func (e *emitter) gate(s *bundle.Step) string {
	k := s.GatedConv
	var base, slope [32]uint8
	copy(base[:], e.p.Tensors[k.Base].Data)
	copy(slope[:], e.p.Tensors[k.Slope].Data)
	var v []int32
	for _, b := range append(base[:], slope[:]...) {
		v = append(v, int32(b))
	}
	for i := range 256 {
		v = append(v, int32(arith.Gate(&base, &slope, uint8(i))))
	}
	name := fmt.Sprintf("gate%d", len(e.tables.String()))
	e.array(name, bundle.U8, v, comment(s.Name)+": the gate's base and slope of each segment, and the gate of each byte in 1/127")
	return name
}

// block writes the block of a gated layer at t0, n positions. Of a layer whose maximum is taken, the kernel
// writes its result over its scratch.
func (e *emitter) block(s *bundle.Step, i int) {
	k, in := s.GatedConv, s.In[0]
	res, resStride, y := "NULL", "0", "NULL"
	if len(s.In) == 2 {
		from := "x1"
		if e.l.inPlace[i] {
			from = "out"
		}
		res, resStride = fmt.Sprintf("%s + %d + t0", from, e.l.left[s.In[1]]), fmt.Sprint(e.l.stride[s.In[1]])
	}
	if k.Norm != nil {
		y = "y"
	}
	out, stride, top := fmt.Sprintf("out + %d + t0", e.l.left[s.Out]), e.l.stride[s.Out], e.l.fused[s.Out]
	wide := top >= 0 && e.p.Values[s.Out].DType == bundle.I16
	switch {
	case wide:
		out, stride = "top", 0
	case top >= 0:
		out, stride = "y", block
	}
	e.line("\t\tgated_block(path, &layer, x0 + %d + t0, %d, %s, %s, %s, %d, n, %s);", e.l.left[in]-k.PadLeft, e.l.stride[in], res, resStride, out, stride, y)
	if top >= 0 && !wide {
		x, d := &e.p.Values[s.Out], cTypes[e.p.Values[s.Out].DType]
		e.line("\t\tfor (c = 0; c < %d; c++) {\n\t\t\tconst %s *v = (const %s *)y + c * %d;\n\t\t\t%s best = %s;", x.Cols, d, d, block, d, e.at("top", top, "0", "c"))
		e.line("\t\t\tfor (t = 0; t < n; t++) {\n\t\t\t\tbest = v[t] > best ? v[t] : best;\n\t\t\t}\n\t\t\t%s = best;\n\t\t}", e.at("top", top, "0", "c"))
	}
}

// denseSums writes the sums of a matrix and a vector, 64 outputs at a time, and then what becomes of each, acc.
func (e *emitter) denseSums(s *bundle.Step, result func()) {
	e.kernels = true
	k, in, out := s.Conv, &e.p.Values[s.In[0]], &e.p.Values[s.Out]
	w, bias, n := e.tensor(k.W), e.tensor(k.Bias), in.Cols
	e.line("\tint c0, c, i;\n\t(void)path;\n\tfor (c0 = 0; c0 < %d; c0 += 64) {", out.Cols)
	e.line("\t\tconst int n = %d - c0 < 64 ? %d - c0 : 64;\n\t\tint32_t sum[64];", out.Cols, out.Cols)
	e.line("\t\tmemcpy(sum, %s + c0, (size_t)n * sizeof *sum);", bias)
	e.line("#if defined(HAVE_KERNELS)\n\t\tif (path != PORTABLE) {\n\t\t\tdense(path, %s + c0 * %d, n, %d, x0, %d, sum);\n\t\t} else\n#endif", w, n, n, 8*in.DType.Size())
	e.line("\t\tfor (c = 0; c < n; c++) {\n\t\t\tconst int8_t *row = %s + (c0 + c) * %d;\n\t\t\tint32_t acc = sum[c];", w, n)
	e.line("\t\t\tfor (i = 0; i < %d; i++) {\n\t\t\t\tacc += (int32_t)row[i] * x0[i];\n\t\t\t}\n\t\t\tsum[c] = acc;\n\t\t}", n)
	e.line("\t\tfor (c = c0; c < c0 + n; c++) {\n\t\t\tconst int32_t acc = sum[c - c0];")
	result()
	e.line("\t\t}\n\t}")
}

// table is the C expression of the first byte of a token table of 8 bits.
func (e *emitter) table(s *bundle.Step, i int) string {
	if element, ok := e.lookups[i]; ok {
		return "&" + fmt.Sprintf(strings.TrimPrefix(element, "(int8_t)"), "0")
	}
	return "(const uint8_t *)" + e.tensor(s.TokenTable.Table)
}

// rowsOf writes the look-up of tokens in the table of 8 bits that the expression names.
func (e *emitter) rowsOf(s *bundle.Step, table string) {
	e.kernels, e.tokens = true, true
	from, to := e.span(s)
	args := fmt.Sprintf("%s, %d, tokens + %s, %s - %s, out + %d + %s, %d", table, e.p.Values[s.Out].Cols, from, to, from, e.l.left[s.Out], from, e.l.stride[s.Out])
	if e.l.byRows {
		e.line("#if defined(HAVE_NEON)\n\ttoken_rows(path, %s);\n#endif", args)
		return
	}
	e.line("#if defined(HAVE_KERNELS)\n\tif (path != PORTABLE) {\n\t\ttoken_rows(path, %s);\n\t\treturn;\n\t}\n#endif", args)
	e.line("\t(void)path;\n\ttokens_c(%s);", args)
}

// kernelSource is what stands before the tables where a step has kernels.
func (u *unit) kernelSource() string {
	const names = `
/* the paths */
enum { PORTABLE, PATH_AVX2, PATH_AVX512, PATH_NEON, PATH_DOTPROD, PATHS };
static const char path_names[PATHS][9] = {"portable", "avx2", "avx512", "neon", "dotprod"};
`
	if !u.kernels {
		return names
	}
	vectors, rows := kernelAVX2+"\n"+kernelAVX512+"\n", ""
	if u.l.byRows {
		rows = kernelAVX2Rows + "\n" + kernelRows + "\n"
	}
	portable := ""
	switch {
	case u.l.byRows:
		portable += "\n" + kernelCRows + "\n#if defined(HAVE_NEON)\n" + kernelBlock + "#endif\n"
	case u.gated && u.tokens:
		portable += "\n" + kernelTokens + "\n" + kernelPortable + "\n" + kernelBlock
	case u.gated:
		portable += "\n" + kernelPortable + "\n" + kernelBlock
	case u.tokens:
		portable += "\n" + kernelTokens
	}
	if u.convs {
		portable += "\n" + kernelConv
	}
	raised := fmt.Sprintf("\n/* whether kernels for Arm keep the bytes of planes as x + 128 */\n#define RAISED %s\n", flag(u.l.raised))
	return names + raised + "\n" + kernelMachine + "\n" + kernelLayer + "\n#if defined(HAVE_KERNELS)\n" + vectors + rows + kernelNEON + "\n" + kernelChoose + "#endif\n" + portable
}

// pathSource is the choice of a path, by name and by what the machine has.
func (u *unit) pathSource() string {
	body := "static int best_path(void)\n{\n\treturn PORTABLE;\n}\n"
	if u.kernels {
		body = kernelDetect
	}
	p, m := u.prefix(), u.macro()
	return fmt.Sprintf(`
%s
int %s_use(void *ctx, const char *path)
{
	context c;
	int i, j, best = best_path(), least = best < PATH_NEON ? PATH_AVX2 : PATH_NEON;
	if (ctx == NULL || (uintptr_t)ctx %% %s_CTX_ALIGN != 0) {
		return %s_ECONTEXT;
	}
	memcpy(&c, ctx, sizeof c);
	if (c.ready != READY) {
		return %s_ECONTEXT;
	}
	for (i = PORTABLE; i <= best && path != NULL; i = i == PORTABLE ? least : i + 1) {
		for (j = 0; path_names[i][j] == path[j] && path[j] != 0; j++) {
		}
		if (path_names[i][j] == path[j]) {
			c.path = i;
			memcpy(ctx, &c, sizeof c);
			return 0;
		}
	}
	return %s_EPATH;
}

const char *%s_path(const void *ctx)
{
	context c;
	if (ctx == NULL || (uintptr_t)ctx %% %s_CTX_ALIGN != 0) {
		return NULL;
	}
	memcpy(&c, ctx, sizeof c);
	return c.ready == READY ? path_names[c.path] : NULL;
}
`, body, p, m, m, m, m, p, m)
}

// pathHeader is the header's part on paths.
func (u *unit) pathHeader() string {
	p, m := u.prefix(), u.macro()
	return fmt.Sprintf(`
/* The kernels that a context computes with: "portable", which is C alone, "avx2", "avx512", "neon" or "dotprod". All give the same
 * bits. init chooses the fastest that this machine has. On arm64 it asks the machine under Linux only; elsewhere dot products are
 * taken where the compiler may use them. With NEPCO_PORTABLE defined, the library is compiled without kernels.
 *
 * use chooses another by its name; %[2]s_EPATH: this machine or this build does not have it. path is the name of those in use. */
int %[1]s_use(void *ctx, const char *path);
const char *%[1]s_path(const void *ctx);
`, p, m)
}
