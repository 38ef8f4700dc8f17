//go:build !purego

#include "textflag.h"

// Register plan of the convolution kernels (rows_amd64.go has the layout of the constants):
//   Z16-Z19 the gate's table
//   Z20-Z27 taps: 01 and 23 of h for E and for O, of g for E and for O
//   Z28-Z31 biases of h for E and O, of g for E and O
//   Z15     0x00FF words
//   SI DI   the inputs of h and g, R11 from one position to the next
// Z0 and Z1 hold the pairs of h that begin with the first taps of two neighbouring positions,
// Z4 and Z5 those of g; Z2, Z3 and Z6, Z7 the pairs two positions on.

// E0 E1 .. E7 O0 O1 .. O7 -> E0 O0 E1 O1 ..
DATA alternate<>+0(SB)/8, $0x0b030a0209010800
DATA alternate<>+8(SB)/8, $0x0f070e060d050c04
GLOBL alternate<>(SB), RODATA|NOPTR, $16

// Low and high words of the lanes of two interleaved vectors -> in order.
DATA lowHalf<>+0(SB)/8, $0
DATA lowHalf<>+8(SB)/8, $1
DATA lowHalf<>+16(SB)/8, $8
DATA lowHalf<>+24(SB)/8, $9
DATA lowHalf<>+32(SB)/8, $2
DATA lowHalf<>+40(SB)/8, $3
DATA lowHalf<>+48(SB)/8, $10
DATA lowHalf<>+56(SB)/8, $11
GLOBL lowHalf<>(SB), RODATA|NOPTR, $64
DATA highHalf<>+0(SB)/8, $4
DATA highHalf<>+8(SB)/8, $5
DATA highHalf<>+16(SB)/8, $12
DATA highHalf<>+24(SB)/8, $13
DATA highHalf<>+32(SB)/8, $6
DATA highHalf<>+40(SB)/8, $7
DATA highHalf<>+48(SB)/8, $14
DATA highHalf<>+56(SB)/8, $15
GLOBL highHalf<>(SB), RODATA|NOPTR, $64

#define CONSTANTS(W, TAB) \
	VMOVDQU64   (TAB), Z16          \
	VMOVDQU64   64(TAB), Z17        \
	VMOVDQU64   128(TAB), Z18       \
	VMOVDQU64   192(TAB), Z19       \
	VMOVDQU64   (W), Z20            \
	VMOVDQU64   64(W), Z21          \
	VMOVDQU64   128(W), Z22         \
	VMOVDQU64   192(W), Z23         \
	VMOVDQU64   256(W), Z24         \
	VMOVDQU64   320(W), Z25         \
	VMOVDQU64   384(W), Z26         \
	VMOVDQU64   448(W), Z27         \
	VMOVDQU64   512(W), Z28         \
	VMOVDQU64   576(W), Z29         \
	VMOVDQU64   640(W), Z30         \
	VMOVDQU64   704(W), Z31         \
	VPTERNLOGD  $0xff, Z15, Z15, Z15 \
	VPSRLW      $8, Z15, Z15

// The next value of 32 channels at P into the pairs: LAST (x[t-1], x[t]) -> NEXT (x[t], x[t+1]).
#define NEXT(P, LAST, NEXT, T) \
	VPMOVZXBW (P), T                 \
	VPSHRDW   $8, T, LAST, NEXT

// The pairs before the first position, Z0 and Z1, Z4 and Z5.
#define FIRST \
	VPMOVZXBW (SI), Z0              \
	VPMOVZXBW (DI), Z4              \
	ADDQ      R11, SI               \
	ADDQ      R11, DI               \
	VPSLLW    $8, Z0, Z0            \
	VPSLLW    $8, Z4, Z4            \
	NEXT(SI, Z0, Z0, Z8)            \
	NEXT(DI, Z4, Z4, Z9)            \
	ADDQ      R11, SI               \
	ADDQ      R11, DI               \
	NEXT(SI, Z0, Z1, Z8)            \
	NEXT(DI, Z4, Z5, Z9)            \
	ADDQ      R11, SI               \
	ADDQ      R11, DI

// Four taps on the pairs P (01) and Q (23).
#define CONV(P, Q, W01, W23, BIAS, ACC, T) \
	VPMADDUBSW P, W01, ACC        \
	VPMADDUBSW Q, W23, T          \
	VPADDW     BIAS, ACC, ACC     \
	VPADDW     T, ACC, ACC

// The products h8*s7 of a position: E in Z10, O in Z11. Products of O are high halves of
// those of words times 256.
#define PRODUCTS(P, Q, R, S) \
	CONV(R, S, Z24, Z25, Z30, Z8, Z9)     \
	CONV(R, S, Z26, Z27, Z31, Z10, Z11)   \
	VPSRLW     $8, Z8, Z8                 \
	VPTERNLOGD $0xf4, Z15, Z10, Z8        \ // bytes of E and O: Z8 | Z10 &^ Z15
	VPMOVB2M   Z8, K1                     \
	VMOVDQA64  Z8, Z9                     \
	VPERMI2B   Z17, Z16, Z8               \
	VPERMI2B   Z19, Z18, Z9               \
	VMOVDQU8   Z9, K1, Z8                 \
	CONV(P, Q, Z20, Z21, Z28, Z10, Z12)   \
	CONV(P, Q, Z22, Z23, Z29, Z11, Z12)   \
	VPANDQ     Z15, Z8, Z9                \
	VPANDNQ    Z8, Z15, Z8                \
	VPSRAW     $8, Z10, Z10               \
	VPANDNQ    Z11, Z15, Z11              \
	VPMULLW    Z9, Z10, Z10               \
	VPMULHW    Z8, Z11, Z11

// The next position's inputs into C and G.
#define STEP(H, C, G, H2) \
	NEXT(SI, H, C, Z8)            \
	NEXT(DI, G, H2, Z9)           \
	ADDQ R11, SI                  \
	ADDQ R11, DI

// Rounds to int8 and stores 64 channels.
#define STORE8(E, O, MULT, ORDER, P) \
	VPMULHRSW MULT, E, E           \
	VPMULHRSW MULT, O, O           \
	VPACKSSWB O, E, E              \
	VPSHUFB   ORDER, E, E          \
	VMOVDQU64 E, (P)

// The residual at R12 times rho (Z13 E, Z14 O), where rho >= 0: unsigned by signed, one product
// per word. E in Z8, O in Z9.
#define RESPOS \
	VMOVDQU64  (R12), Z9            \
	VPMADDUBSW Z9, Z13, Z8          \
	VPMADDUBSW Z9, Z14, Z9

// The same for any rho: high halves of (r<<8)*(rho<<8).
#define RESANY \
	VMOVDQU64 (R12), Z9             \
	VPSLLW    $8, Z9, Z8            \
	VPANDNQ   Z9, Z15, Z9           \
	VPMULHW   Z13, Z8, Z8           \
	VPMULHW   Z14, Z9, Z9

// Products, residual and constant of a position to the tile at DX.
#define TILEROW(P, Q, R, S, RESIDUAL) \
	PRODUCTS(P, Q, R, S)              \
	RESIDUAL                          \
	VPADDW    896(R8), Z8, Z8         \
	VPADDW    960(R8), Z9, Z9         \
	VPADDW    Z8, Z10, Z10            \
	VPADDW    Z9, Z11, Z11            \
	VMOVDQU64 Z10, (DX)               \
	VMOVDQU64 Z11, 64(DX)             \
	ADDQ      R13, R12                \
	ADDQ      BX, DX

// LayerNorm's input of n positions: R12 the residual, R13 its step, DX the tile, BX its step.
#define TILE(RESIDUAL) \
	MOVQ      w+0(FP), R8             \
	MOVQ      src+8(FP), SI           \
	MOVQ      gOffset+16(FP), DI      \
	ADDQ      SI, DI                  \
	MOVQ      srcStep+24(FP), R11     \
	MOVQ      res+32(FP), R12         \
	MOVQ      resStep+40(FP), R13     \
	MOVQ      y+48(FP), DX            \
	MOVQ      yStep+56(FP), BX        \
	MOVQ      n+64(FP), CX            \
	MOVQ      tab+72(FP), AX          \
	CONSTANTS(R8, AX)                 \
	VMOVDQU64 768(R8), Z13            \
	VMOVDQU64 832(R8), Z14            \
	FIRST                             \
two:                                      \
	STEP(Z1, Z2, Z5, Z6)              \
	TILEROW(Z0, Z2, Z4, Z6, RESIDUAL) \
	DECQ      CX                      \
	JZ        done                    \
	STEP(Z2, Z3, Z6, Z7)              \
	TILEROW(Z1, Z3, Z5, Z7, RESIDUAL) \
	VMOVDQA64 Z2, Z0                  \
	VMOVDQA64 Z3, Z1                  \
	VMOVDQA64 Z6, Z4                  \
	VMOVDQA64 Z7, Z5                  \
	DECQ      CX                      \
	JNZ       two                     \
done:                                     \
	VZEROUPPER                        \
	RET

// The arguments of the kernels on tiles: SI the tile, R11 from one position to the next, CX
// positions, R12 and R13 their factors, R8 the flips.
#define TILEARGS \
	MOVQ y+0(FP), SI           \
	MOVQ yStep+8(FP), R11      \
	MOVQ n+16(FP), CX          \
	MOVQ r+24(FP), R12         \
	MOVQ k+32(FP), R13         \
	MOVQ flips+40(FP), R8

// func plainRows(w *byte, src *int8, gOffset, srcStep int, dst *int8, dstStep, n int, tab *rowTables)
TEXT ·plainRows(SB), NOSPLIT, $0-64
	MOVQ            w+0(FP), R8
	MOVQ            src+8(FP), SI
	MOVQ            gOffset+16(FP), DI
	ADDQ            SI, DI
	MOVQ            srcStep+24(FP), R11
	MOVQ            dst+32(FP), DX
	MOVQ            dstStep+40(FP), R13
	MOVQ            n+48(FP), CX
	MOVQ            tab+56(FP), AX
	CONSTANTS(R8, AX)
	VPBROADCASTW    256(AX), Z13
	VBROADCASTI32X4 alternate<>(SB), Z14
	FIRST

two:
	STEP(Z1, Z2, Z5, Z6)
	PRODUCTS(Z0, Z2, Z4, Z6)
	STORE8(Z10, Z11, Z13, Z14, DX)
	ADDQ      R13, DX
	DECQ      CX
	JZ        done
	STEP(Z2, Z3, Z6, Z7)
	PRODUCTS(Z1, Z3, Z5, Z7)
	STORE8(Z10, Z11, Z13, Z14, DX)
	ADDQ      R13, DX
	VMOVDQA64 Z2, Z0
	VMOVDQA64 Z3, Z1
	VMOVDQA64 Z6, Z4
	VMOVDQA64 Z7, Z5
	DECQ      CX
	JNZ       two

done:
	VZEROUPPER
	RET

// func tileRows(w *byte, src *int8, gOffset, srcStep int, res *int8, resStep int, y *int16, yStep, n int, tab *rowTables)
TEXT ·tileRows(SB), NOSPLIT, $0-80
	TILE(RESPOS)

// func tileRowsAny(w *byte, src *int8, gOffset, srcStep int, res *int8, resStep int, y *int16, yStep, n int, tab *rowTables)
TEXT ·tileRowsAny(SB), NOSPLIT, $0-80
	TILE(RESANY)

// Constants of arith.NormFactors.
DATA inverse<>+0(SB)/4, $1
DATA inverse<>+4(SB)/4, $-2
DATA inverse<>+8(SB)/4, $-9988
DATA inverse<>+12(SB)/4, $25518
DATA inverse<>+16(SB)/4, $-24211
DATA inverse<>+20(SB)/4, $12748
DATA inverse<>+24(SB)/4, $49152
DATA inverse<>+28(SB)/4, $32767
DATA inverse<>+32(SB)/4, $128
DATA inverse<>+36(SB)/4, $16384
DATA inverse<>+40(SB)/4, $16383
DATA inverse<>+44(SB)/4, $-16384
GLOBL inverse<>(SB), RODATA|NOPTR, $48

// Where SUM16 leaves the sum of each vector.
DATA places<>+0(SB)/4, $0
DATA places<>+4(SB)/4, $2
DATA places<>+8(SB)/4, $1
DATA places<>+12(SB)/4, $3
DATA places<>+16(SB)/4, $8
DATA places<>+20(SB)/4, $10
DATA places<>+24(SB)/4, $9
DATA places<>+28(SB)/4, $11
DATA places<>+32(SB)/4, $4
DATA places<>+36(SB)/4, $6
DATA places<>+40(SB)/4, $5
DATA places<>+44(SB)/4, $7
DATA places<>+48(SB)/4, $12
DATA places<>+52(SB)/4, $14
DATA places<>+56(SB)/4, $13
DATA places<>+60(SB)/4, $15
GLOBL places<>(SB), RODATA|NOPTR, $64

// From the partial sums of y>>8 to those of the squares: rowsTile vectors.
#define PARTS 3072

// Vectors I and I+8 at DI + AT folded to one of halves.
#define FOLDHALVES(I, AT, Z) \
	VMOVDQU64  (AT+64*I)(DI), Z16                 \
	VSHUFI64X2 $0x44, (AT+64*(I+8))(DI), Z16, Z17 \
	VSHUFI64X2 $0xee, (AT+64*(I+8))(DI), Z16, Z16 \
	VPADDD     Z16, Z17, Z

#define FOLDLANES(A, B) \
	VSHUFI64X2 $0x88, B, A, Z16                \
	VSHUFI64X2 $0xdd, B, A, A                  \
	VPADDD     Z16, A, A

#define FOLDQUADS(A, B) \
	VPUNPCKLQDQ B, A, Z16                      \
	VPUNPCKHQDQ B, A, A                        \
	VPADDD      Z16, A, A

// The sums of the 16 dwords of each of the 16 vectors at DI + AT, to Z0.
#define SUM16(AT) \
	FOLDHALVES(0, AT, Z0)        \
	FOLDHALVES(1, AT, Z1)        \
	FOLDHALVES(2, AT, Z2)        \
	FOLDHALVES(3, AT, Z3)        \
	FOLDHALVES(4, AT, Z4)        \
	FOLDHALVES(5, AT, Z5)        \
	FOLDHALVES(6, AT, Z6)        \
	FOLDHALVES(7, AT, Z7)        \
	FOLDLANES(Z0, Z4)            \
	FOLDLANES(Z1, Z5)            \
	FOLDLANES(Z2, Z6)            \
	FOLDLANES(Z3, Z7)            \
	FOLDQUADS(Z0, Z2)            \
	FOLDQUADS(Z1, Z3)            \
	VSHUFPS   $0x88, Z1, Z0, Z16 \
	VSHUFPS   $0xdd, Z1, Z0, Z0  \
	VPADDD    Z16, Z0, Z0        \
	VMOVDQU64 places<>(SB), Z16  \
	VPERMD    Z0, Z16, Z0

// A step of the cubic: Z2 = constant + (u*Z2)>>15, u in Z9.
#define CUBICROW(AT) \
	VPMULLD     Z9, Z2, Z2                      \
	VPSRAD      $15, Z2, Z2                     \
	VPADDD.BCST inverse<>+AT(SB), Z2, Z2

// func factorsRows(y *int16, yStep, groups, n int, part *int32, r, k *int16, p *factorParams)
TEXT ·factorsRows(SB), NOSPLIT, $0-64
	MOVQ       y+0(FP), SI
	MOVQ       yStep+8(FP), R11
	MOVQ       groups+16(FP), R9
	MOVQ       n+24(FP), CX
	MOVQ       part+32(FP), DI
	MOVQ       r+40(FP), R12
	MOVQ       k+48(FP), R13
	MOVQ       p+56(FP), R8
	MOVQ       DI, DX
	VPTERNLOGD $0xff, Z14, Z14, Z14
	VPSRLW     $15, Z14, Z15             // ones

	// Of each position, 16 partial sums of y>>8 and of its square.
position:
	VPXORQ Z0, Z0, Z0
	VPXORQ Z1, Z1, Z1
	VPXORQ Z2, Z2, Z2
	MOVQ   SI, AX
	MOVQ   R9, BX

group:
	VPSRAW    $8, (AX), Z3
	VPSRAW    $8, 64(AX), Z4
	VPADDW    Z3, Z0, Z0
	VPDPWSSD  Z3, Z3, Z1
	VPADDW    Z4, Z0, Z0
	VPDPWSSD  Z4, Z4, Z2
	ADDQ      $128, AX
	DECQ      BX
	JNZ       group
	VPMADDWD  Z15, Z0, Z0
	VPADDD    Z2, Z1, Z1
	VMOVDQU64 Z0, (DX)
	VMOVDQU64 Z1, PARTS(DX)
	ADDQ      $64, DX
	ADDQ      R11, SI
	DECQ      CX
	JNZ       position

	// By 16 positions; the next ones' sums overlap with the latency of these ones' factors.
	MOVQ n+24(FP), CX

sixteen:
	SUM16(0)
	VMOVDQA64   Z0, Z8
	SUM16(PARTS)
	VMOVDQA64   Z0, Z9

	// arith.NormFactors of 16 positions: S1 in Z8, S2 in Z9.
	VPMULLD.BCST (R8), Z9, Z9
	VPMULLD      Z8, Z8, Z1
	VPSUBD       Z1, Z9, Z9
	VPADDD.BCST  8(R8), Z9, Z9
	VPMAXSD.BCST inverse<>+0(SB), Z9, Z9
	VPLZCNTD     Z9, Z1
	VPADDD       Z14, Z1, Z1
	VPANDD.BCST  inverse<>+4(SB), Z1, Z1
	VPSLLVD      Z1, Z9, Z9
	VPSRLD       $16, Z9, Z9
	VPSRLD       $1, Z1, Z1
	VPBROADCASTD inverse<>+8(SB), Z2
	CUBICROW(12)
	CUBICROW(16)
	CUBICROW(20)
	VPMULLD      Z2, Z2, Z3
	VPSRAD       $10, Z3, Z3
	VPMULLD      Z9, Z3, Z3
	VPSRAD       $15, Z3, Z3
	VPBROADCASTD inverse<>+24(SB), Z4
	VPSUBD       Z3, Z4, Z4
	VPMULLD      Z4, Z2, Z2
	VPSRAD       $13, Z2, Z2
	VPMULLD.BCST 12(R8), Z2, Z2
	VPBROADCASTD 16(R8), Z3
	VPSUBD       Z1, Z3, Z3
	VPXORQ       Z4, Z4, Z4
	VPMAXSD      Z4, Z3, Z3
	VPSRLVD      Z3, Z2, Z2
	VPMINUD.BCST inverse<>+28(SB), Z2, Z2
	VPMULLD.BCST 4(R8), Z8, Z3
	VPADDD.BCST  inverse<>+36(SB), Z3, Z3
	VPSRAD       $15, Z3, Z3
	VPADDD.BCST  inverse<>+32(SB), Z3, Z3
	VPMULLD      Z2, Z3, Z3
	VPADDD.BCST  inverse<>+36(SB), Z3, Z3
	VPSRAD       $15, Z3, Z3
	VPSUBD       Z3, Z4, Z3
	VPMINSD.BCST inverse<>+40(SB), Z3, Z3
	VPMAXSD.BCST inverse<>+44(SB), Z3, Z3
	VPMOVDW      Z2, (R12)
	VPMOVDW      Z3, (R13)
	ADDQ         $1024, DI
	ADDQ         $32, R12
	ADDQ         $32, R13
	SUBQ         $16, CX
	JGT          sixteen
	VZEROUPPER
	RET

// The normalised words of a position at SI: E in Z0, O in Z1. R12, R13 its factors.
#define NORMROW \
	VPBROADCASTW (R12), Z2     \
	VPBROADCASTW (R13), Z3     \
	VPMULHRSW    (SI), Z2, Z0  \
	VPMULHRSW    64(SI), Z2, Z1 \
	VPADDSW      Z3, Z0, Z0    \
	VPADDSW      Z3, Z1, Z1    \
	ADDQ         $2, R12       \
	ADDQ         $2, R13       \
	ADDQ         R11, SI

// func applyRows(y *int16, yStep, n int, r, k *int16, flips *byte, dst *int8, dstStep int, mult uint16)
TEXT ·applyRows(SB), NOSPLIT, $0-66
	TILEARGS
	MOVQ            dst+48(FP), DI
	MOVQ            dstStep+56(FP), R9
	VPBROADCASTW    mult+64(FP), Z13
	VBROADCASTI32X4 alternate<>(SB), Z14
	VMOVDQU64       (R8), Z15

position:
	NORMROW
	VPMULHRSW Z13, Z0, Z0
	VPMULHRSW Z13, Z1, Z1
	VPACKSSWB Z1, Z0, Z0
	VPSHUFB   Z14, Z0, Z0
	VPXORQ    Z15, Z0, Z0
	VMOVDQU64 Z0, (DI)
	ADDQ      R9, DI
	DECQ      CX
	JNZ       position
	VZEROUPPER
	RET

// func poolRows(y *int16, yStep, n int, r, k *int16, flips *byte, acc *int16)
TEXT ·poolRows(SB), NOSPLIT, $0-56
	TILEARGS
	MOVQ      acc+48(FP), DI
	VMOVDQU64 (R8), Z14
	VMOVDQU64 64(R8), Z15
	VMOVDQU64 (DI), Z4
	VMOVDQU64 64(DI), Z5

position:
	NORMROW
	VPXORQ    Z14, Z0, Z0
	VPXORQ    Z15, Z1, Z1
	VPMAXSW   Z0, Z4, Z4
	VPMAXSW   Z1, Z5, Z5
	DECQ      CX
	JNZ       position
	VMOVDQU64 Z4, (DI)
	VMOVDQU64 Z5, 64(DI)
	VZEROUPPER
	RET

// Words E in Z0 and O in Z1 to channels in order at P.
#define ORDER(P) \
	VPUNPCKLWD Z1, Z0, Z2              \
	VPUNPCKHWD Z1, Z0, Z3              \
	VMOVDQA64  Z2, Z0                  \
	VPERMT2Q   Z3, Z12, Z0             \
	VPERMT2Q   Z3, Z13, Z2             \
	VMOVDQU64  Z0, (P)                 \
	VMOVDQU64  Z2, 64(P)

// func wideRows(y *int16, yStep, n int, r, k *int16, flips *byte, dst *int16, dstStep int)
TEXT ·wideRows(SB), NOSPLIT, $0-64
	TILEARGS
	MOVQ      dst+48(FP), DI
	MOVQ      dstStep+56(FP), R9
	VMOVDQU64 (R8), Z14
	VMOVDQU64 64(R8), Z15
	VMOVDQU64 lowHalf<>(SB), Z12
	VMOVDQU64 highHalf<>(SB), Z13

position:
	NORMROW
	VPXORQ Z14, Z0, Z0
	VPXORQ Z15, Z1, Z1
	ORDER(DI)
	ADDQ   R9, DI
	DECQ   CX
	JNZ    position
	VZEROUPPER
	RET

// func orderRows(v *int16, groups int, out *int16)
TEXT ·orderRows(SB), NOSPLIT, $0-24
	MOVQ      v+0(FP), SI
	MOVQ      groups+8(FP), CX
	MOVQ      out+16(FP), DI
	VMOVDQU64 lowHalf<>(SB), Z12
	VMOVDQU64 highHalf<>(SB), Z13

group:
	VMOVDQU64 (SI), Z0
	VMOVDQU64 64(SI), Z1
	ORDER(DI)
	ADDQ      $128, SI
	ADDQ      $128, DI
	DECQ      CX
	JNZ       group
	VZEROUPPER
	RET
