//go:build !purego

package cpu

import "golang.org/x/sys/cpu"

func detect() []Path {
	x := &cpu.X86
	switch {
	case !x.HasAVX2:
		return nil
	case x.HasAVX512F && x.HasAVX512BW && x.HasAVX512VL && x.HasAVX512CD && x.HasAVX512VBMI && x.HasAVX512VBMI2 && x.HasAVX512VNNI && x.HasBMI2:
		return []Path{AVX2, AVX512}
	}
	return []Path{AVX2}
}
