package c

import (
	"fmt"
	"strings"

	"nepcoc/runtime/bundle"
)

// words writes what verdicts are made of the logits: for each output its labels' names and one function, as package classify
// decides. Thresholds are the bundle's.
func (u *unit) words() (header, source string) {
	var h, c strings.Builder
	hf := func(format string, args ...any) { fmt.Fprintf(&h, format+"\n", args...) }
	cf := func(format string, args ...any) { fmt.Fprintf(&c, format+"\n", args...) }
	p := u.prefix()
	hf(`
/* A verdict: the label's index, how sure the model is (score), and by how much more than of the next label, or than the
 * threshold of two (margin), both in 1/2^24. distance, of
 * outputs that know what they were made from: how far the flow is from the nearest class. unknown: the score is below the bundle's
 * threshold, or the distance above its bound. */
typedef struct {
	int label;
	int32_t score, margin;
	int64_t distance;
	int unknown;
} %s_verdict;`, p)
	names := u.outputs()
	for i := range u.b.Program.Outputs { // what follows them is what distances are computed from
		o, info := &u.p.Outputs[i], &bundle.OutputInfo{}
		if i < len(u.b.Manifest.Outputs) {
			info = &u.b.Manifest.Outputs[i]
		}
		kind, n := info.EffectiveKind(), u.p.Values[o.Value].Cols
		if kind == bundle.KindValues {
			continue
		}
		labels := info.Labels
		if len(labels) == 0 {
			for k := range kind.NumLabels(n) {
				labels = append(labels, fmt.Sprint(k))
			}
		}
		hf("\n/* output %s: %s. label gives the name of index i, UTF-8; NULL beyond. */", comment(o.Name), kind)
		hf("const char *%s_label_%s(int i);", p, names[i])
		u.labels(cf, i, names[i], labels)
		var thresholds []int32
		for _, t := range info.Thresholds {
			thresholds = append(thresholds, bundle.Probability(t))
		}
		exp, size := "", 0
		if o.Exp >= 0 {
			exp, size = u.tensor(o.Exp), u.p.Tensors[o.Exp].Len()
		}
		sigmoid := func(x string) string {
			return fmt.Sprintf("%s(%s, %s, %d, %s, %d)", u.use("sigmoid"), x, exp, size, lit(o.ExpMult), o.ExpShift)
		}
		unknown := int32(0)
		if t := info.UnknownThreshold; t != nil && kind != bundle.KindLabels {
			unknown = bundle.Probability(*t)
		}
		if kind == bundle.KindLabels {
			hf("/* given[k] is 1 where label k is given, else 0; score[k] its probability. The result is how many are. */")
			hf("int %s_given_%s(const %s_result *result, uint8_t given[%d], int32_t score[%d]);", p, names[i], p, n, n)
			cf("\nint %s_given_%s(const %s_result *result, uint8_t given[%d], int32_t score[%d])\n{", p, names[i], p, n, n)
			cf("\tstatic const int32_t from[%d] = {%s};\n\tint k, n = 0;", n, join(thresholds))
			cf("\tfor (k = 0; k < %d; k++) {\n\t\tscore[k] = %s;\n\t\tgiven[k] = score[k] >= from[k];\n\t\tn += given[k];\n\t}\n\treturn n;\n}", n, sigmoid("result->"+names[i]+"[k]"))
			continue
		}
		hf("void %s_verdict_%s(const %s_result *result, %s_verdict *v);", p, names[i], p, p)
		cf("\nvoid %s_verdict_%s(const %s_result *result, %s_verdict *v)\n{\n\tconst int32_t *x = result->%s;", p, names[i], p, p, names[i])
		switch {
		case kind == bundle.KindBinary:
			cf("\tint32_t p = %s, t = %d;\n\tv->label = p >= t;\n\tv->score = v->label ? p : (1 << 24) - p;\n\tv->margin = v->label ? p - t : t - p;", sigmoid("x[0]"), thresholds[0])
		case o.Exp < 0:
			cf("\tint k;\n\tv->label = 0;\n\tfor (k = 1; k < %d; k++) {\n\t\tif (x[k] > x[v->label]) {\n\t\t\tv->label = k;\n\t\t}\n\t}\n\tv->score = v->margin = 0;", n)
		default:
			e := func(k string) string {
				return fmt.Sprintf("%s[%s((int64_t)x[v->label] - x[%s], %s, %d, %d)]", exp, u.use("exp_index"), k, lit(o.ExpMult), o.ExpShift, size)
			}
			cf("\tint64_t sum = 0;\n\tint32_t e, next = -1;\n\tint k;\n\tv->label = 0;")
			cf("\tfor (k = 1; k < %d; k++) {\n\t\tif (x[k] > x[v->label]) {\n\t\t\tv->label = k; /* the first of equals */\n\t\t}\n\t}", n)
			cf("\tfor (k = 0; k < %d; k++) {\n\t\te = %s;\n\t\tsum += e;\n\t\tif (k != v->label && e > next) {\n\t\t\tnext = e;\n\t\t}\n\t}", n, e("k"))
			div := u.use("div_round")
			cf("\tv->score = (int32_t)%s((int64_t)%s * (1 << 24), sum);", div, e("v->label"))
			cf("\tv->margin = v->score - (next < 0 ? 0 : (int32_t)%s((int64_t)next * (1 << 24), sum));", div)
		}
		cf("\tv->distance = 0;\n\tv->unknown = v->score < %d;", unknown)
		for k := range u.b.Program.Belonging {
			if g := &u.b.Program.Belonging[k]; g.Output == i {
				u.distance(cf, g, info.Known.Bound, names[len(u.b.Program.Outputs)+k])
			}
		}
		cf("}")
	}
	return h.String(), c.String()
}

// distance writes how far a flow is from the nearest prototype, and whether that is too far.
func (u *unit) distance(cf func(string, ...any), g *bundle.Belonging, bound int64, vector string) {
	shape := u.p.Tensors[g.Prototypes].Shape
	cf("\t{\n\t\tint64_t least = INT64_MAX;\n\t\tint p, d;\n\t\tfor (p = 0; p < %d; p++) {\n\t\t\tint64_t squares = 0;\n\t\t\tfor (d = 0; d < %d; d++) {", shape[0], shape[1])
	cf("\t\t\t\tint64_t by = (int64_t)result->%s[d] - %s[p * %d + d];\n\t\t\t\tsquares += by * by;\n\t\t\t}", vector, u.tensor(g.Prototypes), shape[1])
	cf("\t\t\tleast = squares < least ? squares : least;\n\t\t}\n\t\tv->distance = least;\n\t\tv->unknown |= least > INT64_C(%d);\n\t}", bound)
}

// labels writes the names of an output's labels: an array of characters, without pointers that a loader would have to fill in.
func (u *unit) labels(cf func(string, ...any), i int, name string, labels []string) {
	longest := 0
	for _, l := range labels {
		longest = max(longest, len(l))
	}
	cf("\nstatic const char labels%d[%d][%d] = {", i, len(labels), longest+1)
	for _, l := range labels {
		cf("\t%s,", cString(l))
	}
	cf("};\n\nconst char *%s_label_%s(int i)\n{\n\treturn i >= 0 && i < %d ? labels%d[i] : NULL;\n}", u.prefix(), name, len(labels), i)
}

// cString is s as a C string literal in any character set.
func cString(s string) string {
	var w strings.Builder
	w.WriteByte('"')
	for i := range len(s) {
		switch b := s[i]; {
		case b < ' ' || b > '~' || b == '"' || b == '\\' || b == '?': // of ? there are trigraphs
			fmt.Fprintf(&w, "\\%03o", b)
		default:
			w.WriteByte(b)
		}
	}
	w.WriteByte('"')
	return w.String()
}
