//go:build !purego

#include "textflag.h"

// 16 columns of rows R and R+16 to the lanes of Y.
#define LOAD(R, X, Y) \
	MOVQ        (8*(R))(SI), AX             \
	MOVQ        (8*(R+16))(SI), BX          \
	VMOVDQU     (AX)(DX*1), X               \
	VINSERTI128 $1, (BX)(DX*1), Y, Y

// Rows G, G+4, G+8, G+12 interleaved by bytes, four columns a vector, to the
// stack: the first half of the transposition, in registers.
#define GATHER(G) \
	LOAD(G, X0, Y0)               \
	LOAD(G+4, X1, Y1)             \
	LOAD(G+8, X2, Y2)             \
	LOAD(G+12, X3, Y3)            \
	VPUNPCKLBW Y2, Y0, Y4         \
	VPUNPCKHBW Y2, Y0, Y5         \
	VPUNPCKLBW Y3, Y1, Y6         \
	VPUNPCKHBW Y3, Y1, Y7         \
	VPUNPCKLBW Y6, Y4, Y0         \
	VPUNPCKHBW Y6, Y4, Y1         \
	VPUNPCKLBW Y7, Y5, Y2         \
	VPUNPCKHBW Y7, Y5, Y3         \
	VMOVDQU    Y0, (32*G)(SP)     \
	VMOVDQU    Y1, (32*G+128)(SP) \
	VMOVDQU    Y2, (32*G+256)(SP) \
	VMOVDQU    Y3, (32*G+384)(SP)

// Four columns of all rows to the plane.
#define SCATTER(Q) \
	VMOVDQU    (128*Q)(SP), Y0      \
	VMOVDQU    (128*Q+32)(SP), Y1   \
	VMOVDQU    (128*Q+64)(SP), Y2   \
	VMOVDQU    (128*Q+96)(SP), Y3   \
	VPUNPCKLBW Y2, Y0, Y4           \
	VPUNPCKHBW Y2, Y0, Y5           \
	VPUNPCKLBW Y3, Y1, Y6           \
	VPUNPCKHBW Y3, Y1, Y7           \
	VPUNPCKLBW Y6, Y4, Y0           \
	VPUNPCKHBW Y6, Y4, Y1           \
	VPUNPCKLBW Y7, Y5, Y2           \
	VPUNPCKHBW Y7, Y5, Y3           \
	VMOVDQU    Y0, (DI)             \
	VMOVDQU    Y1, (DI)(R8*1)       \
	VMOVDQU    Y2, (DI)(R8*2)       \
	VMOVDQU    Y3, (DI)(R9*1)       \
	LEAQ       (DI)(R8*4), DI

// func transpose(rows *[32]*int8, dst *int8, stride, cols int)
TEXT ·transpose(SB), NOSPLIT, $512-32
	MOVQ rows+0(FP), SI
	MOVQ dst+8(FP), DI
	MOVQ stride+16(FP), R8
	MOVQ cols+24(FP), CX
	LEAQ (R8)(R8*2), R9
	XORQ DX, DX

columns:
	GATHER(0)
	GATHER(1)
	GATHER(2)
	GATHER(3)
	SCATTER(0)
	SCATTER(1)
	SCATTER(2)
	SCATTER(3)
	ADDQ $16, DX
	CMPQ DX, CX
	JLT  columns
	VZEROUPPER
	RET

// func prefetchRows(rows **int8, n, bytes int)
TEXT ·prefetchRows(SB), NOSPLIT, $0-24
	MOVQ rows+0(FP), SI
	MOVQ n+8(FP), CX
	MOVQ bytes+16(FP), DX

row:
	MOVQ (SI), AX
	LEAQ -1(AX)(DX*1), BX

line:
	PREFETCHT0 (AX)
	ADDQ       $64, AX
	CMPQ       AX, BX
	JLS        line
	PREFETCHT0 (BX)
	ADDQ       $8, SI
	DECQ       CX
	JNZ        row
	RET

// func copyRows(rows **int8, n int, dst *int8, step, cols int)
TEXT ·copyRows(SB), NOSPLIT, $0-40
	MOVQ rows+0(FP), SI
	MOVQ n+8(FP), CX
	MOVQ dst+16(FP), DI
	MOVQ step+24(FP), R8
	MOVQ cols+32(FP), R9

row:
	MOVQ (SI), AX
	XORQ DX, DX

columns:
	VMOVDQU64 (AX)(DX*1), Z0
	VMOVDQU64 Z0, (DI)(DX*1)
	ADDQ      $64, DX
	CMPQ      DX, R9
	JLT       columns
	ADDQ      R8, DI
	ADDQ      $8, SI
	DECQ      CX
	JNZ       row
	VZEROUPPER
	RET
