// Package a64 encodes the arm64 vector instructions that Go's assembler lacks
// (and, so that a kernel reads alike throughout, those beside them that it has).
//
// It is used by the generator of the kernels only. Every function has a row in the
// package's test, which lets the GNU assembler encode the same text.
package a64

import "fmt"

// Inst is one encoded instruction.
type Inst struct {
	Word uint32
	Text string // GNU syntax
}

// Shape is a vector arrangement.
type Shape uint32

// Arrangements of 128-bit registers; the value is the size field.
const (
	B Shape = iota // 16 bytes
	H              // 8 halves
	S              // 4 words
	D              // 2 double words
)

func (s Shape) String() string { return [...]string{"16b", "8h", "4s", "2d"}[s] }

// half is the arrangement of the same elements in 64 bits, wide that of twice
// their size in 128.
func (s Shape) half() string { return [...]string{"8b", "4h", "2s"}[s] }

func (s Shape) bits() uint32 { return 8 << s }

func reg(op uint32, d, n, m int) uint32 { return op | uint32(m)<<16 | uint32(n)<<5 | uint32(d) }

// three makes the encoder of an instruction on three registers of one shape.
func three(name string, op uint32) func(s Shape, d, n, m int) Inst {
	return func(s Shape, d, n, m int) Inst {
		return Inst{reg(op|uint32(s)<<22, d, n, m), fmt.Sprintf("%s v%d.%v, v%d.%v, v%d.%v", name, d, s, n, s, m, s)}
	}
}

// Instructions on three registers: destination, then sources.
var (
	Add      = three("add", 0x4e208400)
	Sub      = three("sub", 0x6e208400)
	Mul      = three("mul", 0x4e209c00)
	Mla      = three("mla", 0x4e209400)
	Mls      = three("mls", 0x6e209400)
	Smax     = three("smax", 0x4e206400)
	Smin     = three("smin", 0x4e206c00)
	Smaxp    = three("smaxp", 0x4e20a400)
	Umin     = three("umin", 0x6e206c00)
	Ushl     = three("ushl", 0x6e204400)
	Srshl    = three("srshl", 0x4e205400)
	Sshl     = three("sshl", 0x4e204400)
	Sqadd    = three("sqadd", 0x4e200c00)
	Sqrdmulh = three("sqrdmulh", 0x6e20b400)
	Sqrdmlah = three("sqrdmlah", 0x6e008400) // Armv8.1
	Trn1     = three("trn1", 0x4e002800)
	Trn2     = three("trn2", 0x4e006800)
	Zip1     = three("zip1", 0x4e003800)
	Zip2     = three("zip2", 0x4e007800)
	Uzp2     = three("uzp2", 0x4e005800)
	Addp     = three("addp", 0x4e20bc00)
)

// logic makes the encoder of a bitwise instruction.
func logic(name string, op uint32) func(d, n, m int) Inst {
	return func(d, n, m int) Inst {
		return Inst{reg(op, d, n, m), fmt.Sprintf("%s v%d.16b, v%d.16b, v%d.16b", name, d, n, m)}
	}
}

// Bitwise instructions.
var (
	And = logic("and", 0x4e201c00)
	Eor = logic("eor", 0x6e201c00)
)

// widening makes the encoders of an instruction whose sources are the lower
// (first) or upper halves of registers of shape s.
func widening(name string, op uint32) (lo, hi func(s Shape, d, n, m int) Inst) {
	lo = func(s Shape, d, n, m int) Inst {
		return Inst{reg(op|uint32(s)<<22, d, n, m), fmt.Sprintf("%s v%d.%v, v%d.%s, v%d.%s", name, d, s+1, n, s.half(), m, s.half())}
	}
	hi = func(s Shape, d, n, m int) Inst {
		return Inst{reg(op|1<<30|uint32(s)<<22, d, n, m), fmt.Sprintf("%s2 v%d.%v, v%d.%v, v%d.%v", name, d, s+1, n, s, m, s)}
	}
	return lo, hi
}

// Widening products; the shape is that of the factors.
var (
	Smlal, Smlal2 = widening("smlal", 0x0e208000)
	Umlal, Umlal2 = widening("umlal", 0x2e208000)
	Smull, Smull2 = widening("smull", 0x0e20c000)
)

// Uaddw adds the lower half of m, of shape s, to the wider n.
func Uaddw(s Shape, d, n, m int) Inst {
	return Inst{reg(0x2e201000|uint32(s)<<22, d, n, m), fmt.Sprintf("uaddw v%d.%v, v%d.%v, v%d.%s", d, s+1, n, s+1, m, s.half())}
}

// Uaddw2 adds the upper half.
func Uaddw2(s Shape, d, n, m int) Inst {
	return Inst{reg(0x6e201000|uint32(s)<<22, d, n, m), fmt.Sprintf("uaddw2 v%d.%v, v%d.%v, v%d.%v", d, s+1, n, s+1, m, s)}
}

// two makes the encoder of an instruction on two registers of one shape.
func two(name string, op uint32) func(s Shape, d, n int) Inst {
	return func(s Shape, d, n int) Inst {
		return Inst{reg(op|uint32(s)<<22, d, n, 0), fmt.Sprintf("%s v%d.%v, v%d.%v", name, d, s, n, s)}
	}
}

// Instructions on two registers.
var (
	Clz = two("clz", 0x6e204800)
	Neg = two("neg", 0x6e20b800)
)

// Sadalp adds the sums of neighbours in n, of shape s, to the wider d.
func Sadalp(s Shape, d, n int) Inst {
	return Inst{reg(0x4e206800|uint32(s)<<22, d, n, 0), fmt.Sprintf("sadalp v%d.%v, v%d.%v", d, s+1, n, s)}
}

// narrowing makes the encoders of an instruction from shape s+1 to the lower or
// upper half of a register of shape s.
func narrowing(name string, op uint32) (lo, hi func(s Shape, d, n int) Inst) {
	lo = func(s Shape, d, n int) Inst {
		return Inst{reg(op|uint32(s)<<22, d, n, 0), fmt.Sprintf("%s v%d.%s, v%d.%v", name, d, s.half(), n, s+1)}
	}
	hi = func(s Shape, d, n int) Inst {
		return Inst{reg(op|1<<30|uint32(s)<<22, d, n, 0), fmt.Sprintf("%s2 v%d.%v, v%d.%v", name, d, s, n, s+1)}
	}
	return lo, hi
}

// Narrowing moves; the shape is that of the result.
var (
	Xtn, Xtn2     = narrowing("xtn", 0x0e212800)
	Sqxtn, Sqxtn2 = narrowing("sqxtn", 0x0e214800)
)

// shiftRight makes the encoder of a right shift by n in 1..bits.
func shiftRight(name string, op uint32) func(s Shape, d, n, by int) Inst {
	return func(s Shape, d, n, by int) Inst {
		return Inst{reg(op|(2*s.bits()-uint32(by))<<16, d, n, 0), fmt.Sprintf("%s v%d.%v, v%d.%v, #%d", name, d, s, n, s, by)}
	}
}

// Shifts by a constant.
var (
	Ushr = shiftRight("ushr", 0x6f000400)
	Sshr = shiftRight("sshr", 0x4f000400)
	Ssra = shiftRight("ssra", 0x4f001400)
)

// Shl shifts left by 0..bits-1.
func Shl(s Shape, d, n, by int) Inst {
	return Inst{reg(0x4f005400|(s.bits()+uint32(by))<<16, d, n, 0), fmt.Sprintf("shl v%d.%v, v%d.%v, #%d", d, s, n, s, by)}
}

// Sqrshrun shifts halves right by 1..8, rounds, and saturates to unsigned bytes in the
// lower half of d.
func Sqrshrun(d, n, by int) Inst {
	return Inst{reg(0x2f008c00|uint32(16-by)<<16, d, n, 0), fmt.Sprintf("sqrshrun v%d.8b, v%d.8h, #%d", d, n, by)}
}

// Sqrshrun2 is Sqrshrun to the upper half.
func Sqrshrun2(d, n, by int) Inst {
	return Inst{reg(0x6f008c00|uint32(16-by)<<16, d, n, 0), fmt.Sprintf("sqrshrun2 v%d.16b, v%d.8h, #%d", d, n, by)}
}

// Sxtl extends the lower half of n, of shape s.
func Sxtl(s Shape, d, n int) Inst {
	return Inst{reg(0x0f00a400|s.bits()<<16, d, n, 0), fmt.Sprintf("sxtl v%d.%v, v%d.%s", d, s+1, n, s.half())}
}

// Sxtl2 extends the upper half.
func Sxtl2(s Shape, d, n int) Inst {
	return Inst{reg(0x4f00a400|s.bits()<<16, d, n, 0), fmt.Sprintf("sxtl2 v%d.%v, v%d.%v", d, s+1, n, s)}
}

// SmlalLane adds to each word of d the product of a half of n's lower half and of half
// lane of m, one of the first 16 registers.
func SmlalLane(d, n, m, lane int) Inst {
	return Inst{reg(0x0f402000|laneOfHalf(lane), d, n, m), fmt.Sprintf("smlal v%d.4s, v%d.4h, v%d.h[%d]", d, n, m, lane)}
}

// Smlal2Lane is SmlalLane for the upper half of n.
func Smlal2Lane(d, n, m, lane int) Inst {
	return Inst{reg(0x4f402000|laneOfHalf(lane), d, n, m), fmt.Sprintf("smlal2 v%d.4s, v%d.8h, v%d.h[%d]", d, n, m, lane)}
}

func laneOfHalf(lane int) uint32 {
	l := uint32(lane)
	return l>>2<<11 | l>>1&1<<21 | l&1<<20
}

// UdotLane adds to each word of d four products of bytes of n and of word lane
// of m (Armv8.2 dot product).
func UdotLane(d, n, m, lane int) Inst {
	l, h := uint32(lane&1), uint32(lane>>1)
	return Inst{reg(0x6f80e000|l<<21|h<<11, d, n, m), fmt.Sprintf("udot v%d.4s, v%d.16b, v%d.4b[%d]", d, n, m, lane)}
}

// SdotLane is UdotLane of signed bytes.
func SdotLane(d, n, m, lane int) Inst {
	l, h := uint32(lane&1), uint32(lane>>1)
	return Inst{reg(0x4f80e000|l<<21|h<<11, d, n, m), fmt.Sprintf("sdot v%d.4s, v%d.16b, v%d.4b[%d]", d, n, m, lane)}
}

// Sdot adds to each word of d four products of signed bytes of n and m (Armv8.2
// dot product).
func Sdot(d, n, m int) Inst {
	return Inst{reg(0x4e809400, d, n, m), fmt.Sprintf("sdot v%d.4s, v%d.16b, v%d.16b", d, n, m)}
}

// Udot is Sdot of unsigned bytes.
func Udot(d, n, m int) Inst {
	return Inst{reg(0x6e809400, d, n, m), fmt.Sprintf("udot v%d.4s, v%d.16b, v%d.16b", d, n, m)}
}

// Tbl2 looks bytes m up in the table of 32 bytes n, n+1.
func Tbl2(d, n, m int) Inst {
	return Inst{reg(0x4e002000, d, n, m), fmt.Sprintf("tbl v%d.16b, {v%d.16b, v%d.16b}, v%d.16b", d, n, n+1, m)}
}

// Tbl4 looks bytes m up in the table of 64 bytes n..n+3; beyond it is 0.
func Tbl4(d, n, m int) Inst {
	return Inst{reg(0x4e006000, d, n, m), fmt.Sprintf("tbl v%d.16b, {v%d.16b, v%d.16b, v%d.16b, v%d.16b}, v%d.16b", d, n, n+1, n+2, n+3, m)}
}

// Tbx4 is Tbl4, but leaves bytes of d whose index is beyond the table.
func Tbx4(d, n, m int) Inst {
	return Inst{reg(0x4e007000, d, n, m), fmt.Sprintf("tbx v%d.16b, {v%d.16b, v%d.16b, v%d.16b, v%d.16b}, v%d.16b", d, n, n+1, n+2, n+3, m)}
}

// Zero clears d.
func Zero(d int) Inst { return Inst{0x6f00e400 | uint32(d), fmt.Sprintf("movi v%d.2d, #0", d)} }

// MoviB sets all bytes of d.
func MoviB(d int, v uint8) Inst {
	return Inst{0x4f00e400 | uint32(v>>5)<<16 | uint32(v&31)<<5 | uint32(d), fmt.Sprintf("movi v%d.16b, #%d", d, v)}
}

// Mov copies n to d.
func Mov(d, n int) Inst {
	return Inst{reg(0x4ea01c00, d, n, n), fmt.Sprintf("mov v%d.16b, v%d.16b", d, n)}
}

// DupX sets all elements of d to the low bits of general register n.
func DupX(s Shape, d, n int) Inst {
	return Inst{reg(0x4e000c00|1<<16<<s, d, n, 0), fmt.Sprintf("dup v%d.%v, w%d", d, s, n)}
}

// AddvS is the sum of the words of n, in s register d.
func AddvS(d, n int) Inst {
	return Inst{reg(0x4eb1b800, d, n, 0), fmt.Sprintf("addv s%d, v%d.4s", d, n)}
}

// LdrQ loads 16 bytes at x+off; any off in -256..255 or a multiple of 16 up to 65520.
func LdrQ(t, x, off int) Inst { return ldst("ldr", "ldur", 0x3dc00000, 0x3cc00000, t, x, off) }

// StrQ stores 16 bytes; see LdrQ.
func StrQ(t, x, off int) Inst { return ldst("str", "stur", 0x3d800000, 0x3c800000, t, x, off) }

func ldst(name, uname string, scaled, unscaled uint32, t, x, off int) Inst {
	if off >= 0 && off%16 == 0 {
		return Inst{scaled | uint32(off/16)<<10 | uint32(x)<<5 | uint32(t), fmt.Sprintf("%s q%d, [x%d, #%d]", name, t, x, off)}
	}
	return Inst{unscaled | uint32(off&0x1ff)<<12 | uint32(x)<<5 | uint32(t), fmt.Sprintf("%s q%d, [x%d, #%d]", uname, t, x, off)}
}

// LdrQPost loads 16 bytes at x, then adds by to x.
func LdrQPost(t, x, by int) Inst {
	return Inst{0x3cc00400 | uint32(by&0x1ff)<<12 | uint32(x)<<5 | uint32(t), fmt.Sprintf("ldr q%d, [x%d], #%d", t, x, by)}
}

// StrQPost stores 16 bytes at x, then adds by to x.
func StrQPost(t, x, by int) Inst {
	return Inst{0x3c800400 | uint32(by&0x1ff)<<12 | uint32(x)<<5 | uint32(t), fmt.Sprintf("str q%d, [x%d], #%d", t, x, by)}
}

func pair(name, form string, op uint32, t, t2, x, off int) Inst {
	return Inst{op | uint32(off/16&0x7f)<<15 | uint32(t2)<<10 | uint32(x)<<5 | uint32(t), fmt.Sprintf("%s q%d, q%d, "+form, name, t, t2, x, off)}
}

// LdpQ loads 32 bytes at x+off, a multiple of 16 in -1024..1008.
func LdpQ(t, t2, x, off int) Inst { return pair("ldp", "[x%d, #%d]", 0xad400000, t, t2, x, off) }

// StpQ stores 32 bytes; see LdpQ.
func StpQ(t, t2, x, off int) Inst { return pair("stp", "[x%d, #%d]", 0xad000000, t, t2, x, off) }

// LdpQPost loads 32 bytes at x, then adds by to x.
func LdpQPost(t, t2, x, by int) Inst { return pair("ldp", "[x%d], #%d", 0xacc00000, t, t2, x, by) }

// StpQPost stores 32 bytes at x, then adds by to x.
func StpQPost(t, t2, x, by int) Inst { return pair("stp", "[x%d], #%d", 0xac800000, t, t2, x, by) }

// StrD stores the lower 8 bytes at x.
func StrD(t, x int) Inst {
	return Inst{0xfd000000 | uint32(x)<<5 | uint32(t), fmt.Sprintf("str d%d, [x%d]", t, x)}
}

// LdrD loads 8 bytes at x to the lower half, and clears the upper.
func LdrD(t, x int) Inst {
	return Inst{0xfd400000 | uint32(x)<<5 | uint32(t), fmt.Sprintf("ldr d%d, [x%d]", t, x)}
}

// LdrDPost is LdrD, then adds by to x.
func LdrDPost(t, x, by int) Inst {
	return Inst{0xfc400400 | uint32(by&0x1ff)<<12 | uint32(x)<<5 | uint32(t), fmt.Sprintf("ldr d%d, [x%d], #%d", t, x, by)}
}

// St1D stores the upper 8 bytes at x.
func St1D(t, x int) Inst {
	return Inst{0x4d008400 | uint32(x)<<5 | uint32(t), fmt.Sprintf("st1 {v%d.d}[1], [x%d]", t, x)}
}

// Ld1r loads one element at x to all of t.
func Ld1r(s Shape, t, x int) Inst {
	return Inst{0x4d40c000 | uint32(s)<<10 | uint32(x)<<5 | uint32(t), fmt.Sprintf("ld1r {v%d.%v}, [x%d]", t, s, x)}
}

// Ld1rPost is Ld1r, then adds the element's size to x.
func Ld1rPost(s Shape, t, x int) Inst {
	return Inst{0x4ddfc000 | uint32(s)<<10 | uint32(x)<<5 | uint32(t), fmt.Sprintf("ld1r {v%d.%v}, [x%d], #%d", t, s, x, s.bits()/8)}
}
