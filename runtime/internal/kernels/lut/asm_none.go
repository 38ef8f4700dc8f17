//go:build purego || !amd64

package lut

import "nepcoc/runtime/cpu"

// No assembly: nothing but has is reached.
func has(cpu.Path) bool { return false }

func mapBytes(dst, src *int8, n int, table *[256]int8) { panic("BUG: no assembly") }
