package engine

// PlanePath names the kernels of an engine's gated layers.
func PlanePath(e *Engine) string { return e.planes.String() }
