package c_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	emit "nepcoc/backends/c"
	"nepcoc/internal/testfiles"
	"nepcoc/runtime/bundle"
)

// Whoever knows outputs by number gets what the functions of their names give; the share of known flows is the bundle's.
func TestByIndex(t *testing.T) {
	testfiles.Tool(t, "gcc")
	for _, test := range []struct {
		file string
		kind bundle.OutputKind // of the last output, which has three logits
	}{{"demo", ""}, {"heads", ""}, {"heads", bundle.KindLabels}, {"heads", bundle.KindValues}, {"heads", bundle.KindBinary}} {
		b := stored(t, test.file)
		outputs := b.Manifest.Outputs
		if last := &outputs[len(outputs)-1]; test.kind != "" {
			last.Kind, last.Thresholds = test.kind, []float64{0.5, 0.75, 0.125}
			last.Labels = last.Labels[:min(len(last.Labels), test.kind.NumLabels(3))]
		}
		b.Manifest.Name, b.Manifest.Model.Version, b.Manifest.MinPayload = `"é`, "v7", 40
		knowing(b)
		known := outputs[0].Known

		var want, program strings.Builder
		fmt.Fprintf(&want, "\"é v7 40 %d\n", len(outputs))
		program.WriteString(`#include <stdio.h>
#include <string.h>
#include "nepco_it.h"

static uint32_t seed = 1;

static int32_t draw(void)
{
	seed = seed * 1664525u + 1013904223u;
	return (int32_t)(seed >> 10) - (1 << 21);
}

int main(void)
{
	nepco_it_result r;
	nepco_it_verdict v, w;
	uint8_t given[NEPCO_IT_MOST_LABELS], g[NEPCO_IT_MOST_LABELS];
	int32_t score[NEPCO_IT_MOST_LABELS], s[NEPCO_IT_MOST_LABELS];
	int64_t d;
	size_t k;
	int i, j, n, trial;
	(void)i;
	printf("%s %s %d %d\n", nepco_it_bundle, nepco_it_model_version, NEPCO_IT_MIN_PAYLOAD, NEPCO_IT_OUTPUTS);
	for (i = 0; i <= NEPCO_IT_OUTPUTS; i++) {
		printf("%s %d", nepco_it_output(i) ? nepco_it_output(i) : "none", nepco_it_kind(i));
		for (j = 0; nepco_it_label(i, j) != NULL; j++) {
			printf(" %s", nepco_it_label(i, j));
		}
		printf("\n");
	}
	for (d = -1; d < 45000000; d += d < 2000 ? 1 : 999983) {
		printf("%d\n", (int)nepco_it_belonging(0, d));
	}
	printf("%d\n", (int)nepco_it_belonging(1, 5));
	for (trial = 0; trial < 200; trial++) {
		memset(&r, 0, sizeof r);
		for (k = 0; k < sizeof r / 4; k++) {
			int32_t x = draw() >> 6;
			memcpy((char *)&r + 4 * k, &x, 4);
		}
`)
		constants := map[bundle.OutputKind]int{bundle.KindClasses: 1, bundle.KindBinary: 2, bundle.KindLabels: 3, bundle.KindValues: 4}
		for i := range outputs {
			o, kind := &outputs[i], outputs[i].EffectiveKind()
			name := b.Program.Outputs[i].Name
			fmt.Fprintf(&want, "%s %d", name, constants[kind])
			for _, l := range o.Labels {
				fmt.Fprint(&want, " ", l)
			}
			fmt.Fprintln(&want)
			fmt.Fprintf(&program, "\t\tmemset(&v, 1, sizeof v);\n\t\tw = v;\n\t\tmemset(given, 2, sizeof given);\n\t\tmemset(score, 2, sizeof score);\n\t\tmemcpy(g, given, sizeof g);\n\t\tmemcpy(s, score, sizeof s);\n")
			judge, judgeLabels := -1, -1
			switch kind {
			case bundle.KindClasses, bundle.KindBinary:
				fmt.Fprintf(&program, "\t\tnepco_it_verdict_%s(&r, &w);\n", name)
				judge = 0
			case bundle.KindLabels:
				fmt.Fprintf(&program, "\t\tnepco_it_given_%s(&r, g, s);\n", name)
				judgeLabels = 3
			}
			fmt.Fprintf(&program, "\t\tj = nepco_it_judge(&r, %d, &v);\n\t\tn = nepco_it_judge_labels(&r, %d, given, score);\n", i, i)
			fmt.Fprintf(&program, "\t\tif (j != %d || n != %d || memcmp(&v, &w, sizeof v) != 0 || memcmp(given, g, sizeof g) != 0 || memcmp(score, s, sizeof s) != 0) {\n\t\t\tprintf(\"output %d differs\\n\");\n\t\t}\n", judge, judgeLabels, i)
		}
		program.WriteString("\t\tif (nepco_it_judge(&r, NEPCO_IT_OUTPUTS, &v) != -1 || nepco_it_judge_labels(&r, -1, given, score) != -1) {\n\t\t\tprintf(\"beyond\\n\");\n\t\t}\n\t}\n\treturn 0;\n}\n")
		want.WriteString("none 0\n")
		for d := int64(-1); d < 45000000; {
			fmt.Fprintln(&want, known.Share(d))
			if d < 2000 {
				d++
			} else {
				d += 999983
			}
		}
		fmt.Fprintln(&want, -1)

		b.Golden = withGolden(t, b.Program, 1).Golden
		dir := library(t, b, emit.Options{Name: "it"}, wordy...)
		if got := execute(t, dir, linkText(t, dir, "by.c", program.String(), wordy...)); got != want.String() {
			t.Errorf("%s %s: %s", test.file, test.kind, cmp.Diff(want.String(), got))
		}
	}
}
