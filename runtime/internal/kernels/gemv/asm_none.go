//go:build purego || (!amd64 && !arm64)

package gemv

import "nepcoc/runtime/cpu"

// No assembly: no columns are done.

func i8(cpu.Path, []int32, []int8, []int8) int   { return 0 }
func i16(cpu.Path, []int32, []int8, []int16) int { return 0 }
