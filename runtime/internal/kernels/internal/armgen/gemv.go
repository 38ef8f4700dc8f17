package main

import (
	"fmt"

	. "nepcoc/runtime/internal/kernels/internal/a64"
)

func gemv(a *asm) {
	i8 := []int{1} // registers that 16 columns of x take
	product(a, "i8dot", "*int8", i8, func(a *asm, acc, _, w, x int) { a.v(Sdot(acc, w, x)) })
	product(a, "i8neon", "*int8", i8, func(a *asm, acc, _, w, x int) {
		// One product may be 2^14: two of them do not fit 16 bits signed.
		a.v(Smull(B, 24, w, x), Smull2(B, 25, w, x), Sadalp(H, acc, 24), Sadalp(H, acc, 25))
	})
	product(a, "i16neon", "*int16", []int{1, 2}, func(a *asm, acc, acc2, w, x int) {
		a.v(Sxtl(B, 24, w), Sxtl2(B, 25, w),
			Smlal(H, acc, 24, x), Smlal2(H, acc2, 24, x), Smlal(H, acc, 25, x+1), Smlal2(H, acc2, 25, x+1))
	})
}

// product writes a kernel that adds rows times x to out: four rows at a time,
// then one by one, 32 columns a step and at most one step of 16. V0-V3 hold the
// step's x, V4-V7 and V20-V23 the rows' accumulators, V8-V15 their weights.
func product(a *asm, name, typ string, xRegs []int, step func(a *asm, acc, acc2, w, x int)) {
	const out, rows, w, stride, x, cols, xp, left = 0, 1, 2, 3, 4, 5, 10, 11
	a.text(name, arg{"out", "*int32", out}, arg{"rows", "int", rows}, arg{"w", "*int8", w}, arg{"stride", "int", stride}, arg{"x", typ, x}, arg{"cols", "int", cols})
	perX := len(xRegs)
	body := func(label string, n int) {
		a.op("MOVD R%d, R%d", x, xp)
		a.op("SUBS $32, R%d, R%d", cols, left)
		for i := range n {
			a.v(Zero(4+i), Zero(20+i))
		}
		a.op("BLT %sTail", label)
		a.label(label)
		for i := range perX {
			a.v(LdpQPost(2*i, 2*i+1, xp, 32))
		}
		for i := range n {
			a.v(LdpQPost(8+2*i, 9+2*i, 6+i, 32))
		}
		for i := range n {
			step(a, 4+i, 20+i, 8+2*i, 0)
			step(a, 4+i, 20+i, 9+2*i, perX)
		}
		a.op("SUBS $32, R%d", left)
		a.op("BGE %s", label)
		a.label(label + "Tail")
		a.op("TBZ $4, R%d, %sSum", cols, label)
		for i := range perX {
			a.v(LdrQPost(i, xp, 16))
		}
		for i := range n {
			a.v(LdrQ(8+i, 6+i, 0))
			step(a, 4+i, 20+i, 8+i, 0)
		}
		a.label(fmt.Sprintf("%sSum", label))
		for i := range n {
			a.v(Add(S, 4+i, 4+i, 20+i))
		}
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
