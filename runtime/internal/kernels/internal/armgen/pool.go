package main

import . "nepcoc/runtime/internal/kernels/internal/a64"

// Kernels of package pool: a vector of channels at a time, over all rows. The last vector of a row overlaps
// the one before it.
func pools(a *asm) {
	const dst, n, x, rows = 0, 1, 2, 3
	const at, last, from, left = 4, 5, 6, 7
	// columns writes the loop over vectors of 1<<log bytes of x; R1 becomes the bytes of a row.
	columns := func(log int, body, then func()) {
		a.op("SUB $%d, R%d, R%d", 1<<log, n, last)
		a.label("window")
		a.op("MOVD $0, R%d", at)
		a.label("channels")
		a.op("ADD R%d, R%d, R%d", at, x, from)
		a.op("MOVD R%d, R%d", rows, left)
		body()
		a.op("CMP R%d, R%d", last, at)
		a.op("BEQ done")
		a.op("ADD $%d, R%d", 1<<log, at)
		a.op("CMP R%d, R%d", last, at)
		a.op("CSEL GT, R%d, R%d, R%d", last, at, at)
		a.op("B channels")
		a.label("done")
		then()
		a.op("RET")
	}
	for _, k := range []struct {
		name, typ string
		s         Shape
	}{{"max8NEON", "*int8", B}, {"max16NEON", "*int16", H}} {
		const count, step = 9, 10 // windows, and elements from one to the next
		a.text(k.name, arg{"dst", k.typ, dst}, arg{"n", "int", n}, arg{"x", k.typ, x}, arg{"rows", "int", rows}, arg{"count", "int", count}, arg{"step", "int", step})
		if k.s == H {
			a.op("LSL $1, R%d", n)
			a.op("LSL $1, R%d", step)
		}
		columns(4, func() {
			a.v(LdrQ(0, from, 0))
			a.label("row")
			a.v(LdrQ(1, from, 0), Smax(k.s, 0, 0, 1))
			a.op("ADD R%d, R%d", n, from)
			a.loopEnd("row", left)
			a.op("ADD R%d, R%d, R8", at, dst)
			a.v(StrQ(0, 8, 0))
		}, func() {
			a.op("ADD R%d, R%d", n, dst)
			a.op("ADD R%d, R%d", step, x)
			a.loopEnd("window", count)
		})
	}
	for _, k := range []struct {
		name, typ string
		log       int // of an element's bytes
	}{{"sum8NEON", "*int8", 0}, {"sum16NEON", "*int16", 1}} {
		a.text(k.name, arg{"dst", "*int64", dst}, arg{"n", "int", n}, arg{"x", k.typ, x}, arg{"rows", "int", rows})
		a.op("MOVD $1, R8")
		a.v(DupX(H, 3, 8))
		if k.log > 0 {
			a.op("LSL $%d, R%d", k.log, n)
		}
		columns(3+k.log, func() {
			a.v(Zero(0), Zero(1))
			a.label("row")
			if k.log == 0 {
				a.v(LdrD(2, from), Sxtl(B, 2, 2))
			} else {
				a.v(LdrQ(2, from, 0))
			}
			a.v(Smlal(H, 0, 2, 3), Smlal2(H, 1, 2, 3))
			a.op("ADD R%d, R%d", n, from)
			a.loopEnd("row", left)
			a.op("ADD R%d<<%d, R%d, R8", at, 3-k.log, dst)
			a.v(Sxtl(S, 4, 0), Sxtl2(S, 5, 0), Sxtl(S, 6, 1), Sxtl2(S, 7, 1), StpQ(4, 5, 8, 0), StpQ(6, 7, 8, 32))
		}, func() {})
	}
}
