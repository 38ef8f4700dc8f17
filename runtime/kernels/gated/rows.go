package gated

// Time-major kernels compute this many positions of a layer with Norm at a time, so that
// LayerNorm's factors are computed for a register of positions.
const rowsTile = 16

// rowsTaps is the number of taps of the time-major kernels.
const rowsTaps = 4
