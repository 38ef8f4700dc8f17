//go:build !purego

#include "textflag.h"

// Dense layers as in conv_amd64.s: 16 (8) output channels in the lanes of one accumulator per
// position, eight positions at a time; a broadcast pair of inputs times a pair of weights is one
// instruction. Registers:
//   SI x of the position, R9 its stride, R14 three strides; CX positions left; DI acc, R8 its stride
//   AX, BX x of positions 0, 1 of the tile; R13 weights
//   R10 pieces left, R11 from the end of a piece to the next; R12 pairs (fours of bytes) left

// A pair of words at P, of all outputs, times the weights W.
#define WORDS(P, W, A, T) VPDPWSSD.BCST P, W, A

// Four bytes, unsigned, times signed weights.
#define BYTES(P, W, A, T) \
	VPBROADCASTD P, T          \
	VPDPBUSD     W, T, A

#define EIGHT(MUL, OFF, WOFF, W, T, A0, A1, A2, A3, A4, A5, A6, A7) \
	VMOVDQU64 WOFF(R13), W       \
	MUL(OFF(AX), W, A0, T)            \
	MUL(OFF(BX), W, A1, T)            \
	MUL(OFF(AX)(R9*2), W, A2, T)      \
	MUL(OFF(BX)(R9*2), W, A3, T)      \
	MUL(OFF(AX)(R9*4), W, A4, T)      \
	MUL(OFF(BX)(R9*4), W, A5, T)      \
	MUL(OFF(AX)(R14*2), W, A6, T)     \
	MUL(OFF(BX)(R14*2), W, A7, T)

#define PUT2(A, B) \
	VMOVDQU64 A, (DI)          \
	VMOVDQU64 B, (DI)(R8*1)    \
	LEAQ      (DI)(R8*2), DI

// WIDTH is the size of a vector of weights, that is of accumulators.
#define DENSE(MUL, WIDTH, W, T, A0, A1, A2, A3, A4, A5, A6, A7) \
	MOVQ acc+0(FP), DI          \
	MOVQ accStride+8(FP), R8    \
	MOVQ x+16(FP), SI           \
	MOVQ xStride+24(FP), R9     \
	LEAQ (R9)(R9*2), R14        \
	MOVQ n+32(FP), CX           \
	MOVQ segStride+56(FP), R11  \
	MOVQ pairs+64(FP), AX       \
	SHLQ $2, AX                 \
	SUBQ AX, R11                \
	MOVQ bias+72(FP), DX        \
	SUBQ $8, CX                 \
	JLT  singles                \
tile:                               \
	VMOVDQU64 (DX), A0          \
	VMOVDQA64 A0, A1            \
	VMOVDQA64 A0, A2            \
	VMOVDQA64 A0, A3            \
	VMOVDQA64 A0, A4            \
	VMOVDQA64 A0, A5            \
	VMOVDQA64 A0, A6            \
	VMOVDQA64 A0, A7            \
	MOVQ SI, AX                 \
	LEAQ (SI)(R9*1), BX         \
	MOVQ w+40(FP), R13          \
	MOVQ segments+48(FP), R10   \
piece:                              \
	MOVQ pairs+64(FP), R12      \
pair:                               \
	EIGHT(MUL, 0, 0, W, T, A0, A1, A2, A3, A4, A5, A6, A7)     \
	EIGHT(MUL, 4, WIDTH, W, T, A0, A1, A2, A3, A4, A5, A6, A7) \
	ADDQ $8, AX                 \
	ADDQ $8, BX                 \
	ADDQ $(2*WIDTH), R13        \
	SUBQ $2, R12                \
	JNZ  pair                   \
	ADDQ R11, AX                \
	ADDQ R11, BX                \
	DECQ R10                    \
	JNZ  piece                  \
	PUT2(A0, A1)                \
	PUT2(A2, A3)                \
	PUT2(A4, A5)                \
	PUT2(A6, A7)                \
	LEAQ (SI)(R9*8), SI         \
	SUBQ $8, CX                 \
	JGE  tile                   \
singles:                            \
	ADDQ $8, CX                 \
	JZ   done                   \
single:                             \
	VMOVDQU64 (DX), A0          \
	VPXORQ A1, A1, A1           \
	MOVQ SI, AX                 \
	MOVQ w+40(FP), R13          \
	MOVQ segments+48(FP), R10   \
piece1:                             \
	MOVQ pairs+64(FP), R12      \
pair1:                              \
	VMOVDQU64 (R13), A2         \
	VMOVDQU64 WIDTH(R13), A3    \
	MUL((AX), A2, A0, T)        \
	MUL(4(AX), A3, A1, T)       \
	ADDQ $8, AX                 \
	ADDQ $(2*WIDTH), R13        \
	SUBQ $2, R12                \
	JNZ  pair1                  \
	ADDQ R11, AX                \
	DECQ R10                    \
	JNZ  piece1                 \
	VPADDD A1, A0, A0           \
	VMOVDQU64 A0, (DI)          \
	ADDQ R8, DI                 \
	ADDQ R9, SI                 \
	DECQ CX                     \
	JNZ  single                 \
done:                               \
	VZEROUPPER                  \
	RET

// func dense16AVX512(acc *int32, accStride int, x *int16, xStride, n int, w *int16, segments, segStride, pairs int, bias *int32)
TEXT ·dense16AVX512(SB), NOSPLIT, $0-80
	DENSE(WORDS, 64, Z8, Z9, Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7)

// func dense8AVX512(acc *int32, accStride int, x *int16, xStride, n int, w *int16, segments, segStride, pairs int, bias *int32)
TEXT ·dense8AVX512(SB), NOSPLIT, $0-80
	DENSE(WORDS, 32, Y8, Y9, Y0, Y1, Y2, Y3, Y4, Y5, Y6, Y7)

// func bytes16AVX512(acc *int32, accStride int, x *uint8, xStride, n int, w *int8, segments, segStride, pairs int, bias *int32)
TEXT ·bytes16AVX512(SB), NOSPLIT, $0-80
	DENSE(BYTES, 64, Z8, Z9, Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7)

// func bytes8AVX512(acc *int32, accStride int, x *uint8, xStride, n int, w *int8, segments, segStride, pairs int, bias *int32)
TEXT ·bytes8AVX512(SB), NOSPLIT, $0-80
	DENSE(BYTES, 32, Y8, Y9, Y0, Y1, Y2, Y3, Y4, Y5, Y6, Y7)

DATA flip<>+0(SB)/4, $0x80808080
GLOBL flip<>(SB), RODATA|NOPTR, $4

// func unsignedAVX512(dst *uint8, src *int8, n int)
TEXT ·unsignedAVX512(SB), NOSPLIT, $0-24
	MOVQ         dst+0(FP), DI
	MOVQ         src+8(FP), SI
	MOVQ         n+16(FP), CX
	VPBROADCASTD flip<>(SB), Z15
	SUBQ         $64, CX
	JLT          rest

whole:
	VPXORQ    (SI), Z15, Z0
	VMOVDQU64 Z0, (DI)
	ADDQ      $64, SI
	ADDQ      $64, DI
	SUBQ      $64, CX
	JGE       whole

rest:
	ADDQ       $64, CX
	JZ         done
	MOVQ       $-1, AX
	BZHIQ      CX, AX, AX
	KMOVQ      AX, K1
	VMOVDQU8.Z (SI), K1, Z0
	VPXORQ     Z15, Z0, Z0
	VMOVDQU8   Z0, K1, (DI)

done:
	VZEROUPPER
	RET
