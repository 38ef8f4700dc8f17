package capture_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"nepcoc/runtime/capture"
)

// pcapFile is a classic capture with one record per packet.
func pcapFile(order binary.AppendByteOrder, magic uint32, link uint32, packets ...[]byte) []byte {
	b := order.AppendUint32(nil, magic)
	b = order.AppendUint16(b, 2)
	b = order.AppendUint16(b, 4)
	b = append(b, make([]byte, 8)...)
	b = order.AppendUint32(b, 65535)
	b = order.AppendUint32(b, link)
	for i, p := range packets {
		b = order.AppendUint32(b, uint32(1700000000+i))
		b = order.AppendUint32(b, 123)
		b = order.AppendUint32(b, uint32(len(p)))
		b = order.AppendUint32(b, uint32(len(p)+1))
		b = append(b, p...)
	}
	return b
}

// block is a pcapng block around a body.
func block(order binary.AppendByteOrder, typ uint32, body []byte) []byte {
	for len(body)%4 != 0 {
		body = append(body, 0)
	}
	n := uint32(len(body) + 12)
	b := order.AppendUint32(nil, typ)
	b = order.AppendUint32(b, n)
	b = append(b, body...)
	return order.AppendUint32(b, n)
}

func section(order binary.AppendByteOrder) []byte {
	b := order.AppendUint32(nil, 0x1a2b3c4d)
	b = order.AppendUint16(b, 1)
	b = order.AppendUint16(b, 0)
	b = append(b, bytes.Repeat([]byte{255}, 8)...)
	return block(order, 0x0a0d0d0a, b)
}

// iface is an interface description; resolution as in if_tsresol, 0 for none.
func iface(order binary.AppendByteOrder, link uint16, snap uint32, resolution byte) []byte {
	b := order.AppendUint16(nil, link)
	b = order.AppendUint16(b, 0)
	b = order.AppendUint32(b, snap)
	if resolution != 0 {
		b = order.AppendUint16(b, 9)
		b = order.AppendUint16(b, 1)
		b = append(b, resolution, 0, 0, 0)
		b = append(b, 0, 0, 0, 0)
	}
	return block(order, 1, b)
}

func enhanced(order binary.AppendByteOrder, iface uint32, ts uint64, data []byte, options ...byte) []byte {
	b := order.AppendUint32(nil, iface)
	b = order.AppendUint32(b, uint32(ts>>32))
	b = order.AppendUint32(b, uint32(ts))
	b = order.AppendUint32(b, uint32(len(data)))
	b = order.AppendUint32(b, uint32(len(data)))
	b = append(b, data...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return block(order, 6, append(b, options...))
}

var (
	le = binary.LittleEndian
	be = binary.BigEndian
)

func readAll(data []byte) (frames []capture.Frame, note string, err error) {
	f, err := capture.NewFile("x.pcap", bytes.NewReader(data))
	if err != nil {
		return nil, "", err
	}
	for {
		var fr capture.Frame
		if err := f.Next(&fr); err == io.EOF {
			return frames, strings.Join(f.Notes(), "; "), nil
		} else if err != nil {
			return frames, strings.Join(f.Notes(), "; "), err
		}
		fr.Data = bytes.Clone(fr.Data)
		frames = append(frames, fr)
	}
}

func TestFiles(t *testing.T) {
	p := cat(eth(0x800), ipv4(17, 0, 0, udp(1)))
	const sec = 1700000000
	micro, nano := int64(sec*1e9+123e3), int64(sec*1e9+123)
	for _, tc := range []struct {
		name string
		data []byte
		want []string // "time length link interface" of each frame
		note string
	}{
		{"usec le", pcapFile(le, 0xa1b2c3d4, 1, p), []string{fmt.Sprint(micro, len(p)+1, 1, 0)}, ""},
		{"usec be", pcapFile(be, 0xa1b2c3d4, 1, p), []string{fmt.Sprint(micro, len(p)+1, 1, 0)}, ""},
		{"nsec le", pcapFile(le, 0xa1b23c4d, 1, p), []string{fmt.Sprint(nano, len(p)+1, 1, 0)}, ""},
		{"nsec be", pcapFile(be, 0xa1b23c4d, 101, p), []string{fmt.Sprint(nano, len(p)+1, 101, 0)}, ""},
		{"link type with flags", pcapFile(le, 0xa1b2c3d4, 0x54000001, p), []string{fmt.Sprint(micro, len(p)+1, 1, 0)}, ""},
		{"no packets", pcapFile(le, 0xa1b2c3d4, 1), nil, ""},
		{"record header cut", pcapFile(le, 0xa1b2c3d4, 1, p, p)[:24+16+len(p)+7], []string{fmt.Sprint(micro, len(p)+1, 1, 0)}, fmt.Sprintf("offset %d", 24+16+len(p))},
		{"record body missing", pcapFile(le, 0xa1b2c3d4, 1, p)[:24+16], nil, "offset 24"},
		{"ng", cat(section(le), iface(le, 1, 0, 0), enhanced(le, 0, sec*1e6+123, p)), []string{fmt.Sprint(micro, len(p), 1, 0)}, ""},
		{"ng be, nanoseconds", cat(section(be), iface(be, 1, 99, 9), enhanced(be, 0, sec*1e9+123, p)), []string{fmt.Sprint(nano, len(p), 1, 0)}, ""},
		{"ng, three interfaces",
			cat(section(le), iface(le, 1, 0, 9), enhanced(le, 0, 5, p), iface(le, 101, 0, 6), iface(le, 276, 0, 0x83), enhanced(le, 2, 8*7+4, p), enhanced(le, 1, 6, p[14:])),
			[]string{fmt.Sprint(5, len(p), 1, 0), fmt.Sprint(int64(7.5e9), len(p), 276, 2), fmt.Sprint(6000, len(p)-14, 101, 1)}, ""},
		{"ng, two sections of both byte orders",
			cat(section(le), iface(le, 1, 0, 0), enhanced(le, 0, 1, p), section(be), iface(be, 101, 0, 0), enhanced(be, 0, 2, p)),
			[]string{fmt.Sprint(1000, len(p), 1, 0), fmt.Sprint(2000, len(p), 101, 0)}, ""},
		{"ng, simple packet", cat(section(le), iface(le, 1, 20, 0), block(le, 3, append(le.AppendUint32(nil, 999), p[:20]...))), []string{fmt.Sprint(0, 999, 1, 0)}, ""},
		{"ng, old packet block", cat(section(le), iface(le, 1, 0, 0), block(le, 2, cat(make([]byte, 8), le.AppendUint32(nil, 7), le.AppendUint32(nil, 4), le.AppendUint32(nil, 9), []byte{1, 2, 3, 4}))), []string{fmt.Sprint(7000, 9, 1, 0)}, ""},
		{"ng, other blocks are skipped", cat(section(le), block(le, 0x80000bad, make([]byte, 5000)), block(le, 10, make([]byte, 9)), iface(le, 1, 0, 0), block(le, 5, nil), enhanced(le, 0, 1, p, 1, 0, 2, 0, 'h', 'i', 0, 0)), []string{fmt.Sprint(1000, len(p), 1, 0)}, ""},
		{"ng, cut in a block", cat(section(le), iface(le, 1, 0, 0), enhanced(le, 0, 1, p), enhanced(le, 0, 2, p)[:30]), []string{fmt.Sprint(1000, len(p), 1, 0)}, fmt.Sprintf("offset %d", 28+20+len(enhanced(le, 0, 1, p)))},
		{"ng, cut in a block header", cat(section(le), iface(le, 1, 0, 0), enhanced(le, 0, 1, p)[:5]), nil, "offset 48"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			frames, note, err := readAll(tc.data)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range frames {
				got = append(got, fmt.Sprint(f.Time, f.Length, uint16(f.Link), f.Interface))
			}
			if fmt.Sprint(got) != fmt.Sprint(tc.want) {
				t.Errorf("frames %v, want %v", got, tc.want)
			}
			if (note == "") != (tc.note == "") || !strings.Contains(note, tc.note) {
				t.Errorf("note %q, want %q", note, tc.note)
			}
			if len(frames) > 0 && len(frames[0].Data) > 4 && !bytes.HasPrefix(p, frames[0].Data) {
				t.Errorf("data %x", frames[0].Data)
			}
		})
	}
}

func TestFileErrors(t *testing.T) {
	p := cat(eth(0x800), ipv4(17, 0, 0, udp(1)))
	huge := pcapFile(le, 0xa1b2c3d4, 1, p, p)
	le.PutUint32(huge[24+16+len(p)+8:], 0xffffffff)
	version := pcapFile(le, 0xa1b2c3d4, 1, p)
	version[4] = 9
	claims := cat(section(le), iface(le, 1, 0, 0), enhanced(le, 0, 1, p))
	claim := func(at int, v uint32) []byte {
		b := bytes.Clone(claims)
		le.PutUint32(b[at:], v)
		return b
	}
	for _, tc := range []struct {
		name   string
		data   []byte
		frames int
		want   string
	}{
		{"empty", nil, 0, "empty"},
		{"one byte", []byte{1}, 0, "only 1 byte long"},
		{"text", []byte("proto,src,sport\n"), 0, "neither pcap nor pcapng"},
		{"gzip", []byte{0x1f, 0x8b, 8, 0}, 0, "gunzip"}, // and no more
		{"header cut", huge[:20], 0, "ends within its header"},
		{"version", version, 0, "version 9"},
		{"802.11", pcapFile(le, 0xa1b2c3d4, 105, p), 0, "link type 105 (802.11) is not supported"},
		{"4 GB record", huge, 1, fmt.Sprintf("packet 2: record at offset %d claims 4294967295 bytes", 24+16+len(p))},
		{"section cut", claims[:20], 0, "ends within its header"},
		{"section without mark", cat(claims[:8], []byte{1, 2, 3, 4}, claims[12:]), 0, "byte-order mark"},
		{"4 GB block", claim(48+4, 0xfffffffc), 0, "packet 1: block at offset 48 claims 4294967292"},
		{"block of 8", claim(48+4, 8), 0, "claims 8 bytes"},
		{"block length not of 4", claim(48+4, 63), 0, "claims 63 bytes"},
		{"two lengths", claim(len(claims)-4, 12), 0, "at its end"},
		{"packet beyond its block", claim(48+20, 500), 0, "a packet of 500 bytes in a block of"},
		{"no such interface", claim(48+8, 1), 0, "interface 1, but the section has described 1"},
		{"no interface at all", cat(section(le), enhanced(le, 0, 1, p)), 0, "described 0"},
		{"option beyond its block", cat(section(le), iface(le, 1, 0, 0), enhanced(le, 0, 1, p, 1, 0, 99, 0)), 0, "option 1 of 100 bytes"},
		{"interface too short", cat(section(le), block(le, 1, []byte{1, 0, 0, 0})), 0, "too few"},
		{"absurd resolution", cat(section(le), iface(le, 1, 0, 0xff)), 0, "resolution"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			frames, _, err := readAll(tc.data)
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.HasPrefix(err.Error(), "x.pcap: ") {
				t.Errorf("error %q, want %q", err, tc.want)
			}
			if len(frames) != tc.frames {
				t.Errorf("%d frames before it, want %d", len(frames), tc.frames)
			}
		})
	}
}

func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty.pcap")
	if err := os.WriteFile(empty, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{empty: "empty", dir: "is a folder", filepath.Join(dir, "none"): "no such file"} {
		if _, err := capture.Open(path); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// TestClaimsCostNothing: files of a hundred bytes that claim gigabytes.
func TestClaimsCostNothing(t *testing.T) {
	p := make([]byte, 60)
	rec := pcapFile(le, 0xa1b2c3d4, 1, p)
	var files [][]byte
	for _, n := range []uint32{1 << 18, 1 << 20, 1 << 30, 1<<31 - 1, 1 << 31, 1<<32 - 1} {
		f := bytes.Clone(rec)
		le.PutUint32(f[16:], 1<<32-1) // snap length
		le.PutUint32(f[24+8:], n)
		le.PutUint32(f[24+12:], n)
		g := cat(section(le), iface(le, 1, n, 0), enhanced(le, 0, 1, p))
		le.PutUint32(g[48+4:], n&^3)
		files = append(files, f, g)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for _, f := range files {
		readAll(f)
	}
	runtime.ReadMemStats(&after)
	if per := (after.TotalAlloc - before.TotalAlloc) / uint64(len(files)); per > 1<<20 {
		t.Errorf("%d bytes allocated per file of 100", per)
	}
}

func FuzzFile(f *testing.F) {
	p := cat(eth(0x800), ipv4(17, 0, 0, udp(1)))
	f.Add(pcapFile(le, 0xa1b2c3d4, 1, p, p))
	f.Add(pcapFile(be, 0xa1b23c4d, 101, p))
	f.Add(cat(section(le), iface(le, 1, 0, 9), iface(le, 101, 0, 0x8a), enhanced(le, 0, 1, p, 1, 0, 2, 0, 'h', 'i', 0, 0), block(le, 3, append(le.AppendUint32(nil, 999), p...))))
	f.Add(cat(section(be), iface(be, 276, 0, 0), enhanced(be, 0, 1, p), block(be, 5, make([]byte, 12)), block(be, 4, make([]byte, 4))))
	f.Add(cat([]byte{0x34, 0xcd, 0xb2, 0xa1}, pcapFile(le, 0xa1b2c3d4, 1, p, p)[4:]))
	f.Fuzz(func(t *testing.T, data []byte) {
		frames, _, _ := readAll(data)
		total := 0
		for _, fr := range frames {
			total += len(fr.Data)
			var pk capture.Packet
			if capture.Decode(&fr, &pk) == capture.KindOK {
				checkPacket(t, fr.Data, &pk)
			}
		}
		if total > len(data) {
			t.Fatalf("%d bytes of packets in a file of %d", total, len(data))
		}
	})
}
