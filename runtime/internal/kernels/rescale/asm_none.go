//go:build purego || (!amd64 && !arm64)

package rescale

import "nepcoc/runtime/cpu"

// No assembly: nothing but has is reached.
func has(cpu.Path) bool { return false }

func scale(_ cpu.Path, x []int32, rows int, mult []int32, k *packed) { panic("BUG: no assembly") }
func sum(_ cpu.Path, dst, a, b []int32, k *packedSum)                { panic("BUG: no assembly") }
func multiply(_ cpu.Path, dst, b []int32)                            { panic("BUG: no assembly") }
func widen8(_ cpu.Path, dst []int32, src []int8)                     { panic("BUG: no assembly") }
func widen16(_ cpu.Path, dst []int32, src []int16)                   { panic("BUG: no assembly") }
func narrow8(_ cpu.Path, dst []int8, src []int32)                    { panic("BUG: no assembly") }
func narrow16(_ cpu.Path, dst []int16, src []int32)                  { panic("BUG: no assembly") }
func extend(_ cpu.Path, dst []int16, src []int8)                     { panic("BUG: no assembly") }
func lookup([]int32, []int16)                                        { panic("BUG: no assembly") }
