//go:build !purego

#include "textflag.h"

// AVX-512: 64-bit products of the even and of the odd elements of Z0 and Z1 to clamped results Z2. Z15 rounds, X14 is the shift, Z12 and
// Z11 the clamp, K1 the odd elements.
#define SCALE512 \
	VPMULDQ Z1, Z0, Z2         \
	VPSRLQ  $32, Z0, Z0        \
	VPSRLQ  $32, Z1, Z1        \
	VPMULDQ Z1, Z0, Z3         \
	VPADDQ  Z15, Z2, Z2        \
	VPADDQ  Z15, Z3, Z3        \
	VPSRAQ  X14, Z2, Z2        \
	VPSRAQ  X14, Z3, Z3        \
	VPSHUFD $0xA0, Z3, K1, Z2  \
	VPMAXSD Z12, Z2, Z2        \
	VPMINSD Z11, Z2, Z2

// func scaleBytesAVX512(dst *int8, x *int32, rows, cols, stride int, mult *int32, k *packed)
TEXT ·scaleBytesAVX512(SB), NOSPLIT, $0-56
	MOVQ         dst+0(FP), DI
	MOVQ         x+8(FP), SI
	MOVQ         rows+16(FP), CX
	MOVQ         cols+24(FP), DX
	MOVQ         stride+32(FP), R9
	MOVQ         mult+40(FP), R10
	MOVQ         k+48(FP), R8
	MOVQ         0(R8), AX
	MOVQ         $0x4000000000000000, BX // see packed.add
	SUBQ         BX, AX
	VPBROADCASTQ AX, Z15
	VMOVQ        8(R8), X14
	VPBROADCASTD 20(R8), Z12
	VPBROADCASTD 24(R8), Z11
	MOVL         $0xAAAA, AX
	KMOVW        AX, K1
	SHLQ         $2, R9
	MOVQ         DX, R11
	ANDQ         $15, R11
	MOVQ         $-1, AX
	BZHIQ        R11, AX, AX
	KMOVW        AX, K2
	MOVQ         DX, BX
	SUBQ         R11, BX // whole vectors

row:
	XORQ AX, AX
	CMPQ AX, BX
	JGE  rest

lanes:
	VMOVDQU32 (SI)(AX*4), Z0
	VMOVDQU32 (R10)(AX*4), Z1
	SCALE512
	VPMOVDB   Z2, X2
	VMOVDQU   X2, (DI)(AX*1)
	ADDQ      $16, AX
	CMPQ      AX, BX
	JLT       lanes

rest:
	TESTQ       R11, R11
	JZ          next
	VMOVDQU32.Z (SI)(AX*4), K2, Z0
	VMOVDQU32.Z (R10)(AX*4), K2, Z1
	SCALE512
	VPMOVDB     Z2, X2
	VMOVDQU8    X2, K2, (DI)(AX*1)

next:
	ADDQ R9, SI
	ADDQ DX, DI
	DECQ CX
	JNZ  row
	VZEROUPPER
	RET

// func scaleBytesAVX2(dst *int8, x *int32, rows, cols, stride int, mult *int32, k *packed)
// The last vector of a row overlaps the one before it.
TEXT ·scaleBytesAVX2(SB), NOSPLIT, $0-56
	MOVQ         dst+0(FP), DI
	MOVQ         x+8(FP), SI
	MOVQ         rows+16(FP), CX
	MOVQ         cols+24(FP), DX
	MOVQ         stride+32(FP), R9
	MOVQ         mult+40(FP), R10
	MOVQ         k+48(FP), R8
	VPBROADCASTQ 0(R8), Y15
	VMOVQ        8(R8), X14
	VPBROADCASTD 16(R8), Y13
	VPBROADCASTD 20(R8), Y12
	VPBROADCASTD 24(R8), Y11
	SHLQ         $2, R9
	MOVQ         DX, BX
	SUBQ         $8, BX // the last vector

row:
	XORQ AX, AX

lanes:
	VMOVDQU      (SI)(AX*4), Y0
	VMOVDQU      (R10)(AX*4), Y1
	VPMULDQ      Y1, Y0, Y2
	VPSRLQ       $32, Y0, Y0
	VPSRLQ       $32, Y1, Y1
	VPMULDQ      Y1, Y0, Y3
	VPADDQ       Y15, Y2, Y2
	VPADDQ       Y15, Y3, Y3
	VPSRLQ       X14, Y2, Y2
	VPSRLQ       X14, Y3, Y3
	VPSLLQ       $32, Y3, Y3
	VPBLENDD     $0xAA, Y3, Y2, Y2
	VPSUBD       Y13, Y2, Y2
	VPMAXSD      Y12, Y2, Y2
	VPMINSD      Y11, Y2, Y2
	VEXTRACTI128 $1, Y2, X3
	VPACKSSDW    X3, X2, X2
	VPACKSSWB    X2, X2, X2
	VMOVQ        X2, (DI)(AX*1)
	CMPQ         AX, BX
	JGE          next
	ADDQ         $8, AX
	CMPQ         AX, BX
	CMOVQGT      BX, AX
	JMP          lanes

next:
	ADDQ R9, SI
	ADDQ DX, DI
	DECQ CX
	JNZ  row
	VZEROUPPER
	RET

// Which dwords of packed bytes are whose: pieces of 4 of 16 lanes each, to lanes of pieces.
DATA order<>+0(SB)/8, $0x0000000400000000
DATA order<>+8(SB)/8, $0x0000000c00000008
DATA order<>+16(SB)/8, $0x0000000500000001
DATA order<>+24(SB)/8, $0x0000000d00000009
DATA order<>+32(SB)/8, $0x0000000600000002
DATA order<>+40(SB)/8, $0x0000000e0000000a
DATA order<>+48(SB)/8, $0x0000000700000003
DATA order<>+56(SB)/8, $0x0000000f0000000b
GLOBL order<>(SB), RODATA|NOPTR, $64

DATA low7<>+0(SB)/4, $0x007f007f
GLOBL low7<>(SB), RODATA|NOPTR, $4

// The bytes whose upper bits Z1 are 0 are looked up in A and B by their lower bits Z0; those of all others come nearer to 0.
#define LOOKUP128(A, B) \
	VPTESTNMB Z1, Z1, K1     \
	VPADDB    Z12, Z1, Z1    \
	VPERMI2B  B, A, K1, Z0

// 64 indices: their lower 7 bits in Z0, the others in Z1, in the order of packing.
#define INDICES \
	VPADDD    (SI), Z15, Z0     \
	VPADDD    64(SI), Z15, Z1   \
	VPADDD    128(SI), Z15, Z2  \
	VPADDD    192(SI), Z15, Z3  \
	VPACKUSDW Z1, Z0, Z0        \
	VPACKUSDW Z3, Z2, Z2        \
	VPSRLW    $7, Z0, Z1        \
	VPSRLW    $7, Z2, Z3        \
	VPANDQ    Z14, Z0, Z0       \
	VPANDQ    Z14, Z2, Z2       \
	VPACKUSWB Z2, Z0, Z0        \
	VPACKUSWB Z3, Z1, Z1

#define LOOKUP1024 \
	INDICES                     \
	LOOKUP128(Z16, Z17)         \
	LOOKUP128(Z18, Z19)         \
	LOOKUP128(Z20, Z21)         \
	LOOKUP128(Z22, Z23)         \
	LOOKUP128(Z24, Z25)         \
	LOOKUP128(Z26, Z27)         \
	LOOKUP128(Z28, Z29)         \
	LOOKUP128(Z30, Z31)         \
	VPERMD    Z0, Z13, Z0

// func lookupBytesAVX512(dst *int8, x *int32, n int, t *ByteTable)
TEXT ·lookupBytesAVX512(SB), NOSPLIT, $0-32
	MOVQ         dst+0(FP), DI
	MOVQ         x+8(FP), SI
	MOVQ         n+16(FP), CX
	MOVQ         t+24(FP), AX
	VMOVDQU64    (AX), Z16
	VMOVDQU64    64(AX), Z17
	VMOVDQU64    128(AX), Z18
	VMOVDQU64    192(AX), Z19
	VMOVDQU64    256(AX), Z20
	VMOVDQU64    320(AX), Z21
	VMOVDQU64    384(AX), Z22
	VMOVDQU64    448(AX), Z23
	VMOVDQU64    512(AX), Z24
	VMOVDQU64    576(AX), Z25
	VMOVDQU64    640(AX), Z26
	VMOVDQU64    704(AX), Z27
	VMOVDQU64    768(AX), Z28
	VMOVDQU64    832(AX), Z29
	VMOVDQU64    896(AX), Z30
	VMOVDQU64    960(AX), Z31
	VPBROADCASTD 4096(AX), Z15
	VPBROADCASTD low7<>(SB), Z14
	VMOVDQU64    order<>(SB), Z13
	VPTERNLOGD   $0xff, Z12, Z12, Z12 // -1
	SUBQ         $64, CX
	JLT          rest

whole:
	LOOKUP1024
	VMOVDQU64 Z0, (DI)
	ADDQ      $256, SI
	ADDQ      $64, DI
	SUBQ      $64, CX
	JGE       whole

rest:
	ADDQ     $64, CX
	JZ       done
	MOVQ     $-1, AX
	BZHIQ    CX, AX, AX
	KMOVQ    AX, K2
	LOOKUP1024
	VMOVDQU8 Z0, K2, (DI)

done:
	VZEROUPPER
	RET

// The same with a table in memory, in pieces of 128 bytes.
#define LOOKUPWIDE \
	INDICES                      \
	MOVQ      AX, BX             \
	MOVQ      R9, DX

#define PIECE \
	VMOVDQU64 (BX), Z16             \
	VMOVDQU64 64(BX), Z17           \
	LOOKUP128(Z16, Z17)             \
	ADDQ      $128, BX              \
	DECQ      DX

// func lookupWideAVX512(dst *int8, x *int32, n int, t *ByteTable, pieces int)
TEXT ·lookupWideAVX512(SB), NOSPLIT, $0-40
	MOVQ         dst+0(FP), DI
	MOVQ         x+8(FP), SI
	MOVQ         n+16(FP), CX
	MOVQ         t+24(FP), AX
	MOVQ         pieces+32(FP), R9
	VPBROADCASTD 4096(AX), Z15
	VPBROADCASTD low7<>(SB), Z14
	VMOVDQU64    order<>(SB), Z13
	VPTERNLOGD   $0xff, Z12, Z12, Z12 // -1
	SUBQ         $64, CX
	JLT          rest

whole:
	LOOKUPWIDE

piece:
	PIECE
	JNZ       piece
	VPERMD    Z0, Z13, Z0
	VMOVDQU64 Z0, (DI)
	ADDQ      $256, SI
	ADDQ      $64, DI
	SUBQ      $64, CX
	JGE       whole

rest:
	ADDQ  $64, CX
	JZ    done
	MOVQ  $-1, BX
	BZHIQ CX, BX, BX
	KMOVQ BX, K2
	LOOKUPWIDE

last:
	PIECE
	JNZ      last
	VPERMD   Z0, Z13, Z0
	VMOVDQU8 Z0, K2, (DI)

done:
	VZEROUPPER
	RET

// Two indices at SI+OFF: without AVX-512, which has a table in registers, nothing is faster than loads.
#define TWO(OFF, TO, A, B) \
	MOVQ    OFF(SI), A         \
	MOVLQSX A, B               \
	SARQ    $32, A             \
	MOVBLZX (R8)(B*1), B       \
	MOVBLZX (R8)(A*1), A       \
	MOVB    B, TO(DI)          \
	MOVB    A, (TO+1)(DI)

// func lookupBytesAMD64(dst *int8, x *int32, n int, middle *int8)
TEXT ·lookupBytesAMD64(SB), NOSPLIT, $0-32
	MOVQ dst+0(FP), DI
	MOVQ x+8(FP), SI
	MOVQ n+16(FP), CX
	MOVQ middle+24(FP), R8
	SUBQ $8, CX
	JLT  rest

eight:
	TWO(0, 0, AX, BX)
	TWO(8, 2, R9, R10)
	TWO(16, 4, R11, R12)
	TWO(24, 6, R13, DX)
	ADDQ $32, SI
	ADDQ $8, DI
	SUBQ $8, CX
	JGE  eight

rest:
	ADDQ $8, CX
	JZ   done

one:
	MOVLQSX (SI), AX
	MOVBLZX (R8)(AX*1), AX
	MOVB    AX, (DI)
	ADDQ    $4, SI
	INCQ    DI
	DECQ    CX
	JNZ     one

done:
	RET

#define SPLIT512(K) \
	VPBROADCASTD 0(K), Z15   \
	VPBROADCASTD 4(K), Z14   \
	VPBROADCASTD 8(K), Z13   \
	VPBROADCASTD 12(K), Z12  \
	VMOVQ        16(K), X11  \
	VPBROADCASTW 24(K), Z10  \
	VPBROADCASTW 26(K), Z9

// Words A of the first operand and B of the second to bytes in the lower half of Z0.
#define SUM512(A, B) \
	VPUNPCKLWD B, A, Z2      \
	VPUNPCKHWD B, A, Z3      \
	VMOVDQA64  Z13, Z4       \
	VMOVDQA64  Z13, Z5       \
	VMOVDQA64  Z12, Z6       \
	VMOVDQA64  Z12, Z7       \
	VPDPWSSD   Z15, Z2, Z4   \
	VPDPWSSD   Z15, Z3, Z5   \
	VPDPWSSD   Z14, Z2, Z6   \
	VPDPWSSD   Z14, Z3, Z7   \
	VPSRAD     $15, Z4, Z4   \
	VPSRAD     $15, Z5, Z5   \
	VPADDD     Z4, Z6, Z6    \
	VPADDD     Z5, Z7, Z7    \
	VPSRAD     X11, Z6, Z6   \
	VPSRAD     X11, Z7, Z7   \
	VPACKSSDW  Z7, Z6, Z0    \
	VPMAXSW    Z10, Z0, Z0   \
	VPMINSW    Z9, Z0, Z0    \
	VPMOVWB    Z0, Y0

// func sumBytesAVX512(dst, a, b *int8, n int, k *split)
TEXT ·sumBytesAVX512(SB), NOSPLIT, $0-40
	MOVQ dst+0(FP), DI
	MOVQ a+8(FP), SI
	MOVQ b+16(FP), DX
	MOVQ n+24(FP), CX
	MOVQ k+32(FP), R8
	SPLIT512(R8)
	XORQ AX, AX
	SUBQ $32, CX
	JLT  rest

whole:
	VPMOVSXBW (SI)(AX*1), Z0
	VPMOVSXBW (DX)(AX*1), Z1
	SUM512(Z0, Z1)
	VMOVDQU   Y0, (DI)(AX*1)
	ADDQ      $32, AX
	CMPQ      AX, CX
	JLE       whole

rest:
	ADDQ      $32, CX
	CMPQ      AX, CX
	JGE       done
	VPMOVSXBW (SI)(AX*1), Y0
	VPMOVSXBW (DX)(AX*1), Y1
	SUM512(Z0, Z1)
	VMOVDQU   X0, (DI)(AX*1)

done:
	VZEROUPPER
	RET

// func productBytesAVX512(dst, a, b *int8, n int, k *split)
TEXT ·productBytesAVX512(SB), NOSPLIT, $0-40
	MOVQ   dst+0(FP), DI
	MOVQ   a+8(FP), SI
	MOVQ   b+16(FP), DX
	MOVQ   n+24(FP), CX
	MOVQ   k+32(FP), R8
	SPLIT512(R8)
	VPXORQ Z8, Z8, Z8
	XORQ   AX, AX
	SUBQ   $32, CX
	JLT    rest

whole:
	VPMOVSXBW (SI)(AX*1), Z0
	VPMOVSXBW (DX)(AX*1), Z1
	VPMULLW   Z1, Z0, Z0
	SUM512(Z0, Z8)
	VMOVDQU   Y0, (DI)(AX*1)
	ADDQ      $32, AX
	CMPQ      AX, CX
	JLE       whole

rest:
	ADDQ      $32, CX
	CMPQ      AX, CX
	JGE       done
	VPMOVSXBW (SI)(AX*1), Y0
	VPMOVSXBW (DX)(AX*1), Y1
	VPMULLW   Y1, Y0, Y0
	SUM512(Z0, Z8)
	VMOVDQU   X0, (DI)(AX*1)

done:
	VZEROUPPER
	RET

#define SPLIT256(K) \
	VPBROADCASTD 0(K), Y15   \
	VPBROADCASTD 4(K), Y14   \
	VPBROADCASTD 8(K), Y13   \
	VPBROADCASTD 12(K), Y12  \
	VMOVQ        16(K), X11  \
	VPBROADCASTW 24(K), Y10  \
	VPBROADCASTW 26(K), Y9

// The same with AVX2: 16 words each, bytes in X0.
#define SUM256(A, B) \
	VPUNPCKLWD   B, A, Y2      \
	VPUNPCKHWD   B, A, Y3      \
	VPMADDWD     Y15, Y2, Y4   \
	VPMADDWD     Y15, Y3, Y5   \
	VPMADDWD     Y14, Y2, Y6   \
	VPMADDWD     Y14, Y3, Y7   \
	VPADDD       Y13, Y4, Y4   \
	VPADDD       Y13, Y5, Y5   \
	VPADDD       Y12, Y6, Y6   \
	VPADDD       Y12, Y7, Y7   \
	VPSRAD       $15, Y4, Y4   \
	VPSRAD       $15, Y5, Y5   \
	VPADDD       Y4, Y6, Y6    \
	VPADDD       Y5, Y7, Y7    \
	VPSRAD       X11, Y6, Y6   \
	VPSRAD       X11, Y7, Y7   \
	VPACKSSDW    Y7, Y6, Y0    \
	VPMAXSW      Y10, Y0, Y0   \
	VPMINSW      Y9, Y0, Y0    \
	VEXTRACTI128 $1, Y0, X1    \
	VPACKSSWB    X1, X0, X0

// func sumBytesAVX2(dst, a, b *int8, n int, k *split)
TEXT ·sumBytesAVX2(SB), NOSPLIT, $0-40
	MOVQ dst+0(FP), DI
	MOVQ a+8(FP), SI
	MOVQ b+16(FP), DX
	MOVQ n+24(FP), CX
	MOVQ k+32(FP), R8
	SPLIT256(R8)
	XORQ AX, AX

lanes:
	VPMOVSXBW (SI)(AX*1), Y0
	VPMOVSXBW (DX)(AX*1), Y1
	SUM256(Y0, Y1)
	VMOVDQU   X0, (DI)(AX*1)
	ADDQ      $16, AX
	CMPQ      AX, CX
	JLT       lanes
	VZEROUPPER
	RET

// func productBytesAVX2(dst, a, b *int8, n int, k *split)
TEXT ·productBytesAVX2(SB), NOSPLIT, $0-40
	MOVQ  dst+0(FP), DI
	MOVQ  a+8(FP), SI
	MOVQ  b+16(FP), DX
	MOVQ  n+24(FP), CX
	MOVQ  k+32(FP), R8
	SPLIT256(R8)
	VPXOR Y8, Y8, Y8
	XORQ  AX, AX

lanes:
	VPMOVSXBW (SI)(AX*1), Y0
	VPMOVSXBW (DX)(AX*1), Y1
	VPMULLW   Y1, Y0, Y0
	SUM256(Y0, Y8)
	VMOVDQU   X0, (DI)(AX*1)
	ADDQ      $16, AX
	CMPQ      AX, CX
	JLT       lanes
	VZEROUPPER
	RET
