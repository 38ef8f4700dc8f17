//go:build !purego

#include "textflag.h"

// Sum of the quadwords of Y to the low quadword of X.
#define SUMQ(Y, X, T) \
	VEXTRACTI128 $1, Y, T \
	VPADDQ       T, X, X  \
	VPSRLDQ      $8, X, T \
	VPADDQ       T, X, X

// func statsAVX2(x *int32, n int, s1, s2 *int64)
TEXT ·statsAVX2(SB), NOSPLIT, $0-32
	MOVQ  x+0(FP), SI
	MOVQ  n+8(FP), CX
	MOVQ  s1+16(FP), R8
	MOVQ  s2+24(FP), R9
	XORQ  AX, AX
	VPXOR Y0, Y0, Y0
	VPXOR Y1, Y1, Y1

lanes:
	VMOVDQU (SI)(AX*4), Y2
	VPADDD  Y2, Y0, Y0
	VPMULDQ Y2, Y2, Y3
	VPSRLQ  $32, Y2, Y2
	VPMULDQ Y2, Y2, Y4
	VPADDQ  Y3, Y1, Y1
	VPADDQ  Y4, Y1, Y1
	ADDQ    $8, AX
	CMPQ    AX, CX
	JLT     lanes

	VEXTRACTI128 $1, Y0, X2
	VPMOVSXDQ    X0, Y0
	VPMOVSXDQ    X2, Y2
	VPADDQ       Y2, Y0, Y0
	SUMQ(Y0, X0, X3)
	SUMQ(Y1, X1, X3)
	VMOVQ        X0, (R8)
	VMOVQ        X1, (R9)
	VZEROUPPER
	RET

// func applyAVX2(x *int32, n int, gamma *int32, beta *uint64, h *head, t *tail)
TEXT ·applyAVX2(SB), NOSPLIT, $0-48
	MOVQ         x+0(FP), DI
	MOVQ         n+8(FP), CX
	MOVQ         gamma+16(FP), SI
	MOVQ         beta+24(FP), DX
	MOVQ         h+32(FP), R8
	MOVQ         t+40(FP), R9
	VMOVQ        0(R8), X15
	VPBROADCASTD 8(R8), Y14
	VPBROADCASTD 12(R8), Y13
	VPBROADCASTD 16(R8), Y12
	VPBROADCASTD 20(R8), Y11
	VMOVQ        0(R9), X10
	VPBROADCASTD 8(R9), Y9
	VPBROADCASTD 12(R9), Y8
	VPBROADCASTD 16(R9), Y7
	MOVQ         $0x4000000000000000, AX
	VMOVQ        AX, X6
	VPBROADCASTQ X6, Y6
	XORQ         AX, AX

	// Even channels in Y0, odd ones in Y1.
lanes:
	VMOVDQU  (DI)(AX*4), Y0
	VPMULLD  Y13, Y0, Y0
	VPSUBD   Y12, Y0, Y0
	VPSRLQ   $32, Y0, Y1
	VPMULDQ  Y11, Y0, Y0
	VPMULDQ  Y11, Y1, Y1
	VPADDQ   Y6, Y0, Y0
	VPADDQ   Y6, Y1, Y1
	VPSRLQ   X15, Y0, Y0
	VPSRLQ   X15, Y1, Y1
	VPSUBD   Y14, Y0, Y0
	VPSUBD   Y14, Y1, Y1
	VMOVDQU  (SI)(AX*4), Y2
	VPSRLQ   $32, Y2, Y3
	VPMULDQ  Y2, Y0, Y0
	VPMULDQ  Y3, Y1, Y1
	VPADDQ   (DX)(AX*8), Y0, Y0
	VPADDQ   32(DX)(AX*8), Y1, Y1
	VPSRLQ   X10, Y0, Y0
	VPSRLQ   X10, Y1, Y1
	VPSLLQ   $32, Y1, Y1
	VPBLENDD $0xAA, Y1, Y0, Y0
	VPSUBD   Y9, Y0, Y0
	VPMAXSD  Y8, Y0, Y0
	VPMINSD  Y7, Y0, Y0
	VMOVDQU  Y0, (DI)(AX*4)
	ADDQ     $8, AX
	CMPQ     AX, CX
	JLT      lanes
	VZEROUPPER
	RET
