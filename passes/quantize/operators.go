package quantize

// Steps says which steps of a program stand for each canonical operator, for
// the documentation. legalize rewrites or refuses operators that are not here.
func Steps() map[string]string {
	return map[string]string{
		"embed": "token_table", "gated_conv": "gated_conv, or the steps it is made of",
		"conv": "conv", "linear": "conv", "affine": "conv", "min": "conv (a clamp)", "max": "conv (a clamp)", "div": "conv",
		"act": "part of the conv before it, else lut", "add": "add; conv with a constant", "sub": "add; conv with a constant", "mul": "mul; conv with a constant",
		"layer_norm": "layer_norm, or part of gated_conv", "pool": "pool", "window_pool": "window_pool",
		"slice": "slice", "concat": "concat", "pad": "slice and concat (reflect, edge, wrap)", "flatten": "flatten",
	}
}
