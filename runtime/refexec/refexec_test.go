package refexec_test

import (
	"slices"
	"testing"

	"nepcoc/runtime/bundle"
	"nepcoc/runtime/refexec"
)

// prog builds small programs by hand.
type prog struct{ bundle.Program }

// tensor adds constant data and returns its index.
func (p *prog) tensor(d bundle.DType, shape []int, v ...int) int {
	data := make([]int32, len(v))
	for i, x := range v {
		data[i] = int32(x)
	}
	p.Tensors = append(p.Tensors, bundle.NewTensor("t", d, shape, data))
	return len(p.Tensors) - 1
}

// step adds a step and its value, and returns the value's index.
func (p *prog) step(s bundle.Step, d bundle.DType, rows, cols int) int {
	s.Name = s.Op
	s.Out = len(p.Values)
	p.Values = append(p.Values, bundle.Value{Name: s.Op, DType: d, Rows: rows, Cols: cols})
	p.Steps = append(p.Steps, s)
	return s.Out
}

// source is a program whose value 0 holds the given table rows, one token each;
// its output, which the tests do not look at, is the first of them.
func source(d bundle.DType, length, cols int, rows ...int) *prog {
	p := &prog{}
	p.Length, p.Vocab = length, len(rows)/cols
	t := p.tensor(d, []int{p.Vocab, cols}, rows...)
	p.step(bundle.Step{Op: bundle.OpTokenTable, TokenTable: &bundle.TokenTable{Table: t}}, d, length, cols)
	first := p.step(bundle.Step{Op: bundle.OpPool, In: []int{0}, Pool: &bundle.Pool{Kind: "select", Over: "all"}}, d, 1, cols)
	p.Outputs = []bundle.Output{{Name: "first", Value: first, Ending: bundle.EndLogits, Exp: -1}}
	return p
}

// iota32 is 0, 1, ... n-1.
func iota32(n int) []int32 {
	v := make([]int32, n)
	for i := range v {
		v[i] = int32(i)
	}
	return v
}

// run is the value of the last step for tokens 0, 1, ...; a step that isn't a
// vector is seen through Trace.
func run(t *testing.T, p *prog, valid int) []int32 {
	t.Helper()
	last := len(p.Values) - 1
	x, err := refexec.New(&p.Program)
	if err != nil {
		t.Fatal(err)
	}
	var got []int32
	x.Trace = func(v int, data []int32) {
		if v == last {
			got = slices.Clone(data)
		}
	}
	if _, err := x.Run(iota32(p.Length), valid); err != nil {
		t.Fatal(err)
	}
	return got
}

// Each expectation was computed by hand from the step's documentation.
func TestSteps(t *testing.T) {
	const i8, i16, i32 = bundle.I8, bundle.I16, bundle.I32
	for _, c := range []struct {
		name  string
		build func() *prog
		valid int
		want  []int32
	}{
		{"token_table", func() *prog {
			p := source(i16, 2, 2, 1, -2, 300, -32768)
			p.step(bundle.Step{Op: bundle.OpFlatten, In: []int{0}}, i16, 1, 4)
			return p
		}, 1, []int32{1, -2, 300, -32768}},
		{"gated_conv", func() *prog {
			// Channel 0's h reads channel 1, its g channel 0; channel 1 the reverse.
			p := source(i8, 2, 2, 100, 50, -100, 20)
			g := &bundle.GatedConv{K: 2, PadLeft: 1, Shift: 7,
				ChanH: p.tensor(bundle.U16, []int{2}, 1, 0), ChanG: p.tensor(bundle.U16, []int{2}, 0, 1),
				TapsH: p.tensor(bundle.U8, []int{2, 2}, 64, 128, 0, 255), TapsG: p.tensor(bundle.U8, []int{2, 2}, 128, 128, 0, 0),
				BiasH: p.tensor(i32, []int{2}, 128, 128), BiasG: p.tensor(i32, []int{2}, 32896, 32896),
				PadIn: p.tensor(i8, []int{2}, 10, -10),
				Base:  p.tensor(bundle.U8, []int{32}, ramp(32, 8)...), Slope: p.tensor(bundle.U8, []int{32}, make([]int, 32)...),
			}
			p.step(bundle.Step{Op: bundle.OpGatedConv, In: []int{0}, GatedConv: g}, i8, 2, 2)
			return p
		}, 2, []int32{
			// t=0 c=0: h = (128 + 64*-10 + 128*50)>>8 = 5888>>8 = 23; g = (32896 + 128*10 + 128*100)>>8 = 46976>>8 = 183,
			// piece 22: s7 = 176>>1 = 88; out = (23*88+64)>>7 = 2088>>7 = 16.
			16,
			// c=1: h = (128+255*100)>>8 = 25628>>8 = 100; g = 32896>>8 = 128, piece 16: s7 = 64; (6400+64)>>7 = 50.
			50,
			// t=1 c=0: h = (128 + 64*50 + 128*20)>>8 = 5888>>8 = 23; g = (32896 + 128*100 - 128*100)>>8 = 128: 64; (1472+64)>>7 = 12.
			12,
			// c=1: h = (128-25500)>>8 = floor(-99.1) = -100; (-6400+64)>>7 = floor(-49.5) = -50.
			-50,
		}},
		{"gated_conv with norm", func() *prog {
			p := source(i8, 1, 2, 64, 0)
			g := &bundle.GatedConv{K: 1,
				ChanH: p.tensor(bundle.U16, []int{2}, 0, 1), ChanG: p.tensor(bundle.U16, []int{2}, 0, 0),
				TapsH: p.tensor(bundle.U8, []int{2, 1}, 255, 255), TapsG: p.tensor(bundle.U8, []int{2, 1}, 0, 0),
				BiasH: p.tensor(i32, []int{2}, 128, 128), BiasG: p.tensor(i32, []int{2}, 32896, 32896),
				PadIn: p.tensor(i8, []int{2}, 0, 0),
				Base:  p.tensor(bundle.U8, []int{32}, ramp(32, 8)...), Slope: p.tensor(bundle.U8, []int{32}, make([]int, 32)...),
				Norm: &bundle.Norm{Rho: p.tensor(i8, []int{2}, 2, 3), Cst: p.tensor(i16, []int{2}, 5, -7), Flip: p.tensor(bundle.U8, []int{2}, 0, 1),
					MeanM: 1 << 22, Eps: 0, A: 1, S: 31, Shift: 7},
			}
			p.step(bundle.Step{Op: bundle.OpGatedConv, In: []int{0, 0}, GatedConv: g}, i16, 1, 2)
			return p
		}, 1, []int32{
			// h = (255*64+128)>>8 = 64, s7 = 64: y = 4096+128+5 = 4229 and -7; high bytes 16 and -1: s1 = 15, s2 = 257,
			// V = 2*257-225 = 289, e = 22, u = 289<<22>>16 = 18496; cubic and Newton give 17/2^15 of deviation: q = 21821 or so;
			// S-e/2 = 20, so f = q>>20 = 0 and k = 0: both normalised values are 0, the second complemented.
			0, -1,
		}},
		{"conv", func() *prog {
			p := source(i8, 3, 2, 1, 2, 3, 4, 5, 6)
			k := &bundle.Conv{K: 2, Stride: 2, Dilation: 2, PadLeft: 1, PadRight: 2, Groups: 1,
				W: p.tensor(i8, []int{1, 2, 2}, 1, 10, 100, -1), Bias: p.tensor(i32, []int{1}, 7), Pad: p.tensor(i16, []int{2}, 9, -9),
				Requant: bundle.Requant{Mult: -1, Table: -1}}
			p.step(bundle.Step{Op: bundle.OpConv, In: []int{0}, Conv: k}, i32, 2, 1)
			return p
		}, 3, []int32{
			7 + (9 - 90) + (300 - 4), // positions -1, 1
			7 + (3 + 40) + (900 + 9), // positions 1, 3
		}},
		{"conv grouped, zero padding, rescaled", func() *prog {
			p := source(i8, 1, 2, 3, -5)
			k := &bundle.Conv{K: 2, Stride: 1, Dilation: 1, PadRight: 1, Groups: 2,
				W: p.tensor(i8, []int{2, 2, 1}, 7, 100, 9, 100), Bias: p.tensor(i32, []int{2}, 0, 0), Pad: -1,
				Requant: bundle.Requant{Mult: p.tensor(i32, []int{2}, 1, 3), Shift: 1, Lo: -50, Hi: 100, Table: -1}}
			p.step(bundle.Step{Op: bundle.OpConv, In: []int{0}, Conv: k}, i8, 1, 2)
			return p
		}, 1, []int32{11, -50}}, // 21/2 = 10.5 -> 11; -135/2 = -67 -> Lo
		{"linear with table", func() *prog {
			p := source(i8, 1, 1, 3)
			k := &bundle.Conv{K: 1, Stride: 1, Dilation: 1, Groups: 1,
				W: p.tensor(i16, []int{3, 1, 1}, 2, -2, 1000), Bias: p.tensor(i32, []int{3}, 0, 0, 0), Pad: -1,
				Requant: bundle.Requant{Mult: p.tensor(i32, []int{3}, 1, 1, 1), Shift: 2, Table: p.tensor(i16, []int{4}, -20, -10, 0, 10)}}
			p.step(bundle.Step{Op: bundle.OpConv, In: []int{0}, Conv: k}, i16, 1, 3)
			return p
		}, 1, []int32{10, -10, 10}}, // 6/4 = 1.5 -> 2 -> 1; -6/4 = -1.5 -> -1; 750 -> 1
		{"pool max prefix", poolOf("max", "prefix", 0, i8), 2, []int32{3, -2}},
		{"pool max all", poolOf("max", "all", 0, i8), 2, []int32{5, 6}},
		{"pool mean", poolOf("mean", "prefix", 0, i8), 2, []int32{2, -3}}, // 4/2; (-2-4)/2
		{"pool mean halves up", poolOf("mean", "all", 0, i8), 1, []int32{3, 0}},
		{"pool sum", poolOf("sum", "all", 0, i8), 1, []int32{14, 0}}, // 9*3/2 = 13.5
		{"pool select", poolOf("select", "all", 2, i8), 1, []int32{5, 6}},
		{"window_pool max", windowOf("max", false), 1, []int32{3, 4, 3, 4}},
		{"window_pool mean", windowOf("mean", false), 1, []int32{2, 3, 2, 3}},
		{"window_pool mean, padding counts", windowOf("mean", true), 1, []int32{1, 2, 1, 2}}, // 4/3, 6/3
		{"lut", func() *prog {
			p := source(i8, 1, 2, -3, 5)
			p.step(bundle.Step{Op: bundle.OpLut, In: []int{0}, Lut: &bundle.Lut{Mult: 1, Shift: 1,
				Table: p.tensor(i16, []int{2, 4}, 1, 2, 3, 4, 5, 6, 7, 8)}}, i8, 1, 2)
			return p
		}, 1, []int32{2, 8}}, // -1.5 -> -1 -> entry 1 of row 0; 2.5 -> 3 -> last of row 1
		{"add a vector", func() *prog {
			p := source(i8, 2, 1, 10, 20)
			v := p.step(bundle.Step{Op: bundle.OpPool, In: []int{0}, Pool: &bundle.Pool{Kind: "max", Over: "all"}}, i8, 1, 1)
			p.step(bundle.Step{Op: bundle.OpAdd, In: []int{0, v}, Add: &bundle.Add{MultA: 3, MultB: -1, Bias: 1, Shift: 1, Lo: 0, Hi: 15}}, i8, 2, 1)
			return p
		}, 1, []int32{6, 15}}, // 11/2 = 5.5; 41/2
		{"mul by a column", func() *prog {
			p := source(i8, 2, 2, 10, -20, 3, 100)
			v := p.step(bundle.Step{Op: bundle.OpSlice, In: []int{0}, Slice: &bundle.Slice{Axis: 1, Start: 1, Step: 1}}, i8, 2, 1)
			p.step(bundle.Step{Op: bundle.OpMul, In: []int{0, v}, Mul: &bundle.Mul{Mult: 1, Shift: 3, Lo: -200, Hi: 200}}, i8, 2, 2)
			return p
		}, 1, []int32{-25, 50, 38, 127}}, // 300/8 = 37.5
		{"layer_norm", func() *prog {
			p := source(i8, 1, 2, 3, 1)
			p.step(bundle.Step{Op: bundle.OpLayerNorm, In: []int{0}, LayerNorm: &bundle.LayerNorm{
				Gamma: p.tensor(i32, []int{2}, 100, 100), Beta: p.tensor(i32, []int{2}, 0, 3<<15), Shift: 15}}, i8, 1, 2)
			return p
		}, 1, []int32{100, -97}}, // one deviation up, one down
		{"layer_norm without the mean", func() *prog {
			p := source(i8, 1, 2, 1, 7)
			p.step(bundle.Step{Op: bundle.OpLayerNorm, In: []int{0}, LayerNorm: &bundle.LayerNorm{RMS: true,
				Gamma: p.tensor(i32, []int{2}, 50, 50), Beta: p.tensor(i32, []int{2}, 0, 3<<15), Shift: 15}}, i8, 1, 2)
			return p
		}, 1, []int32{10, 73}}, // of 5, the root of the mean square
		{"concat channels", func() *prog {
			p := source(i8, 2, 1, 3, 100)
			p.step(bundle.Step{Op: bundle.OpConcat, In: []int{0, 0}, Concat: &bundle.Concat{Axis: 1, Mult: []int32{0, 3}, Shift: []int{0, 1}}}, i8, 2, 2)
			return p
		}, 1, []int32{3, 5, 100, 127}},
		{"concat positions", func() *prog {
			p := source(i8, 2, 1, 3, 4)
			p.step(bundle.Step{Op: bundle.OpConcat, In: []int{0, 0}, Concat: &bundle.Concat{Axis: 0, Mult: []int32{0, 0}, Shift: []int{0, 0}}}, i8, 4, 1)
			return p
		}, 1, []int32{3, 4, 3, 4}},
		{"slice positions", func() *prog {
			p := source(i8, 4, 2, 1, 2, 3, 4, 5, 6, 7, 8)
			p.step(bundle.Step{Op: bundle.OpSlice, In: []int{0}, Slice: &bundle.Slice{Axis: 0, Start: 1, Step: 2}}, i8, 2, 2)
			return p
		}, 1, []int32{3, 4, 7, 8}},
		{"transpose", func() *prog {
			p := source(i8, 2, 3, 1, 2, 3, 4, 5, 6)
			p.step(bundle.Step{Op: bundle.OpTranspose, In: []int{0}}, i8, 3, 2)
			return p
		}, 1, []int32{1, 4, 2, 5, 3, 6}},
		{"regroup", func() *prog {
			p := source(i8, 2, 3, 1, 2, 3, 4, 5, 6)
			v := p.step(bundle.Step{Op: bundle.OpRegroup, In: []int{0}}, i8, 3, 2)
			p.step(bundle.Step{Op: bundle.OpTranspose, In: []int{v}}, i8, 2, 3)
			return p
		}, 1, []int32{1, 3, 5, 2, 4, 6}},
		{"gather", func() *prog {
			p := source(i8, 2, 2, 1, 2, 3, 4)
			p.step(bundle.Step{Op: bundle.OpGather, In: []int{0}, Gather: &bundle.Gather{Index: p.tensor(i32, []int{3}, 1, -1, 0), Pad: p.tensor(i16, []int{2}, -7, 8)}}, i8, 3, 2)
			return p
		}, 1, []int32{3, 4, -7, 8, 1, 2}},
		{"constant", func() *prog {
			p := source(i8, 2, 2, 1, 2, 3, 4)
			v := p.step(bundle.Step{Op: bundle.OpConstant, In: []int{}, Constant: &bundle.Constant{Data: p.tensor(i16, []int{2, 2}, 100, 200, 300, 400)}}, i16, 2, 2)
			p.step(bundle.Step{Op: bundle.OpAdd, In: []int{0, v}, Add: &bundle.Add{MultA: 1, MultB: 1, Lo: -1000, Hi: 1000}}, i16, 2, 2)
			return p
		}, 1, []int32{101, 202, 303, 404}},
		{"softmax", func() *prog {
			p := source(i8, 2, 2, 5, 5, 7, 6)
			p.step(bundle.Step{Op: bundle.OpSoftmax, In: []int{0}, Softmax: &bundle.Softmax{Mult: 1, Exp: p.tensor(i32, []int{2}, 1<<24, 1<<22)}}, i16, 2, 2)
			return p
		}, 1, []int32{16384, 16384, 26214, 6554}}, // 1/2 each; 4/5 and 1/5 of 2^15
		{"flatten", func() *prog {
			p := source(i8, 2, 2, 1, 2, 3, 4)
			p.step(bundle.Step{Op: bundle.OpFlatten, In: []int{0}}, i8, 1, 4)
			return p
		}, 1, []int32{1, 2, 3, 4}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := run(t, c.build(), c.valid); !slices.Equal(got, c.want) {
				t.Errorf("got %d, want %d", got, c.want)
			}
		})
	}
}

func poolOf(kind, over string, at int, d bundle.DType) func() *prog {
	return func() *prog {
		p := source(bundle.I8, 3, 2, 1, -2, 3, -4, 5, 6)
		p.step(bundle.Step{Op: bundle.OpPool, In: []int{0}, Pool: &bundle.Pool{Kind: kind, Over: over, At: at, Mult: 3, Shift: 1}}, d, 1, 2)
		return p
	}
}

func windowOf(kind string, countPad bool) func() *prog {
	return func() *prog {
		p := source(bundle.I8, 2, 2, 1, 2, 3, 4)
		p.step(bundle.Step{Op: bundle.OpWindowPool, In: []int{0}, WindowPool: &bundle.WindowPool{
			Kind: kind, K: 3, Stride: 1, PadLeft: 1, PadRight: 1, CountPad: countPad}}, bundle.I8, 2, 2)
		return p
	}
}

// ramp is 0, by, 2*by, ...
func ramp(n, by int) []int {
	v := make([]int, n)
	for i := range v {
		v[i] = i * by
	}
	return v
}

func TestInputIsChecked(t *testing.T) {
	p := source(bundle.I8, 2, 1, 3, 4)
	x, err := refexec.New(&p.Program)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		tokens []int32
		valid  int
	}{
		{"short", []int32{0}, 1}, {"long", []int32{0, 0, 0}, 1}, {"no valid token", []int32{0, 0}, 0},
		{"too many valid", []int32{0, 0}, 3}, {"negative id", []int32{0, -1}, 2}, {"id beyond vocabulary", []int32{2, 0}, 2},
	} {
		if _, err := x.Run(c.tokens, c.valid); err == nil {
			t.Errorf("%s: no error", c.name)
		}
	}
}
