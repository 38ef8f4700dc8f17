//go:build !purego

#include "textflag.h"

// 64 bytes of Z0 by the table in Z16-Z19: its half by the lower seven bits, which half by the upper.
#define LOOKUP \
	VPMOVB2M  Z0, K2          \
	VMOVDQA64 Z0, Z1          \
	VPERMI2B  Z17, Z16, Z0    \
	VPERMI2B  Z19, Z18, Z1    \
	VMOVDQU8  Z1, K2, Z0

// func mapBytes(dst, src *int8, n int, table *[256]int8)
TEXT ·mapBytes(SB), NOSPLIT, $0-32
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
