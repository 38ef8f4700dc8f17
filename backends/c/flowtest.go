package c

import (
	"fmt"
	"strings"

	"nepcoc/runtime/bundle"
)

// flowTest writes, for the self-test, what compares flows from their packets on with Options.Flows: tokens by their sum, marks, payload, logits and words.
func (u *unit) flowTest(f write) {
	p, m := u.prefix(), u.macro()
	outputs := u.b.Program.Outputs
	kinds := map[bundle.OutputKind]bool{}
	for i := range outputs {
		kinds[u.kind(i)] = true
	}
	var bytes, packets, flows, words []string
	logits := make([][]string, len(u.p.Outputs))
	for i, v := range u.flows {
		for _, x := range v.Packets {
			packets = append(packets, fmt.Sprintf("\t{%d, %d, %d, UINT64_C(%d)},", i, truth(x.Reverse), len(x.IP), x.Time))
			bytes = append(bytes, "\t"+strings.Trim(strings.ReplaceAll(fmt.Sprint(x.IP), " ", ","), "[]")+",")
		}
		flows = append(flows, fmt.Sprintf("\t{%d, %d, %d, %d, UINT64_C(%d)},", v.Valid, v.Marks, v.Payload, truth(v.ClientSecond), tokenSum(v.Tokens[:v.Valid], v.Tokens[len(v.Tokens)-u.p.Sides:])))
		for k, l := range v.Logits {
			logits[k] = append(logits[k], "\t{"+join(l)+"},")
		}
		for _, w := range v.Words {
			for k, label := range w.Given {
				w.Label |= 1 << (label % 31)
				w.Score ^= w.Scores[k]
			}
			words = append(words, fmt.Sprintf("\t{%d, %s, %s, %d},", w.Label, lit(w.Score), lit(w.Margin), truth(w.Unknown)))
		}
	}
	f(`
enum { FLOWS = %d };

/* flows from their packets on: what came, in that order, and what each flow is to give */
static const struct {
	int flow, direction;
	uint32_t bytes;
	uint64_t time;
} arrivals[] = {
%s
};

static const uint8_t packets[] = {
%s
};

static const struct {
	uint32_t tokens, marks, payload;
	int client;
	uint64_t sum; /* of tokens, then of numbers beside them: FNV-1a, a word each */
} flows[FLOWS] = {
%s
};`, len(u.flows), strings.Join(packets, "\n"), strings.Join(bytes, "\n"), strings.Join(flows, "\n"))
	for k, l := range logits {
		f("static const int32_t flow_logits%d[FLOWS][%d] = {\n%s\n};", k, u.p.Values[u.p.Outputs[k].Value].Cols, strings.Join(l, "\n"))
	}
	if len(kinds) > 1 || !kinds[bundle.KindValues] {
		f(`
/* of each output's verdict; of one of labels, which are given, as bits, and their scores, by exclusive or */
static const struct {
	int label;
	int32_t score, margin;
	int unknown;
} flow_words[FLOWS * %d] = {
%s
};`, len(outputs), strings.Join(words, "\n"))
	}
	f(`
static uint64_t sum(uint64_t h, const int32_t *x, uint32_t n)
{
	uint32_t i;
	for (i = 0; i < n; i++) {
		h = (h ^ (uint32_t)x[i]) * UINT64_C(1099511628211);
	}
	return h;
}

/* 1 where a flow gives something else than it should */
static int flow_wrong(const %s_flow *f, int i)
{
	static int32_t tokens[%s_LENGTH];
	static %s_result r;
	uint32_t n = %s_flow_tokens(f, tokens);
	uint64_t h = sum(UINT64_C(14695981039346656037), tokens, n);
	int k;`, p, m, p, p)
	numbers := ""
	if u.p.Sides > 0 {
		numbers = "numbers, "
		f("\tstatic int32_t numbers[%s_NUMBERS];\n\t%s_flow_numbers(f, numbers);\n\th = sum(h, numbers, %s_NUMBERS);", m, p, m)
	}
	f(`	if (n != flows[i].tokens || h != flows[i].sum || %[1]s_flow_marks(f) != flows[i].marks || %[1]s_flow_payload(f) != flows[i].payload ||
	    %[1]s_flow_client(f) != flows[i].client || %[1]s_run(ctx, tokens, (int)n, %[2]s&r) != 0) {
		return 1;
	}`, p, numbers)
	for k, name := range u.outputs() {
		f("\tfor (k = 0; k < %d; k++) {\n\t\tif (r.%s[k] != flow_logits%d[i][k]) {\n\t\t\treturn 1;\n\t\t}\n\t}", u.p.Values[u.p.Outputs[k].Value].Cols, name, k)
	}
	f("\tfor (k = 0; k < %s_OUTPUTS; k++) {", m)
	if kinds[bundle.KindClasses] || kinds[bundle.KindBinary] {
		f(`		%[1]s_verdict v;
		if (%[1]s_judge(&r, k, &v) == 0 && (v.label != flow_words[i * %[2]s_OUTPUTS + k].label || v.score != flow_words[i * %[2]s_OUTPUTS + k].score ||
		    v.margin != flow_words[i * %[2]s_OUTPUTS + k].margin || v.unknown != flow_words[i * %[2]s_OUTPUTS + k].unknown)) {
			return 1;
		}`, p, m)
	}
	if kinds[bundle.KindLabels] {
		f(`		uint8_t given[%[2]s_MOST_LABELS];
		int32_t score[%[2]s_MOST_LABELS], scores = 0;
		int j, label = 0, labels = %[1]s_judge_labels(&r, k, given, score);
		for (j = 0; j < labels; j++) {
			label |= given[j] ? 1 << j %% 31 : 0;
			scores ^= given[j] ? score[j] : 0;
		}
		if (labels >= 0 && (label != flow_words[i * %[2]s_OUTPUTS + k].label || scores != flow_words[i * %[2]s_OUTPUTS + k].score)) {
			return 1;
		}`, p, m)
	}
	f(`	}
	return 0;
}

/* the number of flows that give something else than they should */
static int flows_wrong(void)
{
	static %[1]s_flow made[FLOWS];
	const uint8_t *at = packets;
	size_t i;
	int wrong = 0, k;
	for (k = 0; k < FLOWS; k++) {
		%[1]s_flow_init(&made[k]);
	}
	for (i = 0; i < sizeof arrivals / sizeof *arrivals; i++) {
		%[1]s_flow_add(&made[arrivals[i].flow], at, arrivals[i].bytes, arrivals[i].bytes, arrivals[i].direction, arrivals[i].time);
		at += arrivals[i].bytes;
	}
	for (k = 0; k < FLOWS; k++) {
		wrong += flow_wrong(&made[k], k);
	}
	return wrong;
}`, p)
}

// truth is 1 for true.
func truth(b bool) int {
	if b {
		return 1
	}
	return 0
}

// tokenSum is the self-test's sum of what a flow gives: FNV-1a of 64 bits with a word for a byte.
func tokenSum(lists ...[]int32) uint64 {
	h := uint64(14695981039346656037)
	for _, l := range lists {
		for _, x := range l {
			h = (h ^ uint64(uint32(x))) * 1099511628211
		}
	}
	return h
}
