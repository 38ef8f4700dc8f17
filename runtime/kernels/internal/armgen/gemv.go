package main

import (
	. "nepcoc/runtime/kernels/internal/a64"
)

func gemv(a *asm) {
	product(a, "i8dot", "*int8", nil, func(a *asm, acc, w int) { a.v(Sdot(acc, w, 0)) })
	product(a, "i8neon", "*int8", nil, func(a *asm, acc, w int) {
		// One product may be 2^14: two of them do not fit 16 bits signed.
		a.v(Smull(B, 24, w, 0), Smull2(B, 25, w, 0), Sadalp(H, acc, 24), Sadalp(H, acc, 25))
	})
	product(a, "i16neon", "*int16", func(a *asm) { a.v(LdrQPost(1, 10, 16)) }, func(a *asm, acc, w int) {
		a.v(Sxtl(B, 24, w), Sxtl2(B, 25, w),
			Smlal(H, acc, 24, 0), Smlal2(H, acc, 24, 0), Smlal(H, acc, 25, 1), Smlal2(H, acc, 25, 1))
	})
}

// product writes a kernel that adds rows times x to out, four rows at a time, then
// one by one, 16 columns a step. V0 (and, by more, V1) holds the step's x, V4-V7 the
// rows' accumulators, V16-V19 their weights.
func product(a *asm, name, typ string, more func(*asm), step func(a *asm, acc, w int)) {
	const out, rows, w, stride, x, cols, xp, left = 0, 1, 2, 3, 4, 5, 10, 11
	a.text(name, arg{"out", "*int32", out}, arg{"rows", "int", rows}, arg{"w", "*int8", w}, arg{"stride", "int", stride}, arg{"x", typ, x}, arg{"cols", "int", cols})
	body := func(label string, n int) {
		a.op("MOVD R%d, R%d", x, xp)
		a.op("MOVD R%d, R%d", cols, left)
		for i := range n {
			a.v(Zero(4 + i))
		}
		a.label(label)
		a.v(LdrQPost(0, xp, 16))
		if more != nil {
			more(a)
		}
		for i := range n {
			a.v(LdrQPost(16+i, 6+i, 16))
		}
		for i := range n {
			step(a, 4+i, 16+i)
		}
		a.op("SUBS $16, R%d", left)
		a.op("BNE %s", label)
	}
	a.op("SUBS $4, R%d", rows)
	a.op("BLT singles")
	a.label("fours")
	a.op("MOVD R%d, R6", w)
	a.op("ADD R%d, R6, R7", stride)
	a.op("ADD R%d, R7, R8", stride)
	a.op("ADD R%d, R8, R9", stride)
	body("four", 4)
	a.v(Addp(S, 4, 4, 5), Addp(S, 6, 6, 7), Addp(S, 4, 4, 6), LdrQ(5, out, 0), Add(S, 4, 4, 5), StrQPost(4, out, 16))
	a.op("ADD R%d<<2, R%d", stride, w)
	a.op("SUBS $4, R%d", rows)
	a.op("BGE fours")
	a.label("singles")
	a.op("ADDS $4, R%d", rows)
	a.op("BEQ done")
	a.label("single")
	a.op("MOVD R%d, R6", w)
	body("one", 1)
	a.v(AddvS(4, 4))
	a.op("FMOVS F4, R12")
	a.op("MOVW (R%d), R13", out)
	a.op("ADDW R12, R13")
	a.op("MOVW.P R13, 4(R%d)", out)
	a.op("ADD R%d, R%d", stride, w)
	a.loopEnd("single", rows)
	a.label("done")
	a.op("RET")
}
