package quantize

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"nepcoc/internal/golden"
	"nepcoc/ir"
	"nepcoc/passes"
)

// goldenCase is testdata/name.txt: the graph before and after the pass, or
// the refusal. What has and not say must hold whatever the text says.
type goldenCase struct {
	name     string
	has, not []string
	refused  string // part of the message
	opts     Options
}

var goldenCases = []goldenCase{
	{name: "embed_columns", has: []string{"token_table"}},
	{name: "embed_uniform", has: []string{"token_table", "int_lut"}},
	{name: "embed_step", has: []string{"token_table"}, opts: Options{TableStep: 16}},
	{name: "embed_wide", has: []string{"token_table"}, opts: Options{Wide: map[string]bool{"x": true}}},
	{name: "embed_narrow", has: []string{"token_table"}},
	{name: "embed_narrow_step", has: []string{"token_table"}, opts: Options{TableStep: 4}},
	{name: "conv_relu", has: []string{"int_conv"}, not: []string{"int_lut"}},
	{name: "conv_table", has: []string{"int_conv"}, not: []string{"int_lut"}},
	{name: "linear_logits", has: []string{"int_conv"}},
	{name: "gated_plain", has: []string{"int_gated_conv"}},
	{name: "gated_norm", has: []string{"int_gated_conv"}, not: []string{"int_layer_norm"}},
	{name: "gated_norm_flip", has: []string{"int_gated_conv"}, not: []string{"int_layer_norm"}},
	{name: "gated_norm_pad", has: []string{"int_layer_norm"}, not: []string{"int_gated_conv"}},
	{name: "gated_negative_taps", has: []string{"int_conv", "int_lut", "int_mul", "int_add", "int_layer_norm"}, not: []string{"int_gated_conv"}},
	{name: "gated_residual", has: []string{"int_add"}, not: []string{"int_gated_conv"}},
	{name: "gated_then_act", has: []string{"int_gated_conv", "int_conv", "int_lut"}},
	{name: "affine", has: []string{"int_conv"}},
	{name: "elementwise", has: []string{"int_conv", "int_add", "int_mul"}},
	{name: "bounds", has: []string{"int_conv"}},
	{name: "layer_norm", has: []string{"int_layer_norm"}},
	{name: "pool_masked", has: []string{"int_pool", "int_concat"}},
	{name: "pool_all", has: []string{"int_pool"}},
	{name: "window_pool", has: []string{"int_window_pool"}},
	{name: "slice_concat", has: []string{"int_slice", "int_concat"}},
	{name: "concat_positions", has: []string{"int_concat"}},
	{name: "pad_modes", has: []string{"int_gather"}},
	{name: "flatten", has: []string{"int_flatten"}},
	{name: "outputs", has: []string{"int_output"}},
	{name: "position_constant", has: []string{"int_constant", "int_add"}},
	{name: "softmax_weights", has: []string{"int_softmax", "int_mul"}},
	{name: "moved", has: []string{"int_transpose", "int_layer_norm", "int_regroup", "int_gather"}},
	{name: "side", has: []string{"int_side", "int_concat"}, not: []string{"int_lut"}},
	{name: "side_uniform", has: []string{"int_side", "int_layer_norm"}},
	{name: "side_wide", has: []string{"int_side", "int_concat"}},
	{name: "two_activations", refused: "divides one activation by another"},
	{name: "sequence_output", refused: "verdicts are vectors"},
	{name: "no_integer_form", refused: "has no integer form"},
	{name: "pad_constant", refused: "pads with a constant"},
	{name: "concat_constant", refused: "only a computed value will do"},
	{name: "weights_computed", refused: "only a constant will do"},
	{name: "not_finite", refused: "computes NaN or infinity"},
	{name: "broadcast", refused: "broadcasts"},
}

func TestGolden(t *testing.T) {
	var known []string
	for _, c := range goldenCases {
		known = append(known, c.name+".txt")
		t.Run(c.name, func(t *testing.T) { runGolden(t, c) })
	}
	golden.Orphans(t, "testdata", known...)
}

func runGolden(t *testing.T, c goldenCase) {
	path := filepath.Join("testdata", c.name+".txt")
	archive, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(archive.Files) == 0 || archive.Files[0].Name != "before" {
		t.Fatalf("%s: the first section must be -- before --", path)
	}
	g, err := ir.Parse(string(archive.Files[0].Data))
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	before := inline(t, g)
	expand(g, func(string, ...any) {})
	inputs := draw(g, 8)
	ctx := calibrated(g, inputs)
	obs, err := observe(ctx, g)
	var x *quantized
	if err == nil {
		x, err = quantizeGraph(t, g, obs, c.opts)
	}
	section := txtar.File{Name: "after"}
	switch {
	case err != nil && (c.refused == "" || !strings.Contains(err.Error(), c.refused)):
		t.Fatal(err)
	case err == nil && c.refused != "":
		t.Fatalf("quantize takes what it must refuse:\n%s", ir.Print(x.g))
	case err != nil:
		section = txtar.File{Name: "refused", Data: []byte(err.Error() + "\n")}
	default:
		section.Data = []byte(inline(t, x.g))
		var ops []string
		for _, n := range x.g.Nodes {
			ops = append(ops, n.Op)
		}
		for _, op := range c.has {
			if !slices.Contains(ops, op) {
				t.Errorf("no %s in the result: %v", op, ops)
			}
		}
		for _, op := range c.not {
			if slices.Contains(ops, op) {
				t.Errorf("%s in the result: %v", op, ops)
			}
		}
		for _, s := range inputs {
			if err := checkSteps(t, x, s); err != nil {
				t.Error(err)
			}
		}
	}
	golden.File(t, path, txtar.Format(&txtar.Archive{Comment: archive.Comment,
		Files: []txtar.File{{Name: "before", Data: []byte(before)}, section}}))
}

// calibrated is a context whose calibration data are inputs.
func calibrated(g *ir.Graph, inputs []sample) *passes.Context {
	ctx := &passes.Context{Calibrate: calibrator(inputs)}
	ctx.Report.Local = passes.Local{Length: lengthOf(g), Vocab: vocabOf(g), Masked: isMasked(g), Right: lengthOf(g), Left: lengthOf(g)}
	return ctx
}

func inline(t *testing.T, g *ir.Graph) string {
	t.Helper()
	var b strings.Builder
	if err := ir.Fprint(&b, g, ir.PrintOptions{Inline: 600}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}
