package c

import (
	"fmt"

	"nepcoc/runtime/bundle"
)

// Convolutions between positions of rows, other than a matrix and a vector (see dense), have two fast forms. In the first, blocks, a position's window is a vector, of
// which the kernels take the product with each row of weights, four positions at a time: windows lie in the input as they are where nothing is left out or padded, and are
// brought together elsewhere. The second, taps, has the outputs as a vector, to which each weight's are added: for windows of few numbers, and for convolutions of each channel by itself.

// convWindow are the most bytes of a window: four lie on the stack.
const convWindow = 4096

// convBlock is the number of outputs whose sums are computed at a time. The kernels, which have a position's sums so far from the next one's, have it as a number.
const convBlock = 64

// window is how many numbers a window of a convolution has, of those of a group, and how many with zeros behind them that the kernels want.
func (e *emitter) window(s *bundle.Step) (n, whole int) {
	n = s.Conv.K * e.p.Values[s.In[0]].Cols / s.Conv.Groups
	return n, (n + 15) &^ 15
}

// blocks tells whether a step is a convolution that takes windows.
func (e *emitter) blocks(s *bundle.Step) bool {
	if s.Op != bundle.OpConv || e.dense(s) {
		return false
	}
	k, d := s.Conv, e.p.Values[s.In[0]].DType
	n, whole := e.window(s)
	return k.Groups == 1 && n >= 16 && e.p.Tensors[k.W].DType == bundle.I8 && whole*d.Size() <= convWindow
}

// taps tells whether a step is a convolution that adds a weight's products to all outputs.
func (e *emitter) taps(s *bundle.Step) bool {
	if s.Op != bundle.OpConv || e.dense(s) || e.blocks(s) {
		return false
	}
	k, in := s.Conv, &e.p.Values[s.In[0]]
	n, _ := e.window(s)
	each := k.Groups == in.Cols && in.Cols == e.p.Values[s.Out].Cols && in.DType == bundle.I8 && !e.l.planes[s.In[0]]
	return e.p.Tensors[k.W].DType == bundle.I8 && (each || k.Groups == 1 && n < 16)
}

// convWeights writes weights of a step as a table that the function fills, and gives its name.
func (e *emitter) convWeights(s *bundle.Step, d bundle.DType, n int, at func(i int) (from int, ok bool)) string {
	w, v := e.p.Tensors[s.Conv.W].Ints(), make([]int32, n)
	for i := range v {
		if from, ok := at(i); ok {
			v[i] = w[from]
		}
	}
	name := fmt.Sprintf("conv%d", len(e.tables.String()))
	e.array(name, d, v, comment(s.Name)+": weights")
	return name
}

// convBlocks writes a convolution that takes windows, and what becomes of each sum, acc.
func (e *emitter) convBlocks(s *bundle.Step, result func()) {
	e.kernels, e.convs = true, true
	k, in, out := s.Conv, &e.p.Values[s.In[0]], &e.p.Values[s.Out]
	n, whole := e.window(s)
	bias, w, d := e.tensor(k.Bias), "", in.DType
	if n == whole {
		w = e.tensor(k.W)
	} else {
		w = e.convWeights(s, bundle.I8, out.Cols*whole, func(i int) (int, bool) { return i/whole*n + i%whole, i%whole < n })
	}
	e.line("\tint t0, t, c0, c, i, j;")
	e.line("\t%s windows[%d];\n\tconst void *x[4];\n\tint32_t sums[%d];", cTypes[d], 4*whole, 4*convBlock)
	direct := k.Dilation == 1 && !e.l.planes[s.In[0]]
	if direct {
		e.line("\tint have = ((%s - 1) * %d + %d) * %d; /* of the input, that are there */", e.rows(s), k.Stride, k.K-k.PadLeft, in.Cols)
		e.line("\thave = have < %d ? have : %d;", in.Rows*in.Cols, in.Rows*in.Cols)
	}
	e.line("\tfor (t0 = 0; t0 < %s; t0 += 4) {\n\t\tconst int count = %s - t0 < 4 ? %s - t0 : 4;", e.rows(s), e.rows(s), e.rows(s))
	e.line("\t\tfor (t = 0; t < count; t++) {\n\t\t\tconst int first = (t0 + t) * %d - %d;\n\t\t\t%s *to = windows + t * %d;", k.Stride, k.PadLeft, cTypes[d], whole)
	if direct {
		e.line("\t\t\tif (first >= 0 && first * %d + %d <= have) {\n\t\t\t\tx[t] = x0 + first * %d;\n\t\t\t\tcontinue;\n\t\t\t}", in.Cols, whole, in.Cols)
	}
	e.line("\t\t\tx[t] = to;\n\t\t\tfor (j = 0; j < %d; j++) {\n\t\t\t\tconst int pos = first + j * %d;", k.K, k.Dilation)
	pad := "0"
	if k.Pad >= 0 {
		pad = fmt.Sprintf("(%s)%s[i]", cTypes[d], e.tensor(k.Pad))
	}
	e.line("\t\t\t\tfor (i = 0; i < %d; i++) {\n\t\t\t\t\t*to++ = pos >= 0 && pos < %d ? %s : %s;\n\t\t\t\t}\n\t\t\t}", in.Cols, in.Rows, e.at("x0", s.In[0], "pos", "i"), pad)
	if n < whole {
		e.line("\t\t\tmemset(to, 0, %d);", (whole-n)*d.Size())
	}
	e.line("\t\t}\n\t\tfor (c0 = 0; c0 < %d; c0 += %d) {\n\t\t\tconst int n = %d - c0 < %d ? %d - c0 : %d;", out.Cols, convBlock, out.Cols, convBlock, out.Cols, convBlock)
	e.line("\t\t\tfor (t = 0; t < 4; t++) {\n\t\t\t\tmemcpy(sums + %d * t, %s + c0, (size_t)n * sizeof *sums);\n\t\t\t}", convBlock, bias)
	e.line("\t\t\tconv_sums(path, %s + c0 * %d, n, %d, x, count, %d, sums);", w, whole, whole, 8*d.Size())
	e.line("\t\t\tfor (i = 0; i < count; i++) {\n\t\t\t\tint32_t *sum = sums + %d * i;\n\t\t\t\tt = t0 + i;", convBlock)
	e.convResults(s, result)
	e.line("\t\t\t}\n\t\t}\n\t}")
}

// convTaps writes a convolution that adds a weight's products to all outputs, and what becomes of each sum, acc.
func (e *emitter) convTaps(s *bundle.Step, result func()) {
	e.kernels, e.convs = true, true
	k, in, out := s.Conv, &e.p.Values[s.In[0]], &e.p.Values[s.Out]
	bias, perIn := e.tensor(k.Bias), in.Cols/k.Groups
	n := k.K * perIn
	w := e.convWeights(s, bundle.I16, n*out.Cols, func(i int) (int, bool) { return i%out.Cols*n + i/out.Cols, true })
	e.line("\tint t, c0, c, i, j;")
	e.line("\tint32_t sums[%d];\n\t(void)path;", convBlock)
	e.line("\tfor (t = 0; t < %s; t++) {\n\t\tfor (c0 = 0; c0 < %d; c0 += %d) {\n\t\t\tconst int n = %d - c0 < %d ? %d - c0 : %d;", e.rows(s), out.Cols, convBlock, out.Cols, convBlock, out.Cols, convBlock)
	e.line("\t\t\tmemcpy(sums, %s + c0, (size_t)n * sizeof *sums);", bias)
	e.line("\t\t\tfor (j = 0; j < %d; j++) {\n\t\t\t\tconst int pos = t * %d + j * %d - %d;\n\t\t\t\tconst int16_t *w = %s + j * %d + c0;", k.K, k.Stride, k.Dilation, k.PadLeft, w, perIn*out.Cols)
	if k.Groups > 1 {
		e.line("\t\t\t\tif (pos >= 0 && pos < %d) {\n\t\t\t\t\tconv_each(w, x0 + pos * %d + c0, sums, n);", in.Rows, in.Cols)
		if k.Pad >= 0 {
			e.line("\t\t\t\t} else {\n\t\t\t\t\tfor (i = 0; i < n; i++) {\n\t\t\t\t\t\tsums[i] += (int32_t)w[i] * %s[c0 + i];\n\t\t\t\t\t}", e.tensor(k.Pad))
		} else {
			e.line("\t\t\t\t\t(void)i;")
		}
		e.line("\t\t\t\t}\n\t\t\t}")
	} else {
		pad := "0"
		if k.Pad >= 0 {
			pad = e.tensor(k.Pad) + "[i]"
		}
		e.line("\t\t\t\tfor (i = 0; i < %d; i++) {\n\t\t\t\t\tconv_scale(w + i * %d, pos >= 0 && pos < %d ? %s : %s, sums, n);\n\t\t\t\t}\n\t\t\t}", perIn, out.Cols, in.Rows, e.at("x0", s.In[0], "pos", "i"), pad)
	}
	e.line("\t\t\t{\n\t\t\t\tint32_t *sum = sums;")
	e.convResults(s, result)
	e.line("\t\t\t}\n\t\t}\n\t}")
}

// convResults writes what becomes of n sums of outputs from c0 on, at position t.
func (e *emitter) convResults(s *bundle.Step, result func()) {
	r, out := &s.Conv.Requant, &e.p.Values[s.Out]
	if r.Mult < 0 || r.Shift < 32 {
		e.line("\t\t\tfor (c = c0; c < c0 + n; c++) {\n\t\t\tconst int32_t acc = sum[c - c0];")
		result()
		e.line("\t\t\t}")
		return
	}
	lo, hi := out.DType.Range()
	lo, hi = max(min(r.Lo, hi), lo), min(max(r.Hi, lo), hi)
	v := fmt.Sprintf("(%s)sum[c]", cTypes[out.DType])
	if r.Table >= 0 { // as table_index
		n := int32(e.p.Tensors[r.Table].Len())
		lo, hi = -(n / 2), n-1-n/2
		v = fmt.Sprintf("(%s)%s[sum[c] + %d]", cTypes[out.DType], e.tensor(r.Table), n/2)
	}
	e.line("\t\t\t\tconv_scaled(path, sum, %s + c0, %d, %s, %s, n);", e.tensor(r.Mult), r.Shift, lit(lo), lit(hi))
	e.line("\t\t\t\tfor (c = 0; c < n; c++) {\n\t\t\t\t\t%s = %s;\n\t\t\t\t}", e.at("out", s.Out, "t", "(c0 + c)"), v)
}
