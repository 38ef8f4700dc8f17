//go:build !purego

#include "textflag.h"

// Constants of a packed at P: Y15 what is added, X14 the shift, Y13 what is
// subtracted, Y12 and Y11 the clamp.
#define CONSTANTS(P) \
	VPBROADCASTQ 0(P), Y15  \
	VMOVQ        8(P), X14  \
	VPBROADCASTD 16(P), Y13 \
	VPBROADCASTD 20(P), Y12 \
	VPBROADCASTD 24(P), Y11

// 64-bit sums of the even elements E and of the odd ones O to clamped results E.
// AVX2 has no arithmetic shift of 64 bits; Y15 makes the sums positive.
#define FINISH(E, O) \
	VPADDQ   Y15, E, E      \
	VPADDQ   Y15, O, O      \
	VPSRLQ   X14, E, E      \
	VPSRLQ   X14, O, O      \
	VPSLLQ   $32, O, O      \
	VPBLENDD $0xAA, O, E, E \
	VPSUBD   Y13, E, E      \
	VPMAXSD  Y12, E, E      \
	VPMINSD  Y11, E, E

// func scaleAVX2(x *int32, rows, n int, mult *int32, k *packed)
TEXT ·scaleAVX2(SB), NOSPLIT, $0-40
	MOVQ x+0(FP), DI
	MOVQ rows+8(FP), CX
	MOVQ n+16(FP), DX
	MOVQ mult+24(FP), SI
	MOVQ k+32(FP), R8
	CONSTANTS(R8)

row:
	XORQ AX, AX

lanes:
	VMOVDQU (DI)(AX*4), Y0
	VMOVDQU (SI)(AX*4), Y1
	VPMULDQ Y1, Y0, Y2
	VPSRLQ  $32, Y0, Y0
	VPSRLQ  $32, Y1, Y1
	VPMULDQ Y1, Y0, Y3
	FINISH(Y2, Y3)
	VMOVDQU Y2, (DI)(AX*4)
	ADDQ    $8, AX
	CMPQ    AX, DX
	JLT     lanes
	LEAQ    (DI)(DX*4), DI
	DECQ    CX
	JNZ     row
	VZEROUPPER
	RET

// func sumAVX2(dst, a, b *int32, n int, k *packedSum)
TEXT ·sumAVX2(SB), NOSPLIT, $0-40
	MOVQ dst+0(FP), DI
	MOVQ a+8(FP), SI
	MOVQ b+16(FP), DX
	MOVQ n+24(FP), CX
	MOVQ k+32(FP), R8
	CONSTANTS(R8)
	VPBROADCASTD 40(R8), Y10
	VPBROADCASTD 44(R8), Y9
	XORQ AX, AX

lanes:
	VMOVDQU (SI)(AX*4), Y0
	VMOVDQU (DX)(AX*4), Y1
	VPMULDQ Y10, Y0, Y2
	VPMULDQ Y9, Y1, Y3
	VPSRLQ  $32, Y0, Y0
	VPSRLQ  $32, Y1, Y1
	VPMULDQ Y10, Y0, Y4
	VPMULDQ Y9, Y1, Y5
	VPADDQ  Y3, Y2, Y2
	VPADDQ  Y5, Y4, Y4
	FINISH(Y2, Y4)
	VMOVDQU Y2, (DI)(AX*4)
	ADDQ    $8, AX
	CMPQ    AX, CX
	JLT     lanes
	VZEROUPPER
	RET

// func multiplyAVX2(dst, b *int32, n int)
TEXT ·multiplyAVX2(SB), NOSPLIT, $0-24
	MOVQ dst+0(FP), DI
	MOVQ b+8(FP), SI
	MOVQ n+16(FP), CX
	XORQ AX, AX

lanes:
	VMOVDQU (DI)(AX*4), Y0
	VPMULLD (SI)(AX*4), Y0, Y0
	VMOVDQU Y0, (DI)(AX*4)
	ADDQ    $8, AX
	CMPQ    AX, CX
	JLT     lanes
	VZEROUPPER
	RET

// func widen8AVX2(dst *int32, src *int8, n int)
TEXT ·widen8AVX2(SB), NOSPLIT, $0-24
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ n+16(FP), CX
	XORQ AX, AX

lanes:
	VPMOVSXBD (SI)(AX*1), Y0
	VMOVDQU   Y0, (DI)(AX*4)
	ADDQ      $8, AX
	CMPQ      AX, CX
	JLT       lanes
	VZEROUPPER
	RET

// func widen16AVX2(dst *int32, src *int16, n int)
TEXT ·widen16AVX2(SB), NOSPLIT, $0-24
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ n+16(FP), CX
	XORQ AX, AX

lanes:
	VPMOVSXWD (SI)(AX*2), Y0
	VMOVDQU   Y0, (DI)(AX*4)
	ADDQ      $8, AX
	CMPQ      AX, CX
	JLT       lanes
	VZEROUPPER
	RET

// func narrow8AVX2(dst *int8, src *int32, n int)
TEXT ·narrow8AVX2(SB), NOSPLIT, $0-24
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ n+16(FP), CX
	XORQ AX, AX

lanes:
	VMOVDQU   (SI)(AX*4), X0
	VPACKSSDW 16(SI)(AX*4), X0, X0
	VPACKSSWB X0, X0, X0
	VMOVQ     X0, (DI)(AX*1)
	ADDQ      $8, AX
	CMPQ      AX, CX
	JLT       lanes
	VZEROUPPER
	RET

// func narrow16AVX2(dst *int16, src *int32, n int)
TEXT ·narrow16AVX2(SB), NOSPLIT, $0-24
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ n+16(FP), CX
	XORQ AX, AX

lanes:
	VMOVDQU   (SI)(AX*4), X0
	VPACKSSDW 16(SI)(AX*4), X0, X0
	VMOVDQU   X0, (DI)(AX*2)
	ADDQ      $8, AX
	CMPQ      AX, CX
	JLT       lanes
	VZEROUPPER
	RET

// func extendAVX2(dst *int16, src *int8, n int)
TEXT ·extendAVX2(SB), NOSPLIT, $0-24
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ n+16(FP), CX
	XORQ AX, AX

lanes:
	VPMOVSXBW (SI)(AX*1), Y0
	VMOVDQU   Y0, (DI)(AX*2)
	ADDQ      $16, AX
	CMPQ      AX, CX
	JLT       lanes
	VZEROUPPER
	RET

// func lookupAVX2(x *int32, n int, middle *int16)
TEXT ·lookupAVX2(SB), NOSPLIT, $0-24
	MOVQ x+0(FP), DI
	MOVQ n+8(FP), CX
	MOVQ middle+16(FP), SI

lanes:
	VMOVDQU    (DI), Y0
	VPCMPEQD   Y1, Y1, Y1
	VPXOR      Y2, Y2, Y2
	VPGATHERDD Y1, (SI)(Y0*2), Y2
	VPSLLD     $16, Y2, Y2        // of two entries, the lower
	VPSRAD     $16, Y2, Y2
	VMOVDQU    Y2, (DI)
	ADDQ       $32, DI
	SUBQ       $8, CX
	JNZ        lanes
	VZEROUPPER
	RET
