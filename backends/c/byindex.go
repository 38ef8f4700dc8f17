package c

import (
	"fmt"
	"slices"
	"strings"

	"nepcoc/runtime/bundle"
)

// byIndex writes the words once more for programs that don't know the model's outputs by name: what the outputs are, and
// their verdicts by number; and what else of the bundle stands in verdicts.
func (u *unit) byIndex() (header, source string) {
	var h, c strings.Builder
	hf := func(format string, args ...any) { fmt.Fprintf(&h, format+"\n", args...) }
	cf := func(format string, args ...any) { fmt.Fprintf(&c, format+"\n", args...) }
	p, m := u.prefix(), u.macro()
	outputs, names := u.b.Program.Outputs, u.outputs()
	kinds := make([]bundle.OutputKind, len(outputs))
	most, longest := 1, 0
	for i, o := range outputs {
		kinds[i] = u.kind(i)
		most = max(most, kinds[i].NumLabels(u.p.Values[o.Value].Cols))
		longest = max(longest, len(o.Name))
	}
	hf(`
/* the bundle's name and its model's version, UTF-8, empty where there is none */
extern const char %s_bundle[];
extern const char %s_model_version[];

#define %s_NUMBERS %d /* that run takes beside the tokens; 0: none */
#define %s_MIN_PAYLOAD %d /* bytes of payload that a flow's tokens must hold for a verdict */

/* The outputs by number, 0 to OUTPUTS-1, for programs that don't know their names. */
#define %s_OUTPUTS %d
#define %s_MOST_LABELS %d /* that an output has */
enum {
	%s_CLASSES = 1, /* one of several */
	%s_BINARY, /* one of two */
	%s_LABELS, /* any of several */
	%s_VALUES /* numbers, without labels */
};
const char *%s_output(int output); /* its name; NULL beyond */
int %s_kind(int output); /* one of these; 0 beyond */
const char *%s_label(int output, int i); /* NULL beyond */

/* judge is the verdict of an output of classes or binary, judge_labels what is given of one of labels, with room for MOST_LABELS. judge
 * returns 0, or -1 where the output is of another kind; judge_labels how many labels there are (not how many are given), or -1. */
int %s_judge(const %s_result *result, int output, %s_verdict *v);
int %s_judge_labels(const %s_result *result, int output, uint8_t *given, int32_t *score);

/* belonging is the share, in 1/2^24, of known flows that lie at a distance or farther; -1 of an output that knows none. */
int32_t %s_belonging(int output, int64_t distance);`,
		p, p, m, u.p.Sides, m, u.b.Manifest.LeastPayload(), m, len(outputs), m, most, m, m, m, m, p, p, p, p, p, p, p, p, p)

	cf("\nconst char %s_bundle[] = %s;\nconst char %s_model_version[] = %s;", p, cString(u.b.Name()), p, cString(u.b.Manifest.Model.Version))
	cf("\nstatic const char outputs[%s_OUTPUTS][%d] = {", m, longest+1)
	for _, o := range outputs {
		cf("\t%s,", cString(o.Name))
	}
	cf("};\n\nconst char *%s_output(int output)\n{\n\treturn output >= 0 && output < %s_OUTPUTS ? outputs[output] : NULL;\n}", p, m)
	constant := map[bundle.OutputKind]string{bundle.KindClasses: "CLASSES", bundle.KindBinary: "BINARY", bundle.KindLabels: "LABELS", bundle.KindValues: "VALUES"}
	// chosen writes a function that looks at the output's number.
	chosen := func(head string, of func(i int) string, otherwise string) {
		cf("\n%s\n{\n\tswitch (output) {", head)
		for i := range outputs {
			if body := of(i); body != "" {
				cf("\tcase %d:\n\t\t%s", i, body)
			}
		}
		cf("\tdefault:\n\t\t%s\n\t}\n}", otherwise)
	}
	chosen(fmt.Sprintf("int %s_kind(int output)", p), func(i int) string { return fmt.Sprintf("return %s_%s;", m, constant[kinds[i]]) }, "return 0;")
	chosen(fmt.Sprintf("const char *%s_label(int output, int i)", p), func(i int) string {
		if kinds[i] == bundle.KindValues {
			return ""
		}
		return fmt.Sprintf("return %s_label_%s(i);", p, names[i])
	}, "(void)i;\n\t\treturn NULL;")
	chosen(fmt.Sprintf("int %s_judge(const %s_result *result, int output, %s_verdict *v)", p, p, p), func(i int) string {
		if kinds[i] != bundle.KindClasses && kinds[i] != bundle.KindBinary {
			return ""
		}
		return fmt.Sprintf("%s_verdict_%s(result, v);\n\t\treturn 0;", p, names[i])
	}, "(void)result;\n\t\t(void)v;\n\t\treturn -1;")
	chosen(fmt.Sprintf("int %s_judge_labels(const %s_result *result, int output, uint8_t *given, int32_t *score)", p, p), func(i int) string {
		if kinds[i] != bundle.KindLabels {
			return ""
		}
		return fmt.Sprintf("%s_given_%s(result, given, score);\n\t\treturn %d;", p, names[i], u.p.Values[outputs[i].Value].Cols)
	}, "(void)result;\n\t\t(void)given;\n\t\t(void)score;\n\t\treturn -1;")
	u.belonging(cf)
	return h.String(), c.String()
}

// kind is what output i of the program gives.
func (u *unit) kind(i int) bundle.OutputKind {
	if i < len(u.b.Manifest.Outputs) {
		return u.b.Manifest.Outputs[i].EffectiveKind()
	}
	return bundle.KindClasses
}

// belonging writes bundle.Known.Share of the outputs that have it.
func (u *unit) belonging(cf func(string, ...any)) {
	known := func(i int) *bundle.Known {
		if i < len(u.b.Manifest.Outputs) {
			return u.b.Manifest.Outputs[i].Known
		}
		return nil
	}
	for i := range u.b.Program.Outputs {
		if k := known(i); k != nil {
			var list []string
			for _, q := range k.Quantiles {
				list = append(list, fmt.Sprintf("INT64_C(%d)", q))
			}
			cf("\nstatic const int64_t known%d[%d] = {%s};", i, len(list), strings.Join(list, ", "))
		}
	}
	if !slices.ContainsFunc(u.b.Manifest.Outputs, func(o bundle.OutputInfo) bool { return o.Known != nil }) {
		cf("\nint32_t %s_belonging(int output, int64_t distance)\n{\n\t(void)output;\n\t(void)distance;\n\treturn -1;\n}", u.prefix())
		return
	}
	cf("\nint32_t %s_belonging(int output, int64_t distance)\n{\n\tconst int64_t *q;\n\tint n, at = 0;\n\tswitch (output) {", u.prefix())
	for i := range u.b.Program.Outputs {
		if k := known(i); k != nil {
			cf("\tcase %d:\n\t\tq = known%d;\n\t\tn = %d;\n\t\tbreak;", i, i, len(k.Quantiles))
		}
	}
	cf("\tdefault:\n\t\treturn -1;\n\t}\n\twhile (at < n && q[at] < distance) {\n\t\tat++;\n\t}\n\treturn (int32_t)((int64_t)(n - at) * (1 << 24) / n);\n}")
}
