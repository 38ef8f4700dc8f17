//go:build !purego

#include "textflag.h"

// 16 columns of a row at P: signed words times those of Y0, added to ACC.
#define STEP(P, ACC, T) \
	VPMOVSXBW P, T        \
	VPMADDWD  Y0, T, T    \
	VPADDD    T, ACC, ACC

// Sums of the dwords of Y4..Y7 to the dwords of X4.
#define SUM4 \
	VPHADDD      Y5, Y4, Y4     \
	VPHADDD      Y7, Y6, Y6     \
	VPHADDD      Y6, Y4, Y4     \
	VEXTRACTI128 $1, Y4, X5     \
	VPADDD       X5, X4, X4

// Rows by four, then one by one. LOADX brings 16 columns of x at (SI)(AX*XS) to
// Y0 as words. R8 matrix, R9 columns of a row (its stride), R10 columns to do, DI out, CX rows.
#define GEMV(LOADX) \
	MOVQ    out+0(FP), DI       \
	MOVQ    rows+8(FP), CX      \
	MOVQ    w+16(FP), R8        \
	MOVQ    stride+24(FP), R9   \
	MOVQ    x+32(FP), SI        \
	MOVQ    cols+40(FP), R10    \
	SUBQ    $4, CX              \
	JLT     singles             \
fours:                              \
	LEAQ    (R8)(R9*1), R11     \
	LEAQ    (R8)(R9*2), R12     \
	LEAQ    (R11)(R9*2), R13    \
	VPXOR   Y4, Y4, Y4          \
	VPXOR   Y5, Y5, Y5          \
	VPXOR   Y6, Y6, Y6          \
	VPXOR   Y7, Y7, Y7          \
	XORQ    AX, AX              \
four:                               \
	LOADX                       \
	STEP((R8)(AX*1), Y4, Y1)    \
	STEP((R11)(AX*1), Y5, Y2)   \
	STEP((R12)(AX*1), Y6, Y3)   \
	STEP((R13)(AX*1), Y7, Y1)   \
	ADDQ    $16, AX             \
	CMPQ    AX, R10             \
	JLT     four                \
	SUM4                        \
	VPADDD  (DI), X4, X4        \
	VMOVDQU X4, (DI)            \
	ADDQ    $16, DI             \
	LEAQ    (R8)(R9*4), R8      \
	SUBQ    $4, CX              \
	JGE     fours               \
singles:                            \
	ADDQ    $4, CX              \
	JZ      done                \
	VPXOR   Y5, Y5, Y5          \
	VPXOR   Y6, Y6, Y6          \
	VPXOR   Y7, Y7, Y7          \
single:                             \
	VPXOR   Y4, Y4, Y4          \
	XORQ    AX, AX              \
one:                                \
	LOADX                       \
	STEP((R8)(AX*1), Y4, Y1)    \
	ADDQ    $16, AX             \
	CMPQ    AX, R10             \
	JLT     one                 \
	VPXOR   Y5, Y5, Y5          \
	SUM4                        \
	VMOVD   X4, AX              \
	ADDL    AX, (DI)            \
	ADDQ    $4, DI              \
	ADDQ    R9, R8              \
	DECQ    CX                  \
	JNZ     single              \
done:                               \
	VZEROUPPER                  \
	RET

#define LOADI8 VPMOVSXBW (SI)(AX*1), Y0
#define LOADI16 VMOVDQU (SI)(AX*2), Y0

// func i8avx2(out *int32, rows int, w *int8, stride int, x *int8, cols int)
TEXT ·i8avx2(SB), NOSPLIT, $0-48
	GEMV(LOADI8)

// func i16avx2(out *int32, rows int, w *int8, stride int, x *int16, cols int)
TEXT ·i16avx2(SB), NOSPLIT, $0-48
	GEMV(LOADI16)
