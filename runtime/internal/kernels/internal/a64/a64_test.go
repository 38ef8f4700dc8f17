package a64

import (
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"nepcoc/internal/testfiles"
)

// all is every encoder with operands that set every field.
func all() []Inst {
	var out []Inst
	for _, f := range []func(Shape, int, int, int) Inst{Add, Sub, Mul, Mla, Mls, Smax, Smin, Smaxp, Umin, Ushl, Srshl, Sshl, Sqadd, Trn1, Trn2, Zip1, Zip2, Uzp2, Addp} {
		for _, s := range []Shape{B, H, S} {
			out = append(out, f(s, 0, 1, 2), f(s, 31, 21, 10), f(s, 10, 31, 21), f(s, 21, 10, 31))
		}
	}
	for _, f := range []func(Shape, int, int, int) Inst{Sqrdmulh, Sqrdmlah} {
		for _, s := range []Shape{H, S} {
			out = append(out, f(s, 31, 21, 10), f(s, 10, 31, 21), f(s, 21, 10, 31))
		}
	}
	for _, f := range []func(int, int, int) Inst{And, Eor, Sdot, Udot} {
		out = append(out, f(31, 21, 10), f(10, 31, 21), f(21, 10, 31))
	}
	for _, f := range []func(Shape, int, int, int) Inst{Smlal, Smlal2, Umlal, Umlal2, Smull, Smull2, Uaddw, Uaddw2} {
		for _, s := range []Shape{B, H} {
			out = append(out, f(s, 31, 21, 10), f(s, 10, 31, 21), f(s, 21, 10, 31))
		}
	}
	for _, f := range []func(Shape, int, int) Inst{Clz, Neg, DupX} {
		for _, s := range []Shape{B, H, S} {
			out = append(out, f(s, 31, 21), f(s, 10, 5))
		}
	}
	for _, f := range []func(Shape, int, int) Inst{Xtn, Xtn2, Sqxtn, Sqxtn2, Sxtl, Sxtl2} {
		for _, s := range []Shape{B, H} {
			out = append(out, f(s, 31, 21), f(s, 10, 31))
		}
	}
	for _, f := range []func(Shape, int, int, int) Inst{Ushr, Sshr, Ssra} {
		out = append(out, f(B, 31, 21, 1), f(B, 3, 10, 8), f(H, 31, 21, 1), f(H, 3, 10, 16), f(S, 31, 21, 15), f(S, 3, 10, 32))
	}
	out = append(out, Shl(B, 31, 21, 7), Shl(H, 10, 5, 8), Shl(S, 5, 10, 0), Shl(S, 5, 10, 31))
	for by := 1; by <= 8; by++ {
		out = append(out, Sqrshrun(31, 21, by), Sqrshrun2(10, 31, by))
	}
	for lane := range 8 {
		out = append(out, SmlalLane(31, 21, 10, lane), Smlal2Lane(10, 31, 15, lane))
	}
	for lane := range 4 {
		out = append(out, UdotLane(31, 21, 10, lane), UdotLane(10, 31, 21, lane), UdotLane(21, 10, 31, lane), SdotLane(31, 21, 10, lane), SdotLane(10, 31, 21, lane))
	}
	out = append(out, Tbl4(31, 20, 11), Tbl4(11, 28, 31), Tbx4(31, 20, 11), Tbx4(10, 24, 21), LdrD(31, 21), LdrD(10, 5), LdrDPost(31, 21, 8), LdrDPost(10, 5, -8), Tbl2(31, 20, 11), Tbl2(11, 28, 31), Zero(0), Zero(31), MoviB(21, 0x80), MoviB(31, 0x5a), MoviB(1, 1), Mov(31, 21), Mov(10, 31), Sadalp(B, 31, 21), Sadalp(H, 10, 5), AddvS(31, 21), AddvS(10, 5))
	out = append(out, StrD(31, 21), StrD(10, 5), St1D(31, 21), St1D(10, 5), Zip1(D, 31, 21, 10), Zip1(D, 10, 31, 21))
	out = append(out, Srshl(D, 31, 21, 10), Sshl(D, 31, 21, 10), Xtn(S, 31, 21), Xtn2(S, 10, 31), Smlal(S, 31, 21, 10), Smlal2(S, 10, 31, 21), Smull(S, 31, 21, 10), Add(D, 10, 5, 31), Addp(D, 31, 21, 10), Sub(S, 31, 21, 10), Ushl(D, 10, 31, 21), Add(D, 21, 10, 31), Neg(D, 31, 21), Ld1r(D, 31, 21),
		Smull(S, 31, 21, 10), Smull2(S, 10, 31, 21), Smlal(S, 31, 21, 10), Smlal2(S, 21, 10, 31), Sqxtn(S, 31, 21), Sqxtn2(S, 10, 31))
	for _, off := range []int{-256, -1, 1, 3, 255, 0, 16, 240, 65520} {
		out = append(out, LdrQ(31, 21, off), StrQ(10, 5, off))
	}
	for _, by := range []int{-256, -16, 16, 240} {
		out = append(out, LdrQPost(31, 21, by), StrQPost(10, 5, by))
	}
	for _, off := range []int{-1024, -16, 0, 32, 1008} {
		out = append(out, LdpQ(31, 21, 10, off), StpQ(10, 5, 21, off), LdpQPost(31, 21, 10, off), StpQPost(10, 5, 21, off))
	}
	for _, s := range []Shape{B, H, S} {
		out = append(out, Ld1r(s, 31, 21), Ld1rPost(s, 10, 5))
	}
	return out
}

// The GNU assembler is the judge of every encoding.
func TestEncodings(t *testing.T) {
	as := testfiles.Tool(t, "aarch64-linux-gnu-as")
	objcopy := testfiles.Tool(t, "aarch64-linux-gnu-objcopy")
	dir := t.TempDir()
	src, obj, bin := filepath.Join(dir, "a.s"), filepath.Join(dir, "a.o"), filepath.Join(dir, "a.bin")
	var text strings.Builder
	list := all()
	for _, i := range list {
		text.WriteString(i.Text + "\n")
	}
	if err := os.WriteFile(src, []byte(text.String()), 0o666); err != nil {
		t.Fatal(err)
	}
	for _, c := range [][]string{{as, "-march=armv8.2-a+dotprod", "-o", obj, src}, {objcopy, "-O", "binary", "-j", ".text", obj, bin}} {
		if out, err := exec.Command(c[0], c[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", c, err, out)
		}
	}
	b, err := os.ReadFile(bin)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) != 4*len(list) {
		t.Fatalf("%d bytes for %d instructions", len(b), len(list))
	}
	for i, in := range list {
		if want := binary.LittleEndian.Uint32(b[4*i:]); in.Word != want {
			t.Errorf("%s: %08x, want %08x", in.Text, in.Word, want)
		}
	}
}
