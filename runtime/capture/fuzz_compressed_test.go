package capture_test

import (
	"bytes"
	"testing"

	"github.com/klauspost/compress/zstd"

	"nepcoc/runtime/capture"
)

// packers make the forms that are read, but xz, which takes a millisecond: FuzzXZ is its own.
var packers = map[string]func(testing.TB, []byte) []byte{
	"gzip": gz, "lz4": lz,
	"zstd": func(t testing.TB, b []byte) []byte { return zst(t, b, zstd.WithEncoderConcurrency(1)) },
}

// FuzzCompressed reads packed captures, damaged in any way: what comes out is bounded, and packed anew in any form it is
// the same packets.
func FuzzCompressed(f *testing.F) {
	p := cat(eth(0x800), ipv4(17, 0, 0, udp(1)))
	for _, plain := range [][]byte{
		pcapFile(le, 0xa1b2c3d4, 1, p, p),
		cat(section(le), iface(le, 1, 0, 9), enhanced(le, 0, 1, p)),
	} {
		for _, c := range packers {
			f.Add(c(f, plain))
		}
		f.Add(plain)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<16 {
			return
		}
		file, err := capture.NewFile("x", bytes.NewReader(data))
		if err != nil {
			return
		}
		var frames [][]byte
		var fr capture.Frame
		for {
			if err = file.Next(&fr); err != nil || len(frames) == 1000 {
				break
			}
			if len(fr.Data) > fr.Length {
				t.Fatalf("%d bytes captured of %d", len(fr.Data), fr.Length)
			}
			if fr.Link == capture.LinkEthernet && len(fr.Data) < 1<<16 {
				frames = append(frames, bytes.Clone(fr.Data))
			}
		}
		if len(frames) == 0 || len(frames) == 1000 {
			return
		}
		plain := pcapFile(le, 0xa1b2c3d4, 1, frames...)
		for name, c := range packers {
			again, _, err := readAll(c(t, plain))
			if err != nil || len(again) != len(frames) {
				t.Fatalf("%s: %d frames of %d: %v", name, len(again), len(frames), err)
			}
			for i := range again {
				if !bytes.Equal(again[i].Data, frames[i]) {
					t.Fatalf("%s: frame %d differs", name, i)
				}
			}
		}
	})
}
