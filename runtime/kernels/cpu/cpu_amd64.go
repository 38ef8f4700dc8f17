//go:build !purego

package cpu

import "golang.org/x/sys/cpu"

func detect() []Path {
	if cpu.X86.HasAVX2 {
		return []Path{AVX2}
	}
	return nil
}
