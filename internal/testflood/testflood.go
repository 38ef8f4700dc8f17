// Package testflood makes traffic for tests: the flows of a capture, and a flood of
// flows of one packet between them.
package testflood

import (
	"cmp"
	"encoding/binary"
	"slices"
	"time"

	"nepcoc/runtime/capture"
	"nepcoc/runtime/flow"
)

// Real reads a capture's flows, each with its own gaps between packets, but all of them begun
// within a time from start on, in nanoseconds since 1970.
func Real(path string, start int64, within time.Duration) (*capture.Memory, error) {
	src, err := capture.Open(path)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	type frame struct {
		capture.Frame
		key flow.Key
	}
	var frames []frame
	first := map[flow.Key]int64{}
	all := new(capture.Memory)
	if err := all.ReadAll(src); err != nil {
		return nil, err
	}
	var f capture.Frame
	var p capture.Packet
	for all.Next(&f) == nil {
		if capture.Decode(&f, &p) != capture.KindOK {
			continue
		}
		key, _ := flow.KeyOf(&p).Canonical()
		if _, ok := first[key]; !ok {
			first[key] = f.Time
		}
		frames = append(frames, frame{f, key})
	}
	begin := map[flow.Key]int64{}
	for i := range frames {
		f := &frames[i]
		if _, ok := begin[f.key]; !ok {
			begin[f.key] = start + int64(len(begin))*int64(within)/int64(len(first))
		}
		f.Time += begin[f.key] - first[f.key]
	}
	slices.SortStableFunc(frames, func(a, b frame) int { return cmp.Compare(a.Time, b.Time) })
	mem := new(capture.Memory)
	for i := range frames {
		mem.Add(&frames[i].Frame)
	}
	return mem, nil
}

// Flood is a capture, and between its packets others, each of another source and a flow of its
// own: in turn a SYN and a datagram of 30 bytes.
type Flood struct {
	*capture.Memory
	start int64
	rate  int // packets/s
	until time.Duration
	sent  int
	next  capture.Frame
	err   error
	data  [2][]byte
}

// New floods a capture from start on, for a time.
func New(mem *capture.Memory, start int64, rate int, until time.Duration) *Flood {
	mem.Rewind()
	f := &Flood{Memory: mem, start: start, rate: rate, until: until, data: [2][]byte{frame(capture.ProtoTCP, 20), frame(capture.ProtoUDP, 8+30)}}
	f.err = mem.Next(&f.next)
	return f
}

// attackers is the /8 that the flood comes from.
const attackers = 100

// Attacker tells the flood's flows by their source.
func Attacker(k *flow.Key) bool { return !k.V6 && (k.Src[0] == attackers || k.Dst[0] == attackers) }

func frame(proto uint8, size int) []byte {
	b := make([]byte, 14+20+size)
	b[12] = 8
	ip, l4 := b[14:], b[14+20:]
	ip[0], ip[8], ip[9] = 0x45, 64, proto
	binary.BigEndian.PutUint16(ip[2:], uint16(20+size))
	copy(ip[16:], []byte{198, 51, 100, 7})
	binary.BigEndian.PutUint16(l4, 40000)
	binary.BigEndian.PutUint16(l4[2:], 53)
	if proto == capture.ProtoTCP {
		l4[12], l4[13], l4[14] = 5<<4, capture.FlagSYN, 0xff
	} else {
		binary.BigEndian.PutUint16(l4[4:], uint16(size))
	}
	return b
}

// Next implements capture.Source.
func (f *Flood) Next(out *capture.Frame) error {
	when := f.start + int64(time.Duration(f.sent)*time.Second/time.Duration(f.rate))
	if when < f.start+int64(f.until) && (f.err != nil || when <= f.next.Time) {
		data := f.data[f.sent%2]
		binary.BigEndian.PutUint32(data[26:], attackers<<24|uint32(f.sent))
		*out = capture.Frame{Data: data, Time: when, Length: len(data), Link: capture.LinkEthernet}
		f.sent++
		return nil
	}
	if f.err != nil {
		return f.err
	}
	*out = f.next
	f.err = f.Memory.Next(&f.next)
	return nil
}
