package main

import . "nepcoc/runtime/internal/kernels/internal/a64"

// transposed writes the kernels of package transpose: strips of 16 bytes, as many rows at a time as there are elements
// in them, by perfect shuffles between V0-V15 and V16-V31.
func transposed(a *asm) {
	const dst, src, rows, cols, blocks, to = 0, 1, 2, 3, 4, 5
	strip := func(name, typ string, s Shape) {
		n := 16 >> s
		a.text(name, arg{"dst", typ, dst}, arg{"src", typ, src}, arg{"rows", "int", rows}, arg{"cols", "int", cols}, arg{"blocks", "int", blocks})
		a.label("block")
		for i := range n {
			a.v(LdrQ(i, src, 0))
			a.op("ADD R%d, R%d", cols, src)
		}
		in, out := 0, 16
		for k := 1; k < n; k *= 2 {
			for i := range n / 2 {
				a.v(Zip1(s, out+2*i, in+i, in+i+n/2), Zip2(s, out+2*i+1, in+i, in+i+n/2))
			}
			in, out = out, in
		}
		a.op("MOVD R%d, R%d", dst, to)
		for i := range n {
			a.v(StrQ(in+i, to, 0))
			a.op("ADD R%d, R%d", rows, to)
		}
		a.op("ADD $16, R%d", dst)
		a.loopEnd("block", blocks)
		a.op("RET")
	}
	strip("strip8NEON", "*int8", B)
	strip("strip16NEON", "*int16", H)
}
