package main

import . "nepcoc/runtime/internal/kernels/internal/a64"

// Kernels of package rescale: 8 elements a step. Unlike AVX2, arm64 has an arithmetic
// shift of 64 bits that rounds, and one that saturates.
func rescale(a *asm) {
	const dst, src, n = 0, 1, 2
	// constants loads those of a packed at general register k: V28 minus the shift, V29
	// the bias, V30 and V31 the clamp.
	constants := func(k int) {
		for _, c := range []struct{ off, reg int }{{8, 28}, {32, 29}} {
			a.op("ADD $%d, R%d, R9", c.off, k)
			a.v(Ld1r(D, c.reg, 9))
		}
		for _, c := range []struct{ off, reg int }{{20, 30}, {24, 31}} {
			a.op("ADD $%d, R%d, R9", c.off, k)
			a.v(Ld1r(S, c.reg, 9))
		}
		a.v(Neg(D, 28, 28))
	}
	// finish turns the sums in V4-V7 into results in V0 and V1.
	finish := func() {
		for i := 4; i < 8; i++ {
			a.v(Srshl(D, i, i, 28))
		}
		a.v(Sqxtn(S, 0, 4), Sqxtn(S, 1, 6), Sqxtn2(S, 0, 5), Sqxtn2(S, 1, 7),
			Smax(S, 0, 0, 30), Smax(S, 1, 1, 30), Smin(S, 0, 0, 31), Smin(S, 1, 1, 31))
	}

	a.text("scaleNEON", arg{"x", "*int32", 0}, arg{"rows", "int", 1}, arg{"n", "int", 2}, arg{"mult", "*int32", 3}, arg{"k", "*packed", 4})
	constants(4)
	a.label("row")
	a.op("MOVD R3, R5")
	a.op("MOVD R2, R6")
	a.label("lanes")
	a.v(LdpQ(0, 1, 0, 0), LdpQPost(2, 3, 5, 32),
		Smull(S, 4, 0, 2), Smull2(S, 5, 0, 2), Smull(S, 6, 1, 3), Smull2(S, 7, 1, 3))
	finish()
	a.v(StpQPost(0, 1, 0, 32))
	a.op("SUBS $8, R6")
	a.op("BGT lanes")
	a.loopEnd("row", 1)
	a.op("RET")

	a.text("sumNEON", arg{"dst", "*int32", 0}, arg{"a", "*int32", 1}, arg{"b", "*int32", 2}, arg{"n", "int", 3}, arg{"k", "*packedSum", 4})
	constants(4)
	for _, c := range []struct{ off, reg int }{{40, 26}, {44, 27}} {
		a.op("ADD $%d, R4, R9", c.off)
		a.v(Ld1r(S, c.reg, 9))
	}
	a.label("lanes")
	a.v(LdpQPost(0, 1, 1, 32), LdpQPost(2, 3, 2, 32),
		Mov(4, 29), Mov(5, 29), Mov(6, 29), Mov(7, 29),
		Smlal(S, 4, 0, 26), Smlal2(S, 5, 0, 26), Smlal(S, 6, 1, 26), Smlal2(S, 7, 1, 26),
		Smlal(S, 4, 2, 27), Smlal2(S, 5, 2, 27), Smlal(S, 6, 3, 27), Smlal2(S, 7, 3, 27))
	finish()
	a.v(StpQPost(0, 1, 0, 32))
	a.op("SUBS $8, R3")
	a.op("BGT lanes")
	a.op("RET")

	a.text("scaleBytesNEON", arg{"dst", "*int8", 0}, arg{"x", "*int32", 1}, arg{"rows", "int", 2}, arg{"cols", "int", 3}, arg{"stride", "int", 4},
		arg{"mult", "*int32", 5}, arg{"k", "*packed", 6})
	constants(6)
	a.op("SUB $8, R3, R7") // the last vector of a row overlaps the one before it
	a.label("row")
	a.op("MOVD $0, R8")
	a.label("lanes")
	a.op("ADD R8<<2, R1, R10")
	a.op("ADD R8<<2, R5, R11")
	a.op("ADD R8, R0, R12")
	a.v(LdpQ(0, 1, 10, 0), LdpQ(2, 3, 11, 0),
		Smull(S, 4, 0, 2), Smull2(S, 5, 0, 2), Smull(S, 6, 1, 3), Smull2(S, 7, 1, 3))
	finish()
	a.v(Sqxtn(H, 2, 0), Sqxtn2(H, 2, 1), Sqxtn(B, 2, 2), StrD(2, 12))
	a.op("CMP R7, R8")
	a.op("BEQ next")
	a.op("ADD $8, R8")
	a.op("CMP R7, R8")
	a.op("CSEL GT, R7, R8, R8")
	a.op("B lanes")
	a.label("next")
	a.op("ADD R4<<2, R1")
	a.op("ADD R3, R0")
	a.loopEnd("row", 2)
	a.op("RET")

	splits := func(name string, product bool) {
		a.text(name, arg{"dst", "*int8", 0}, arg{"a", "*int8", 1}, arg{"b", "*int8", 2}, arg{"n", "int", 3}, arg{"k", "*split", 4})
		// V16, V17 the lower and V18, V19 the upper parts of the factors, V20, V21 what is added; V22 minus the shift; V23, V24 the clamp.
		for _, c := range []struct {
			off, reg int
			s        Shape
		}{{0, 16, H}, {2, 17, H}, {4, 18, H}, {6, 19, H}, {8, 20, S}, {12, 21, S}, {16, 22, S}, {24, 23, H}, {26, 24, H}} {
			a.op("ADD $%d, R4, R9", c.off)
			a.v(Ld1r(c.s, c.reg, 9))
		}
		a.v(Neg(S, 22, 22))
		a.label("lanes")
		a.v(LdrDPost(0, 1, 8), LdrDPost(1, 2, 8))
		if product {
			a.v(Smull(B, 0, 0, 1))
		} else {
			a.v(Sxtl(B, 0, 0), Sxtl(B, 1, 1))
		}
		a.v(Mov(4, 20), Mov(5, 20), Mov(6, 21), Mov(7, 21),
			Smlal(H, 4, 0, 16), Smlal2(H, 5, 0, 16), Smlal(H, 6, 0, 18), Smlal2(H, 7, 0, 18))
		if !product {
			a.v(Smlal(H, 4, 1, 17), Smlal2(H, 5, 1, 17), Smlal(H, 6, 1, 19), Smlal2(H, 7, 1, 19))
		}
		a.v(Ssra(S, 6, 4, 15), Ssra(S, 7, 5, 15), Sshl(S, 6, 6, 22), Sshl(S, 7, 7, 22),
			Sqxtn(H, 0, 6), Sqxtn2(H, 0, 7), Smax(H, 0, 0, 23), Smin(H, 0, 0, 24), Xtn(B, 0, 0), StrD(0, 0))
		a.op("ADD $8, R0")
		a.op("SUBS $8, R3")
		a.op("BGT lanes")
		a.op("RET")
	}
	splits("sumBytesNEON", false)
	splits("productBytesNEON", true)

	// simple writes a loop over n elements, by at a time.
	simple := func(name, to, from string, by int, step func()) {
		a.text(name, arg{"dst", to, dst}, arg{"src", from, src}, arg{"n", "int", n})
		a.label("lanes")
		step()
		a.op("SUBS $%d, R%d", by, n)
		a.op("BGT lanes")
		a.op("RET")
	}
	simple("multiplyNEON", "*int32", "*int32", 8, func() {
		a.v(LdpQ(0, 1, dst, 0), LdpQPost(2, 3, src, 32), Mul(S, 0, 0, 2), Mul(S, 1, 1, 3), StpQPost(0, 1, dst, 32))
	})
	simple("widen8NEON", "*int32", "*int8", 8, func() {
		a.op("VLD1.P 8(R%d), [V2.B8]", src)
		a.v(Sxtl(B, 2, 2), Sxtl(H, 0, 2), Sxtl2(H, 1, 2), StpQPost(0, 1, dst, 32))
	})
	simple("widen16NEON", "*int32", "*int16", 8, func() {
		a.v(LdrQPost(2, src, 16), Sxtl(H, 0, 2), Sxtl2(H, 1, 2), StpQPost(0, 1, dst, 32))
	})
	simple("narrow8NEON", "*int8", "*int32", 8, func() {
		a.v(LdpQPost(0, 1, src, 32), Xtn(H, 2, 0), Xtn2(H, 2, 1), Xtn(B, 2, 2))
		a.op("VST1.P [V2.B8], 8(R%d)", dst)
	})
	simple("narrow16NEON", "*int16", "*int32", 8, func() {
		a.v(LdpQPost(0, 1, src, 32), Xtn(H, 2, 0), Xtn2(H, 2, 1), StrQPost(2, dst, 16))
	})
	simple("extendNEON", "*int16", "*int8", 16, func() {
		a.v(LdrQPost(2, src, 16), Sxtl(B, 0, 2), Sxtl2(B, 1, 2), StpQPost(0, 1, dst, 32))
	})
}
