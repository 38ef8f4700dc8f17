package traffic

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// reference is the stream of one side as a map of bytes: the first copy of each
// stays.
type reference map[int]byte

func (r reference) put(at int64, payload []byte, budget int) (conflict bool) {
	for i, b := range payload {
		pos := at + int64(i)
		if pos < 0 || pos >= int64(budget) {
			continue
		}
		if old, ok := r[int(pos)]; ok {
			conflict = conflict || old != b
		} else {
			r[int(pos)] = b
		}
	}
	return conflict
}

func (r reference) prefix() (b []byte, gap bool) {
	for {
		v, ok := r[len(b)]
		if !ok {
			return b, len(r) > len(b)
		}
		b = append(b, v)
	}
}

// checkStream feeds segments to an encoder and to the reference. A segment is
// side, offset (two bytes, a signed one), length and the value that its bytes begin with.
func checkStream(t *testing.T, client, server int, segments []byte) {
	e := &Encoder{c: Contract{ClientBytes: client, ServerBytes: server}}
	buf := bytes.Repeat([]byte{0xff}, e.c.streamBuffer()) // as the flow before left it
	var st State
	refs := [2]reference{{}, {}}
	for ; len(segments) >= 5; segments = segments[5:] {
		side, at := int(segments[0]&1), int64(int16(uint16(segments[1])<<8|uint16(segments[2])))
		payload := make([]byte, segments[3])
		for i := range payload {
			payload[i] = byte(at) + byte(i) + segments[4]&1 // most copies agree
		}
		got, want := e.Put(&st, buf, side, at, payload), refs[side].put(at, payload, e.budget(side))
		if got != want {
			t.Fatalf("side %d, %d bytes at %d: conflict %v, want %v", side, len(payload), at, got, want)
		}
		for s := range refs {
			prefix, gap := refs[s].prefix()
			bytesNow, _ := e.side(buf, s)
			if n := int(st.Have[s]); n != len(prefix) || !bytes.Equal(bytesNow[:n], prefix) {
				t.Fatalf("side %d has % x, want % x", s, bytesNow[:n], prefix)
			}
			if g := e.Gap(st, buf, s); g != gap {
				t.Fatalf("side %d: gap %v, want %v", s, g, gap)
			}
		}
	}
}

func FuzzStream(f *testing.F) {
	f.Add(uint8(16), uint8(8), []byte{0, 0, 0, 4, 0, 0, 0, 8, 4, 0, 0, 0, 4, 8, 1, 1, 255, 255, 9, 0})
	f.Fuzz(func(t *testing.T, client, server uint8, segments []byte) {
		if len(segments) > 500 {
			return
		}
		checkStream(t, int(client), int(server), segments)
	})
}

func TestStreamRandom(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 3000 {
		segments := make([]byte, 5*rng.IntN(30))
		for i := range segments {
			switch i % 5 {
			case 1:
				if rng.IntN(20) == 0 {
					segments[i] = 255
				}
			case 2, 3:
				segments[i] = byte(rng.IntN(40))
			case 4:
				segments[i] = byte(rng.IntN(30)) / 29
			default:
				segments[i] = byte(rng.IntN(256))
			}
		}
		checkStream(t, rng.IntN(64), rng.IntN(64), segments)
	}
}
