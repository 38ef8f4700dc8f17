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
// row at P into ACC (and LESS), ENDn finish n rows. R8 matrix, R9 columns of a row (its stride),
// R10 columns to do, WIDTH of a vector, DI out, CX rows.
#define GEMV512(LOADX, STEP, WIDTH, END4, END1) \
	MOVQ    out+0(FP), DI            \
	MOVQ    rows+8(FP), CX           \
	MOVQ    w+16(FP), R8             \
	MOVQ    stride+24(FP), R9        \
	MOVQ    x+32(FP), SI             \
	MOVQ    cols+40(FP), R10         \
	VPBROADCASTD bytes80<>(SB), Z15  \
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
	VPXORQ  Z8, Z8, Z8               \
	VPXORQ  Z9, Z9, Z9               \
	VPXORQ  Z10, Z10, Z10            \
	VPXORQ  Z11, Z11, Z11            \
	XORQ    AX, AX                   \
four:                                    \
	LOADX                            \
	STEP((R8)(AX*1), Z4, Z8, Z1)     \
	STEP((R11)(AX*1), Z5, Z9, Z2)    \
	STEP((R12)(AX*1), Z6, Z10, Z3)   \
	STEP((R13)(AX*1), Z7, Z11, Z1)   \
	ADDQ    $WIDTH, AX               \
	CMPQ    AX, R10                  \
	JLT     four                     \
	END4                             \
	SUM4                             \
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
	VPXORQ  Z8, Z8, Z8               \
	XORQ    AX, AX                   \
one:                                     \
	LOADX                            \
	STEP((R8)(AX*1), Z4, Z8, Z1)     \
	ADDQ    $WIDTH, AX               \
	CMPQ    AX, R10                  \
	JLT     one                      \
	END1                             \
	VPXORQ  Z5, Z5, Z5               \
	VPXORQ  Z6, Z6, Z6               \
	VPXORQ  Z7, Z7, Z7               \
	SUM4                             \
	VMOVD   X4, AX                   \
	ADDL    AX, (DI)                 \
	ADDQ    $4, DI                   \
	ADDQ    R9, R8                   \
	DECQ    CX                       \
	JNZ     single                   \
done:                                    \
	VZEROUPPER                       \
	RET

#define LOADI8 \
	VMOVDQU64 (SI)(AX*1), Z0         \
	VPXORQ    Z15, Z0, Z0

#define STEPI8(P, ACC, LESS, T) \
	VMOVDQU64 P, T                   \
	VPDPBUSD  T, Z0, ACC             \
	VPDPBUSD  T, Z15, LESS

#define LESS1 VPSUBD Z8, Z4, Z4
#define LESS4 \
	VPSUBD Z8, Z4, Z4                \
	VPSUBD Z9, Z5, Z5                \
	VPSUBD Z10, Z6, Z6               \
	VPSUBD Z11, Z7, Z7

#define LOADI16 VMOVDQU64 (SI)(AX*2), Z0

#define STEPI16(P, ACC, LESS, T) \
	VPMOVSXBW P, T                   \
	VPDPWSSD  T, Z0, ACC

#define NOTHING

// func i8avx512(out *int32, rows int, w *int8, stride int, x *int8, cols int)
TEXT ·i8avx512(SB), NOSPLIT, $0-48
	GEMV512(LOADI8, STEPI8, 64, LESS4, LESS1)

// func i16avx512(out *int32, rows int, w *int8, stride int, x *int16, cols int)
TEXT ·i16avx512(SB), NOSPLIT, $0-48
	GEMV512(LOADI16, STEPI16, 32, NOTHING, NOTHING)
