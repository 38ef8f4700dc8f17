package bundle

// The JSON of version 1, as it was: the fields that a file of that version has,
// in their order. What they mean is said at the types that they became (Manifest,
// Program). Nothing here ever changes, or files in the field would no longer open.

type manifest1 struct {
	Format      int           `json:"format"`
	Tool        string        `json:"tool"`
	Model       model1        `json:"model"`
	Target      target1       `json:"target"`
	Contract    contract1     `json:"contract"`
	Outputs     []outputInfo1 `json:"outputs"`
	Calibration calibration1  `json:"calibration"`
	Accuracy    accuracy1     `json:"accuracy"`
	Sizes       sizes1        `json:"sizes"`
	Notes       []stepNote1   `json:"notes,omitempty"`
}

type model1 struct {
	File       string `json:"file"`
	SHA256     string `json:"sha256"`
	Producer   string `json:"producer,omitempty"`
	Opset      int    `json:"opset,omitempty"`
	TokenInput string `json:"token_input,omitempty"`
	MaskInput  string `json:"mask_input,omitempty"`
	PadToken   *int   `json:"pad_token,omitempty"`
}

type target1 struct {
	Name     string   `json:"name"`
	Requires []string `json:"requires,omitempty"`
}

type contract1 struct {
	YAML string `json:"yaml"`
	Hash string `json:"hash"`
}

type outputInfo1 struct {
	Name             string   `json:"name"`
	Labels           []string `json:"labels,omitempty"`
	UnknownThreshold *float64 `json:"unknown_threshold,omitempty"`
	Temperature      float64  `json:"temperature,omitempty"`
}

type calibration1 struct {
	Method       string `json:"method"`
	Samples      int    `json:"samples"`
	SourceSHA256 string `json:"source_sha256,omitempty"`
}

type accuracy1 struct {
	Samples   int     `json:"samples"`
	Agreement float64 `json:"agreement"`
	Cosine    float64 `json:"cosine"`
	MaxError  float64 `json:"max_error"`
}

// sizes1 and stepNote1 have figures that were always 0, and are dropped.
type sizes1 struct {
	Parameters int64 `json:"parameters"`
	Weights    int64 `json:"weights"`
	MACs       int64 `json:"macs"`
}

type stepNote1 struct {
	Step  string  `json:"step"`
	Note  string  `json:"note"`
	Error float64 `json:"error,omitempty"`
}

type program1 struct {
	Length  int       `json:"length"`
	Vocab   int       `json:"vocab"`
	Left    int       `json:"left"`
	Right   int       `json:"right"`
	Values  []value1  `json:"values"`
	Tensors []tensor1 `json:"tensors"`
	Steps   []step1   `json:"steps"`
	Outputs []output1 `json:"outputs"`
	Plan    plan1     `json:"plan"`
}

type value1 struct {
	Name  string  `json:"name"`
	DType DType   `json:"dtype"`
	Rows  int     `json:"rows"`
	Cols  int     `json:"cols"`
	Scale float64 `json:"scale,omitempty"`
}

type tensor1 struct {
	Name  string `json:"name"`
	DType DType  `json:"dtype"`
	Shape []int  `json:"shape"`
}

type output1 struct {
	Name     string  `json:"name"`
	Value    int     `json:"value"`
	Kind     string  `json:"kind"`
	Scale    float64 `json:"scale"`
	ExpMult  int32   `json:"exp_mult"`
	ExpShift int     `json:"exp_shift"`
	Exp      int     `json:"exp"`
}

type step1 struct {
	Op         string       `json:"op"`
	Name       string       `json:"name"`
	In         []int        `json:"in"`
	Out        int          `json:"out"`
	TokenTable *tokenTable1 `json:"token_table,omitempty"`
	GatedConv  *gatedConv1  `json:"gated_conv,omitempty"`
	Conv       *conv1       `json:"conv,omitempty"`
	Pool       *pool1       `json:"pool,omitempty"`
	WindowPool *windowPool1 `json:"window_pool,omitempty"`
	Lut        *lut1        `json:"lut,omitempty"`
	Add        *add1        `json:"add,omitempty"`
	Mul        *mul1        `json:"mul,omitempty"`
	LayerNorm  *layerNorm1  `json:"layer_norm,omitempty"`
	Concat     *concat1     `json:"concat,omitempty"`
	Slice      *slice1      `json:"slice,omitempty"`
}

type tokenTable1 struct {
	Table int `json:"table"`
}

type gatedConv1 struct {
	K       int    `json:"k"`
	PadLeft int    `json:"pad_left"`
	ChanH   int    `json:"chan_h"`
	ChanG   int    `json:"chan_g"`
	TapsH   int    `json:"taps_h"`
	TapsG   int    `json:"taps_g"`
	BiasH   int    `json:"bias_h"`
	BiasG   int    `json:"bias_g"`
	PadIn   int    `json:"pad_in"`
	Base    int    `json:"base"`
	Slope   int    `json:"slope"`
	Shift   int    `json:"shift"`
	Norm    *norm1 `json:"norm,omitempty"`
}

type norm1 struct {
	Rho   int   `json:"rho"`
	Cst   int   `json:"cst"`
	Flip  int   `json:"flip"`
	MeanM int32 `json:"mean_m"`
	Eps   int32 `json:"eps"`
	A     int32 `json:"a"`
	S     int   `json:"s"`
	Shift int   `json:"shift"`
}

type requant1 struct {
	Mult  int   `json:"mult"`
	Shift int   `json:"shift"`
	Lo    int32 `json:"lo"`
	Hi    int32 `json:"hi"`
	Table int   `json:"table"`
}

type conv1 struct {
	K        int      `json:"k"`
	Stride   int      `json:"stride"`
	Dilation int      `json:"dilation"`
	PadLeft  int      `json:"pad_left"`
	PadRight int      `json:"pad_right"`
	Groups   int      `json:"groups"`
	W        int      `json:"w"`
	Bias     int      `json:"bias"`
	Pad      int      `json:"pad"`
	Requant  requant1 `json:"requant"`
}

type pool1 struct {
	Kind  string `json:"kind"`
	Over  string `json:"over"`
	At    int    `json:"at,omitempty"`
	Mult  int32  `json:"mult,omitempty"`
	Shift int    `json:"shift,omitempty"`
}

type windowPool1 struct {
	Kind     string `json:"kind"`
	K        int    `json:"k"`
	Stride   int    `json:"stride"`
	PadLeft  int    `json:"pad_left"`
	PadRight int    `json:"pad_right"`
	CountPad bool   `json:"count_pad,omitempty"`
}

type lut1 struct {
	Mult  int32 `json:"mult"`
	Shift int   `json:"shift"`
	Table int   `json:"table"`
}

type add1 struct {
	MultA int32 `json:"mult_a"`
	MultB int32 `json:"mult_b"`
	Bias  int64 `json:"bias,omitempty"`
	Shift int   `json:"shift"`
	Lo    int32 `json:"lo"`
	Hi    int32 `json:"hi"`
}

type mul1 struct {
	Mult  int32 `json:"mult"`
	Shift int   `json:"shift"`
	Lo    int32 `json:"lo"`
	Hi    int32 `json:"hi"`
}

type layerNorm1 struct {
	Eps   int64 `json:"eps"`
	Gamma int   `json:"gamma"`
	Beta  int   `json:"beta"`
	Shift int   `json:"shift"`
}

type concat1 struct {
	Axis  int     `json:"axis"`
	Mult  []int32 `json:"mult"`
	Shift []int   `json:"shift"`
}

type slice1 struct {
	Axis  int `json:"axis"`
	Start int `json:"start"`
	Step  int `json:"step"`
}

type plan1 struct {
	Tile   int   `json:"tile"`
	Arena  int   `json:"arena"`
	Offset []int `json:"offset"`
}
