//go:build !purego

#include "textflag.h"

// Maxima are those of count windows, step elements apart. AX is the first channel of a vector, R8 that of the last vector of a row: where
// rows don't end with a vector, it overlaps the one before it.
#define NEXT(LANES, LOOP, DONE) \
	CMPQ    AX, R8  \
	JEQ     DONE    \
	ADDQ    $LANES, AX \
	CMPQ    AX, R8  \
	CMOVQGT R8, AX  \
	JMP     LOOP

// func max8AVX2(dst *int8, n int, x *int8, rows, count, step int)
TEXT ·max8AVX2(SB), NOSPLIT, $0-48
	MOVQ dst+0(FP), DI
	MOVQ n+8(FP), DX
	MOVQ x+16(FP), SI
	LEAQ -16(DX), R8
	MOVQ count+32(FP), R9
	MOVQ step+40(FP), R10

window:
	XORQ AX, AX

channels:
	LEAQ    (SI)(AX*1), BX
	MOVQ    rows+24(FP), CX
	VMOVDQU (BX), X0

row:
	VPMAXSB (BX), X0, X0
	ADDQ    DX, BX
	DECQ    CX
	JNZ     row
	VMOVDQU X0, (DI)(AX*1)
	NEXT(16, channels, done)

done:
	ADDQ DX, DI
	ADDQ R10, SI
	DECQ R9
	JNZ  window
	RET

// func max16AVX2(dst *int16, n int, x *int16, rows, count, step int)
TEXT ·max16AVX2(SB), NOSPLIT, $0-48
	MOVQ dst+0(FP), DI
	MOVQ n+8(FP), DX
	MOVQ x+16(FP), SI
	LEAQ -8(DX), R8
	MOVQ count+32(FP), R9
	MOVQ step+40(FP), R10

window:
	XORQ AX, AX

channels:
	LEAQ    (SI)(AX*2), BX
	MOVQ    rows+24(FP), CX
	VMOVDQU (BX), X0

row:
	VPMAXSW (BX), X0, X0
	LEAQ    (BX)(DX*2), BX
	DECQ    CX
	JNZ     row
	VMOVDQU X0, (DI)(AX*2)
	NEXT(8, channels, done)

done:
	LEAQ (DI)(DX*2), DI
	LEAQ (SI)(R10*2), SI
	DECQ R9
	JNZ  window
	RET

// func sum8AVX2(dst *int64, n int, x *int8, rows int)
TEXT ·sum8AVX2(SB), NOSPLIT, $0-32
	MOVQ dst+0(FP), DI
	MOVQ n+8(FP), DX
	MOVQ x+16(FP), SI
	LEAQ -8(DX), R8
	XORQ AX, AX

channels:
	LEAQ  (SI)(AX*1), BX
	MOVQ  rows+24(FP), CX
	VPXOR Y0, Y0, Y0

row:
	VPMOVSXBD (BX), Y1
	VPADDD    Y1, Y0, Y0
	ADDQ      DX, BX
	DECQ      CX
	JNZ       row
	VEXTRACTI128 $1, Y0, X1
	VPMOVSXDQ X0, Y0
	VPMOVSXDQ X1, Y1
	VMOVDQU   Y0, (DI)(AX*8)
	VMOVDQU   Y1, 32(DI)(AX*8)
	NEXT(8, channels, done)

done:
	VZEROUPPER
	RET

// func sum16AVX2(dst *int64, n int, x *int16, rows int)
TEXT ·sum16AVX2(SB), NOSPLIT, $0-32
	MOVQ dst+0(FP), DI
	MOVQ n+8(FP), DX
	MOVQ x+16(FP), SI
	LEAQ -8(DX), R8
	XORQ AX, AX

channels:
	LEAQ  (SI)(AX*2), BX
	MOVQ  rows+24(FP), CX
	VPXOR Y0, Y0, Y0

row:
	VPMOVSXWD (BX), Y1
	VPADDD    Y1, Y0, Y0
	LEAQ      (BX)(DX*2), BX
	DECQ      CX
	JNZ       row
	VEXTRACTI128 $1, Y0, X1
	VPMOVSXDQ X0, Y0
	VPMOVSXDQ X1, Y1
	VMOVDQU   Y0, (DI)(AX*8)
	VMOVDQU   Y1, 32(DI)(AX*8)
	NEXT(8, channels, done)

done:
	VZEROUPPER
	RET
