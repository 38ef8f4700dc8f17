//go:build purego || (!amd64 && !arm64)

package gated

import "nepcoc/runtime/internal/kernels/plane"

// No assembly: pack refuses every layer, so that nothing below is reached.
type packed struct{}

func (l *Layer) pack() bool                                                { return false }
func (l *Layer) width(n int) int                                           { panic("BUG: no assembly") }
func (l *Layer) plainASM(dst, src *plane.Plane, pos, n int)                { panic("BUG: no assembly") }
func (l *Layer) tileASM(src, res *plane.Plane, pos, width int, s *Scratch) { panic("BUG: no assembly") }
func (l *Layer) applyASM(dst *plane.Plane, pos, width int, s *Scratch)     { panic("BUG: no assembly") }
func (l *Layer) poolASM(acc *Acc, n, width int, s *Scratch)                { panic("BUG: no assembly") }
func (l *Layer) wideASM(dst []int16, s *Scratch)                           { panic("BUG: no assembly") }

func reduce(out, v []int16) int { return 0 }
