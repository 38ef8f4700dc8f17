package main

import . "nepcoc/runtime/internal/kernels/internal/a64"

// layernorm writes the kernels of package layernorm: 8 channels a step.
func layernorm(a *asm) {
	// V0 and V1 are 8 numbers; V4 collects their sums, V5 and V6 those of their squares.
	a.text("statsNEON", arg{"x", "*int32", 0}, arg{"n", "int", 1}, arg{"s1", "*int64", 2}, arg{"s2", "*int64", 3})
	a.v(Zero(4), Zero(5), Zero(6))
	a.label("lanes")
	a.v(LdpQPost(0, 1, 0, 32), Add(S, 4, 4, 0), Add(S, 4, 4, 1),
		Smlal(S, 5, 0, 0), Smlal2(S, 6, 0, 0), Smlal(S, 5, 1, 1), Smlal2(S, 6, 1, 1))
	a.op("SUBS $8, R1")
	a.op("BGT lanes")
	a.v(Sxtl(S, 0, 4), Sxtl2(S, 1, 4), Add(D, 0, 0, 1), Addp(D, 0, 0, 0), Add(D, 5, 5, 6), Addp(D, 5, 5, 5),
		StrD(0, 2), StrD(5, 3))
	a.op("RET")

	// head: V16 minus the shift, V17 the channels, V18 the sum, V19 the factor.
	// tail: V20 minus the shift, V21 and V22 the limits.
	a.text("applyNEON", arg{"x", "*int32", 0}, arg{"n", "int", 1}, arg{"gamma", "*int32", 2}, arg{"beta", "*int32", 3}, arg{"h", "*head", 4}, arg{"t", "*tail", 5})
	for _, c := range []struct {
		base, off, reg int
		s              Shape
	}{{4, 0, 16, D}, {4, 12, 17, S}, {4, 16, 18, S}, {4, 20, 19, S}, {5, 0, 20, D}, {5, 12, 21, S}, {5, 16, 22, S}} {
		a.op("ADD $%d, R%d, R9", c.off, c.base)
		a.v(Ld1r(c.s, c.reg, 9))
	}
	a.v(Neg(D, 16, 16), Neg(D, 20, 20))
	a.label("lanes")
	a.v(LdpQ(0, 1, 0, 0), LdpQPost(2, 3, 2, 32), LdpQPost(28, 29, 3, 32),
		Mul(S, 0, 0, 17), Mul(S, 1, 1, 17), Sub(S, 0, 0, 18), Sub(S, 1, 1, 18),
		Smull(S, 4, 0, 19), Smull2(S, 5, 0, 19), Smull(S, 6, 1, 19), Smull2(S, 7, 1, 19))
	for i := 4; i < 8; i++ {
		a.v(Sshl(D, i, i, 16)) // rounded down
	}
	a.v(Xtn(S, 0, 4), Xtn2(S, 0, 5), Xtn(S, 1, 6), Xtn2(S, 1, 7),
		Sxtl(S, 4, 28), Sxtl2(S, 5, 28), Sxtl(S, 6, 29), Sxtl2(S, 7, 29),
		Smlal(S, 4, 0, 2), Smlal2(S, 5, 0, 2), Smlal(S, 6, 1, 3), Smlal2(S, 7, 1, 3))
	for i := 4; i < 8; i++ {
		a.v(Srshl(D, i, i, 20)) // to nearest, halves up
	}
	a.v(Sqxtn(S, 0, 4), Sqxtn2(S, 0, 5), Sqxtn(S, 1, 6), Sqxtn2(S, 1, 7),
		Smax(S, 0, 0, 21), Smax(S, 1, 1, 21), Smin(S, 0, 0, 22), Smin(S, 1, 1, 22), StpQPost(0, 1, 0, 32))
	a.op("SUBS $8, R1")
	a.op("BGT lanes")
	a.op("RET")
}
