//go:build !purego

package cpu

import "golang.org/x/sys/cpu"

// Advanced SIMD is part of every 64-bit Arm that Go runs on.
func detect() []Path {
	if cpu.ARM64.HasASIMDDP && cpu.ARM64.HasASIMDRDM {
		return []Path{NEON, DotProd}
	}
	return []Path{NEON}
}
