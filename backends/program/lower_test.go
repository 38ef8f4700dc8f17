package program_test

import (
	"strings"
	"testing"

	"nepcoc/backends/program"
	"nepcoc/ir"
)

// integer is a small integer graph, as quantize and tile leave it.
const integer = `graph "g" {
  %tokens = input i64[4]
  %table = const i8[3,2] [1, 2, 3, 4, 5, -6]
  %x = token_table(%tokens, %table) {encoding="token", tile=2} : i8[4,2]
  %p = int_pool(%x) {kind="max"} : i8[2]
  %w = const i8[3,1,2] [1, -1, 2, -2, 3, -3]
  %b = const i32[3] [10, 20, -30]
  %mult = const i32[3] [1073741824, 1073741824, 1073741824]
  %o = int_conv(%p, %w, %b, %mult) {dilation=1, groups=1, hi=2147483647, lo=-2147483648, shift=30, stride=1} : i32[3] @"/head/Gemm"
  %exp = const i32[2] [16777216, 100]
  %l = int_output(%o, %exp) {exp_mult=5, exp_shift=3, kind="softmax", scale=0.5} : i32[3]
  output %l as "logits"
}`

func parse(t *testing.T, text string) *ir.Graph {
	t.Helper()
	g, err := ir.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestLower(t *testing.T) {
	p, err := program.Lower(parse(t, integer), program.Info{Vocab: 3, Left: 1, Right: 2})
	if err != nil {
		t.Fatal(err)
	}
	if p.Length != 4 || p.Vocab != 3 || p.Left != 1 || p.Right != 2 {
		t.Errorf("length %d, vocab %d, left %d, right %d", p.Length, p.Vocab, p.Left, p.Right)
	}
	var ops []string
	for _, s := range p.Steps {
		ops = append(ops, s.Op+" "+s.Name)
	}
	if got := strings.Join(ops, ", "); got != "token_table x, pool p, conv /head/Gemm" {
		t.Errorf("steps: %s", got)
	}
	if len(p.Values) != 3 || p.Plan.Tile != 2 {
		t.Errorf("values %+v, plan %+v", p.Values, p.Plan)
	}
	o := p.Outputs[0]
	if o.Name != "logits" || o.Value != 2 || o.Ending != "softmax" || o.Scale != 0.5 || o.ExpMult != 5 || o.ExpShift != 3 {
		t.Errorf("output %+v", o)
	}
	if w := p.Tensors[p.Steps[2].Conv.W]; w.Name != "w" || w.At(5) != -3 {
		t.Errorf("weights %+v", w)
	}
	if b := p.Tensors[p.Steps[2].Conv.Bias]; b.At(2) != -30 {
		t.Errorf("bias %d", b.At(2))
	}
}

// What can't be lowered is a bug of a pass, and says so.
func TestLowerErrors(t *testing.T) {
	for name, tc := range map[string]struct{ old, new, want string }{
		"no step":     {"int_pool(%x)", "pool(%x)", "no step for it"},
		"unproved":    {"[10, 20, -30]", "[2147483647, 20, -30]", "does not fit 32 bits"},
		"tile":        {"tile=2", "tile=9", "tile 9 is not in 0..4"},
		"pool kind":   {`kind="max"`, `kind="median"`, "median"},
		"output kind": {`kind="softmax"`, `kind="sparsemax"`, "sparsemax"},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(integer, tc.old, tc.new, 1)
			if text == integer {
				t.Fatal("nothing was replaced")
			}
			if tc.old == "int_pool(%x)" {
				text = strings.Replace(strings.Replace(text, "i8[4,2]", "f32[4,2]", 1), "i8[2]", "f32[2]", 1)
			}
			_, err := program.Lower(parse(t, text), program.Info{Vocab: 3, Left: 4, Right: 4})
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "BUG") {
				t.Errorf("got %v, want a BUG that says %q", err, tc.want)
			}
		})
	}
	if _, err := program.Lower(parse(t, integer), program.Info{Vocab: 4}); err == nil {
		t.Error("took a table of 3 rows for 4 token ids")
	}
}
