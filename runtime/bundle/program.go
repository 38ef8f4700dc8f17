package bundle

import "nepcoc/runtime/arith"

// DType is the element type of a run-time value or tensor.
type DType string

// The element types of programs.
const (
	I8  DType = "i8"
	U8  DType = "u8"
	I16 DType = "i16"
	U16 DType = "u16"
	I32 DType = "i32"
)

// Size is the number of bytes of one element, 0 for an unknown type.
func (d DType) Size() int {
	switch d {
	case I8, U8:
		return 1
	case I16, U16:
		return 2
	case I32:
		return 4
	}
	return 0
}

// Program is the integer program of one model: straight-line steps over
// values. Token ids go in, int32 logits come out; nothing in between is
// floating point. Indices (of values, of tensors) are positions in Values and
// Tensors; -1 stands for "none" where a field says so.
//
// What each step computes is defined by package arith (on scalars) and
// package refexec (on whole values).
type Program struct {
	// Length is the number of tokens of a full input, Vocab the number of
	// token ids: every input token is in [0,Vocab).
	Length int `json:"length"`
	Vocab  int `json:"vocab"`
	// Left and Right are the receptive field of the local region: the
	// pooled position p depends on tokens [p-Left, p+Right] only.
	Left  int `json:"left"`
	Right int `json:"right"`
	// Sides is the number of ids beside the sequence: an executor takes them behind the Length tokens. Each is in
	// [0,SideIDs).
	Sides int `json:"sides,omitempty"`

	Values  []Value  `json:"values"`
	Tensors []Tensor `json:"tensors"`
	Steps   []Step   `json:"steps"`
	Outputs []Output `json:"outputs"`
	Plan    Plan     `json:"plan"`
	// Belonging is there for the outputs that say which flows are none of theirs, in their order.
	Belonging []Belonging `json:"belonging,omitempty"`
}

// Value is an intermediate result: Rows positions of Cols channels. Vectors
// have one row.
type Value struct {
	Name  string `json:"name"`
	DType DType  `json:"dtype"`
	Rows  int    `json:"rows"`
	Cols  int    `json:"cols"`
}

// Tensor is constant data: little endian, row-major, in the weights section.
type Tensor struct {
	Name  string `json:"name"`
	DType DType  `json:"dtype"`
	Shape []int  `json:"shape"`
	Data  []byte `json:"-"`
}

// Ending is what a model ends in. The program ends before it, at the logits; what verdicts
// are made of them is OutputInfo.Kind.
type Ending string

// The endings.
const (
	EndLogits     Ending = "logits" // nothing: its output is the logits
	EndSoftmax    Ending = "softmax"
	EndLogSoftmax Ending = "log_softmax"
	EndSigmoid    Ending = "sigmoid"
	EndArgmax     Ending = "argmax"
)

// Output is one result of the program, a vector.
type Output struct {
	Name  string `json:"name"`
	Value int    `json:"value"`
	// Ending says what the model made of these logits.
	Ending Ending `json:"kind"`
	// Scale turns integer logits into the model's units, for display.
	Scale float64 `json:"scale"`
	// ExpMult and ExpShift turn the distance d >= 0 of an integer logit
	// from the largest into the index of Exp: (d*ExpMult)>>ExpShift.
	ExpMult  int32 `json:"exp_mult"`
	ExpShift int   `json:"exp_shift"`
	// Exp is a tensor, i32: exp(-x) in 1/2^24 on a grid; see arith.Softmax.
	Exp int `json:"exp"`
}

// Step is one operation. Exactly the parameter struct that belongs to Op is
// set. In and Out are values.
type Step struct {
	Op   string `json:"op"`
	Name string `json:"name"`
	In   []int  `json:"in"`
	Out  int    `json:"out"`

	TokenTable *TokenTable `json:"token_table,omitempty"`
	GatedConv  *GatedConv  `json:"gated_conv,omitempty"`
	Conv       *Conv       `json:"conv,omitempty"`
	Pool       *Pool       `json:"pool,omitempty"`
	WindowPool *WindowPool `json:"window_pool,omitempty"`
	Lut        *Lut        `json:"lut,omitempty"`
	Add        *Add        `json:"add,omitempty"`
	Mul        *Mul        `json:"mul,omitempty"`
	LayerNorm  *LayerNorm  `json:"layer_norm,omitempty"`
	Concat     *Concat     `json:"concat,omitempty"`
	Slice      *Slice      `json:"slice,omitempty"`
	Gather     *Gather     `json:"gather,omitempty"`
	Constant   *Constant   `json:"constant,omitempty"`
	Softmax    *Softmax    `json:"softmax,omitempty"`
	Side       *Side       `json:"side,omitempty"`
}

// The operators. Three need no parameters. OpFlatten and OpRegroup are mere changes of shape,
// row-major (time-major): [rows,cols] -> [1,rows*cols], and to any shape of as many elements.
// OpTranspose is [rows,cols] -> [cols,rows]: what normalises or multiplies channels then does so with
// positions.
const (
	OpTokenTable = "token_table"
	OpGatedConv  = "gated_conv"
	OpConv       = "conv"
	OpPool       = "pool"
	OpWindowPool = "window_pool"
	OpLut        = "lut"
	OpAdd        = "add"
	OpMul        = "mul"
	OpLayerNorm  = "layer_norm"
	OpConcat     = "concat"
	OpSlice      = "slice"
	OpFlatten    = "flatten"
	OpTranspose  = "transpose"
	OpRegroup    = "regroup"
	OpGather     = "gather"
	OpConstant   = "constant"
	OpSoftmax    = "softmax"
	OpSide       = "side"
)

// TokenTable looks each token up: out[t] = Table[token[t]]. In is empty: the
// tokens are the program's input. Table is i8 or i16 [Vocab, Cols]. Positions
// at or beyond the number of valid tokens hold the token that the caller put
// there (the contract's padding id). A large table may be stored narrow, with a convolution of
// window 1 after it: see Folds.
type TokenTable struct {
	Table int `json:"table"`
}

// GatedConv is the fused gated layer: two convolutions h and g of one input
// channel per output channel, out = h * sigmoid(g), then either a shift
// (Norm == nil) or the addition of a residual and LayerNorm.
//
//	x(c,t)  = In[0] at position t of channel c, PadIn[c] where t is outside [0,rows)
//	acc_h   = BiasH[c] + sum_k TapsH[c,k] * x(ChanH[c], t-PadLeft+k)
//	acc_g   = BiasG[c] + sum_k TapsG[c,k] * x(ChanG[c], t-PadLeft+k)
//	h8, gu  = acc_h >> 8, (acc_g >> 8) & 255
//	s7      = ((Base[gu>>3] + Slope[gu>>3]*gu) & 255) >> 1
//
// without Norm: out = sat8((h8*s7 + (1<<(Shift-1))) >> Shift), as i8;
// with Norm: see Norm. Biases carry the rounding (+128) and, for g, the
// offset +32768. The compiler has proved that acc_h fits 16 bits signed and
// acc_g 16 bits unsigned for every input.
type GatedConv struct {
	K       int   `json:"k"`
	PadLeft int   `json:"pad_left"`
	ChanH   int   `json:"chan_h"` // u16 [C]
	ChanG   int   `json:"chan_g"` // u16 [C]
	TapsH   int   `json:"taps_h"` // u8 [C,K]
	TapsG   int   `json:"taps_g"` // u8 [C,K]
	BiasH   int   `json:"bias_h"` // i32 [C]
	BiasG   int   `json:"bias_g"` // i32 [C]
	PadIn   int   `json:"pad_in"` // i8 [Cin]
	Base    int   `json:"base"`   // u8 [32]
	Slope   int   `json:"slope"`  // u8 [32]
	Shift   int   `json:"shift"`  // 1..14; 0 with Norm
	Norm    *Norm `json:"norm,omitempty"`
}

// Norm is the residual and LayerNorm part of a gated layer.
//
//	y16 = h8*s7 + r8*Rho[c] + Cst[c]           (proved to fit 16 bits)
//	R,K = arith.NormFactors(sum y16>>8, sum (y16>>8)^2)
//	v   = sat16(K + ((y16*R + 2^14) >> 15))
//	out = v ^ Flip16                             as i16 (Out is i16), or
//	out = sat8((v + (1<<(Shift-1))) >> Shift) ^ Flip8   as i8
//
// r8 is In[1] at the same position and channel; 0 where In has one element.
// Flip[c] is 0 or 1: a channel whose gamma is negative is stored complemented
// (x ^ -1), so that everything downstream sees a positive scale.
type Norm struct {
	Rho   int   `json:"rho"`    // i8 [C]
	Cst   int   `json:"cst"`    // i16 [C]
	Flip  int   `json:"flip"`   // u8 [C]
	MeanM int32 `json:"mean_m"` // round(2^23/C)
	Eps   int32 `json:"eps"`
	A     int32 `json:"a"` // 1..65535
	S     int   `json:"s"`
	Shift int   `json:"shift"` // 1..7
}

// Requant turns an int32 accumulator into an output value: with no Mult the
// accumulator itself (out i32), else
//
//	q   = (acc*Mult[c] + (1<<(Shift-1))) >> Shift       (64-bit product)
//	out = clamp(q, Lo, Hi)                              without Table
//	out = Table[clamp(q, -n/2, n/2-1) + n/2]            with Table of n entries, n a power of two
type Requant struct {
	Mult  int   `json:"mult"`  // i32 [C], or -1; values >= 0
	Shift int   `json:"shift"` // 1..62
	Lo    int32 `json:"lo"`
	Hi    int32 `json:"hi"`
	Table int   `json:"table"` // i16 [n], or -1; values fit the output's type
}

// Conv is a general convolution over positions, also a linear layer (K = 1;
// on vectors rows = 1).
//
//	acc = Bias[o] + sum_k sum_i W[o,k,i] * x(t*Stride - PadLeft + k*Dilation, group(o)*I + i)
//
// with I = Cin/Groups and Pad[c] where the position is outside [0,rows).
// The compiler has proved that acc fits 32 bits.
type Conv struct {
	K        int     `json:"k"`
	Stride   int     `json:"stride"`
	Dilation int     `json:"dilation"`
	PadLeft  int     `json:"pad_left"`
	PadRight int     `json:"pad_right"`
	Groups   int     `json:"groups"`
	W        int     `json:"w"`    // i8 or i16 [O,K,I]
	Bias     int     `json:"bias"` // i32 [O]
	Pad      int     `json:"pad"`  // i16 [Cin], or -1 for zeros
	Requant  Requant `json:"requant"`
}

// Pool reduces positions to one vector. Kind: "max", "mean", "sum" or
// "select" (position At). Over: "prefix" (the valid tokens) or "all" (every
// position). mean is arith.DivRound(sum, count).
// sum is rescaled by Mult and Shift as in Requant (scalar, clamped to the
// output's type); other kinds ignore them.
type Pool struct {
	Kind  string `json:"kind"`
	Over  string `json:"over"`
	At    int    `json:"at,omitempty"`
	Mult  int32  `json:"mult,omitempty"`
	Shift int    `json:"shift,omitempty"`
}

// WindowPool is a pooling with a window over positions, each channel by itself. Kind: "max"
// (positions outside are skipped) or "mean" (positions outside count as 0
// where CountPad, else they are skipped); rounding as in Pool.
type WindowPool struct {
	Kind     string `json:"kind"`
	K        int    `json:"k"`
	Stride   int    `json:"stride"`
	PadLeft  int    `json:"pad_left"`
	PadRight int    `json:"pad_right"`
	CountPad bool   `json:"count_pad,omitempty"`
}

// Lut maps each element: idx = clamp((x*Mult + half) >> Shift, -n/2, n/2-1)+n/2,
// out = Table[idx]. Table is i16 [n] or, with one row per channel, i16 [C,n].
type Lut struct {
	Mult  int32 `json:"mult"`
	Shift int   `json:"shift"` // 0: no rounding, x*Mult itself
	Table int   `json:"table"`
}

// Add: out = clamp((a*MultA + b*MultB + Bias + half) >> Shift) to the output's
// type and [Lo,Hi]. A vector operand (rows = 1) is added to every row.
type Add struct {
	MultA int32 `json:"mult_a"`
	MultB int32 `json:"mult_b"`
	Bias  int64 `json:"bias,omitempty"`
	Shift int   `json:"shift"`
	Lo    int32 `json:"lo"`
	Hi    int32 `json:"hi"`
}

// Mul: out = clamp((a*b*Mult + half) >> Shift, Lo, Hi). Rows broadcast as in Add;
// an operand of one column is broadcast over channels.
type Mul struct {
	Mult  int32 `json:"mult"`
	Shift int   `json:"shift"`
	Lo    int32 `json:"lo"`
	Hi    int32 `json:"hi"`
}

// LayerNorm normalises each position over its channels; see arith.LayerNorm.
// Gamma and Beta are i32 [C]. With RMS no mean is taken off: the sum of the inputs counts as 0, so that positions are divided by
// the root of their mean square.
type LayerNorm struct {
	Eps   int64 `json:"eps"`
	Gamma int   `json:"gamma"`
	Beta  int   `json:"beta"`
	Shift int   `json:"shift"`
	RMS   bool  `json:"rms,omitempty"`
}

// Concat joins channels (Axis 1) or positions (Axis 0). Each input i is
// rescaled: clamp((x*Mult[i] + half) >> Shift[i]); Shift 0 copies.
type Concat struct {
	Axis  int     `json:"axis"`
	Mult  []int32 `json:"mult"`
	Shift []int   `json:"shift"`
}

// Slice takes positions (Axis 0) or channels (Axis 1) Start, Start+Step, ...
// as many as the output has.
type Slice struct {
	Axis  int `json:"axis"`
	Start int `json:"start"`
	Step  int `json:"step"`
}

// Gather takes any positions in any order: row i of the output is row Index[i] of the input, or Pad
// where Index[i] is -1. With a regroup after it, windows over two axes are rows of it.
type Gather struct {
	Index int `json:"index"` // i32 [rows of the output]
	Pad   int `json:"pad"`   // i16 [Cin], or -1 for zeros
}

// Constant is a value that is the same for every input: say a table of what is added at each position.
type Constant struct {
	Data int `json:"data"` // i8 or i16 [rows,cols]
}

// Softmax makes probabilities of each position's channels, in 1/2^15 as i16; see arith.Probabilities. Exp, Mult and Shift are
// as in Output.
type Softmax struct {
	Exp   int   `json:"exp"` // i32
	Mult  int32 `json:"mult"`
	Shift int   `json:"shift"`
}

// SideIDs is the number of ids that a number beside the sequence has: arith.GridIDs.
const SideIDs = arith.GridIDs

// Side reads ids beside the sequence, from number At on, as many as the output has channels:
//
//	out[c] = clamp(((id[At+c]-Zero[c])*Mult[c] + (1<<(Shift-1))) >> Shift)      (64-bit product)
//
// to the output's type, i8 or i16. In is empty.
type Side struct {
	At    int `json:"at"`
	Zero  int `json:"zero"` // i32 [C]
	Mult  int `json:"mult"` // i32 [C]; values >= 0
	Shift int `json:"shift"`
}

// Plan is the tile pass's decision for the bundle's target. It changes speed,
// never results.
type Plan struct {
	// Tile is the number of positions of the local region that are computed
	// at a time, 0 for all. Working memory follows from it, on each kernel path in
	// another way: see engine.Describe.
	Tile int `json:"tile"`
}

// WeightBytes is the size of all tensors.
func (p *Program) WeightBytes() (n int64) {
	for i := range p.Tensors {
		n += int64(len(p.Tensors[i].Data))
	}
	return n
}
