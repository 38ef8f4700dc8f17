//go:build !purego

#include "textflag.h"

// 64 bytes of Z0 by the table in Z16-Z19: its half by the lower seven bits, which half by the upper.
#define LOOKUP \
	VPMOVB2M  Z0, K2          \
	VMOVDQA64 Z0, Z1          \
	VPERMI2B  Z17, Z16, Z0    \
	VPERMI2B  Z19, Z18, Z1    \
	VMOVDQU8  Z1, K2, Z0

// func mapBytesAVX512(dst, src *int8, n int, table *[256]int8)
TEXT ·mapBytesAVX512(SB), NOSPLIT, $0-32
	MOVQ      dst+0(FP), DI
	MOVQ      src+8(FP), SI
	MOVQ      n+16(FP), CX
	MOVQ      table+24(FP), AX
	VMOVDQU64 (AX), Z16
	VMOVDQU64 64(AX), Z17
	VMOVDQU64 128(AX), Z18
	VMOVDQU64 192(AX), Z19
	SUBQ      $64, CX
	JLT       rest

whole:
	VMOVDQU64 (SI), Z0
	LOOKUP
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
	LOOKUP
	VMOVDQU8   Z0, K1, (DI)

done:
	VZEROUPPER
	RET

DATA beyond<>+0(SB)/8, $0x7070707070707070
GLOBL beyond<>(SB), RODATA|NOPTR, $8

DATA sixteen<>+0(SB)/8, $0x1010101010101010
GLOBL sixteen<>(SB), RODATA|NOPTR, $8

// Sixteen bytes of the table at OFF: those of Y0 that are below 16 are looked up, all others give 0, since 0x70 more brings their
// highest bit. The next sixteen are 0 to 15 then.
#define LOOKUP16(OFF) \
	VBROADCASTI128 OFF(AX), Y4    \
	VPADDUSB       Y15, Y0, Y2    \
	VPSHUFB        Y2, Y4, Y4     \
	VPOR           Y4, Y1, Y1     \
	VPSUBB         Y14, Y0, Y0

// func mapBytesAVX2(dst, src *int8, n int, table *[256]int8)
// n is at least 32; the last vector overlaps the one before it.
TEXT ·mapBytesAVX2(SB), NOSPLIT, $0-32
	MOVQ         dst+0(FP), DI
	MOVQ         src+8(FP), SI
	MOVQ         n+16(FP), CX
	MOVQ         table+24(FP), AX
	VPBROADCASTQ beyond<>(SB), Y15
	VPBROADCASTQ sixteen<>(SB), Y14
	SUBQ         $32, CX // where the last vector begins
	XORQ         BX, BX

bytes:
	VMOVDQU (SI)(BX*1), Y0
	VPXOR   Y1, Y1, Y1
	LOOKUP16(0)
	LOOKUP16(16)
	LOOKUP16(32)
	LOOKUP16(48)
	LOOKUP16(64)
	LOOKUP16(80)
	LOOKUP16(96)
	LOOKUP16(112)
	LOOKUP16(128)
	LOOKUP16(144)
	LOOKUP16(160)
	LOOKUP16(176)
	LOOKUP16(192)
	LOOKUP16(208)
	LOOKUP16(224)
	LOOKUP16(240)
	VMOVDQU Y1, (DI)(BX*1)
	CMPQ    BX, CX
	JEQ     done
	ADDQ    $32, BX
	CMPQ    BX, CX
	CMOVQGT CX, BX
	JMP     bytes

done:
	VZEROUPPER
	RET
