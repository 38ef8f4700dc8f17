//go:build purego || (!amd64 && !arm64)

package pool

import "nepcoc/runtime/cpu"

// No assembly: nothing but has is reached.
func has(cpu.Path) bool { return false }

func max8(_ cpu.Path, dst, x []int8, cols, rows, count, step int)   { panic("BUG: no assembly") }
func max16(_ cpu.Path, dst, x []int16, cols, rows, count, step int) { panic("BUG: no assembly") }
func sum8(_ cpu.Path, dst []int64, x []int8)                        { panic("BUG: no assembly") }

func sum16(_ cpu.Path, dst []int64, x []int16) { panic("BUG: no assembly") }
