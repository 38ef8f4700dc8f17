package gated

// rowsTile is the number of positions of a layer with Norm that time-major kernels compute at a
// time, so that LayerNorm's factors are computed for registers of 16 positions: as many as the last
// chunk of a stream has (32 tokens and what five layers look back), few enough for the first-level cache.
const rowsTile = 48

// rowsTaps is the number of taps of the time-major kernels.
const rowsTaps = 4
