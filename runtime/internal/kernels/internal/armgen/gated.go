package main

import (
	"fmt"

	. "nepcoc/runtime/internal/kernels/internal/a64"
)

// Registers of all gated kernels:
//
//	V28 V29 the gate's bases, V30 V31 its slopes; V27 0x80 bytes
//	R0 constants of the channel (pair), R1 source plane, R14 its stride
//	R3 R4 inputs of h and g; R19 R20 those of the pair's second channel
const (
	vBase, vSlope, vSign = 28, 30, 27
	rW, rSrc, rSrcStride = 0, 1, 14
	rH, rG, rH1, rG1     = 3, 4, 19, 20
	rTab                 = 7
)

// Offsets in the constants; gated_arm64.go packs them.
const (
	dotTaps, dotChan, dotTaps2   = 64, 80, 96
	dotSize4, dotSize8           = 96, 112
	neonTaps, neonChan, neonSize = 32, 48, 64
	quarterTaps, quarterSize     = 64, 128
	tabRound                     = 64 // in the tables: how products are rounded
	rowBytes                     = 32 // of one channel in a half tile
)

// plainShifts have kernels of their own; others share the one that shifts by register.
var plainShifts = []int{3, 4, 5, 6, 7}

func gated(a *asm) {
	for _, sh := range append(plainShifts, 0) {
		dotPlain(a, sh, true, 4)
	}
	dotPlain(a, 0, false, 4)
	dotPlain(a, 0, true, 8)
	dotPlain(a, 0, false, 8)
	dotTile(a, true, 4, false)
	dotTile(a, true, 4, true)
	dotTile(a, false, 4, true)
	dotTile(a, true, 8, true)
	dotTile(a, false, 8, true)
	dotPlainQuarter(a)
	dotTileQuarter(a, false)
	dotTileQuarter(a, true)
	for _, taps := range []int{4, 8} {
		for _, sh := range append(plainShifts, 0) {
			neonPlain(a, sh, taps)
		}
		neonTile(a, taps)
	}
	rsqrtTable(a)
	factors(a, "dotFactors", dotSums)
	factors(a, "neonFactors", neonSums)
	for _, rdm := range []bool{true, false} {
		for sh := 1; sh <= 7; sh++ {
			apply(a, rdm, sh, false)
			apply(a, rdm, sh, true)
		}
		pool(a, rdm, false)
		pool(a, rdm, true)
		wide(a, rdm)
	}
	maxima(a)
}

func prefix(rdm bool) string {
	if rdm {
		return "dot"
	}
	return "neon"
}

// plainName is the name of a plain kernel: ISA, taps, channel map, shift.
func plainName(isa string, taps int, shared bool, sh int) string {
	name := fmt.Sprintf("%sPlain%d", isa, taps)
	if !shared {
		name += "Map"
	}
	if sh != 0 {
		name += fmt.Sprintf("Shift%d", sh)
	}
	return name
}

func tables(a *asm) {
	a.v(LdpQ(vBase, vBase+1, rTab, 0), LdpQ(vSlope, vSlope+1, rTab, 32), MoviB(vSign, 0x80))
}

// input loads a channel number and makes the address of its row.
func input(a *asm, at, reg int) {
	a.op("MOVHU %d(R0), R%d", at, reg)
	a.op("MADD R%d, R%d, R%d, R%d", rSrcStride, rSrc, reg, reg)
}

// gate is the sigmoid of the bytes g: s7 in t; clobbers u.
func gate(a *asm, g, t, u int) {
	a.v(
		Ushr(B, t, g, 3),
		Tbl2(u, vSlope, t),
		Tbl2(t, vBase, t),
		Mla(B, t, u, g),
		Ushr(B, t, t, 1),
	)
}

// ---- dot product ----

// dotFilter computes two channels' filter on 16 positions: bytes in time order
// in acc0[0] and acc1[0]. bias is the offset of the biases, lane the filter's
// first in the taps.
func dotFilter(a *asm, acc0, acc1 [4]int, x [4]int, bias, lane, p0, p1 int, shared bool, taps int) {
	for i := range 4 { // the same pair of biases four times: one load for two accumulators
		a.v(LdpQ(acc0[i], acc1[i], rW, bias))
	}
	for k := 0; k < taps; k += 4 {
		w := 0 + 25*(k/4)
		for i, r := range x {
			a.v(LdrQ(r, p0, k+i))
		}
		for i, r := range x {
			a.v(UdotLane(acc0[i], r, w, lane))
		}
		if !shared {
			for i, r := range x {
				a.v(LdrQ(r, p1, k+i))
			}
		}
		for i, r := range x {
			a.v(UdotLane(acc1[i], r, w, lane+1))
		}
	}
	inOrder(a, acc0)
	inOrder(a, acc1)
}

// inOrder brings the second bytes of accumulators of every fourth position to c[0], in time order.
func inOrder(a *asm, c [4]int) {
	a.v(
		Trn1(H, c[0], c[0], c[2]),
		Trn1(H, c[1], c[1], c[3]),
		Trn2(B, c[0], c[0], c[1]),
	)
}

// dotFront leaves h of the pair in V9 and V13, s7 in V17 and V21.
func dotFront(a *asm, shared bool, taps int) {
	dotFilter(a, [4]int{16, 17, 18, 19}, [4]int{20, 21, 22, 23}, [4]int{5, 6, 7, 8}, 32, 2, rG, rG1, shared, taps)
	gate(a, 16, 17, 18)
	gate(a, 20, 21, 22)
	dotFilter(a, [4]int{9, 10, 11, 12}, [4]int{13, 14, 15, 24}, [4]int{1, 2, 3, 4}, 0, 0, rH, rH1, shared, taps)
}

// dotChannels loads the taps and makes the input addresses of a pair.
func dotChannels(a *asm, shared bool, taps int) {
	a.v(LdrQ(0, rW, dotTaps))
	if taps == 8 {
		a.v(LdrQ(25, rW, dotTaps2))
	}
	input(a, dotChan, rH)
	input(a, dotChan+4, rG)
	if !shared {
		input(a, dotChan+2, rH1)
		input(a, dotChan+6, rG1)
	}
}

func dotSize(taps int) int {
	if taps == 8 {
		return dotSize8
	}
	return dotSize4
}

// advance moves the inputs to the next 16 positions.
func advance(a *asm, regs ...int) {
	for _, r := range regs {
		a.op("ADD $16, R%d", r)
	}
}

func dotPlain(a *asm, sh int, shared bool, taps int) {
	a.text(plainName("dot", taps, shared, sh), arg{"w", "*byte", rW}, arg{"pairs", "int", 10}, arg{"src", "*int8", rSrc},
		arg{"srcStride", "int", rSrcStride}, arg{"dst", "*int8", 2}, arg{"dstStride", "int", 15}, arg{"blocks", "int", 5}, arg{"tab", "*tables", rTab})
	tables(a)
	if sh == 0 {
		a.v(LdrQ(26, rTab, tabRound))
	}
	a.label("channel")
	dotChannels(a, shared, taps)
	a.op("MOVD R2, R11")
	a.op("ADD R15, R2, R12")
	a.op("MOVD R5, R13")
	a.label("block")
	dotFront(a, shared, taps)
	regs := []int{rH, rG}
	if !shared {
		regs = append(regs, rH1, rG1)
	}
	narrow(a, sh, [][3]int{{9, 17, 18}, {13, 21, 22}})
	a.v(StrQPost(18, 11, 16), StrQPost(22, 12, 16))
	advance(a, regs...)
	a.loopEnd("block", 13)
	a.op("ADD R15<<1, R2")
	a.op("ADD $%d, R0", dotSize(taps))
	a.loopEnd("channel", 10)
	a.op("RET")
}

// narrow makes output bytes of h and s7 (the first two of each triple) in the
// third; the register after it is clobbered. The accumulators start at 128<<sh,
// which makes x+128 of x.
func narrow(a *asm, sh int, list [][3]int) {
	if sh != 0 {
		for _, r := range list {
			a.v(LdpQ(r[2], r[2]+1, rTab, tabRound))
		}
		for _, r := range list {
			a.v(Smlal(B, r[2], r[0], r[1]), Smlal2(B, r[2]+1, r[0], r[1]))
		}
		for _, r := range list {
			a.v(Sqrshrun(r[2], r[2], sh), Sqrshrun2(r[2], r[2]+1, sh))
		}
		return
	}
	for _, r := range list {
		a.v(Smull(B, r[2], r[0], r[1]), Smull2(B, r[2]+1, r[0], r[1]),
			Srshl(H, r[2], r[2], 26), Srshl(H, r[2]+1, r[2]+1, 26),
			Sqxtn(B, r[2], r[2]), Sqxtn2(B, r[2], r[2]+1),
			Eor(r[2], r[2], vSign))
	}
}

func dotTile(a *asm, shared bool, taps int, signed bool) {
	name := fmt.Sprintf("dotTile%d", taps)
	if !shared {
		name += "Map"
	}
	if !signed {
		name += "Positive"
	}
	a.text(name, arg{"w", "*byte", rW}, arg{"pairs", "int", 10}, arg{"src", "*int8", rSrc}, arg{"srcStride", "int", rSrcStride},
		arg{"res", "*int8", 2}, arg{"resStride", "int", 15}, arg{"y", "*int16", 12}, arg{"tab", "*tables", rTab}, arg{"aux", "*byte", 6})
	tables(a)
	a.label("channel")
	dotChannels(a, shared, taps)
	a.op("ADD R15, R2, R21")
	dotFront(a, shared, taps)
	a.v(LdrQ(5, 2, 0), LdrQ(6, 21, 0), LdpQ(7, 8, 6, 32))
	a.v(LdpQ(18, 22, 6, 0), LdpQ(19, 23, 6, 0))
	products(a, signed)
	a.op("ADD R15<<1, R2")
	a.op("ADD $%d, R0", dotSize(taps))
	a.op("ADD $64, R6")
	a.v(StpQPost(18, 19, 12, rowBytes), StpQPost(22, 23, 12, rowBytes))
	a.loopEnd("channel", 10)
	a.op("RET")
}

// products adds to the constants in V18, V19 and V22, V23 the residuals V5 and V6 times rho in V7 and V8,
// and dotFront's h times s7.
func products(a *asm, signed bool) {
	lo, hi := Umlal, Umlal2
	if signed {
		a.v(Eor(5, 5, vSign), Eor(6, 6, vSign))
		lo, hi = Smlal, Smlal2
	}
	a.v(lo(B, 18, 5, 7), hi(B, 19, 5, 7), lo(B, 22, 6, 8), hi(B, 23, 6, 8))
	a.v(Smlal(B, 18, 9, 17), Smlal2(B, 19, 9, 17), Smlal(B, 22, 13, 21), Smlal2(B, 23, 13, 21))
}

// ---- dot product, 8 positions of two pairs whose channels read the same inputs ----
//
// The first pair has the lower halves of all vectors, the second (its inputs at rH1 and rG1)
// the upper ones. What is left of a stream's last chunk is seldom a whole 16 positions.

// rQuarter are the constants of two pairs: of both channels' h and g the biases and the taps, each
// twice 64 bits.
const rQuarter = 22

// quarterFilter is dotFilter: bytes of the first channels in acc0[0], of the second in acc1[0]. t is clobbered.
func quarterFilter(a *asm, acc0, acc1, x, t [4]int, taps0, taps1, filter, p0, p1 int) {
	for i := range 4 {
		a.v(LdpQ(acc0[i], acc1[i], rQuarter, 32*filter))
	}
	a.v(LdpQ(taps0, taps1, rQuarter, quarterTaps+32*filter))
	for i := range 4 {
		a.v(LdrQ(x[i], p0, i), LdrQ(t[i], p1, i))
	}
	for i := range 4 {
		a.v(Zip1(D, x[i], x[i], t[i]))
	}
	for i := range 4 {
		a.v(Udot(acc0[i], x[i], taps0))
	}
	for i := range 4 {
		a.v(Udot(acc1[i], x[i], taps1))
	}
	inOrder(a, acc0)
	inOrder(a, acc1)
}

// quarterFront is dotFront.
func quarterFront(a *asm) {
	input(a, dotChan, rH)
	input(a, dotChan+4, rG)
	input(a, dotSize4+dotChan, rH1)
	input(a, dotSize4+dotChan+4, rG1)
	quarterFilter(a, [4]int{16, 17, 18, 19}, [4]int{20, 21, 22, 23}, [4]int{5, 6, 7, 8}, [4]int{1, 2, 3, 4}, 9, 10, 1, rG, rG1)
	gate(a, 16, 17, 18)
	gate(a, 20, 21, 22)
	quarterFilter(a, [4]int{9, 10, 11, 12}, [4]int{13, 14, 15, 24}, [4]int{1, 2, 3, 4}, [4]int{5, 6, 7, 8}, 18, 19, 0, rH, rH1)
	a.op("ADD $%d, R0", 2*dotSize4)
	a.op("ADD $%d, R%d", quarterSize, rQuarter)
}

func dotPlainQuarter(a *asm) {
	a.text("dotPlainQuarter", arg{"quarters", "*byte", rQuarter}, arg{"w", "*byte", rW}, arg{"quads", "int", 10}, arg{"src", "*int8", rSrc},
		arg{"srcStride", "int", rSrcStride}, arg{"dst", "*int8", 2}, arg{"dstStride", "int", 15}, arg{"tab", "*tables", rTab})
	tables(a)
	a.v(LdrQ(26, rTab, tabRound))
	a.label("quad")
	quarterFront(a)
	narrow(a, 0, [][3]int{{9, 17, 18}, {13, 21, 22}})
	a.op("ADD R15, R2, R11")
	a.op("ADD R15<<1, R2, R12")
	a.op("ADD R15<<1, R11, R13")
	a.v(StrD(18, 2), StrD(22, 11), St1D(18, 12), St1D(22, 13))
	a.op("ADD R15<<2, R2")
	a.loopEnd("quad", 10)
	a.op("RET")
}

// dotTileQuarter writes the first 8 positions of a half tile.
func dotTileQuarter(a *asm, signed bool) {
	name := "dotTileQuarter"
	if !signed {
		name += "Positive"
	}
	a.text(name, arg{"quarters", "*byte", rQuarter}, arg{"w", "*byte", rW}, arg{"quads", "int", 10}, arg{"src", "*int8", rSrc}, arg{"srcStride", "int", rSrcStride},
		arg{"res", "*int8", 2}, arg{"resStride", "int", 15}, arg{"y", "*int16", 12}, arg{"tab", "*tables", rTab}, arg{"aux", "*byte", 6})
	tables(a)
	a.label("quad")
	quarterFront(a)
	a.op("ADD R15, R2, R21")
	a.op("ADD R15<<1, R2, R11")
	a.op("ADD R15<<1, R21, R13")
	a.v(LdrQ(5, 2, 0), LdrQ(6, 21, 0), LdrQ(1, 11, 0), LdrQ(2, 13, 0), LdpQ(7, 8, 6, 32), LdpQ(3, 4, 6, 96))
	a.v(Zip1(D, 5, 5, 1), Zip1(D, 6, 6, 2), Zip1(D, 7, 7, 3), Zip1(D, 8, 8, 4))
	a.v(LdpQ(18, 22, 6, 0), LdpQ(19, 23, 6, 64))
	products(a, signed)
	a.op("ADD R15<<2, R2")
	a.op("ADD $128, R6")
	a.v(StrQ(18, 12, 0), StrQ(22, 12, rowBytes), StrQ(19, 12, 2*rowBytes), StrQ(23, 12, 3*rowBytes))
	a.op("ADD $%d, R12", 4*rowBytes)
	a.loopEnd("quad", 10)
	a.op("RET")
}

// ---- without dot product ----

// neonChannel loads a channel's taps (h to V0.., g behind them), each to all
// bytes of a register, and makes its input addresses.
func neonChannel(a *asm, taps int) {
	for f := range 2 {
		a.op("ADD $%d, R0, R9", neonTaps+8*f)
		for k := range taps {
			a.v(Ld1rPost(B, f*taps+k, 9))
		}
	}
	input(a, neonChan, rH)
	input(a, neonChan+2, rG)
}

// neonFront computes 16 positions at off: h in V16, s7 in V19.
func neonFront(a *asm, taps, off int) {
	a.v(LdpQ(16, 18, rW, 0), LdpQ(17, 19, rW, 0))
	for k := range taps {
		a.v(LdrQ(24, rG, off+k),
			Umlal(B, 18, 24, taps+k), Umlal2(B, 19, 24, taps+k),
			LdrQ(25, rH, off+k),
			Umlal(B, 16, 25, k), Umlal2(B, 17, 25, k))
	}
	a.v(Uzp2(B, 18, 18, 19))
	gate(a, 18, 19, 20)
	a.v(Uzp2(B, 16, 16, 17))
}

func neonPlain(a *asm, sh, taps int) {
	a.text(plainName("neon", taps, true, sh), arg{"w", "*byte", rW}, arg{"n", "int", 10}, arg{"src", "*int8", rSrc},
		arg{"srcStride", "int", rSrcStride}, arg{"dst", "*int8", 2}, arg{"dstStride", "int", 15}, arg{"blocks", "int", 5}, arg{"tab", "*tables", rTab})
	tables(a)
	if sh == 0 {
		a.v(LdrQ(26, rTab, tabRound))
	}
	a.label("channel")
	neonChannel(a, taps)
	a.op("MOVD R2, R11")
	a.op("MOVD R5, R13")
	a.label("block")
	neonFront(a, taps, 0)
	narrow(a, sh, [][3]int{{16, 19, 22}})
	a.v(StrQPost(22, 11, 16))
	advance(a, rH, rG)
	a.loopEnd("block", 13)
	a.op("ADD R15, R2")
	a.op("ADD $%d, R0", neonSize)
	a.loopEnd("channel", 10)
	a.op("RET")
}

// neonTile computes both half tiles of a block, so that a channel's taps are
// loaded once for 32 positions.
func neonTile(a *asm, taps int) {
	a.text(fmt.Sprintf("neonTile%d", taps), arg{"w", "*byte", rW}, arg{"n", "int", 10}, arg{"src", "*int8", rSrc}, arg{"srcStride", "int", rSrcStride},
		arg{"res", "*int8", 2}, arg{"resStride", "int", 15}, arg{"y0", "*int16", 12}, arg{"y1", "*int16", 13}, arg{"tab", "*tables", rTab}, arg{"aux", "*byte", 6})
	tables(a)
	a.label("channel")
	neonChannel(a, taps)
	for half := range 2 {
		neonFront(a, taps, 16*half)
		a.v(LdrQ(24, 2, 16*half), LdrQ(25, 6, 16), Eor(24, 24, vSign), LdrQ(22, 6, 0), LdrQ(23, 6, 0),
			Smlal(B, 22, 24, 25), Smlal2(B, 23, 24, 25),
			Smlal(B, 22, 16, 19), Smlal2(B, 23, 16, 19),
			StpQPost(22, 23, 12+half, rowBytes))
	}
	a.op("ADD R15, R2")
	a.op("ADD $%d, R0", neonSize)
	a.op("ADD $32, R6")
	a.loopEnd("channel", 10)
	a.op("RET")
}

// ---- layer norm, from half tiles of [channel][16] words ----

// The words of rsqrt, in the registers V5...
var rsqrt = []int32{1, ^1, -9988, 25518, -24211, 12748, 49152, 32767, 128, 16384, 16383, -16384}

func rsqrtTable(a *asm) {
	a.line("")
	a.line("// Constants of arith.NormFactors.")
	for i, v := range rsqrt {
		a.line(fmt.Sprintf("DATA rsqrt<>+%d(SB)/4, $%d", 4*i, v))
	}
	a.line(fmt.Sprintf("GLOBL rsqrt<>(SB), RODATA|NOPTR, $%d", 4*len(rsqrt)))
}

// dotSums adds up four channels a step: sums in V20-V23, squares in V24-V27.
func dotSums(a *asm) {
	a.v(MoviB(31, 1))
	for r := 20; r < 28; r++ {
		a.v(Zero(r))
	}
	a.label("sum")
	for i := range 4 {
		a.v(LdpQPost(1+2*i, 2+2*i, 0, rowBytes))
	}
	a.v( // upper bytes: pairs of channels, then four
		Trn2(B, 1, 1, 3), Trn2(B, 2, 2, 4), Trn2(B, 5, 5, 7), Trn2(B, 6, 6, 8),
		Zip1(H, 16, 1, 5), Zip2(H, 17, 1, 5), Zip1(H, 18, 2, 6), Zip2(H, 19, 2, 6),
	)
	for i := range 4 {
		a.v(Sdot(20+i, 16+i, 31), Sdot(24+i, 16+i, 16+i))
	}
	a.loopEnd("sum", 1)
}

// neonSums is dotSums with 16-bit sums and pairs of squares.
func neonSums(a *asm) {
	for _, r := range []int{20, 21, 24, 25, 26, 27} {
		a.v(Zero(r))
	}
	a.label("sum")
	for range 2 {
		a.v(LdpQPost(1, 2, 0, rowBytes), LdpQPost(3, 4, 0, rowBytes),
			Uzp2(B, 5, 1, 2), Uzp2(B, 6, 3, 4),
			Ssra(H, 20, 1, 8), Ssra(H, 21, 2, 8), Ssra(H, 20, 3, 8), Ssra(H, 21, 4, 8),
			Smull(B, 7, 5, 5), Smull2(B, 16, 5, 5),
			Smlal(B, 7, 6, 6), Smlal2(B, 16, 6, 6), // up to 2^15: unsigned
			Uaddw(H, 24, 24, 7), Uaddw2(H, 25, 25, 7), Uaddw(H, 26, 26, 16), Uaddw2(H, 27, 27, 16))
	}
	a.loopEnd("sum", 1)
	a.v(Sxtl(H, 22, 21), Sxtl2(H, 23, 21), Sxtl2(H, 21, 20), Sxtl(H, 20, 20))
}

// factors is arith.NormFactors of 16 positions.
func factors(a *asm, name string, sums func(*asm)) {
	a.text(name, arg{"y", "*int16", 0}, arg{"quads", "int", 1}, arg{"r", "*int16", 2}, arg{"k", "*int16", 3}, arg{"p", "*factorParams", 4})
	sums(a)
	for i := range 5 { // V0 C, V1 MeanM, V2 Eps, V3 A, V4 S
		a.v(Ld1rPost(S, i, 4))
	}
	a.op("MOVD $rsqrt<>(SB), R5")
	for i := range rsqrt {
		a.v(Ld1rPost(S, 5+i, 5))
	}
	const one, even, rc3, newton, top, mean, round, kMax, kMin = 5, 6, 7, 11, 12, 13, 14, 15, 16
	for i := range 4 {
		s1, s2 := 20+i, 24+i
		a.v(
			Mul(S, 17, s2, 0), Mls(S, 17, s1, s1), Add(S, 17, 17, 2), Smax(S, 17, 17, one),
			Clz(S, 18, 17), Sub(S, 18, 18, one), And(18, 18, even),
			Ushl(S, 17, 17, 18), Ushr(S, 17, 17, 16),
			Mul(S, 19, 17, rc3), Sshr(S, 19, 19, 15), Add(S, 19, 19, rc3+1),
			Mul(S, 19, 17, 19), Sshr(S, 19, 19, 15), Add(S, 19, 19, rc3+2),
			Mul(S, 19, 17, 19), Sshr(S, 19, 19, 15), Add(S, 19, 19, rc3+3),
			Mul(S, 28, 19, 19), Sshr(S, 28, 28, 10),
			Mul(S, 28, 28, 17), Sshr(S, 28, 28, 15),
			Sub(S, 28, newton, 28), Mul(S, 19, 19, 28), Sshr(S, 19, 19, 13),
			Ushr(S, 29, 18, 1), Sub(S, 29, 4, 29), Zero(30), Smax(S, 29, 29, 30), Neg(S, 29, 29),
			Mul(S, 19, 19, 3), Ushl(S, 19, 19, 29), Umin(S, 19, 19, top),
			Mul(S, 28, s1, 1), Add(S, 28, 28, round), Sshr(S, 28, 28, 15), Add(S, 28, 28, mean),
			Mul(S, 28, 28, 19), Add(S, 28, 28, round), Sshr(S, 28, 28, 15),
			Neg(S, 28, 28), Smin(S, 28, 28, kMax), Smax(S, 28, 28, kMin),
		)
		if i%2 == 0 {
			a.v(Xtn(H, s1, 19), Xtn(H, s2, 28))
		} else {
			a.v(Xtn2(H, s1-1, 19), Xtn2(H, s2-1, 28))
		}
	}
	a.v(StpQ(20, 22, 2, 0), StpQ(24, 26, 3, 0))
	a.op("RET")
}

// normalise turns the words y0, y1 of a channel into normalised ones in v0, v1.
// V24 V25 hold r, V26 V27 k; with the fused instruction k is loaded anew from R8
// (its accumulator is overwritten, and loads are free where vector slots are not).
func normalise(a *asm, rdm bool, v0, v1, y0, y1 int) {
	if rdm {
		a.v(LdpQ(v0, v1, 8, 0), Sqrdmlah(H, v0, y0, 24), Sqrdmlah(H, v1, y1, 25))
		return
	}
	a.v(Sqrdmulh(H, v0, y0, 24), Sqrdmulh(H, v1, y1, 25), Sqadd(H, v0, v0, 26), Sqadd(H, v1, v1, 27))
}

func apply(a *asm, rdm bool, sh int, flips bool) {
	name := fmt.Sprintf("%sApply%d", prefix(rdm), sh)
	if flips {
		name += "Flip"
	}
	a.text(name, arg{"y", "*int16", 0}, arg{"pairs", "int", 1}, arg{"r", "*int16", 2}, arg{"k", "*int16", 3}, arg{"flips", "*byte", 4},
		arg{"work", "*int16", 8}, arg{"dst", "*int8", 11}, arg{"dstStride", "int", 15})
	a.v(LdpQ(24, 25, 2, 0), LdpQ(26, 27, 3, 0))
	a.op("MOVD $%d, R5", 128<<sh) // x+128
	a.v(DupX(H, 28, 5), Add(H, 26, 26, 28), Add(H, 27, 27, 28))
	if rdm {
		a.v(StpQ(26, 27, 8, 0))
	}
	a.op("ADD R15, R11, R12")
	a.label("channel")
	a.v(LdpQPost(0, 1, 0, rowBytes), LdpQPost(2, 3, 0, rowBytes))
	normalise(a, rdm, 16, 17, 0, 1)
	normalise(a, rdm, 18, 19, 2, 3)
	a.v(Sqrshrun(16, 16, sh), Sqrshrun(18, 18, sh), Sqrshrun2(16, 17, sh), Sqrshrun2(18, 19, sh))
	if flips {
		a.v(LdpQPost(4, 5, 4, 32), Eor(16, 16, 4), Eor(18, 18, 5))
	}
	a.v(StrQ(16, 11, 0), StrQ(18, 12, 0))
	a.op("ADD R15<<1, R11")
	a.op("ADD R15<<1, R12")
	a.loopEnd("channel", 1)
	a.op("RET")
}

func pool(a *asm, rdm, flips bool) {
	name := prefix(rdm) + "Pool"
	if flips {
		name += "Flip"
	}
	a.text(name, arg{"y", "*int16", 0}, arg{"pairs", "int", 1}, arg{"r", "*int16", 2}, arg{"k", "*int16", 8}, arg{"flips", "*byte", 4},
		arg{"mask", "*int16", 5}, arg{"acc", "*int16", 6})
	a.v(LdpQ(24, 25, 2, 0), LdpQ(26, 27, 8, 0), LdpQ(30, 31, 5, 0))
	a.label("channel")
	for i := range 2 {
		v := 16 + 2*i
		a.v(LdpQPost(0, 1, 0, rowBytes))
		normalise(a, rdm, v, v+1, 0, 1)
		if flips { // lanes outside the mask stay at the minimum
			a.v(LdrQPost(4, 4, 16), And(5, 4, 30), And(6, 4, 31), Eor(v, v, 5), Eor(v+1, v+1, 6))
		}
		a.v(LdpQ(2, 3, 6, 32*i), Smax(H, 2, 2, v), Smax(H, 3, 3, v+1), StpQ(2, 3, 6, 32*i))
	}
	a.op("ADD $64, R6") // not by the stores: the next load would wait for their data
	a.loopEnd("channel", 1)
	a.op("RET")
}

func wide(a *asm, rdm bool) {
	a.text(prefix(rdm)+"Wide", arg{"y", "*int16", 0}, arg{"n", "int", 1}, arg{"r", "*int16", 2}, arg{"k", "*int16", 8}, arg{"flips", "*byte", 4},
		arg{"dst", "*int16", 6})
	a.v(LdpQ(24, 25, 2, 0), LdpQ(26, 27, 8, 0))
	a.label("channel")
	a.v(LdpQPost(0, 1, 0, rowBytes))
	normalise(a, rdm, 16, 17, 0, 1)
	a.v(LdrQPost(4, 4, 16), Eor(16, 16, 4), Eor(17, 17, 4), StpQPost(16, 17, 6, 64))
	a.loopEnd("channel", 1)
	a.op("RET")
}

// maxima reduces the 16 partial maxima of eight channels at a time.
func maxima(a *asm) {
	a.text("maxima", arg{"acc", "*int16", 0}, arg{"eights", "int", 1}, arg{"out", "*int16", 2})
	a.label("channel")
	for i := range 8 {
		a.v(LdpQPost(i, 16+i, 0, 32), Smax(H, i, i, 16+i))
	}
	for step := 1; step < 8; step *= 2 {
		for i := 0; i < 8; i += 2 * step {
			a.v(Smaxp(H, i, i, i+step))
		}
	}
	a.v(StrQPost(0, 2, 16))
	a.loopEnd("channel", 1)
	a.op("RET")
}
