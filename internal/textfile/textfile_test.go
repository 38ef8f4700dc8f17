package textfile

import (
	"bytes"
	"encoding/binary"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf16"
)

func TestReader(t *testing.T) {
	const text = "class,für\r\nDNS,\U0001f600\n"
	encode := func(order binary.ByteOrder, mark bool) string {
		units := utf16.Encode([]rune(text))
		if mark {
			units = append([]uint16{0xfeff}, units...)
		}
		b := make([]byte, 2*len(units))
		for i, u := range units {
			order.PutUint16(b[2*i:], u)
		}
		return string(b)
	}
	for name, in := range map[string]string{
		"plain": text, "UTF-8 mark": "\xef\xbb\xbf" + text,
		"UTF-16LE": encode(binary.LittleEndian, true), "UTF-16BE": encode(binary.BigEndian, true),
		"UTF-16LE without mark": encode(binary.LittleEndian, false), "UTF-16BE without mark": encode(binary.BigEndian, false),
	} {
		for _, r := range []io.Reader{strings.NewReader(in), iotest.OneByteReader(strings.NewReader(in))} {
			got, err := io.ReadAll(iotest.OneByteReader(Reader(r)))
			if err != nil || string(got) != text {
				t.Errorf("%s: %q, %v", name, got, err)
			}
		}
		if err := iotest.TestReader(Reader(strings.NewReader(in)), []byte(text)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for in, want := range map[string]string{"": "", "a": "a", "\xe9t\xe9": "\xe9t\xe9", "\xff\xfe": "", "\xff\xfe\x00\xd8a\x00": "\ufffda", "\xff\xfe\x00\xd8": "\ufffd"} {
		if got, err := io.ReadAll(Reader(strings.NewReader(in))); err != nil || string(got) != want {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
	if _, err := io.ReadAll(Reader(bytes.NewReader([]byte{0xff, 0xfe, 'a', 0, 'b'}))); err != errHalf {
		t.Errorf("half a character: %v", err)
	}
}
