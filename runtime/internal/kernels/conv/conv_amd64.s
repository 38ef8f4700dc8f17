//go:build !purego

#include "textflag.h"

// Dense layers: 16 (8) output channels in the lanes of two (one) accumulators per
// position, four positions at a time. Registers:
//   SI x of the position, R9 its stride; CX positions left; DI acc, R8 its stride
//   AX, BX x of positions 0, 2 of the tile; R13 weights
//   R10 pieces left, R11 from the end of a piece to the next; R12 pairs left

// One pair of inputs at P times the weights in Y8 and Y9, onto A0 and A1.
#define PAIR16(P, A0, A1) \
	VPBROADCASTD P, Y10       \
	VPMADDWD     Y8, Y10, Y11 \
	VPMADDWD     Y9, Y10, Y10 \
	VPADDD       Y11, A0, A0  \
	VPADDD       Y10, A1, A1

#define FOUR16(OFF, WOFF) \
	VMOVDQU WOFF(R13), Y8          \
	VMOVDQU (WOFF+32)(R13), Y9     \
	PAIR16(OFF(AX), Y0, Y1)        \
	PAIR16(OFF(AX)(R9*1), Y2, Y3)  \
	PAIR16(OFF(BX), Y4, Y5)        \
	PAIR16(OFF(BX)(R9*1), Y6, Y7)

#define ONE16(OFF, WOFF) \
	VPBROADCASTD OFF(AX), Y10                  \
	VPMADDWD     WOFF(R13), Y10, Y11           \
	VPMADDWD     (WOFF+32)(R13), Y10, Y10      \
	VPADDD       Y11, Y0, Y0                   \
	VPADDD       Y10, Y1, Y1

#define ARGS \
	MOVQ acc+0(FP), DI          \
	MOVQ accStride+8(FP), R8    \
	MOVQ x+16(FP), SI           \
	MOVQ xStride+24(FP), R9     \
	MOVQ n+32(FP), CX           \
	MOVQ segStride+56(FP), R11  \
	MOVQ pairs+64(FP), AX       \
	SHLQ $2, AX                 \
	SUBQ AX, R11                \
	MOVQ bias+72(FP), DX

// func dense16AVX2(acc *int32, accStride int, x *int16, xStride, n int, w *int16, segments, segStride, pairs int, bias *int32)
TEXT ·dense16AVX2(SB), NOSPLIT, $0-80
	ARGS
	SUBQ $4, CX
	JLT  singles

tile:
	VMOVDQU (DX), Y0
	VMOVDQU 32(DX), Y1
	VMOVDQA Y0, Y2
	VMOVDQA Y1, Y3
	VMOVDQA Y0, Y4
	VMOVDQA Y1, Y5
	VMOVDQA Y0, Y6
	VMOVDQA Y1, Y7
	MOVQ    SI, AX
	LEAQ    (SI)(R9*2), BX
	MOVQ    w+40(FP), R13
	MOVQ    segments+48(FP), R10

piece:
	MOVQ pairs+64(FP), R12

pair:
	FOUR16(0, 0)
	FOUR16(4, 64)
	ADDQ $8, AX
	ADDQ $8, BX
	ADDQ $128, R13
	SUBQ $2, R12
	JNZ  pair
	ADDQ R11, AX
	ADDQ R11, BX
	DECQ R10
	JNZ  piece

	VMOVDQU Y0, (DI)
	VMOVDQU Y1, 32(DI)
	VMOVDQU Y2, (DI)(R8*1)
	VMOVDQU Y3, 32(DI)(R8*1)
	LEAQ    (DI)(R8*2), DI
	VMOVDQU Y4, (DI)
	VMOVDQU Y5, 32(DI)
	VMOVDQU Y6, (DI)(R8*1)
	VMOVDQU Y7, 32(DI)(R8*1)
	LEAQ    (DI)(R8*2), DI
	LEAQ    (SI)(R9*4), SI
	SUBQ    $4, CX
	JGE     tile

singles:
	ADDQ $4, CX
	JZ   done

single:
	VMOVDQU (DX), Y0
	VMOVDQU 32(DX), Y1
	MOVQ    SI, AX
	MOVQ    w+40(FP), R13
	MOVQ    segments+48(FP), R10

piece1:
	MOVQ pairs+64(FP), R12

pair1:
	ONE16(0, 0)
	ONE16(4, 64)
	ADDQ $8, AX
	ADDQ $128, R13
	SUBQ $2, R12
	JNZ  pair1
	ADDQ R11, AX
	DECQ R10
	JNZ  piece1

	VMOVDQU Y0, (DI)
	VMOVDQU Y1, 32(DI)
	ADDQ    R8, DI
	ADDQ    R9, SI
	DECQ    CX
	JNZ     single

done:
	VZEROUPPER
	RET

#define PAIR8(P, A) \
	VPBROADCASTD P, Y10       \
	VPMADDWD     Y8, Y10, Y10 \
	VPADDD       Y10, A, A

#define FOUR8(OFF, WOFF, A, B, C, D) \
	VMOVDQU WOFF(R13), Y8     \
	PAIR8(OFF(AX), A)         \
	PAIR8(OFF(AX)(R9*1), B)   \
	PAIR8(OFF(BX), C)         \
	PAIR8(OFF(BX)(R9*1), D)

// func dense8AVX2(acc *int32, accStride int, x *int16, xStride, n int, w *int16, segments, segStride, pairs int, bias *int32)
TEXT ·dense8AVX2(SB), NOSPLIT, $0-80
	ARGS
	SUBQ $4, CX
	JLT  singles

tile:
	VMOVDQU (DX), Y0
	VMOVDQA Y0, Y1
	VMOVDQA Y0, Y2
	VMOVDQA Y0, Y3
	VPXOR   Y4, Y4, Y4
	VPXOR   Y5, Y5, Y5
	VPXOR   Y6, Y6, Y6
	VPXOR   Y7, Y7, Y7
	MOVQ    SI, AX
	LEAQ    (SI)(R9*2), BX
	MOVQ    w+40(FP), R13
	MOVQ    segments+48(FP), R10

piece:
	MOVQ pairs+64(FP), R12

pair:
	FOUR8(0, 0, Y0, Y1, Y2, Y3)
	FOUR8(4, 32, Y4, Y5, Y6, Y7)
	ADDQ $8, AX
	ADDQ $8, BX
	ADDQ $64, R13
	SUBQ $2, R12
	JNZ  pair
	ADDQ R11, AX
	ADDQ R11, BX
	DECQ R10
	JNZ  piece

	VPADDD  Y4, Y0, Y0
	VPADDD  Y5, Y1, Y1
	VPADDD  Y6, Y2, Y2
	VPADDD  Y7, Y3, Y3
	VMOVDQU Y0, (DI)
	VMOVDQU Y1, (DI)(R8*1)
	LEAQ    (DI)(R8*2), DI
	VMOVDQU Y2, (DI)
	VMOVDQU Y3, (DI)(R8*1)
	LEAQ    (DI)(R8*2), DI
	LEAQ    (SI)(R9*4), SI
	SUBQ    $4, CX
	JGE     tile

singles:
	ADDQ $4, CX
	JZ   done

single:
	VMOVDQU (DX), Y0
	MOVQ    SI, AX
	MOVQ    w+40(FP), R13
	MOVQ    segments+48(FP), R10

piece1:
	MOVQ pairs+64(FP), R12

pair1:
	VPBROADCASTD (AX), Y10
	VPBROADCASTD 4(AX), Y11
	VPMADDWD     (R13), Y10, Y10
	VPMADDWD     32(R13), Y11, Y11
	VPADDD       Y10, Y0, Y0
	VPADDD       Y11, Y0, Y0
	ADDQ         $8, AX
	ADDQ         $64, R13
	SUBQ         $2, R12
	JNZ          pair1
	ADDQ         R11, AX
	DECQ         R10
	JNZ          piece1

	VMOVDQU Y0, (DI)
	ADDQ    R8, DI
	ADDQ    R9, SI
	DECQ    CX
	JNZ     single

done:
	VZEROUPPER
	RET

// Depthwise layers: 16 channels of one position; two rows are interleaved so that one
// instruction does a pair of taps.

// func depthwise16AVX2(acc *int32, accStride int, x *int16, xStride, n int, w *int16, pairs, tapStride int, bias *int32)
TEXT ·depthwise16AVX2(SB), NOSPLIT, $0-72
	MOVQ    acc+0(FP), DI
	MOVQ    accStride+8(FP), R8
	MOVQ    x+16(FP), SI
	MOVQ    xStride+24(FP), R9
	MOVQ    n+32(FP), CX
	MOVQ    pairs+48(FP), R10
	MOVQ    tapStride+56(FP), R11
	MOVQ    bias+64(FP), DX
	VMOVDQU (DX), Y8
	VMOVDQU 32(DX), Y9

position:
	VMOVDQA Y8, Y0
	VMOVDQA Y9, Y1
	MOVQ    SI, AX
	MOVQ    w+40(FP), R13
	MOVQ    R10, R12

taps:
	VMOVDQU    (AX), Y2
	VMOVDQU    (AX)(R11*1), Y3
	VPUNPCKLWD Y3, Y2, Y4
	VPUNPCKHWD Y3, Y2, Y5
	VPMADDWD   (R13), Y4, Y4
	VPMADDWD   32(R13), Y5, Y5
	VPADDD     Y4, Y0, Y0
	VPADDD     Y5, Y1, Y1
	LEAQ       (AX)(R11*2), AX
	ADDQ       $64, R13
	DECQ       R12
	JNZ        taps

	VPERM2I128 $0x20, Y1, Y0, Y2
	VPERM2I128 $0x31, Y1, Y0, Y3
	VMOVDQU    Y2, (DI)
	VMOVDQU    Y3, 32(DI)
	ADDQ       R8, DI
	ADDQ       R9, SI
	DECQ       CX
	JNZ        position
	VZEROUPPER
	RET
