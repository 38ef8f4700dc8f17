//go:build purego || !amd64

package gated

import "nepcoc/runtime/internal/kernels/plane"

// No path of this build has time-major planes: nothing below is reached.
type rowsLayer struct{}

func fitsRows(*Params) bool                                             { return false }
func (l *Layer) packRows()                                              { panic("BUG: no assembly") }
func (l *Layer) plainRows(dst, src *plane.Plane, pos, n int)            { panic("BUG: no assembly") }
func (l *Layer) tileRows(src, res *plane.Plane, pos, n int, s *Scratch) { panic("BUG: no assembly") }
func (l *Layer) applyRows(dst *plane.Plane, pos, n int, s *Scratch)     { panic("BUG: no assembly") }
func (l *Layer) poolRows(acc *Acc, n int, s *Scratch)                   { panic("BUG: no assembly") }
func (l *Layer) wideRows(dst []int16, n int, s *Scratch)                { panic("BUG: no assembly") }
func maxRows(out, v []int16)                                            { panic("BUG: no assembly") }
