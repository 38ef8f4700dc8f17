package bundle

import (
	"fmt"

	"nepcoc/runtime/traffic"
)

// Limits of a program. They are far above any model that a card could run in
// time, and keep what a small file can make an executor allocate small. Compilers
// refuse by them before they work.
const (
	MaxLength     = traffic.MaxLength
	MaxVocab      = 1 << 20
	MaxSteps      = 4096
	MaxValues     = 4096
	MaxTensors    = 1 << 14
	MaxCols       = 1 << 20
	MaxRows       = 1 << 20  // of values between: windows over two axes are gathered one after another
	MaxWindow     = 4096     // kernel size, dilation, stride, padding
	MaxValueBytes = 64 << 20 // all values together
)

// LimitError is the error of a program that is sound but too large.
type LimitError struct {
	What   string // what there is too much of
	N, Max int64
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("%s %d is more than the %d that a bundle may have", e.What, e.N, e.Max)
}

// upTo checks that a size is in 1..limit.
func upTo(what string, n, limit int64) error {
	if n > limit {
		return &LimitError{what, n, limit}
	}
	return within(what, n, 1, limit)
}
