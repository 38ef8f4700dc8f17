//go:build purego || (!amd64 && !arm64)

package transpose

import (
	"unsafe"

	"nepcoc/runtime/cpu"
)

const stripRows16 = 16

// No assembly: nothing but has is reached.
func has(cpu.Path) bool { return false }

func strip8(dst, src unsafe.Pointer, rows, cols, blocks int)  { panic("BUG: no assembly") }
func strip16(dst, src unsafe.Pointer, rows, cols, blocks int) { panic("BUG: no assembly") }
