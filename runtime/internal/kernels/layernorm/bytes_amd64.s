//go:build !purego

#include "textflag.h"

// factors: s1 at 0, m at 64, shift at 128.

// The sums of the dwords of Y2 and of Y3 to s1 and m of the row R8.
#define SUMS \
	VPHADDD      Y3, Y2, Y2   \
	VPHADDD      Y2, Y2, Y2   \
	VEXTRACTI128 $1, Y2, X3   \
	VPADDD       X3, X2, X2   \
	VPMOVSXDQ    X2, X2       \
	VMOVQ        X2, 0(R8)    \
	VPEXTRQ      $1, X2, 64(R8)

// func statsBytesAVX512(src *int8, rows, cols int, f *factors)
TEXT ·statsBytesAVX512(SB), NOSPLIT, $0-32
	MOVQ       src+0(FP), SI
	MOVQ       rows+8(FP), CX
	MOVQ       cols+16(FP), DX
	MOVQ       f+24(FP), R8
	VPTERNLOGD $0xff, Z5, Z5, Z5
	VPSRLW     $15, Z5, Z5       // ones
	MOVQ       DX, R11
	ANDQ       $31, R11
	MOVQ       $-1, AX
	BZHIQ      R11, AX, AX
	KMOVQ      AX, K1
	MOVQ       DX, BX
	SUBQ       R11, BX           // whole vectors

row:
	VPXORQ Z2, Z2, Z2
	VPXORQ Z3, Z3, Z3
	XORQ   AX, AX
	CMPQ   AX, BX
	JGE    rest

lanes:
	VPMOVSXBW (SI)(AX*1), Z0
	VPDPWSSD  Z5, Z0, Z2
	VPDPWSSD  Z0, Z0, Z3
	ADDQ      $32, AX
	CMPQ      AX, BX
	JLT       lanes

rest:
	TESTQ      R11, R11
	JZ         sum
	VMOVDQU8.Z (SI)(AX*1), K1, Z0
	VPMOVSXBW  Y0, Z0
	VPDPWSSD   Z5, Z0, Z2
	VPDPWSSD   Z0, Z0, Z3

sum:
	VEXTRACTI64X4 $1, Z2, Y0
	VEXTRACTI64X4 $1, Z3, Y1
	VPADDD        Y0, Y2, Y2
	VPADDD        Y1, Y3, Y3
	SUMS
	ADDQ          DX, SI
	ADDQ          $8, R8
	DECQ          CX
	JNZ           row
	VZEROUPPER
	RET

// func statsBytesAVX2(src *int8, rows, cols int, f *factors)
TEXT ·statsBytesAVX2(SB), NOSPLIT, $0-32
	MOVQ     src+0(FP), SI
	MOVQ     rows+8(FP), CX
	MOVQ     cols+16(FP), DX
	MOVQ     f+24(FP), R8
	VPCMPEQW Y5, Y5, Y5
	VPSRLW   $15, Y5, Y5     // ones
	MOVQ     DX, BX
	SUBQ     $16, BX         // where the last whole vector begins

row:
	VPXOR Y2, Y2, Y2
	VPXOR Y3, Y3, Y3
	XORQ  AX, AX
	CMPQ  AX, BX
	JGT   rest

lanes:
	VPMOVSXBW (SI)(AX*1), Y0
	VPMADDWD  Y5, Y0, Y1
	VPMADDWD  Y0, Y0, Y0
	VPADDD    Y1, Y2, Y2
	VPADDD    Y0, Y3, Y3
	ADDQ      $16, AX
	CMPQ      AX, BX
	JLE       lanes

rest:
	CMPQ      AX, DX
	JGE       sum
	VPMOVSXBW (SI)(AX*1), X0 // the upper half is cleared
	VPMADDWD  Y5, Y0, Y1
	VPMADDWD  Y0, Y0, Y0
	VPADDD    Y1, Y2, Y2
	VPADDD    Y0, Y3, Y3

sum:
	SUMS
	ADDQ DX, SI
	ADDQ $8, R8
	DECQ CX
	JNZ  row
	VZEROUPPER
	RET

// invSqrt of eight positions. The floor of a square root, and of a quotient, is the truncated one of float64, or one less.
// func reciprocalsAVX512(f *factors, n, eps int64)
TEXT ·reciprocalsAVX512(SB), NOSPLIT, $0-24
	MOVQ         f+0(FP), R8
	VPBROADCASTQ n+8(FP), Z0
	VPBROADCASTQ eps+16(FP), Z1
	MOVQ         $1, AX
	VPBROADCASTQ AX, Z15
	MOVL         $0xffffffff, AX
	VPBROADCASTQ AX, Z13
	MOVQ         $0x4000000000000000, AX
	VPBROADCASTQ AX, Z12
	VMOVDQU64    0(R8), Z2           // s1
	VMOVDQU64    64(R8), Z3          // s2
	VPMULUDQ     Z0, Z3, Z3
	VPMULDQ      Z2, Z2, Z2
	VPSUBQ       Z2, Z3, Z3
	VPADDQ       Z1, Z3, Z3
	VPMAXSQ      Z15, Z3, Z3         // v
	VPLZCNTQ     Z3, Z4
	VPANDNQ      Z4, Z15, Z4         // e
	VPSLLVQ      Z4, Z3, Z3          // u
	VCVTUQQ2PD   Z3, Z5
	VSQRTPD      Z5, Z5
	VCVTTPD2UQQ  Z5, Z5
	VPMINUQ      Z13, Z5, Z5         // q
	VPMULUDQ     Z5, Z5, Z6
	VPCMPUQ      $6, Z3, Z6, K1      // q*q > u
	VPSUBQ       Z15, Z5, K1, Z5
	VCVTUQQ2PD   Z12, Z6
	VCVTUQQ2PD   Z5, Z7
	VDIVPD       Z7, Z6, Z6
	VCVTTPD2UQQ  Z6, Z6              // m
	VPMULUDQ     Z5, Z6, Z7
	VPSUBQ       Z7, Z12, Z7         // 2^62 - m*q
	VPXORQ       Z8, Z8, Z8
	VPCMPQ       $1, Z8, Z7, K1      // < 0
	VPSUBQ       Z15, Z6, K1, Z6
	VMOVDQU64    Z6, 64(R8)
	VPSRLQ       $1, Z4, Z4
	MOVQ         $47, AX             // 62 - arith.NormBits
	VPBROADCASTQ AX, Z7
	VPSUBQ       Z4, Z7, Z4
	VMOVDQU64    Z4, 128(R8)
	VZEROUPPER
	RET

// 16 channels Z0 of a position to bytes X0: Z13 their number, Z12 the sum, Z11 the reciprocal, X15 its shift; GAMMA; X10, Z8 and Z7 the tail; K1 the odd
// elements.
#define NORMALISE512(GAMMA, BETA0, BETA1) \
	VPMULLD   Z13, Z0, Z0         \
	VPSUBD    Z12, Z0, Z0         \
	VPSRLQ    $32, Z0, Z1         \
	VPMULDQ   Z11, Z0, Z0         \
	VPMULDQ   Z11, Z1, Z1         \
	VPSRAQ    X15, Z0, Z0         \
	VPSRAQ    X15, Z1, Z1         \
	VMOVDQU32 GAMMA, Z2           \
	VPSRLQ    $32, Z2, Z3         \
	VPMULDQ   Z2, Z0, Z0          \
	VPMULDQ   Z3, Z1, Z1          \
	VPADDQ    BETA0, Z0, Z0       \
	VPADDQ    BETA1, Z1, Z1       \
	VPSRAQ    X10, Z0, Z0         \
	VPSRAQ    X10, Z1, Z1         \
	VPSHUFD   $0xA0, Z1, K1, Z0   \
	VPMAXSD   Z8, Z0, Z0          \
	VPMINSD   Z7, Z0, Z0          \
	VPMOVDB   Z0, X0

// func applyBytesAVX512(dst, src *int8, rows, cols int, gamma *int32, beta *int64, f *factors, t *tail)
TEXT ·applyBytesAVX512(SB), NOSPLIT, $0-64
	MOVQ         dst+0(FP), DI
	MOVQ         src+8(FP), SI
	MOVQ         rows+16(FP), CX
	MOVQ         cols+24(FP), DX
	MOVQ         gamma+32(FP), R9
	MOVQ         beta+40(FP), R10
	MOVQ         f+48(FP), R8
	MOVQ         t+56(FP), AX
	VMOVQ        0(AX), X10
	VPBROADCASTD 12(AX), Z8
	VPBROADCASTD 16(AX), Z7
	VPBROADCASTD DX, Z13
	MOVL         $0xAAAA, AX
	KMOVW        AX, K1
	MOVQ         DX, R11
	ANDQ         $15, R11
	MOVQ         $-1, AX
	BZHIQ        R11, AX, AX
	KMOVW        AX, K2
	MOVQ         DX, BX
	SUBQ         R11, BX         // whole vectors

row:
	VPBROADCASTD 0(R8), Z12
	VPBROADCASTD 64(R8), Z11
	VMOVQ        128(R8), X15
	XORQ         AX, AX
	CMPQ         AX, BX
	JGE          rest

lanes:
	VPMOVSXBD (SI)(AX*1), Z0
	NORMALISE512((R9)(AX*4), (R10)(AX*8), 64(R10)(AX*8))
	VMOVDQU   X0, (DI)(AX*1)
	ADDQ      $16, AX
	CMPQ      AX, BX
	JLT       lanes

rest:
	TESTQ      R11, R11
	JZ         next
	VMOVDQU8.Z (SI)(AX*1), K2, X0
	VPMOVSXBD  X0, Z0
	NORMALISE512((R9)(AX*4), (R10)(AX*8), 64(R10)(AX*8))
	VMOVDQU8   X0, K2, (DI)(AX*1)

next:
	ADDQ DX, SI
	ADDQ DX, DI
	ADDQ $8, R8
	DECQ CX
	JNZ  row
	VZEROUPPER
	RET

// func applyBytesAVX2(dst, src *int8, rows, cols int, gamma *int32, beta *int64, f *factors, t *tail)
// As applyAVX2.
TEXT ·applyBytesAVX2(SB), NOSPLIT, $0-64
	MOVQ         dst+0(FP), DI
	MOVQ         src+8(FP), SI
	MOVQ         rows+16(FP), CX
	MOVQ         cols+24(FP), DX
	MOVQ         gamma+32(FP), R9
	MOVQ         beta+40(FP), R10
	MOVQ         f+48(FP), R8
	MOVQ         t+56(FP), AX
	VMOVQ        0(AX), X10
	VPBROADCASTD 8(AX), Y9
	VPBROADCASTD 12(AX), Y8
	VPBROADCASTD 16(AX), Y7
	VMOVQ        DX, X13
	VPBROADCASTD X13, Y13
	MOVQ         $0x4000000000000000, AX
	VMOVQ        AX, X6
	VPBROADCASTQ X6, Y6

row:
	VPBROADCASTD 0(R8), Y12
	VPBROADCASTD 64(R8), Y11
	VMOVQ        128(R8), X15
	VPSRLQ       X15, Y6, Y14    // takes 2^62 back
	XORQ         AX, AX

lanes:
	VPMOVSXBD    (SI)(AX*1), Y0
	VPMULLD      Y13, Y0, Y0
	VPSUBD       Y12, Y0, Y0
	VPSRLQ       $32, Y0, Y1
	VPMULDQ      Y11, Y0, Y0
	VPMULDQ      Y11, Y1, Y1
	VPADDQ       Y6, Y0, Y0
	VPADDQ       Y6, Y1, Y1
	VPSRLQ       X15, Y0, Y0
	VPSRLQ       X15, Y1, Y1
	VPSUBD       Y14, Y0, Y0
	VPSUBD       Y14, Y1, Y1
	VMOVDQU      (R9)(AX*4), Y2
	VPSRLQ       $32, Y2, Y3
	VPMULDQ      Y2, Y0, Y0
	VPMULDQ      Y3, Y1, Y1
	VPADDQ       (R10)(AX*8), Y0, Y0
	VPADDQ       32(R10)(AX*8), Y1, Y1
	VPSRLQ       X10, Y0, Y0
	VPSRLQ       X10, Y1, Y1
	VPSLLQ       $32, Y1, Y1
	VPBLENDD     $0xAA, Y1, Y0, Y0
	VPSUBD       Y9, Y0, Y0
	VPMAXSD      Y8, Y0, Y0
	VPMINSD      Y7, Y0, Y0
	VEXTRACTI128 $1, Y0, X1
	VPACKSSDW    X1, X0, X0
	VPACKSSWB    X0, X0, X0
	VMOVQ        X0, (DI)(AX*1)
	ADDQ         $8, AX
	CMPQ         AX, DX
	JLT          lanes
	ADDQ         DX, SI
	ADDQ         DX, DI
	ADDQ         $8, R8
	DECQ         CX
	JNZ          row
	VZEROUPPER
	RET
