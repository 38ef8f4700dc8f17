package main

import . "nepcoc/runtime/internal/kernels/internal/a64"

// lut maps n bytes, at least 16, through a table of 256 in V16-V31; the last vector overlaps the one before it.
func lut(a *asm) {
	const dst, src, n, table, at, last = 0, 1, 2, 3, 4, 5
	a.text("mapBytesNEON", arg{"dst", "*int8", dst}, arg{"src", "*int8", src}, arg{"n", "int", n}, arg{"table", "*[256]int8", table})
	for i := 16; i < 32; i += 2 {
		a.v(LdpQPost(i, i+1, table, 32))
	}
	a.v(MoviB(7, 64))
	a.op("SUB $16, R%d, R%d", n, last)
	a.op("MOVD $0, R%d", at)
	a.label("bytes")
	a.op("ADD R%d, R%d, R6", at, src)
	a.op("ADD R%d, R%d, R7", at, dst)
	a.v(LdrQ(0, 6, 0), Tbl4(1, 16, 0))
	for i := 20; i < 32; i += 4 {
		a.v(Sub(B, 0, 0, 7), Tbx4(1, i, 0))
	}
	a.v(StrQ(1, 7, 0))
	a.op("CMP R%d, R%d", last, at)
	a.op("BEQ done")
	a.op("ADD $16, R%d", at)
	a.op("CMP R%d, R%d", last, at)
	a.op("CSEL GT, R%d, R%d, R%d", last, at, at)
	a.op("B bytes")
	a.label("done")
	a.op("RET")
}
