package capture_test

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"hash/crc32"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz"

	"nepcoc/runtime/capture"
)

func gz(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	w.Close()
	return b.Bytes()
}

func zst(t testing.TB, data []byte, opts ...zstd.EOption) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil, opts...)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	return w.EncodeAll(data, nil)
}

func lz(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := lz4.NewWriter(&b)
	w.Apply(lz4.BlockSizeOption(lz4.Block64Kb))
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	w.Close()
	return b.Bytes()
}

func xzip(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := xz.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	w.Close()
	return b.Bytes()
}

// hugeXZ asks for the largest dictionary.
func hugeXZ(t *testing.T, data []byte) []byte {
	b := xzip(t, data)
	head := b[12:][:4*(int(b[12])+1)]
	at := bytes.Index(head, []byte{0x21, 1})
	head[at+2] = 40
	binary.LittleEndian.PutUint32(head[len(head)-4:], crc32.ChecksumIEEE(head[:len(head)-4]))
	return b
}

// A capture compressed with gzip, zstd, lz4 or xz gives the same packets; where its end
// is missing, those before it, and a note.
func TestCompressed(t *testing.T) {
	packets := make([][]byte, 2000)
	for i := range packets {
		packets[i] = cat(eth(0x0800), ipv4(17, 0, 0, bytes.Repeat(binary.BigEndian.AppendUint32(nil, uint32(i)*2654435761), 100)))
	}
	plain := pcapFile(binary.LittleEndian, 0xa1b2c3d4, 1, packets...)
	want, _, err := readAll(plain)
	if err != nil {
		t.Fatal(err)
	}
	half := len(plain) / 2
	for name, packed := range map[string][]byte{
		"gzip": gz(t, plain), "zstd": zst(t, plain), "lz4": lz(t, plain), "xz": xzip(t, plain),
		// What cat makes of two files, and pigz or zstd of one with several threads.
		"gzip members": cat(gz(t, plain[:half]), gz(t, plain[half:])), "zstd frames": cat(zst(t, plain[:half]), zst(t, plain[half:])),
		"lz4 frames": cat(lz(t, plain[:half]), lz(t, plain[half:])), "xz streams": cat(xzip(t, plain[:half]), make([]byte, 8), xzip(t, plain[half:])),
	} {
		got, note, err := readAll(packed)
		if err != nil || note != "" || len(got) != len(want) {
			t.Errorf("%s: %d of %d packets, %q, %v", name, len(got), len(want), note, err)
			continue
		}
		for i := range got {
			if !bytes.Equal(got[i].Data, want[i].Data) || got[i].Time != want[i].Time {
				t.Fatalf("%s: packet %d differs", name, i+1)
			}
		}
		got, note, err = readAll(packed[:len(packed)-9])
		if err != nil || !strings.Contains(note, "packets before") {
			t.Errorf("%s, cut off: %d packets, %q, %v", name, len(got), note, err)
		}
		if _, _, err := readAll(packed[:20]); err == nil || !strings.Contains(err.Error(), "cut off") && !strings.Contains(err.Error(), "damaged") {
			t.Errorf("%s, cut off at once: %v", name, err)
		}
	}
}

// The container of xz is read by our own code: whatever stands in it, nothing but an error comes of it, and
// what the library's own reader takes is the same here.
func FuzzXZ(f *testing.F) {
	for _, check := range []byte{xz.CRC32, xz.CRC64, xz.SHA256} {
		var b bytes.Buffer
		w, err := xz.WriterConfig{CheckSum: check, BlockSize: 64}.NewWriter(&b)
		if err != nil {
			f.Fatal(err)
		}
		w.Write(pcapFile(le, 0xa1b2c3d4, 1, make([]byte, 60), make([]byte, 60)))
		w.Close()
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) < 6 || string(data[:6]) != "\xfd7zXZ\x00" {
			return
		}
		got, _, err := readAll(data)
		if bytes.Contains(data, []byte{0x21, 1, 40}) || err != nil {
			return
		}
		r, err := xz.ReaderConfig{DictCap: 1 << 20}.NewReader(bytes.NewReader(data))
		if err != nil {
			return
		}
		plain, err := io.ReadAll(io.LimitReader(r, 1<<20))
		if err != nil {
			return
		}
		want, _, err := readAll(plain)
		if err != nil || len(want) != len(got) {
			t.Errorf("%d packets, want %d (%v)", len(got), len(want), err)
		}
	})
}

// What can't be read says what it is and with what it is unpacked.
func TestNotDecompressed(t *testing.T) {
	plain := pcapFile(binary.LittleEndian, 0xa1b2c3d4, 1, eth(0x0800))
	damaged := gz(t, plain)
	damaged[len(damaged)-6] ^= 1 // of the checksum
	for name, c := range map[string]struct {
		data []byte
		want []string
	}{
		"xz":                        {[]byte("\xfd7zXZ\x00\x00\x05\xe6\xd6\xb4\x46"), []string{"xz", "damaged", "unxz"}},
		"xz, a dictionary of 4 GiB": {hugeXZ(t, plain), []string{"dictionary of 4095 MiB", "unxz"}},
		"lz4":                       {[]byte("\x04\x22\x4d\x18\xff\xff\xff\xff\xff" + strings.Repeat("x", 40)), []string{"lz4", "damaged", "unlz4"}},
		"bzip2":                     {[]byte("BZh91AY&SY"), []string{"compressed with bzip2", "bunzip2"}},
		"zip":                       {[]byte("PK\x03\x04\x14\x00"), []string{"zip archive", "unzip"}},
		"twice":                     {gz(t, zst(t, plain)), []string{"zstd in gzip", "gunzip"}},
		"empty":                     {gz(t, nil), []string{"empty"}},
		"text":                      {gz(t, []byte("no capture")), []string{"neither pcap nor pcapng"}},
		"damaged":                   {damaged, []string{"gzip", "damaged"}},
		"a bomb":                    {zst(t, make([]byte, 64<<20)), []string{"neither pcap nor pcapng"}},
	} {
		_, _, err := readAll(c.data)
		for _, w := range c.want {
			if err == nil || !strings.Contains(err.Error(), w) || !strings.HasPrefix(err.Error(), "x.pcap: ") {
				t.Errorf("%s: %v, want %q", name, err, w)
			}
		}
	}
}

// Memory does not grow with what comes out: half a gigabyte of zeros in 50 kB.
func TestDecompressionIsBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("unpacks half a gigabyte")
	}
	packet := make([]byte, 200<<10)
	one := pcapFile(binary.LittleEndian, 0xa1b2c3d4, 1, packet)
	var packed bytes.Buffer
	w, err := zstd.NewWriter(&packed)
	if err != nil {
		t.Fatal(err)
	}
	w.Write(one[:24])
	for range 2500 {
		w.Write(one[24:])
	}
	w.Close()
	f, err := capture.NewFile("bomb", bytes.NewReader(packed.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	var fr capture.Frame
	for n := 0; ; n++ {
		if err := f.Next(&fr); err == io.EOF {
			if n != 2500 {
				t.Errorf("%d packets", n)
			}
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	if m.Sys > 256<<20 {
		t.Errorf("%d MiB of memory", m.Sys>>20)
	}
}
