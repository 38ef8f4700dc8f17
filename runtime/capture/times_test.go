package capture_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nepcoc/internal/testfiles"
)

// Times of every resolution, offset, byte order and section are exact: a packet each 10 ms, or at 2.1, 4.5, 6.93 and 8.999
// seconds, rounded down to what the file and a nanosecond hold. Where a packet has none that
// an int64 holds, it is that of the packet before.
func TestTimesAreExact(t *testing.T) {
	const start = 1700000000e9
	uneven := []int64{0, 2.1e9, 4.5e9, 6.93e9, 8.999e9}
	for _, path := range testfiles.Glob(t, "cases/17-pcapng/*.pcapng") {
		name := filepath.Base(path)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		frames, _, err := readAll(data)
		if name == "no-idb.pcapng" {
			if err == nil || !strings.Contains(err.Error(), "a packet of interface 0, but the section has described 0") {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil || len(frames) < 5 {
			t.Errorf("%s: %d packets, %v", name, len(frames), err)
		}
		slack := int64(1) // what a power of two rounds down
		if name == "2^-10.pcapng" {
			slack = 976563 // 1/1024 s
		}
		for i, f := range frames {
			want := start + int64(i)*10e6
			switch {
			case strings.HasPrefix(name, "res"):
				want = start + uneven[i]
			case name == "s.pcapng":
				want = start
			case name == "ts-huge.pcapng":
				want = 0
			case name == "two-sections-be-le.pcapng" && i >= 8:
				want = start + 300e9 + int64(i-8)*10e6
			}
			if f.Time > want || f.Time < want-slack {
				t.Errorf("%s: packet %d at %d, want %d", name, i+1, f.Time, want)
			}
		}
	}
}

// Resolutions finer than nanoseconds round down, seconds are a resolution, and offsets go both ways.
func TestNextGenTimes(t *testing.T) {
	for _, tc := range []struct {
		resolution byte
		offset     int64
		units      uint64
		want       int64
	}{
		{0, 0, 1700000000, 1700000000e9}, // in seconds
		{9, 0, 1700000000123456789, 1700000000123456789},
		{12, 0, 1234567, 1234},
		{19, 0, 1<<64 - 1, 1844674407},
		{0x80 | 32, 0, 1700000000<<32 | 1<<31, 1700000000.5e9},
		{0x80 | 32, 0, 1700000000<<32 | 1<<32 - 1, 1700000000999999999},
		{0x80 | 63, 0, 3 << 62, 1500e6},
		{6, -10, 1700000000e6 + 1, 1699999990000001000},
		{3, 1700000000, 5, 1700000000005e6},
	} {
		b := le.AppendUint32(le.AppendUint16(le.AppendUint16(nil, 1), 0), 0)
		b = append(le.AppendUint16(le.AppendUint16(b, 9), 1), tc.resolution, 0, 0, 0)
		b = le.AppendUint64(le.AppendUint16(le.AppendUint16(b, 14), 8), uint64(tc.offset))
		frames, _, err := readAll(cat(section(le), block(le, 1, append(b, 0, 0, 0, 0)), enhanced(le, 0, tc.units, []byte{1})))
		if err != nil || len(frames) != 1 || frames[0].Time != tc.want {
			t.Errorf("0x%02x, %d + %d: %v, %v; want %d", tc.resolution, tc.units, tc.offset, frames, err, tc.want)
		}
	}
	for _, finer := range []byte{20, 0x80 | 64, 0xff} {
		if _, _, err := readAll(cat(section(le), iface(le, 1, 0, finer))); err == nil || !strings.Contains(err.Error(), "editcap") {
			t.Errorf("0x%02x: %v", finer, err)
		}
	}
}

// Classic files of older versions have their two lengths the other way round, those of Kuznetzov's
// form longer records; microseconds may be more than a million.
func TestOldClassic(t *testing.T) {
	packet := cat(eth(0x0800), ipv4(17, 0, 0, udp(9)))
	plain := pcapFile(le, 0xa1b2c3d4, 1, packet, packet)
	change := func(f func(b []byte)) []byte {
		b := bytes.Clone(plain)
		f(b)
		return b
	}
	records := func(b []byte, f func(head []byte)) {
		for at := 24; at < len(b); at += 16 + len(packet) {
			f(b[at : at+16])
		}
	}
	swap := func(head []byte) {
		le.PutUint32(head[8:], uint32(len(packet)+1))
		le.PutUint32(head[12:], uint32(len(packet)))
	}
	var modified []byte
	for at := 24; at < len(plain); at += 16 + len(packet) {
		modified = append(append(append(modified, plain[at:at+16]...), 7, 0, 0, 0, 8, 0, 0, 0), packet...)
	}
	for name, tc := range map[string]struct {
		data  []byte
		time  int64
		iface int
	}{
		"2.4":           {plain, 1700000000000123e3, 0},
		"2.3":           {change(func(b []byte) { b[6] = 3 }), 1700000000000123e3, 0},
		"2.3, swapped":  {change(func(b []byte) { b[6] = 3; records(b, swap) }), 1700000000000123e3, 0},
		"2.2":           {change(func(b []byte) { b[6] = 2; records(b, swap) }), 1700000000000123e3, 0},
		"modified":      {cat([]byte{0x34, 0xcd, 0xb2, 0xa1}, plain[4:24], modified), 1700000000000123e3, 7},
		"8.9 s of usec": {change(func(b []byte) { records(b, func(h []byte) { le.PutUint32(h[4:], 8915240) }) }), 1700000008915240e3, 0},
	} {
		frames, _, err := readAll(tc.data)
		if err != nil || len(frames) != 2 {
			t.Errorf("%s: %d frames, %v", name, len(frames), err)
			continue
		}
		if f := frames[0]; f.Time != tc.time || f.Length != len(packet)+1 || !bytes.Equal(f.Data, packet) || f.Interface != tc.iface {
			t.Errorf("%s: %+v", name, f)
		}
	}
}
