//go:build purego || (!amd64 && !arm64)

package lut

import "nepcoc/runtime/cpu"

// No assembly: nothing but has is reached.
func has(cpu.Path) bool { return false }

func least(cpu.Path) int { panic("BUG: no assembly") }

func mapBytes(_ cpu.Path, dst, src []int8, table *[256]int8) { panic("BUG: no assembly") }
