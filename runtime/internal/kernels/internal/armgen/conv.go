package main

import . "nepcoc/runtime/internal/kernels/internal/a64"

// Kernels of package conv. Dense layers: four positions at a time, four inputs a step.
// V0-V3 hold the positions' inputs, V4-V11 the weights of the step (per input 8 or 16
// output channels), V16-V31 the accumulators, those of a position side by side.
func conv(a *asm) {
	dense(a, "dense16NEON", 2)
	dense(a, "dense8NEON", 1)
	dotted(a, "bytes16DOT", 4)
	dotted(a, "bytes8DOT", 2)
	depthwise(a)
}

// dense writes the kernel for 8*wRegs output channels.
func dense(a *asm, name string, wRegs int) {
	const acc, accStride, x, xStride, n, w, segments, segStride, pairs, bias = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9
	const wp, seg, pair = 10, 11, 12
	xs := []int{13, 14, 15, 19} // inputs of the positions; R16 to R18 are the linker's and the system's
	a.text(name, arg{"acc", "*int32", acc}, arg{"accStride", "int", accStride}, arg{"x", "*int16", x}, arg{"xStride", "int", xStride}, arg{"n", "int", n},
		arg{"w", "*int16", w}, arg{"segments", "int", segments}, arg{"segStride", "int", segStride}, arg{"pairs", "int", pairs}, arg{"bias", "*int32", bias})
	// segStride becomes the way from the end of a piece to the next.
	a.op("SUB R%d<<2, R%d", pairs, segStride)
	per := 2 * wRegs // accumulators per position
	tile := func(label string, positions int) {
		a.op("MOVD R%d, R%d", x, xs[0])
		for p := 1; p < positions; p++ {
			a.op("ADD R%d, R%d, R%d", xStride, xs[p-1], xs[p])
		}
		for p := range positions {
			for i := 0; i < per; i += 2 {
				a.v(LdpQ(16+p*per+i, 17+p*per+i, bias, 16*i))
			}
		}
		a.op("MOVD R%d, R%d", w, wp)
		a.op("MOVD R%d, R%d", segments, seg)
		a.label(label + "Piece")
		a.op("MOVD R%d, R%d", pairs, pair)
		a.label(label + "Pair")
		for p := range positions {
			a.op("VLD1.P 8(R%d), [V%d.H4]", xs[p], p)
		}
		for i := 0; i < 4*wRegs; i += 2 {
			a.v(LdpQPost(4+i, 5+i, wp, 32))
		}
		for input := range 4 {
			for p := range positions {
				for r := range wRegs {
					at, from := 16+p*per+2*r, 4+input*wRegs+r
					a.v(SmlalLane(at, from, p, input), Smlal2Lane(at+1, from, p, input))
				}
			}
		}
		a.op("SUBS $2, R%d", pair)
		a.op("BGT %sPair", label)
		for p := range positions {
			a.op("ADD R%d, R%d", segStride, xs[p])
		}
		a.loopEnd(label+"Piece", seg)
		for p := range positions {
			for i := 0; i < per; i += 2 {
				a.v(StpQ(16+p*per+i, 17+p*per+i, acc, 16*i))
			}
			a.op("ADD R%d, R%d", accStride, acc)
		}
	}
	a.op("SUBS $4, R%d", n)
	a.op("BLT singles")
	a.label("fours")
	tile("four", 4)
	a.op("ADD R%d<<2, R%d", xStride, x)
	a.op("SUBS $4, R%d", n)
	a.op("BGE fours")
	a.label("singles")
	a.op("ADDS $4, R%d", n)
	a.op("BEQ done")
	a.label("single")
	tile("one", 1)
	a.op("ADD R%d, R%d", xStride, x)
	a.loopEnd("single", n)
	a.label("done")
	a.op("RET")
}

// dotted writes the kernel of bytes for 4*vectors output channels: four positions at a time, two fours of inputs a step. V0-V3 hold the positions' inputs,
// V4-V11 the weights of the step (per four inputs those of all channels, four bytes each), V16-V31 the accumulators, those of a
// position side by side.
func dotted(a *asm, name string, vectors int) {
	const acc, accStride, x, xStride, n, w, segments, segStride, fours, bias = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9
	const wp, seg, four = 10, 11, 12
	xs := []int{13, 14, 15, 19} // inputs of the positions
	a.text(name, arg{"acc", "*int32", acc}, arg{"accStride", "int", accStride}, arg{"x", "*uint8", x}, arg{"xStride", "int", xStride}, arg{"n", "int", n},
		arg{"w", "*int8", w}, arg{"segments", "int", segments}, arg{"segStride", "int", segStride}, arg{"fours", "int", fours}, arg{"bias", "*int32", bias})
	// segStride becomes the way from the end of a piece to the next.
	a.op("SUB R%d<<2, R%d", fours, segStride)
	tile := func(label string, positions int) {
		a.op("MOVD R%d, R%d", x, xs[0])
		for p := 1; p < positions; p++ {
			a.op("ADD R%d, R%d, R%d", xStride, xs[p-1], xs[p])
		}
		for p := range positions {
			for i := 0; i < vectors; i += 2 {
				a.v(LdpQ(16+p*vectors+i, 17+p*vectors+i, bias, 16*i))
			}
		}
		a.op("MOVD R%d, R%d", w, wp)
		a.op("MOVD R%d, R%d", segments, seg)
		a.label(label + "Piece")
		a.op("MOVD R%d, R%d", fours, four)
		a.label(label + "Four")
		for p := range positions {
			a.v(LdrDPost(p, xs[p], 8))
		}
		for i := 0; i < 2*vectors; i += 2 {
			a.v(LdpQPost(4+i, 5+i, wp, 32))
		}
		for lane := range 2 {
			for p := range positions {
				for i := range vectors {
					a.v(SdotLane(16+p*vectors+i, 4+lane*vectors+i, p, lane))
				}
			}
		}
		a.op("SUBS $2, R%d", four)
		a.op("BGT %sFour", label)
		for p := range positions {
			a.op("ADD R%d, R%d", segStride, xs[p])
		}
		a.loopEnd(label+"Piece", seg)
		for p := range positions {
			for i := 0; i < vectors; i += 2 {
				a.v(StpQ(16+p*vectors+i, 17+p*vectors+i, acc, 16*i))
			}
			a.op("ADD R%d, R%d", accStride, acc)
		}
	}
	a.op("SUBS $4, R%d", n)
	a.op("BLT singles")
	a.label("fours")
	tile("tile", 4)
	a.op("ADD R%d<<2, R%d", xStride, x)
	a.op("SUBS $4, R%d", n)
	a.op("BGE fours")
	a.label("singles")
	a.op("ADDS $4, R%d", n)
	a.op("BEQ done")
	a.label("single")
	tile("one", 1)
	a.op("ADD R%d, R%d", xStride, x)
	a.loopEnd("single", n)
	a.label("done")
	a.op("RET")
}

// depthwise does 16 channels of one position, two taps a step.
func depthwise(a *asm) {
	const acc, accStride, x, xStride, n, w, pairs, tapStride, bias = 0, 1, 2, 3, 4, 5, 6, 7, 8
	a.text("depthwise16NEON", arg{"acc", "*int32", acc}, arg{"accStride", "int", accStride}, arg{"x", "*int16", x}, arg{"xStride", "int", xStride}, arg{"n", "int", n},
		arg{"w", "*int16", w}, arg{"pairs", "int", pairs}, arg{"tapStride", "int", tapStride}, arg{"bias", "*int32", bias})
	a.v(LdpQ(28, 29, bias, 0), LdpQ(30, 31, bias, 32))
	a.label("position")
	a.v(Mov(16, 28), Mov(17, 29), Mov(18, 30), Mov(19, 31))
	a.op("MOVD R%d, R9", x)
	a.op("MOVD R%d, R10", w)
	a.op("MOVD R%d, R11", pairs)
	a.label("taps")
	a.v(LdpQ(0, 1, 9, 0), LdpQPost(4, 5, 10, 32))
	a.op("ADD R%d, R9", tapStride)
	a.v(LdpQ(2, 3, 9, 0), LdpQPost(6, 7, 10, 32))
	a.op("ADD R%d, R9", tapStride)
	for i := 0; i < 4; i += 2 {
		a.v(Smlal(H, 16, i, 4+i), Smlal2(H, 17, i, 4+i), Smlal(H, 18, i+1, 5+i), Smlal2(H, 19, i+1, 5+i))
	}
	a.loopEnd("taps", 11)
	a.v(StpQ(16, 17, acc, 0), StpQ(18, 19, acc, 32))
	a.op("ADD R%d, R%d", accStride, acc)
	a.op("ADD R%d, R%d", xStride, x)
	a.loopEnd("position", n)
	a.op("RET")
}
