package bundle

import (
	"encoding/binary"
	"math"
	"slices"
	"testing"
	"time"
)

// set changes one element of a tensor.
func set(p *Program, tensor, i int, x int32) {
	t := &p.Tensors[tensor]
	switch t.DType.Size() {
	case 1:
		t.Data[i] = byte(x)
	case 2:
		binary.LittleEndian.PutUint16(t.Data[2*i:], uint16(x))
	default:
		binary.LittleEndian.PutUint32(t.Data[4*i:], uint32(x))
	}
}

// constant appends a tensor of n equal elements.
func constant(p *Program, d DType, x int32, shape ...int) int {
	t := Tensor{Shape: shape}
	v := make([]int32, t.Len())
	for i := range v {
		v[i] = x
	}
	p.Tensors = append(p.Tensors, NewTensor("constant", d, shape, v))
	return len(p.Tensors) - 1
}

// The steps of the hand-made program.
const (
	embedStep = iota
	layer1Step
	layer2Step
	poolStep
	hiddenStep
	headStep
)

// extend appends a step that computes a new value from the pooled vector
// (value 3, i8 [1,4]) or from others.
func extend(p *Program, s Step, d DType, rows, cols int) {
	if s.In == nil {
		s.In = []int{3}
	}
	s.Name, s.Out = "extra", len(p.Values)
	p.Values = append(p.Values, Value{Name: "extra", DType: d, Rows: rows, Cols: cols})
	p.Steps = append(p.Steps, s)
}

func TestValidateRefuses(t *testing.T) {
	h := func(p *Program) *GatedConv { return p.Steps[layer1Step].GatedConv }
	n := func(p *Program) *Norm { return p.Steps[layer2Step].GatedConv.Norm }
	c := func(p *Program) *Conv { return p.Steps[hiddenStep].Conv }
	for _, tc := range []struct {
		name   string
		change func(p *Program)
		want   string
	}{
		// Declarations.
		{"length", func(p *Program) { p.Length = 0 }, "length 0 is not in 1..65535"},
		{"vocab", func(p *Program) { p.Vocab = 1 << 30 }, "vocab 1073741824 is more than the 1048576 that a bundle may have"},
		{"no steps", func(p *Program) { p.Steps = nil }, "number of steps 0"},
		{"no outputs", func(p *Program) { p.Outputs = nil }, "number of outputs 0"},
		{"left", func(p *Program) { p.Left = 7 }, "receptive field left 7, right 2: not in 0..6"},
		{"value type", func(p *Program) { p.Values[1].DType = U8 }, `value 1 ("a"): element type "u8" is not i8, i16 or i32`},
		{"value shape", func(p *Program) { p.Values[1].Rows = -1 }, `value 1 ("a"): number of positions -1 is not in 1..1048576`},
		{"values too large", func(p *Program) { p.Values[0].Rows, p.Values[0].Cols = 1<<15, 1<<15 }, "bytes of all values 1073741824 is more than the 67108864"},
		{"tensor type", func(p *Program) { p.Tensors[2].DType = "f32" }, `tensor 2 ("tc"): unknown element type "f32"`},
		{"tensor rank", func(p *Program) { p.Tensors[2].Shape = nil }, "has not 1 to 3 dimensions"},
		{"tensor dimension", func(p *Program) { p.Tensors[2].Shape = []int{-4} }, "dimension -4"},
		{"tensor data", func(p *Program) { p.Tensors[2].Data = p.Tensors[2].Data[1:] }, "the data have 7"},
		// Structure.
		{"unknown operator", func(p *Program) { p.Steps[3].Op = "attention" }, `step 3 ("pool"): unknown operator "attention": update nepcod`},
		{"no parameters", func(p *Program) { p.Steps[3].Pool = nil }, "must have its own parameters and no other's"},
		{"more parameters", func(p *Program) { p.Steps[3].Add = &Add{} }, "must have its own parameters and no other's"},
		{"too few inputs", func(p *Program) { p.Steps[1].In = nil }, "0 inputs, expected 1 to 2"},
		{"too many inputs", func(p *Program) { p.Steps[3].In = []int{2, 2} }, "2 inputs, expected 1 to 1"},
		{"input index", func(p *Program) { p.Steps[3].In = []int{6} }, "input value 6 of 6"},
		{"negative input index", func(p *Program) { p.Steps[3].In = []int{-1} }, "input value -1 of 6"},
		{"output index", func(p *Program) { p.Steps[3].Out = 99 }, "output value 99 of 6"},
		{"read before written", func(p *Program) { p.Steps[1].In = []int{2} }, `step 1 (gated_conv "layer1"): reads value 2 ("b") before it is computed`},
		{"reads itself", func(p *Program) { p.Steps[1].In = []int{1} }, `reads value 1 ("a") before`},
		{"written twice", func(p *Program) { p.Steps[2].Out = 1 }, `computes value 1 ("a") a second time`},
		{"never written", func(p *Program) {
			p.Values = append(p.Values, Value{Name: "lost", DType: I8, Rows: 1, Cols: 1})
		}, `value 6 ("lost") is computed by no step`},
		{"tensor index", func(p *Program) { h(p).PadIn = 1000 }, "pad_in: tensor 1000 of"},
		{"negative tensor index", func(p *Program) { h(p).PadIn = -1 }, "pad_in: tensor -1 of"},
		// Token table.
		{"table shape", func(p *Program) { p.Vocab = 12 }, `step 0 (token_table "embed"): table: tensor "ta" has shape [11 4], expected [12 4]`},
		{"table type", func(p *Program) { p.Values[0].DType = I16 }, `output "x" is i16, expected i8`},
		{"table rows", func(p *Program) { p.Length, p.Left, p.Right = 5, 2, 2 }, `output "x" is [6,4], expected [5,4]`},
		// Gated convolution.
		{"k", func(p *Program) { h(p).K = 0 }, "k 0 is not in 1..256"},
		{"pad_left", func(p *Program) { h(p).PadLeft = 3 }, "pad_left 3 is not in 0..2"},
		{"taps shape", func(p *Program) { h(p).K = 4 }, "has shape [4 3], expected [4 4]"},
		{"channel", func(p *Program) { set(p, h(p).ChanG, 1, 4) }, "chan_g: tensor \"tc\": entry 1 is 4, not in 0..3"},
		{"accumulator h", func(p *Program) { set(p, h(p).BiasH, 2, 383) }, "accumulator h of channel 2 can be -32257..32768, which does not fit -32768..32767"},
		{"accumulator h below", func(p *Program) { set(p, h(p).BiasH, 2, -129) }, "accumulator h of channel 2 can be -32769..32256"},
		{"accumulator g", func(p *Program) { set(p, h(p).BiasG, 3, 32639) }, "accumulator g of channel 3 can be -1..65024, which does not fit 0..65535"},
		{"taps too heavy", func(p *Program) { set(p, h(p).TapsG, 0, 90) }, "accumulator g of channel 0"},
		{"shift 0", func(p *Program) { h(p).Shift = 0 }, "shift 0 is not in 1..14"},
		{"shift 15", func(p *Program) { h(p).Shift = 15 }, "shift 15 is not in 1..14"},
		{"residual without norm", func(p *Program) { p.Steps[1].In = []int{0, 0} }, "a residual needs norm"},
		{"base length", func(p *Program) { h(p).Base = constant(p, U8, 0, 31) }, "base: tensor \"constant\" has shape [31], expected [32]"},
		{"output type", func(p *Program) { p.Values[1].DType = I32 }, "without norm it must be i8"},
		{"norm output type", func(p *Program) { p.Values[2].DType = I32 }, "with norm it must be i8 or i16"},
		{"norm and shift", func(p *Program) { p.Steps[2].GatedConv.Shift = 3 }, "shift 3 is not in 0..0"},
		{"norm shift", func(p *Program) { n(p).Shift = 8 }, "norm.shift 8 is not in 1..7"},
		{"norm a", func(p *Program) { n(p).A = 65536 }, "norm.a 65536"},
		{"norm s", func(p *Program) { n(p).S = 32 }, "norm.s 32"},
		{"norm eps", func(p *Program) { n(p).Eps = -1<<29 - 1 }, "norm.eps -536870913 is not in -536870912.."},
		{"norm eps too large", func(p *Program) { n(p).Eps = math.MaxInt32 }, "norm.eps 2147483647"},
		{"norm mean", func(p *Program) { n(p).MeanM++ }, "norm.mean_m 2097153 is not round(2^23/4) = 2097152"},
		{"norm flip", func(p *Program) { set(p, n(p).Flip, 1, 2) }, "norm.flip: tensor \"tv\": entry 1 is 2, not in 0..1"},
		{"norm range", func(p *Program) { set(p, n(p).Rho, 1, 127); set(p, n(p).Cst, 1, 32000) }, "norm: h8*s7 + r8*rho + cst of channel 1 can be"},
		{"residual shape", func(p *Program) { p.Steps[2].In[1] = 0; p.Values[0].Cols = 5 }, "expected [11 5]"},
		// Convolution.
		{"conv input", func(p *Program) {
			extend(p, Step{Op: OpConv, In: []int{5}, Conv: &Conv{K: 1, Stride: 1, Dilation: 1, Groups: 1}}, I32, 1, 2)
		}, `input "logits" is i32, expected i8 or i16`},
		{"stride", func(p *Program) { c(p).Stride = 0 }, "stride 0 is not in 1..4096"},
		{"groups", func(p *Program) { c(p).Groups = 2 }, "2 groups do not divide 4 inputs and 3 outputs"},
		{"window", func(p *Program) { c(p).K = 2 }, "a window of 2 positions is longer than 1 rows"},
		{"negative padding", func(p *Program) { c(p).PadLeft = -1 }, "pad_left -1"},
		{"rows", func(p *Program) { c(p).PadLeft = 1 }, `output "hidden" is [1,3], expected [2,3]`},
		{"weights type", func(p *Program) { c(p).W = constant(p, U8, 0, 3, 1, 4) }, "expected [i8 i16]"},
		{"pad entry", func(p *Program) { c(p).Pad = constant(p, I16, 128, 4) }, "pad: tensor \"constant\": entry 0 is 128"},
		{"accumulator", func(p *Program) { set(p, c(p).Bias, 1, math.MaxInt32-100) }, "accumulator of channel 1 can be"},
		{"mult", func(p *Program) { set(p, c(p).Requant.Mult, 0, -1) }, "requant.mult: tensor \"ty\": entry 0 is -1, not in 0..2147483647"},
		{"requant shift 0", func(p *Program) { c(p).Requant.Shift = 0 }, "requant.shift 0 is not in 1..62"},
		{"requant shift 63", func(p *Program) { c(p).Requant.Shift = 63 }, "requant.shift 63 is not in 1..62"},
		{"table size", func(p *Program) { c(p).Requant.Table = constant(p, I16, 0, 12) }, "has 12 entries, not a power of two"},
		{"table entry", func(p *Program) { set(p, c(p).Requant.Table, 3, 200) }, "entry 3 is 200, not in -128..127"},
		{"table without mult", func(p *Program) { p.Steps[headStep].Conv.Requant.Table = 0 }, "a table needs mult"},
		{"accumulator as i8", func(p *Program) { p.Values[5].DType = I8 }, "without mult the output must be i32"},
		{"clamp", func(p *Program) { r := &c(p).Requant; r.Table, r.Lo, r.Hi = -1, 5, 4 }, "clamp 5..4 is not a range within i8"},
		{"clamp beyond the type", func(p *Program) { r := &c(p).Requant; r.Table, r.Hi = -1, 128 }, "clamp 0..128 is not a range within i8"},
		// Pooling.
		{"pool kind", func(p *Program) { p.Steps[poolStep].Pool.Kind = "median" }, `unknown kind "median"`},
		{"pool over", func(p *Program) { p.Steps[poolStep].Pool.Over = "" }, `over "" is not prefix or all`},
		{"pool at", func(p *Program) { p.Steps[poolStep].Pool.Kind, p.Steps[poolStep].Pool.At = "select", 6 }, "at 6 is not in 0..5"},
		{"pool mult", func(p *Program) { p.Steps[poolStep].Pool.Kind, p.Steps[poolStep].Pool.Mult = "sum", -1 }, "mult -1"},
		{"pool sum shift", func(p *Program) { p.Steps[poolStep].Pool.Kind = "sum" }, "shift 0 is not in 1..62"},
		{"pool type", func(p *Program) { p.Values[3].DType = I16 }, "must have the same element type"},
		{"pool sum range", func(p *Program) {
			extend(p, Step{Op: OpAdd, In: []int{0, 0}, Add: &Add{MultA: 1 << 28, Hi: math.MaxInt32, Lo: math.MinInt32}}, I32, 6, 4)
			extend(p, Step{Op: OpPool, In: []int{6}, Pool: &Pool{Kind: "sum", Over: "all", Mult: math.MaxInt32, Shift: 40}}, I32, 1, 4)
		}, "the sum of 6 rows times mult 2147483647 does not fit 62 bits"},
		{"receptive field", func(p *Program) { p.Right = 1 }, "depend on 2 tokens to the left and 2 to the right, the program says 2 and 1"},
		{"prefix of other rows", func(p *Program) {
			extend(p, Step{Op: OpPool, Pool: &Pool{Kind: "max", Over: "prefix"}}, I8, 1, 4)
		}, `pools the valid prefix of 6 tokens, but input "pooled" has 1 rows`},
		{"window pool kind", func(p *Program) {
			extend(p, Step{Op: OpWindowPool, WindowPool: &WindowPool{Kind: "sum", K: 1, Stride: 1}}, I8, 1, 4)
		}, `unknown kind "sum"`},
		{"window pool padding", func(p *Program) {
			extend(p, Step{Op: OpWindowPool, WindowPool: &WindowPool{Kind: "max", K: 2, Stride: 1, PadLeft: 2}}, I8, 1, 4)
		}, "pad_left 2 is not in 0..1"},
		{"window pool type", func(p *Program) {
			extend(p, Step{Op: OpWindowPool, WindowPool: &WindowPool{Kind: "max", K: 1, Stride: 1}}, I16, 1, 4)
		}, `output "extra" is i16, expected i8`},
		// Elementwise.
		{"lut table", func(p *Program) {
			extend(p, Step{Op: OpLut, Lut: &Lut{Table: constant(p, I16, 0, 3, 16)}}, I8, 1, 4)
		}, "has shape [3 16], expected [4 16]"},
		{"lut shift", func(p *Program) { extend(p, Step{Op: OpLut, Lut: &Lut{Shift: 63}}, I8, 1, 4) }, "shift 63"},
		{"add shapes", func(p *Program) {
			extend(p, Step{Op: OpAdd, In: []int{3, 4}, Add: &Add{}}, I8, 1, 4)
		}, "[1,4] and [1,3] do not broadcast"},
		{"add range", func(p *Program) {
			extend(p, Step{Op: OpAdd, In: []int{3, 3}, Add: &Add{Bias: math.MinInt64}}, I8, 1, 4)
		}, "does not fit 62 bits"},
		{"add clamp", func(p *Program) {
			extend(p, Step{Op: OpAdd, In: []int{3, 3}, Add: &Add{Lo: 1, Hi: 0}}, I8, 1, 4)
		}, "lo 1 is above hi 0"},
		{"mul range", func(p *Program) {
			extend(p, Step{Op: OpAdd, In: []int{3, 3}, Add: &Add{MultA: 1 << 28, Lo: math.MinInt32, Hi: math.MaxInt32}}, I32, 1, 4)
			extend(p, Step{Op: OpMul, In: []int{6, 6}, Mul: &Mul{Mult: 2}}, I32, 1, 4)
		}, "a*b*2 does not fit 62 bits"},
		{"layer norm eps", func(p *Program) {
			extend(p, Step{Op: OpLayerNorm, LayerNorm: &LayerNorm{Eps: -1, Gamma: constant(p, I32, 1, 4), Beta: constant(p, I32, 1, 4)}}, I8, 1, 4)
		}, "with eps -1 do not fit"},
		{"layer norm gamma", func(p *Program) {
			extend(p, Step{Op: OpLayerNorm, LayerNorm: &LayerNorm{Gamma: constant(p, I32, 1, 5), Beta: constant(p, I32, 1, 4)}}, I8, 1, 4)
		}, "gamma: tensor \"constant\" has shape [5], expected [4]"},
		{"concat lists", func(p *Program) { extend(p, Step{Op: OpConcat, Concat: &Concat{}}, I8, 1, 4) }, "1 inputs, but 0 mult and 0 shift"},
		{"concat copy", func(p *Program) {
			extend(p, Step{Op: OpConcat, In: []int{5}, Concat: &Concat{Mult: []int32{0}, Shift: []int{0}}}, I8, 1, 2)
		}, `input 0 ("logits") is i32, which is copied to i8`},
		{"concat shape", func(p *Program) {
			extend(p, Step{Op: OpConcat, In: []int{3, 4}, Concat: &Concat{Mult: []int32{0, 0}, Shift: []int{0, 0}}}, I8, 2, 4)
		}, `input 1 ("hidden") is [1,3], which does not fit along axis 0`},
		{"slice end", func(p *Program) {
			extend(p, Step{Op: OpSlice, Slice: &Slice{Axis: 1, Start: 1, Step: 2}}, I8, 1, 3)
		}, "takes element 5 of 4 along axis 1"},
		{"slice step", func(p *Program) { extend(p, Step{Op: OpSlice, Slice: &Slice{Axis: 1}}, I8, 1, 3) }, "step 0 is not in 1.."},
		{"flatten", func(p *Program) { extend(p, Step{Op: OpFlatten, In: []int{2}}, I8, 1, 23) }, `output "extra" is [1,23], expected [1,24]`},
		{"transpose", func(p *Program) { extend(p, Step{Op: OpTranspose, In: []int{2}}, I8, 6, 4) }, `output "extra" is [6,4], expected [4,6]`},
		{"transpose type", func(p *Program) { extend(p, Step{Op: OpTranspose, In: []int{2}}, I16, 4, 6) }, `output "extra" is i16, expected i8`},
		{"regroup", func(p *Program) { extend(p, Step{Op: OpRegroup, In: []int{2}}, I8, 5, 5) }, "[5,5], which has other than the 24 elements"},
		{"gather position", func(p *Program) {
			extend(p, Step{Op: OpGather, In: []int{2}, Gather: &Gather{Index: constant(p, I32, 6, 2), Pad: -1}}, I8, 2, 4)
		}, "entry 0 is 6, not in -1..5"},
		{"gather negative", func(p *Program) {
			extend(p, Step{Op: OpGather, In: []int{2}, Gather: &Gather{Index: constant(p, I32, -2, 2), Pad: -1}}, I8, 2, 4)
		}, "entry 0 is -2, not in -1..5"},
		{"gather padding", func(p *Program) {
			extend(p, Step{Op: OpGather, In: []int{2}, Gather: &Gather{Index: constant(p, I32, 5, 2), Pad: constant(p, I16, 128, 4)}}, I8, 2, 4)
		}, "pad: tensor"},
		{"gather rows", func(p *Program) {
			extend(p, Step{Op: OpGather, In: []int{2}, Gather: &Gather{Index: constant(p, I32, 5, 2), Pad: -1}}, I8, 3, 4)
		}, "has shape [2], expected [3]"},
		{"softmax type", func(p *Program) {
			extend(p, Step{Op: OpSoftmax, In: []int{2}, Softmax: &Softmax{Exp: p.Outputs[0].Exp}}, I8, 6, 4)
		}, `output "extra" is i8, expected i16`},
		{"softmax exp", func(p *Program) {
			extend(p, Step{Op: OpSoftmax, In: []int{2}, Softmax: &Softmax{Exp: constant(p, I32, 0, 4)}}, I16, 6, 4)
		}, "entry 0 is 0, so probabilities"},
		{"softmax mult", func(p *Program) {
			extend(p, Step{Op: OpSoftmax, In: []int{2}, Softmax: &Softmax{Exp: p.Outputs[0].Exp, Mult: -1}}, I16, 6, 4)
		}, "exp_mult -1"},
		{"constant type", func(p *Program) {
			extend(p, Step{Op: OpConstant, In: []int{}, Constant: &Constant{Data: constant(p, I8, 1, 6, 4)}}, I16, 6, 4)
		}, `output "extra" is i16, expected i8`},
		{"constant reads", func(p *Program) {
			extend(p, Step{Op: OpConstant, In: []int{0}, Constant: &Constant{Data: constant(p, I8, 1, 6, 4)}}, I8, 6, 4)
		}, "1 inputs, expected 0 to 0"},
		{"receptive field of a transposition", func(p *Program) {
			extend(p, Step{Op: OpTranspose, In: []int{2}}, I8, 4, 6)
			extend(p, Step{Op: OpTranspose, In: []int{6}}, I8, 6, 4)
			extend(p, Step{Op: OpPool, In: []int{7}, Pool: &Pool{Kind: "max", Over: "prefix"}}, I8, 1, 4)
		}, "depend on 6 tokens to the left and 6 to the right"},
		// Outputs and plan.
		{"output value", func(p *Program) { p.Outputs[0].Value = 9 }, `output 0 ("logits"): value 9 of 6`},
		{"output of many rows", func(p *Program) { p.Outputs[0].Value = 2 }, "has 6 rows, an output is a vector"},
		{"output name twice", func(p *Program) { p.Outputs = append(p.Outputs, p.Outputs[0]) }, `output 1: the name "logits" is taken`},
		{"output kind", func(p *Program) { p.Outputs[0].Ending = "sparsemax" }, `unknown ending "sparsemax"`},
		{"exp", func(p *Program) { set(p, p.Outputs[0].Exp, 0, 0) }, "entry 0 is 0"},
		{"exp range", func(p *Program) { set(p, p.Outputs[0].Exp, 1, 1<<24+1) }, "entry 1 is 16777217"},
		{"exp type", func(p *Program) { p.Outputs[0].Exp = c(p).W }, "exp: tensor"},
		{"tile", func(p *Program) { p.Plan.Tile = 7 }, "plan: tile 7 is not in 0..6"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := small().Program
			tc.change(p)
			wantError(t, p.Validate(), tc.want)
		})
	}
}

func TestValidateAcceptsTheEdge(t *testing.T) {
	for name, change := range map[string]func(p *Program){
		"accumulator h": func(p *Program) { set(p, p.Steps[layer1Step].GatedConv.BiasH, 2, 382) },
		"accumulator g": func(p *Program) { set(p, p.Steps[layer1Step].GatedConv.BiasG, 2, 32640) },
		"squeeze, so that every position depends on all": func(p *Program) {
			p.Left, p.Right = 6, 6
			extend(p, Step{Op: OpMul, In: []int{2, 3}, Mul: &Mul{Mult: 1, Shift: 7, Lo: -128, Hi: 127}}, I8, 6, 4)
			extend(p, Step{Op: OpPool, In: []int{6}, Pool: &Pool{Kind: "max", Over: "prefix"}}, I8, 1, 4)
		},
		"flatten": func(p *Program) { extend(p, Step{Op: OpFlatten, In: []int{2}}, I8, 1, 24) },
	} {
		p := small().Program
		change(p)
		if err := p.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A small file may use one large tensor thousands of times; checking it must
// not take minutes.
func TestValidateTakesBoundedTime(t *testing.T) {
	p := small().Program
	table := constant(p, I16, 1, 1<<16)
	for len(p.Steps) < MaxSteps {
		extend(p, Step{Op: OpLut, Lut: &Lut{Table: table}}, I8, 1, 4)
	}
	start := time.Now()
	wantError(t, p.Validate(), "uses its tensors too often to be checked")
	t.Log(time.Since(start)) // not asserted: machines are shared
}

func TestParts(t *testing.T) {
	p := small().Program
	extend(p, Step{Op: OpMul, In: []int{2, 3}, Mul: &Mul{Mult: 1, Shift: 7, Lo: -128, Hi: 127}}, I8, 6, 4) // squeeze and excitation
	parts, err := p.Parts()
	want := []string{"local", "local", "local", "head", "head", "head", "whole"}
	if err != nil || !slices.Equal(parts, want) {
		t.Errorf("%v, want %v (%v)", parts, want, err)
	}
}
