package main

import (
	. "nepcoc/runtime/internal/kernels/internal/a64"
)

func lookup(a *asm) {
	transpose(a)
	a.text("prefetchRows", arg{"rows", "**int8", 0}, arg{"n", "int", 1}, arg{"bytes", "int", 2})
	a.label("row")
	a.op("MOVD.P 8(R0), R3")
	a.op("ADD R2, R3, R4")
	a.op("SUB $1, R4")
	a.label("line")
	a.op("PRFM (R3), PLDL1KEEP")
	a.op("ADD $64, R3")
	a.op("CMP R4, R3")
	a.op("BLS line")
	a.op("PRFM (R4), PLDL1KEEP")
	a.loopEnd("row", 1)
	a.op("RET")
}

// transpose turns 32 rows into columns, 16 rows and 16 columns at a time, four
// rounds of perfect shuffles between V0-V15 and V16-V31. The rows' addresses stay
// in registers; x becomes x+128.
func transpose(a *asm) {
	regs := []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}
	const rows, dst, stride, cols, out, left, halves = 19, 20, 21, 22, 23, 24, 25
	a.text("transpose", arg{"rows", "*[32]*int8", rows}, arg{"dst", "*int8", dst}, arg{"stride", "int", stride}, arg{"cols", "int", cols})
	a.op("MOVD $2, R%d", halves)
	a.label("half")
	for i := 0; i < 16; i += 2 {
		a.op("LDP.P 16(R%d), (R%d, R%d)", rows, regs[i], regs[i+1])
	}
	a.op("MOVD R%d, R%d", dst, out)
	a.op("MOVD R%d, R%d", cols, left)
	a.label("columns")
	a.v(MoviB(31, 0x80))
	for i, r := range regs {
		a.v(LdrQPost(i, r, 16))
	}
	for i := range regs {
		a.v(Eor(i, i, 31))
	}
	from, to := 0, 16
	for range 4 {
		for i := range 8 {
			a.v(Zip1(B, to+2*i, from+i, from+i+8), Zip2(B, to+2*i+1, from+i, from+i+8))
		}
		from, to = to, from
	}
	for i := range 16 {
		a.v(StrQ(i, out, 0))
		a.op("ADD R%d, R%d", stride, out)
	}
	a.op("SUBS $16, R%d", left)
	a.op("BNE columns")
	a.op("ADD $16, R%d", dst)
	a.loopEnd("half", halves)
	a.op("RET")
}
