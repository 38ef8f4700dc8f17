//go:build !purego

#include "textflag.h"

// Register plan of the convolution kernels:
//   Y15 Y14 Y13 Y12  gate tables: base 0-15, base 16-31, slope 0-15, slope 16-31
//   Y11 0x00FF words   Y10 0x1F bytes
//   R8 the channel's constants (layout in gated_amd64.go), R9 their number
//   SI DI the inputs of h and g
// Even positions of a block are words of one vector (E), odd ones of another (O).

DATA seg31<>+0(SB)/8, $0x1f1f1f1f1f1f1f1f
GLOBL seg31<>(SB), RODATA|NOPTR, $8
DATA even7<>+0(SB)/4, $0x00fe00fe
GLOBL even7<>(SB), RODATA|NOPTR, $4

// E0 E1 .. E7 O0 O1 .. O7 -> E0 O0 E1 O1 ..
DATA interleave<>+0(SB)/8, $0x0b030a0209010800
DATA interleave<>+8(SB)/8, $0x0f070e060d050c04
GLOBL interleave<>(SB), RODATA|NOPTR, $16

// Constants of arith.NormFactors.
DATA rsqrt<>+0(SB)/4, $0x8000   // 1<<15: below, shift by 16
DATA rsqrt<>+4(SB)/4, $0x800000 // by 8
DATA rsqrt<>+8(SB)/4, $0x8000000 // by 4
DATA rsqrt<>+12(SB)/4, $0x20000000 // by 2
DATA rsqrt<>+16(SB)/4, $8
DATA rsqrt<>+20(SB)/4, $4
DATA rsqrt<>+24(SB)/4, $2
DATA rsqrt<>+28(SB)/4, $1
DATA rsqrt<>+32(SB)/4, $-9988
DATA rsqrt<>+36(SB)/4, $25518
DATA rsqrt<>+40(SB)/4, $-24211
DATA rsqrt<>+44(SB)/4, $12748
DATA rsqrt<>+48(SB)/4, $49152
DATA rsqrt<>+52(SB)/4, $32767
DATA rsqrt<>+56(SB)/4, $128
DATA rsqrt<>+60(SB)/4, $16384
DATA rsqrt<>+64(SB)/4, $16383
DATA rsqrt<>+68(SB)/4, $-16384
GLOBL rsqrt<>(SB), RODATA|NOPTR, $72

#define TABLES(T) \
	VBROADCASTI128 (T), Y15           \
	VBROADCASTI128 16(T), Y14         \
	VBROADCASTI128 32(T), Y13         \
	VBROADCASTI128 48(T), Y12         \
	VPCMPEQW       Y11, Y11, Y11      \
	VPSRLW         $8, Y11, Y11       \
	VPBROADCASTQ   seg31<>(SB), Y10

// Four taps of one filter on 32 positions from P on: E in Y4, O in Y2.
#define CONV4(P, W01, W23, BIAS) \
	VPBROADCASTD W01(R8), Y2    \
	VPBROADCASTD W23(R8), Y3    \
	VPBROADCASTD BIAS(R8), Y5   \
	VPMADDUBSW   (P), Y2, Y4    \
	VPADDW       Y5, Y4, Y4     \
	VPMADDUBSW   1(P), Y2, Y2   \
	VPADDW       Y5, Y2, Y2     \
	VPMADDUBSW   2(P), Y3, Y5   \
	VPMADDUBSW   3(P), Y3, Y3   \
	VPADDW       Y5, Y4, Y4     \
	VPADDW       Y3, Y2, Y2

// Two more taps.
#define MORE2(P, W, K) \
	VPBROADCASTD W(R8), Y3         \
	VPMADDUBSW   K(P), Y3, Y5      \
	VPMADDUBSW   (K+1)(P), Y3, Y3  \
	VPADDW       Y5, Y4, Y4        \
	VPADDW       Y3, Y2, Y2

#define H4 CONV4(SI, 0, 4, 16)
#define G4 CONV4(DI, 8, 12, 20)
#define H8 \
	CONV4(SI, 0, 4, 16) \
	MORE2(SI, 48, 4)    \
	MORE2(SI, 52, 6)
#define G8 \
	CONV4(DI, 8, 12, 20) \
	MORE2(DI, 56, 4)     \
	MORE2(DI, 60, 6)

// The gate of the accumulators Y4 (E) and Y2 (O), 8-bit modular arithmetic:
// low bytes of Y3 are 2*s7 (plus one bit) of E, high bytes of Y0 of O.
#define GATE \
	VPSRLW    $8, Y4, Y4         \
	VPBLENDVB Y11, Y4, Y2, Y0    \ // the gate inputs as bytes in time order
	VPSRLW    $3, Y0, Y1         \
	VPAND     Y10, Y1, Y1        \
	VPSHUFB   Y1, Y13, Y2        \
	VPSHUFB   Y1, Y12, Y3        \
	VPBLENDVB Y0, Y3, Y2, Y2     \ // their top bit chooses the half of a table
	VPSHUFB   Y1, Y15, Y4        \
	VPSHUFB   Y1, Y14, Y5        \
	VPBLENDVB Y0, Y5, Y4, Y4     \
	VPMULLW   Y0, Y2, Y3         \
	VPADDW    Y4, Y3, Y3         \
	VPANDN    Y0, Y11, Y0        \
	VPSRLW    $8, Y2, Y2         \
	VPMULLW   Y0, Y2, Y0         \
	VPADDW    Y4, Y0, Y0

// The inputs of the channel at R8: SI, DI from the plane at R10, stride R11.
#define INPUTS \
	MOVWLZX 40(R8), SI  \
	MOVWLZX 42(R8), DI  \
	IMULQ   R11, SI     \
	IMULQ   R11, DI     \
	ADDQ    R10, SI     \
	ADDQ    R10, DI

// A plain layer's rows. R12 output, R13 its stride, BX blocks, Y9 and Y7 the
// factors of O and E (E's products are doubled, so its factor is halved).
#define PLAIN(HCONV, GCONV, SIZE) \
	MOVQ           w+0(FP), R8                 \
	MOVQ           n+8(FP), R9                 \
	MOVQ           src+16(FP), R10             \
	MOVQ           srcStride+24(FP), R11       \
	MOVQ           dst+32(FP), R12             \
	MOVQ           dstStride+40(FP), R13       \
	MOVQ           blocks+48(FP), BX           \
	MOVQ           tab+56(FP), AX              \
	TABLES(AX)                                 \
	VPBROADCASTD   64(AX), Y9                  \
	VPBROADCASTD   68(AX), Y7                  \
	VBROADCASTI128 interleave<>(SB), Y8        \
	VPBROADCASTD   even7<>(SB), Y6             \
channel:                                       \
	INPUTS                                     \
	MOVQ           R12, DX                     \
	MOVQ           BX, CX                      \
block:                                         \
	GCONV                                      \
	GATE                                       \
	VPSRLW         $9, Y0, Y0                  \
	VPAND          Y6, Y3, Y1                  \
	HCONV                                      \
	VPSRAW         $8, Y4, Y4                  \
	VPSRAW         $8, Y2, Y2                  \
	VPMULLW        Y1, Y4, Y1                  \
	VPMULLW        Y0, Y2, Y0                  \
	VPMULHRSW      Y7, Y1, Y1                  \
	VPMULHRSW      Y9, Y0, Y0                  \
	VPACKSSWB      Y0, Y1, Y0                  \
	VPSHUFB        Y8, Y0, Y0                  \
	VMOVDQU        Y0, (DX)                    \
	ADDQ           $32, SI                     \
	ADDQ           $32, DI                     \
	ADDQ           $32, DX                     \
	DECQ           CX                          \
	JNZ            block                       \
	ADDQ           R13, R12                    \
	ADDQ           $SIZE, R8                   \
	DECQ           R9                          \
	JNZ            channel                     \
	VZEROUPPER                                 \
	RET

// Residual times rho for rho >= 0: unsigned by signed, one product per word.
// E in Y6, O in Y7.
#define RESPOS \
	VPBROADCASTD 29(R8), Y6    \
	VPBROADCASTD 28(R8), Y7    \
	VPMADDUBSW   (R12), Y6, Y6 \
	VPMADDUBSW   (R12), Y7, Y7

// The same for any rho: high halves of (r<<8)*(rho<<8).
#define RESANY \
	VPBROADCASTD 28(R8), Y7    \
	VMOVDQU      (R12), Y5     \
	VPSLLW       $8, Y5, Y6    \
	VPANDN       Y5, Y11, Y5   \
	VPMULHW      Y7, Y6, Y6    \
	VPMULHW      Y7, Y5, Y7

// One block of a norm layer up to the LayerNorm's input. R12 the residual,
// R13 its stride, DX the tile: for each channel 16 words E, 16 words O.
#define TILE(HCONV, GCONV, RESIDUAL, SIZE) \
	MOVQ         w+0(FP), R8             \
	MOVQ         n+8(FP), R9             \
	MOVQ         src+16(FP), R10         \
	MOVQ         srcStride+24(FP), R11   \
	MOVQ         res+32(FP), R12         \
	MOVQ         resStride+40(FP), R13   \
	MOVQ         y+48(FP), DX            \
	MOVQ         tab+56(FP), AX          \
	TABLES(AX)                           \
channel:                                 \
	INPUTS                               \
	GCONV                                \
	GATE                                 \
	VPSLLW       $8, Y3, Y3              \
	VPSRLW       $9, Y0, Y0              \
	VPSRLW       $9, Y3, Y1              \
	HCONV                                \
	VPSRAW       $8, Y4, Y4              \
	VPSRAW       $8, Y2, Y2              \
	VPMULLW      Y1, Y4, Y1              \
	VPMULLW      Y0, Y2, Y0              \
	RESIDUAL                             \
	VPBROADCASTD 24(R8), Y5              \
	VPADDW       Y5, Y6, Y6              \
	VPADDW       Y5, Y7, Y7              \
	VPADDW       Y6, Y1, Y1              \
	VPADDW       Y7, Y0, Y0              \
	VMOVDQU      Y1, (DX)                \
	VMOVDQU      Y0, 32(DX)              \
	ADDQ         $64, DX                 \
	ADDQ         R13, R12                \
	ADDQ         $SIZE, R8               \
	DECQ         R9                      \
	JNZ          channel                 \
	VZEROUPPER                           \
	RET

// Half blocks: 16 positions of a pair of channels, the first in the low lane
// and the second in the high one; everything else as above. Y6 holds the pair's taps, Y7 its
// biases, cst and rho, of which VPSHUFD takes one. Pairs whose channels read
// the same inputs (SHARED) load them once for both lanes; others (MAPPED) have
// those of the second channel at AX (h) and BX (g).

#define SHARED(K, P, P2, X, Y) VBROADCASTI128 K(P), Y

#define MAPPED(K, P, P2, X, Y) \
	VMOVDQU     K(P), X           \
	VINSERTI128 $1, K(P2), Y, Y

// Four taps of one filter: E in Y4, O in Y2; W01, W23 and BIAS are VPSHUFD's.
#define PAIRCONV(LOAD, P, P2, W01, W23, BIAS) \
	VPSHUFD    W01, Y6, Y2     \
	VPSHUFD    W23, Y6, Y3     \
	LOAD(0, P, P2, X4, Y4)     \
	VPMADDUBSW Y4, Y2, Y4      \
	LOAD(1, P, P2, X5, Y5)     \
	VPMADDUBSW Y5, Y2, Y2      \
	LOAD(2, P, P2, X5, Y5)     \
	VPMADDUBSW Y5, Y3, Y5      \
	VPADDW     Y5, Y4, Y4      \
	LOAD(3, P, P2, X5, Y5)     \
	VPMADDUBSW Y5, Y3, Y3      \
	VPADDW     Y3, Y2, Y2      \
	VPSHUFD    BIAS, Y7, Y5    \
	VPADDW     Y5, Y4, Y4      \
	VPADDW     Y5, Y2, Y2

#define PAIRH(LOAD) PAIRCONV(LOAD, SI, AX, $0x00, $0x55, $0x00)
#define PAIRG(LOAD) PAIRCONV(LOAD, DI, BX, $0xaa, $0xff, $0x55)

// The inputs and constants of the pair at R8.
#define PAIRSHARED \
	INPUTS                             \
	VMOVDQU     (R8), X6               \
	VINSERTI128 $1, 48(R8), Y6, Y6     \
	VMOVDQU     16(R8), X7             \
	VINSERTI128 $1, 64(R8), Y7, Y7

#define PAIRMAPPED \
	PAIRSHARED                     \
	MOVWLZX     88(R8), AX         \
	MOVWLZX     90(R8), BX         \
	IMULQ       R11, AX            \
	IMULQ       R11, BX            \
	ADDQ        R10, AX            \
	ADDQ        R10, BX

#define PLAINHALF(PAIR, LOAD) \
	MOVQ           w+0(FP), R8             \
	MOVQ           pairs+8(FP), R9         \
	MOVQ           src+16(FP), R10         \
	MOVQ           srcStride+24(FP), R11   \
	MOVQ           dst+32(FP), R12         \
	MOVQ           dstStride+40(FP), R13   \
	MOVQ           tab+48(FP), AX          \
	TABLES(AX)                             \
	VPBROADCASTD   64(AX), Y9              \
	VPBROADCASTD   68(AX), Y8              \
pair:                                      \
	PAIR                                   \
	PAIRG(LOAD)                            \
	GATE                                   \
	VPSRLW         $9, Y0, Y0              \
	VPBROADCASTD   even7<>(SB), Y1         \
	VPAND          Y1, Y3, Y1              \
	PAIRH(LOAD)                            \
	VPSRAW         $8, Y4, Y4              \
	VPSRAW         $8, Y2, Y2              \
	VPMULLW        Y1, Y4, Y1              \
	VPMULLW        Y0, Y2, Y0              \
	VPMULHRSW      Y8, Y1, Y1              \
	VPMULHRSW      Y9, Y0, Y0              \
	VBROADCASTI128 interleave<>(SB), Y2    \
	VPACKSSWB      Y0, Y1, Y0              \
	VPSHUFB        Y2, Y0, Y0              \
	VMOVDQU        X0, (R12)               \
	VEXTRACTI128   $1, Y0, (R12)(R13*1)    \
	LEAQ           (R12)(R13*2), R12       \
	ADDQ           $96, R8                 \
	DECQ           R9                      \
	JNZ            pair                    \
	VZEROUPPER                             \
	RET

// The tile of a half block: for each pair 16 words E (8 of each channel), 16 words O.
#define TILEHALF(PAIR, LOAD) \
	MOVQ         w+0(FP), R8                       \
	MOVQ         pairs+8(FP), R9                   \
	MOVQ         src+16(FP), R10                   \
	MOVQ         srcStride+24(FP), R11             \
	MOVQ         res+32(FP), R12                   \
	MOVQ         resStride+40(FP), R13             \
	MOVQ         y+48(FP), DX                      \
	MOVQ         tab+56(FP), AX                    \
	TABLES(AX)                                     \
pair:                                              \
	PAIR                                           \
	PAIRG(LOAD)                                    \
	GATE                                           \
	VPSLLW       $8, Y3, Y3                        \
	VPSRLW       $9, Y0, Y0                        \
	VPSRLW       $9, Y3, Y1                        \
	PAIRH(LOAD)                                    \
	VPSRAW       $8, Y4, Y4                        \
	VPSRAW       $8, Y2, Y2                        \
	VPMULLW      Y1, Y4, Y1                        \
	VPMULLW      Y0, Y2, Y0                        \
	VMOVDQU      (R12), X5                         \
	VINSERTI128  $1, (R12)(R13*1), Y5, Y5          \
	VPSHUFD      $0xff, Y7, Y4                     \
	VPSHUFD      $0xaa, Y7, Y3                     \
	VPSLLW       $8, Y5, Y2                        \ // residual as in RESANY
	VPANDN       Y5, Y11, Y5                       \
	VPMULHW      Y4, Y2, Y2                        \
	VPMULHW      Y4, Y5, Y5                        \
	VPADDW       Y3, Y2, Y2                        \
	VPADDW       Y3, Y5, Y5                        \
	VPADDW       Y2, Y1, Y1                        \
	VPADDW       Y5, Y0, Y0                        \
	VMOVDQU      Y1, (DX)                          \
	VMOVDQU      Y0, 32(DX)                        \
	ADDQ         $64, DX                           \
	LEAQ         (R12)(R13*2), R12                 \
	ADDQ         $96, R8                           \
	DECQ         R9                                \
	JNZ          pair                              \
	VZEROUPPER                                     \
	RET

// Quarter blocks: 8 positions of four channels, of which the first two and the
// last two read the same inputs (those of the last two at AX and BX). Each
// channel has the words of 64 bits. Y6 and Y7 hold the taps of h and g, Y8 the
// biases, Y9 cst and rho: VPSHUFD FIRST or SECOND takes the one or the other.

#define FIRST $0x50
#define SECOND $0xfa

#define QUADLOAD(K, P, P2, Y, T)                    \
	VPBROADCASTQ K(P), Y                               \
	VPBROADCASTQ K(P2), T                              \
	VPBLENDD     $0xf0, T, Y, Y

// Four taps of one filter: E in Y4, O in Y2.
#define QUADCONV(P, P2, TAPS, BIAS, T)              \
	VPSHUFD    FIRST, TAPS, Y2                         \
	VPSHUFD    SECOND, TAPS, Y3                        \
	QUADLOAD(0, P, P2, Y4, T)                          \
	VPMADDUBSW Y4, Y2, Y4                              \
	QUADLOAD(1, P, P2, Y5, T)                          \
	VPMADDUBSW Y5, Y2, Y2                              \
	QUADLOAD(2, P, P2, Y5, T)                          \
	VPMADDUBSW Y5, Y3, Y5                              \
	VPADDW     Y5, Y4, Y4                              \
	QUADLOAD(3, P, P2, Y5, T)                          \
	VPMADDUBSW Y5, Y3, Y3                              \
	VPADDW     Y3, Y2, Y2                              \
	VPSHUFD    BIAS, Y8, Y5                            \
	VPADDW     Y5, Y4, Y4                              \
	VPADDW     Y5, Y2, Y2

#define QUADH QUADCONV(SI, AX, Y6, FIRST, Y7)
#define QUADG QUADCONV(DI, BX, Y7, SECOND, Y1)

// The inputs and constants of the four channels at R8.
#define QUAD                                        \
	INPUTS                                             \
	MOVWLZX     136(R8), AX                            \
	MOVWLZX     138(R8), BX                            \
	IMULQ       R11, AX                                \
	IMULQ       R11, BX                                \
	ADDQ        R10, AX                                \
	ADDQ        R10, BX                                \
	VMOVDQU     (R8), X0                               \
	VINSERTI128 $1, 96(R8), Y0, Y0                     \
	VMOVDQU     48(R8), X1                             \
	VINSERTI128 $1, 144(R8), Y1, Y1                    \
	VPUNPCKLDQ  Y1, Y0, Y6                             \
	VPUNPCKHDQ  Y1, Y0, Y7                             \
	VMOVDQU     16(R8), X0                             \
	VINSERTI128 $1, 112(R8), Y0, Y0                    \
	VMOVDQU     64(R8), X1                             \
	VINSERTI128 $1, 160(R8), Y1, Y1                    \
	VPUNPCKLDQ  Y1, Y0, Y8                             \
	VPUNPCKHDQ  Y1, Y0, Y9

// Four rows of 8 bytes at P, stride S, between memory and the register Y (X its low lane); T is free.
#define LOADROWS(P, S, Y, X, T, TX)                 \
	VMOVQ       (P), X                                 \
	VMOVHPS     (P)(S*1), X, X                         \
	LEAQ        (P)(S*2), P                            \
	VMOVQ       (P), TX                                \
	VMOVHPS     (P)(S*1), TX, TX                       \
	LEAQ        (P)(S*2), P                            \
	VINSERTI128 $1, TX, Y, Y

#define STOREROWS(Y, X, TX, P, S)                   \
	VEXTRACTI128 $1, Y, TX                             \
	VMOVQ        X, (P)                                \
	VMOVHPS      X, (P)(S*1)                           \
	LEAQ         (P)(S*2), P                           \
	VMOVQ        TX, (P)                               \
	VMOVHPS      TX, (P)(S*1)                          \
	LEAQ         (P)(S*2), P

// func plain4(w *byte, n int, src *int8, srcStride int, dst *int8, dstStride, blocks int, tab *tables)
TEXT ·plain4(SB), NOSPLIT, $0-64
	PLAIN(H4, G4, 48)

// func plain8(w *byte, n int, src *int8, srcStride int, dst *int8, dstStride, blocks int, tab *tables)
TEXT ·plain8(SB), NOSPLIT, $0-64
	PLAIN(H8, G8, 64)

// func tile4(w *byte, n int, src *int8, srcStride int, res *int8, resStride int, y *int16, tab *tables)
TEXT ·tile4(SB), NOSPLIT, $0-64
	TILE(H4, G4, RESPOS, 48)

// func tile8(w *byte, n int, src *int8, srcStride int, res *int8, resStride int, y *int16, tab *tables)
TEXT ·tile8(SB), NOSPLIT, $0-64
	TILE(H8, G8, RESPOS, 64)

// func tile4any(w *byte, n int, src *int8, srcStride int, res *int8, resStride int, y *int16, tab *tables)
TEXT ·tile4any(SB), NOSPLIT, $0-64
	TILE(H4, G4, RESANY, 48)

// func tile8any(w *byte, n int, src *int8, srcStride int, res *int8, resStride int, y *int16, tab *tables)
TEXT ·tile8any(SB), NOSPLIT, $0-64
	TILE(H8, G8, RESANY, 64)

// func plainHalf(w *byte, pairs int, src *int8, srcStride int, dst *int8, dstStride int, tab *tables)
TEXT ·plainHalf(SB), NOSPLIT, $0-56
	PLAINHALF(PAIRSHARED, SHARED)

// func plainHalfMap(w *byte, pairs int, src *int8, srcStride int, dst *int8, dstStride int, tab *tables)
TEXT ·plainHalfMap(SB), NOSPLIT, $0-56
	PLAINHALF(PAIRMAPPED, MAPPED)

// func tileHalf(w *byte, pairs int, src *int8, srcStride int, res *int8, resStride int, y *int16, tab *tables)
TEXT ·tileHalf(SB), NOSPLIT, $0-64
	TILEHALF(PAIRSHARED, SHARED)

// func tileHalfMap(w *byte, pairs int, src *int8, srcStride int, res *int8, resStride int, y *int16, tab *tables)
TEXT ·tileHalfMap(SB), NOSPLIT, $0-64
	TILEHALF(PAIRMAPPED, MAPPED)

// func plainQuarter(w *byte, quads int, src *int8, srcStride int, dst *int8, dstStride int, tab *tables)
TEXT ·plainQuarter(SB), NOSPLIT, $0-56
	MOVQ w+0(FP), R8
	MOVQ quads+8(FP), R9
	MOVQ src+16(FP), R10
	MOVQ srcStride+24(FP), R11
	MOVQ dst+32(FP), R12
	MOVQ dstStride+40(FP), R13
	MOVQ tab+48(FP), DX
	TABLES(DX)

quad:
	QUAD
	QUADG
	GATE
	VPSRLW         $9, Y0, Y0
	VPBROADCASTD   even7<>(SB), Y1
	VPAND          Y1, Y3, Y1
	QUADH
	VPSRAW         $8, Y4, Y4
	VPSRAW         $8, Y2, Y2
	VPMULLW        Y1, Y4, Y1
	VPMULLW        Y0, Y2, Y0
	VPBROADCASTD   68(DX), Y3
	VPBROADCASTD   64(DX), Y4
	VPMULHRSW      Y3, Y1, Y1
	VPMULHRSW      Y4, Y0, Y0
	VBROADCASTI128 interleave<>(SB), Y2
	VPACKSSWB      Y0, Y1, Y0
	VPSHUFB        Y2, Y0, Y0
	STOREROWS(Y0, X0, X1, R12, R13)
	ADDQ           $192, R8
	DECQ           R9
	JNZ            quad
	VZEROUPPER
	RET

// The tile of a quarter block: for each four channels 16 words E (4 of each channel), 16 words O.
// func tileQuarter(w *byte, quads int, src *int8, srcStride int, res *int8, resStride int, y *int16, tab *tables)
TEXT ·tileQuarter(SB), NOSPLIT, $0-64
	MOVQ w+0(FP), R8
	MOVQ quads+8(FP), R9
	MOVQ src+16(FP), R10
	MOVQ srcStride+24(FP), R11
	MOVQ res+32(FP), R12
	MOVQ resStride+40(FP), R13
	MOVQ y+48(FP), DX
	MOVQ tab+56(FP), AX
	TABLES(AX)

quad:
	QUAD
	QUADG
	GATE
	VPSLLW  $8, Y3, Y3
	VPSRLW  $9, Y0, Y0
	VPSRLW  $9, Y3, Y1
	QUADH
	VPSRAW  $8, Y4, Y4
	VPSRAW  $8, Y2, Y2
	VPMULLW Y1, Y4, Y1
	VPMULLW Y0, Y2, Y0
	LOADROWS(R12, R13, Y5, X5, Y4, X4)
	VPSHUFD SECOND, Y9, Y4
	VPSHUFD FIRST, Y9, Y3
	VPSLLW  $8, Y5, Y2
	VPANDN  Y5, Y11, Y5
	VPMULHW Y4, Y2, Y2
	VPMULHW Y4, Y5, Y5
	VPADDW  Y3, Y2, Y2
	VPADDW  Y3, Y5, Y5
	VPADDW  Y2, Y1, Y1
	VPADDW  Y5, Y0, Y0
	VMOVDQU Y1, (DX)
	VMOVDQU Y0, 32(DX)
	ADDQ    $64, DX
	ADDQ    $192, R8
	DECQ    R9
	JNZ     quad
	VZEROUPPER
	RET

// One step of the normalisation V<<e to [2^29,2^31): where V (Y9) is below the
// bound, shift by S and count S/2 into Y1.
#define NORMSTEP(BOUND, S, HALF) \
	VPBROADCASTD rsqrt<>+BOUND(SB), Y2 \
	VPCMPGTD     Y9, Y2, Y2            \
	VPSLLD       $S, Y9, Y3            \
	VPBLENDVB    Y2, Y3, Y9, Y9        \
	VPBROADCASTD rsqrt<>+HALF(SB), Y3  \
	VPAND        Y3, Y2, Y2            \
	VPADDD       Y2, Y1, Y1

// A step of the cubic: Y2 = constant + (u*Y2)>>15, u in Y9.
#define CUBIC(AT) \
	VPMULLD      Y9, Y2, Y2           \
	VPSRAD       $15, Y2, Y2          \
	VPBROADCASTD rsqrt<>+AT(SB), Y3   \
	VPADDD       Y3, Y2, Y2

// arith.NormFactors of 8 positions: S1 in Y8, S2 in Y9, parameters at R8 (C,
// MeanM, Eps, A, S); r in Y8, k in Y9.
#define FACTORS \
	VPBROADCASTD (R8), Y0               \
	VPMULLD      Y0, Y9, Y9             \
	VPMULLD      Y8, Y8, Y1             \
	VPBROADCASTD 8(R8), Y2              \
	VPSUBD       Y1, Y9, Y9             \
	VPADDD       Y2, Y9, Y9             \
	VPBROADCASTD rsqrt<>+28(SB), Y2     \
	VPMAXSD      Y2, Y9, Y9             \
	VPXOR        Y1, Y1, Y1             \
	NORMSTEP(0, 16, 16)                 \
	NORMSTEP(4, 8, 20)                  \
	NORMSTEP(8, 4, 24)                  \
	NORMSTEP(12, 2, 28)                 \
	VPSRLD       $16, Y9, Y9            \
	VPBROADCASTD rsqrt<>+32(SB), Y2     \
	CUBIC(36)                           \
	CUBIC(40)                           \
	CUBIC(44)                           \
	VPMULLD      Y2, Y2, Y3             \
	VPSRAD       $10, Y3, Y3            \
	VPMULLD      Y9, Y3, Y3             \
	VPSRAD       $15, Y3, Y3            \
	VPBROADCASTD rsqrt<>+48(SB), Y4     \
	VPSUBD       Y3, Y4, Y4             \
	VPMULLD      Y4, Y2, Y2             \
	VPSRAD       $13, Y2, Y2            \
	VPBROADCASTD 12(R8), Y3             \
	VPMULLD      Y3, Y2, Y2             \
	VPBROADCASTD 16(R8), Y3             \
	VPSUBD       Y1, Y3, Y3             \
	VPXOR        Y4, Y4, Y4             \
	VPMAXSD      Y4, Y3, Y3             \
	VPSRLVD      Y3, Y2, Y2             \
	VPBROADCASTD rsqrt<>+52(SB), Y3     \
	VPMINUD      Y3, Y2, Y2             \
	VPBROADCASTD 4(R8), Y3              \
	VPMULLD      Y3, Y8, Y3             \
	VPBROADCASTD rsqrt<>+60(SB), Y5     \
	VPADDD       Y5, Y3, Y3             \
	VPSRAD       $15, Y3, Y3            \
	VPBROADCASTD rsqrt<>+56(SB), Y6     \
	VPADDD       Y6, Y3, Y3             \
	VPMULLD      Y2, Y3, Y3             \
	VPADDD       Y5, Y3, Y3             \
	VPSRAD       $15, Y3, Y3            \
	VPSUBD       Y3, Y4, Y3             \
	VPBROADCASTD rsqrt<>+64(SB), Y5     \
	VPMINSD      Y5, Y3, Y3             \
	VPBROADCASTD rsqrt<>+68(SB), Y5     \
	VPMAXSD      Y5, Y3, Y9             \
	VMOVDQA      Y2, Y8

// Sums of a pair of channels' words, A and B (y>>8): into S1 (16 bits) and the
// squares' low and high halves.
#define SUMS(A, B, S1, QL, QH) \
	VPSRAW     $8, A, A        \
	VPSRAW     $8, B, B        \
	VPADDW     A, B, Y4        \
	VPADDW     Y4, S1, S1      \
	VPUNPCKLWD B, A, Y4        \
	VPUNPCKHWD B, A, A         \
	VPMADDWD   Y4, Y4, Y4      \
	VPMADDWD   A, A, A         \
	VPADDD     Y4, QL, QL      \
	VPADDD     A, QH, QH

// The sums of all pairs of vectors of a tile: S1 of E in Y10, of O in Y11, the
// squares' halves in Y12, Y13 and Y14, Y15.
#define ALLSUMS \
	VPXOR   Y10, Y10, Y10                \
	VPXOR   Y11, Y11, Y11                \
	VPXOR   Y12, Y12, Y12                \
	VPXOR   Y13, Y13, Y13                \
	VPXOR   Y14, Y14, Y14                \
	VPXOR   Y15, Y15, Y15                \
pair:                                    \
	VMOVDQU (SI), Y0                     \
	VMOVDQU 32(SI), Y1                   \
	VMOVDQU 64(SI), Y2                   \
	VMOVDQU 96(SI), Y3                   \
	SUMS(Y0, Y2, Y10, Y12, Y13)          \
	SUMS(Y1, Y3, Y11, Y14, Y15)          \
	ADDQ    $128, SI                     \
	DECQ    CX                           \
	JNZ     pair

// func factors(y *int16, pairs int, r, k *int16, p *factorParams)
TEXT ·factors(SB), NOSPLIT, $0-40
	MOVQ y+0(FP), SI
	MOVQ pairs+8(FP), CX
	MOVQ r+16(FP), DI
	MOVQ k+24(FP), DX
	MOVQ p+32(FP), R8
	ALLSUMS

	VPUNPCKLWD Y10, Y10, Y8
	VPSRAD     $16, Y8, Y8
	VMOVDQA    Y12, Y9
	FACTORS
	VMOVDQA    Y8, Y7
	VMOVDQA    Y9, Y12
	VPUNPCKHWD Y10, Y10, Y8
	VPSRAD     $16, Y8, Y8
	VMOVDQA    Y13, Y9
	FACTORS
	VPACKSSDW  Y8, Y7, Y7
	VPACKSSDW  Y9, Y12, Y12
	VMOVDQU    Y7, (DI)
	VMOVDQU    Y12, (DX)

	VPUNPCKLWD Y11, Y11, Y8
	VPSRAD     $16, Y8, Y8
	VMOVDQA    Y14, Y9
	FACTORS
	VMOVDQA    Y8, Y7
	VMOVDQA    Y9, Y12
	VPUNPCKHWD Y11, Y11, Y8
	VPSRAD     $16, Y8, Y8
	VMOVDQA    Y15, Y9
	FACTORS
	VPACKSSDW  Y8, Y7, Y7
	VPACKSSDW  Y9, Y12, Y12
	VMOVDQU    Y7, 32(DI)
	VMOVDQU    Y12, 32(DX)
	VZEROUPPER
	RET

// Adds the lanes of a half tile's sums S1 and squares XL, XH: FACTORS' inputs.
#define FOLD(S1, XS, QL, XL, QH, XH) \
	VEXTRACTI128 $1, S1, X0            \
	VPADDW       X0, XS, X0            \
	VPMOVSXWD    X0, Y8                \
	VEXTRACTI128 $1, QL, X0            \
	VPADDD       X0, XL, X0            \
	VEXTRACTI128 $1, QH, X1            \
	VPADDD       X1, XH, X1            \
	VINSERTI128  $1, X1, Y0, Y9

// func factorsHalf(y *int16, pairs int, r, k *int16, p *factorParams)
TEXT ·factorsHalf(SB), NOSPLIT, $0-40
	MOVQ y+0(FP), SI
	MOVQ pairs+8(FP), CX
	MOVQ r+16(FP), DI
	MOVQ k+24(FP), DX
	MOVQ p+32(FP), R8
	ALLSUMS
	FOLD(Y10, X10, Y12, X12, Y13, X13)
	FACTORS
	VMOVDQA   Y8, Y7
	VMOVDQA   Y9, Y12
	FOLD(Y11, X11, Y14, X14, Y15, X15)
	FACTORS
	VPACKSSDW Y8, Y7, Y7
	VPACKSSDW Y9, Y12, Y12
	VPERMQ    $0xd8, Y7, Y7
	VPERMQ    $0xd8, Y12, Y12
	VMOVDQU   Y7, (DI)
	VMOVDQU   Y12, (DX)
	VZEROUPPER
	RET

// func factorsQuarter(y *int16, pairs int, r, k *int16, p *factorParams)
TEXT ·factorsQuarter(SB), NOSPLIT, $0-40
	MOVQ         y+0(FP), SI
	MOVQ         pairs+8(FP), CX
	MOVQ         r+16(FP), DI
	MOVQ         k+24(FP), DX
	MOVQ         p+32(FP), R8
	ALLSUMS
	VEXTRACTI128 $1, Y10, X0
	VPADDW       X0, X10, X10
	VEXTRACTI128 $1, Y11, X1
	VPADDW       X1, X11, X11
	VPUNPCKLQDQ  X11, X10, X0
	VPUNPCKHQDQ  X11, X10, X1
	VPADDW       X1, X0, X0
	VPMOVSXWD    X0, Y8
	VPADDD       Y13, Y12, Y12
	VPADDD       Y15, Y14, Y14
	VPERM2I128   $0x20, Y14, Y12, Y0
	VPERM2I128   $0x31, Y14, Y12, Y1
	VPADDD       Y1, Y0, Y9
	FACTORS
	VPACKSSDW    Y9, Y8, Y8
	VPERMQ       $0xd8, Y8, Y8
	VMOVDQU      X8, (DI)
	VEXTRACTI128 $1, Y8, (DX)
	VZEROUPPER
	RET

// The normalised words of the channel at SI: E in Y0, O in Y1; factors in Y15
// to Y12.
#define NORMALISE \
	VPMULHRSW (SI), Y15, Y0    \
	VPMULHRSW 32(SI), Y14, Y1  \
	VPADDSW   Y13, Y0, Y0      \
	VPADDSW   Y12, Y1, Y1

// func apply(y *int16, n int, r, k *int16, w *byte, size int, dst *int8, dstStride int, mult uint16)
TEXT ·apply(SB), NOSPLIT, $0-66
	MOVQ           y+0(FP), SI
	MOVQ           n+8(FP), CX
	MOVQ           r+16(FP), AX
	MOVQ           k+24(FP), BX
	MOVQ           w+32(FP), R8
	MOVQ           size+40(FP), R9
	MOVQ           dst+48(FP), DI
	MOVQ           dstStride+56(FP), R13
	VMOVDQU        (AX), Y15
	VMOVDQU        32(AX), Y14
	VMOVDQU        (BX), Y13
	VMOVDQU        32(BX), Y12
	VPBROADCASTW   mult+64(FP), Y11
	VBROADCASTI128 interleave<>(SB), Y10

channel:
	NORMALISE
	VPBROADCASTD 36(R8), Y2
	VPMULHRSW    Y11, Y0, Y0
	VPMULHRSW    Y11, Y1, Y1
	VPACKSSWB    Y1, Y0, Y0
	VPSHUFB      Y10, Y0, Y0
	VPXOR        Y2, Y0, Y0
	VMOVDQU      Y0, (DI)
	ADDQ         R13, DI
	ADDQ         R9, R8
	ADDQ         $64, SI
	DECQ         CX
	JNZ          channel
	VZEROUPPER
	RET

// func pool(y *int16, n int, r, k *int16, w *byte, size int, acc, mask *int16)
TEXT ·pool(SB), NOSPLIT, $0-64
	MOVQ    y+0(FP), SI
	MOVQ    n+8(FP), CX
	MOVQ    r+16(FP), AX
	MOVQ    k+24(FP), BX
	MOVQ    w+32(FP), R8
	MOVQ    size+40(FP), R9
	MOVQ    acc+48(FP), DI
	MOVQ    mask+56(FP), DX
	VMOVDQU (AX), Y15
	VMOVDQU 32(AX), Y14
	VMOVDQU (BX), Y13
	VMOVDQU 32(BX), Y12
	VMOVDQU (DX), Y11
	VMOVDQU 32(DX), Y10

channel:
	NORMALISE
	VPBROADCASTD 36(R8), Y2
	VPAND        Y11, Y2, Y3     // a flipped channel's lanes outside stay at the minimum
	VPAND        Y10, Y2, Y2
	VPXOR        Y3, Y0, Y0
	VPXOR        Y2, Y1, Y1
	VPMAXSW      (DI), Y0, Y0
	VPMAXSW      Y1, Y0, Y0
	VMOVDQU      Y0, (DI)
	ADDQ         $32, DI
	ADDQ         R9, R8
	ADDQ         $64, SI
	DECQ         CX
	JNZ          channel
	VZEROUPPER
	RET

// The flips of the pair of channels at R8, in Y2.
#define PAIRFLIPS \
	VPBROADCASTD 36(R8), X2    \
	VPBROADCASTD 84(R8), X3    \
	VINSERTI128  $1, X3, Y2, Y2

// Factors of a half block for NORMALISE.
#define HALFFACTORS \
	VBROADCASTI128 (AX), Y15     \
	VBROADCASTI128 16(AX), Y14   \
	VBROADCASTI128 (BX), Y13     \
	VBROADCASTI128 16(BX), Y12

// func applyHalf(y *int16, pairs int, r, k *int16, w *byte, dst *int8, dstStride int, mult uint16)
TEXT ·applyHalf(SB), NOSPLIT, $0-58
	MOVQ           y+0(FP), SI
	MOVQ           pairs+8(FP), CX
	MOVQ           r+16(FP), AX
	MOVQ           k+24(FP), BX
	MOVQ           w+32(FP), R8
	MOVQ           dst+40(FP), DI
	MOVQ           dstStride+48(FP), R13
	HALFFACTORS
	VPBROADCASTW   mult+56(FP), Y11
	VBROADCASTI128 interleave<>(SB), Y10

pair:
	NORMALISE
	PAIRFLIPS
	VPMULHRSW    Y11, Y0, Y0
	VPMULHRSW    Y11, Y1, Y1
	VPACKSSWB    Y1, Y0, Y0
	VPSHUFB      Y10, Y0, Y0
	VPXOR        Y2, Y0, Y0
	VMOVDQU      X0, (DI)
	VEXTRACTI128 $1, Y0, (DI)(R13*1)
	LEAQ         (DI)(R13*2), DI
	ADDQ         $96, R8
	ADDQ         $64, SI
	DECQ         CX
	JNZ          pair
	VZEROUPPER
	RET

// func poolHalf(y *int16, pairs int, r, k *int16, w *byte, acc, mask *int16)
TEXT ·poolHalf(SB), NOSPLIT, $0-56
	MOVQ           y+0(FP), SI
	MOVQ           pairs+8(FP), CX
	MOVQ           r+16(FP), AX
	MOVQ           k+24(FP), BX
	MOVQ           w+32(FP), R8
	MOVQ           acc+40(FP), DI
	MOVQ           mask+48(FP), DX
	HALFFACTORS
	VBROADCASTI128 (DX), Y11
	VBROADCASTI128 16(DX), Y10

pair:
	NORMALISE
	PAIRFLIPS
	VPAND        Y11, Y2, Y3
	VPAND        Y10, Y2, Y2
	VPXOR        Y3, Y0, Y0
	VPXOR        Y2, Y1, Y1
	VPMAXSW      Y1, Y0, Y0
	VMOVDQU      (DI), X3
	VINSERTI128  $1, 32(DI), Y3, Y3
	VPMAXSW      Y3, Y0, Y0
	VMOVDQU      X0, (DI)
	VEXTRACTI128 $1, Y0, 32(DI)
	ADDQ         $64, DI
	ADDQ         $96, R8
	ADDQ         $64, SI
	DECQ         CX
	JNZ          pair
	VZEROUPPER
	RET

// The flips of the four channels at R8, in Y2.
#define QUADFLIPS \
	VPBROADCASTD 36(R8), X2       \
	VPBROADCASTD 84(R8), X3       \
	VPUNPCKLQDQ  X3, X2, X2       \
	VPBROADCASTD 132(R8), X3      \
	VPBROADCASTD 180(R8), X4      \
	VPUNPCKLQDQ  X4, X3, X3       \
	VINSERTI128  $1, X3, Y2, Y2

// Factors of a quarter block for NORMALISE.
#define QUARTERFACTORS \
	VPBROADCASTQ (AX), Y15     \
	VPBROADCASTQ 8(AX), Y14    \
	VPBROADCASTQ (BX), Y13     \
	VPBROADCASTQ 8(BX), Y12

// func applyQuarter(y *int16, quads int, r, k *int16, w *byte, dst *int8, dstStride int, mult uint16)
TEXT ·applyQuarter(SB), NOSPLIT, $0-58
	MOVQ           y+0(FP), SI
	MOVQ           quads+8(FP), CX
	MOVQ           r+16(FP), AX
	MOVQ           k+24(FP), BX
	MOVQ           w+32(FP), R8
	MOVQ           dst+40(FP), DI
	MOVQ           dstStride+48(FP), R13
	QUARTERFACTORS
	VPBROADCASTW   mult+56(FP), Y11
	VBROADCASTI128 interleave<>(SB), Y10

quad:
	NORMALISE
	QUADFLIPS
	VPMULHRSW Y11, Y0, Y0
	VPMULHRSW Y11, Y1, Y1
	VPACKSSWB Y1, Y0, Y0
	VPSHUFB   Y10, Y0, Y0
	VPXOR     Y2, Y0, Y0
	STOREROWS(Y0, X0, X1, DI, R13)
	ADDQ      $192, R8
	ADDQ      $64, SI
	DECQ      CX
	JNZ       quad
	VZEROUPPER
	RET

// func poolQuarter(y *int16, quads int, r, k *int16, w *byte, acc, mask *int16)
TEXT ·poolQuarter(SB), NOSPLIT, $0-56
	MOVQ         y+0(FP), SI
	MOVQ         quads+8(FP), CX
	MOVQ         r+16(FP), AX
	MOVQ         k+24(FP), BX
	MOVQ         w+32(FP), R8
	MOVQ         acc+40(FP), DI
	MOVQ         mask+48(FP), DX
	QUARTERFACTORS
	VPBROADCASTQ (DX), Y11
	VPBROADCASTQ 8(DX), Y10
	MOVQ         $32, R13

quad:
	NORMALISE
	QUADFLIPS
	MOVQ    DI, DX
	LOADROWS(DX, R13, Y5, X5, Y4, X4)
	VPAND   Y11, Y2, Y3
	VPAND   Y10, Y2, Y2
	VPXOR   Y3, Y0, Y0
	VPXOR   Y2, Y1, Y1
	VPMAXSW Y1, Y0, Y0
	VPMAXSW Y5, Y0, Y0
	STOREROWS(Y0, X0, X1, DI, R13)
	ADDQ    $192, R8
	ADDQ    $64, SI
	DECQ    CX
	JNZ     quad
	VZEROUPPER
	RET

// func wide(y *int16, n int, r, k *int16, w *byte, size int, dst *int16)
TEXT ·wide(SB), NOSPLIT, $0-56
	MOVQ    y+0(FP), SI
	MOVQ    n+8(FP), CX
	MOVQ    r+16(FP), AX
	MOVQ    k+24(FP), BX
	MOVQ    w+32(FP), R8
	MOVQ    size+40(FP), R9
	MOVQ    dst+48(FP), DI
	VMOVDQU (AX), Y15
	VMOVDQU 32(AX), Y14
	VMOVDQU (BX), Y13
	VMOVDQU 32(BX), Y12

channel:
	NORMALISE
	VPBROADCASTD 36(R8), Y2
	VPXOR        Y2, Y0, Y0
	VPXOR        Y2, Y1, Y1
	VPUNPCKLWD   Y1, Y0, Y2
	VPUNPCKHWD   Y1, Y0, Y3
	VPERM2I128   $0x20, Y3, Y2, Y0
	VPERM2I128   $0x31, Y3, Y2, Y1
	VMOVDQU      Y0, (DI)
	VMOVDQU      Y1, 32(DI)
	ADDQ         $64, DI
	ADDQ         R9, R8
	ADDQ         $64, SI
	DECQ         CX
	JNZ          channel
	VZEROUPPER
	RET

// func maxima(acc *int16, n int, out *int16)
TEXT ·maxima(SB), NOSPLIT, $0-24
	MOVQ     acc+0(FP), SI
	MOVQ     n+8(FP), CX
	MOVQ     out+16(FP), DI
	VPCMPEQW X2, X2, X2
	VPSRLW   $1, X2, X2 // x -> 32767-x turns the maximum into the one minimum there is

channel:
	VMOVDQU     (SI), X0
	VPMAXSW     16(SI), X0, X0
	VPXOR       X2, X0, X0
	VPHMINPOSUW X0, X0
	VPXOR       X2, X0, X0
	VPEXTRW     $0, X0, (DI)
	ADDQ        $32, SI
	ADDQ        $2, DI
	DECQ        CX
	JNZ         channel
	VZEROUPPER
	RET
