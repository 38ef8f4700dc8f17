package capture_test

import (
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"nepcoc/internal/testfiles"
	"nepcoc/runtime/capture"
)

// segments are n bytes of payload in a frame, and the frames of size bytes each
// that they were on the wire.
func segments(v6, udp bool, n, size int) (merged []byte, parts [][]byte) {
	make1 := func(at, n int, last bool) []byte {
		ip, l4 := 20, 20
		if v6 {
			ip = 40
		}
		if udp {
			l4 = 8
		}
		b := make([]byte, 18+ip+l4+n)
		copy(b[12:], []byte{0x81, 0, 0, 7, 8, 0})
		if v6 {
			b[16], b[17] = 0x86, 0xdd
		}
		p := b[18:]
		if v6 {
			p[0], p[6], p[7] = 0x60, capture.ProtoTCP, 64
			binary.BigEndian.PutUint16(p[4:], uint16(l4+n))
		} else {
			p[0], p[8], p[9] = 0x45, 64, capture.ProtoTCP
			binary.BigEndian.PutUint16(p[2:], uint16(ip+l4+n))
			binary.BigEndian.PutUint16(p[4:], uint16(0xffff+at/size)) // the count goes over its end
		}
		t := p[ip:]
		if udp {
			p[9-bool3(v6)] = capture.ProtoUDP
			binary.BigEndian.PutUint16(t[4:], uint16(8+n))
		} else {
			binary.BigEndian.PutUint32(t[4:], uint32(0xfffffff0+at)) // likewise
			t[12], t[13] = 5<<4, capture.FlagACK
			if last {
				t[13] |= 8 | capture.FlagFIN
			}
			if at == 0 {
				t[13] |= 0x80
			}
		}
		if !v6 {
			sum := uint32(0)
			for i := 0; i < 20; i += 2 {
				sum += uint32(binary.BigEndian.Uint16(p[i:]))
			}
			sum = sum>>16 + sum&0xffff
			binary.BigEndian.PutUint16(p[10:], ^uint16(sum+sum>>16))
		}
		for i := range n {
			t[l4+i] = byte((at + i) * 7)
		}
		return b
	}
	for at := 0; at < n; at += size {
		parts = append(parts, make1(at, min(size, n-at), at+size >= n))
	}
	return make1(0, n, true), parts
}

func bool3(b bool) int {
	if b {
		return 3
	}
	return 0
}

// What was merged comes apart into what was on the wire, byte for byte; where the
// capture cut it, as far as it holds.
func TestSplit(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		for _, udp := range []bool{false, true} {
			for _, n := range []int{1, 100, 101, 250, 1000} {
				for _, snap := range []int{1 << 16, 300} {
					merged, want := segments(v6, udp, n, 100)
					f := capture.Frame{Data: slices.Clip(merged[:min(len(merged), snap)]), Length: len(merged), Link: capture.LinkEthernet, Time: 5, Lossy: true}
					var s capture.Splitter
					if !s.Split(&f, 100) {
						t.Fatalf("v6 %v udp %v %d bytes: not split", v6, udp, n)
					}
					for i, w := range want {
						if i > 0 && !s.Next(&f) {
							t.Fatalf("v6 %v udp %v %d bytes: %d parts, want %d", v6, udp, n, i, len(want))
						}
						head := len(w) - min(100, n-100*i)
						whole := min(len(w), max(head, head+min(snap, len(merged))-head-100*i))
						if !slices.Equal(f.Data, w[:whole]) || f.Length != len(w) || f.Time != 5 || f.Lossy != (i == 0) {
							t.Errorf("v6 %v udp %v %d bytes, part %d:\n got %x of %d\nwant %x of %d", v6, udp, n, i, f.Data, f.Length, w[:whole], len(w))
						}
						if n > 100 && f.Trust != capture.TrustChecked {
							t.Errorf("trust %v", f.Trust)
						}
					}
					if s.Next(&f) {
						t.Error("a part too many")
					}
				}
			}
		}
	}
}

// What is no merged packet stays as it is.
func TestSplitRefuses(t *testing.T) {
	merged, _ := segments(false, false, 1000, 100)
	fragment := slices.Clone(merged)
	fragment[18+6] = 0x20
	for name, tc := range map[string]struct {
		data []byte
		size int
	}{"no size": {merged, 0}, "a fragment": {fragment, 100}, "no IP": {merged[:20], 100}, "headers cut": {merged[:18+30], 100}} {
		f := capture.Frame{Data: slices.Clip(tc.data), Length: len(tc.data), Link: capture.LinkEthernet}
		var s capture.Splitter
		if s.Split(&f, tc.size) || &f.Data[0] != &tc.data[0] || s.Next(&f) {
			t.Errorf("%s: split", name)
		}
	}
}

// The same server with and without merging: what was merged and put apart again has
// the payloads of what was not.
func TestSplitCapture(t *testing.T) {
	sizes := func(file string, split int) (list []int) {
		src, err := capture.Open(testfiles.Path(t, "cases", "15-gro", file))
		if err != nil {
			t.Fatal(err)
		}
		defer src.Close()
		var f capture.Frame
		var p capture.Packet
		var s capture.Splitter
		for src.Next(&f) == nil {
			if capture.Decode(&f, &p) != capture.KindOK {
				continue
			}
			if split > 0 {
				s.Split(&f, split)
			}
			for more := true; more; more = s.Next(&f) {
				if capture.Decode(&f, &p) == capture.KindOK && p.Length > int(p.Payload) {
					list = append(list, p.Length-int(p.Payload))
				}
			}
		}
		return list
	}
	off, on := sizes("cap-off.pcap", 0), sizes("cap-on.pcap", 1448)
	if !slices.Equal(off, on) {
		t.Errorf("not merged %v\nmerged and split %v", off, on)
	}
}

// What the two captures hold is what their lists say: of each of the listed frames number, ports and length of the IP
// packet, merged or not; and its parts hold all of its payload.
func TestSplitLists(t *testing.T) {
	for _, file := range []string{"off", "on"} {
		list, err := os.ReadFile(testfiles.Path(t, "cases", "15-gro", "lens-"+file+".txt"))
		if err != nil {
			t.Fatal(err)
		}
		src, err := capture.Open(testfiles.Path(t, "cases", "15-gro", "cap-"+file+".pcap"))
		if err != nil {
			t.Fatal(err)
		}
		defer src.Close()
		var f capture.Frame
		var p capture.Packet
		read, merged := 0, 0
		for line := range strings.Lines(string(list)) {
			var number, from, to, length int
			if _, err := fmt.Sscan(line, &number, &from, &to, &length); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			for read < number {
				if err := src.Next(&f); err != nil {
					t.Fatal(err)
				}
				read++
			}
			if kind := capture.Decode(&f, &p); kind != capture.KindOK || int(p.SrcPort) != from || int(p.DstPort) != to || p.Length != length {
				t.Errorf("%s, frame %d: %v, %d > %d, %d bytes; want %s", file, number, kind, p.SrcPort, p.DstPort, p.Length, line)
			}
			if length <= 1500 {
				continue
			}
			merged++
			var s capture.Splitter
			if !s.Split(&f, 1448) {
				t.Errorf("%s, frame %d: not split", file, number)
			}
			for n, more := 1, true; more; n++ {
				if capture.Decode(&f, &p) != capture.KindOK || p.Length > 1500 {
					t.Errorf("%s, frame %d, part %d: %d bytes", file, number, n, p.Length)
				}
				length -= p.Length - int(p.Payload)
				if more = s.Next(&f); !more && length != int(p.Payload) {
					t.Errorf("%s, frame %d: parts hold %d bytes less than the whole", file, number, length-int(p.Payload))
				}
			}
		}
		if (merged > 0) != (file == "on") {
			t.Errorf("%s: %d merged", file, merged)
		}
	}
}

func FuzzSplit(f *testing.F) {
	for _, v6 := range []bool{false, true} {
		merged, _ := segments(v6, false, 500, 100)
		f.Add(merged, 100, 0)
	}
	f.Fuzz(func(t *testing.T, data []byte, size, longer int) {
		fr := capture.Frame{Data: slices.Clip(data), Length: len(data) + max(0, longer%70000), Link: capture.LinkEthernet}
		var s capture.Splitter
		if !s.Split(&fr, size) {
			return
		}
		for n := 1; ; n++ {
			if len(fr.Data) > fr.Length || n > 4096 {
				t.Fatalf("%d bytes of %d, part %d", len(fr.Data), fr.Length, n)
			}
			if !s.Next(&fr) {
				return
			}
		}
	})
}
