package load

import (
	"encoding/binary"
	"runtime"
	"strings"
	"testing"

	"nepcoc/runtime/capture"
)

// endless is a capture without an end; n counts its frames, most is the most memory in use above what was when it began, in bytes.
type endless struct {
	packet    func(n uint32) []byte
	n         uint32
	none, top uint64
}

func (e *endless) Next(f *capture.Frame) error {
	if e.n%4096 == 0 {
		runtime.GC()
		var m runtime.MemStats
		if runtime.ReadMemStats(&m); e.none == 0 {
			e.none = m.HeapAlloc
		}
		e.top = max(e.top, m.HeapAlloc)
	}
	b := e.packet(e.n)
	*f = capture.Frame{Data: b, Length: len(b), Time: 1e18 + int64(e.n)*1e3, Link: capture.LinkRaw}
	e.n++
	return nil
}

func (e *endless) Close() error { return nil }

// Whatever a capture is full of, what is kept of it has a bound, which is said with the way out; the memory in use is what was reckoned with.
func TestEndlessCapture(t *testing.T) {
	const limit = 8 << 20
	at := func(b []byte, n uint32) []byte { // between hosts of their own
		binary.BigEndian.PutUint32(b[12:], n)
		setHeaderSum(b)
		return b
	}
	tiny, large := ip4(1, 2, capture.ProtoUDP, 0, udpBody(1, 2, 0), 6), ip4(1, 2, capture.ProtoUDP, 0, udpBody(1, 2, 1400), 6)
	part := ip4(1, 2, capture.ProtoUDP, 5, make([]byte, 8), 0)
	first := ip4(1, 2, capture.ProtoUDP, 0x2000, udpBody(1, 2, 0), 0)
	unreachable := ip4(3, 1, 1, 0, append([]byte{3, 3, 0, 0, 0, 0, 0, 0}, tiny...), 2)
	for name, packet := range map[string]func(n uint32) []byte{
		"of 28 bytes":           func(uint32) []byte { return tiny },
		"of 1,428 bytes":        func(uint32) []byte { return large },
		"of a flow each":        func(n uint32) []byte { return at(tiny, n) },
		"first fragments":       func(n uint32) []byte { binary.BigEndian.PutUint16(first[4:], uint16(n)); return at(first, n>>16) },
		"fragments without any": func(n uint32) []byte { return at(part, n) },
		"errors":                func(uint32) []byte { return unreachable },
	} {
		e := &endless{packet: packet}
		_, err := ReadScript(e, Options{limit: limit})
		if err == nil || !strings.Contains(err.Error(), "more than 8 MiB") || !strings.Contains(err.Error(), "take a part of the capture") {
			t.Errorf("%s: %v", name, err)
		}
		used := e.top - e.none
		t.Logf("%s: %d packets, %.1f MiB: %v", name, e.n, float64(used)/(1<<20), err)
		if used > 2*limit+1<<20 {
			t.Errorf("%s: %d bytes in use, reckoned with %d", name, used, 2*limit)
		}
	}
}
