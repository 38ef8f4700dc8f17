//go:build !purego

#include "textflag.h"

DATA bytes80<>+0(SB)/4, $0x80808080
GLOBL bytes80<>(SB), RODATA|NOPTR, $4

// Sums of the dwords of Z4..Z7 to the dwords of X4.
#define SUM4 \
	VEXTRACTI64X4 $1, Z4, Y0      \
	VEXTRACTI64X4 $1, Z5, Y1      \
	VEXTRACTI64X4 $1, Z6, Y2      \
	VEXTRACTI64X4 $1, Z7, Y3      \
	VPADDD        Y0, Y4, Y4      \
	VPADDD        Y1, Y5, Y5      \
	VPADDD        Y2, Y6, Y6      \
	VPADDD        Y3, Y7, Y7      \
	VPHADDD       Y5, Y4, Y4      \
	VPHADDD       Y7, Y6, Y6      \
	VPHADDD       Y6, Y4, Y4      \
	VEXTRACTI128  $1, Y4, X5      \
	VPADDD        X5, X4, X4

// Rows by four, then one by one. LOADX brings some columns of x to Z0, STEP multiplies them by those of a
// row at P into ACC; X14 is subtracted from the sums. R8 matrix, R9 columns of a row (its stride),
// R10 columns to do, WIDTH of a vector, DI out, CX rows.
#define GEMV512(LOADX, STEP, WIDTH) \
	SUBQ    $4, CX                   \
	JLT     singles                  \
fours:                                   \
	LEAQ    (R8)(R9*1), R11          \
	LEAQ    (R8)(R9*2), R12          \
	LEAQ    (R11)(R9*2), R13         \
	VPXORQ  Z4, Z4, Z4               \
	VPXORQ  Z5, Z5, Z5               \
	VPXORQ  Z6, Z6, Z6               \
	VPXORQ  Z7, Z7, Z7               \
	XORQ    AX, AX                   \
four:                                    \
	LOADX                            \
	STEP((R8)(AX*1), Z4, Z1)         \
	STEP((R11)(AX*1), Z5, Z2)        \
	STEP((R12)(AX*1), Z6, Z3)        \
	STEP((R13)(AX*1), Z7, Z8)        \
	ADDQ    $WIDTH, AX               \
	CMPQ    AX, R10                  \
	JLT     four                     \
	SUM4                             \
	VPSUBD  X14, X4, X4              \
	VPADDD  (DI), X4, X4             \
	VMOVDQU X4, (DI)                 \
	ADDQ    $16, DI                  \
	LEAQ    (R8)(R9*4), R8           \
	SUBQ    $4, CX                   \
	JGE     fours                    \
singles:                                 \
	ADDQ    $4, CX                   \
	JZ      done                     \
single:                                  \
	VPXORQ  Z4, Z4, Z4               \
	XORQ    AX, AX                   \
one:                                     \
	LOADX                            \
	STEP((R8)(AX*1), Z4, Z1)         \
	ADDQ    $WIDTH, AX               \
	CMPQ    AX, R10                  \
	JLT     one                      \
	VPXORQ  Z5, Z5, Z5               \
	VPXORQ  Z6, Z6, Z6               \
	VPXORQ  Z7, Z7, Z7               \
	SUM4                             \
	VPSUBD  X14, X4, X4              \
	VMOVD   X4, AX                   \
	ADDL    AX, (DI)                 \
	ADDQ    $4, DI                   \
	ADDQ    R9, R8                   \
	DECQ    CX                       \
	JNZ     single                   \
done:                                    \
	VZEROUPPER                       \
	RET

#define LOADI8 VMOVDQU64 (SI)(AX*1), Z0

// Weights as w+128, unsigned.
#define STEPI8(P, ACC, T) \
	VPXORQ   P, Z15, T               \
	VPDPBUSD Z0, T, ACC

#define LOADI16 VMOVDQU64 (SI)(AX*2), Z0

#define STEPI16(P, ACC, T) \
	VPMOVSXBW P, T                   \
	VPDPWSSD  T, Z0, ACC

// func i8avx512(out *int32, rows int, w *int8, stride int, x *int8, cols int)
TEXT ·i8avx512(SB), NOSPLIT, $0-48
	MOVQ         out+0(FP), DI
	MOVQ         rows+8(FP), CX
	MOVQ         w+16(FP), R8
	MOVQ         stride+24(FP), R9
	MOVQ         x+32(FP), SI
	MOVQ         cols+40(FP), R10
	VPBROADCASTD bytes80<>(SB), Z15

	// 128 times the sum of x, which every sum has too much.
	VPXORQ Z4, Z4, Z4
	VPXORQ Z5, Z5, Z5
	VPXORQ Z6, Z6, Z6
	VPXORQ Z7, Z7, Z7
	XORQ   AX, AX

columns:
	LOADI8
	VPDPBUSD     Z0, Z15, Z4
	ADDQ         $64, AX
	CMPQ         AX, R10
	JLT          columns
	SUM4
	VPBROADCASTD X4, X14
	GEMV512(LOADI8, STEPI8, 64)

// func i16avx512(out *int32, rows int, w *int8, stride int, x *int16, cols int)
TEXT ·i16avx512(SB), NOSPLIT, $0-48
	MOVQ   out+0(FP), DI
	MOVQ   rows+8(FP), CX
	MOVQ   w+16(FP), R8
	MOVQ   stride+24(FP), R9
	MOVQ   x+32(FP), SI
	MOVQ   cols+40(FP), R10
	VPXORQ X14, X14, X14
	GEMV512(LOADI16, STEPI16, 32)
