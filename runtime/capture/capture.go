// Package capture is where packets come from and how a frame is read.
//
// A Source yields frames: a pcap or pcapng file (File), frames held in memory
// (Memory), later a network interface. Decode reads one frame in place, down to
// the transport ports, and says of every frame it does not take why: what was
// ignored and what was malformed is counted by Kind, so that every packet read
// is accounted for.
//
// The package knows nothing of flows, tokens or models.
package capture

import "io"

// Frame is one captured packet.
type Frame struct {
	// Data are the captured bytes. They belong to the source and are valid
	// until its next call.
	Data []byte
	// Time is when the packet was captured, in nanoseconds since 1970.
	Time int64
	// Length is the packet's length on the wire; more than len(Data) where
	// the capture cut it.
	Length int
	Link   LinkType
	// Interface is the number of the interface in the capture, from 0.
	Interface int
	// VLAN is the id of a tag that the network card took off the frame, 0 for none.
	VLAN uint16
	// Lossy: frames were lost since the latest one that said so.
	Lossy bool
	// Astray: its time is not one to go by; see Confirm.
	Astray bool
	// Trust is what the source knows of the frame's checksums.
	Trust Trust
}

// Cut tells whether the capture holds less than the packet had on the wire.
func (f *Frame) Cut() bool { return f.Length > len(f.Data) }

// Source yields frames in the order in which they were captured. Next returns
// io.EOF after the last one.
type Source interface {
	Next(f *Frame) error
	Close() error
}

// Memory is a Source of frames held in memory: for benchmarks, and for reading
// a capture more than once.
type Memory struct {
	frames []memFrame
	data   []byte
	next   int
}

type memFrame struct {
	time     int64
	off, end int
	length   int
	iface    int
	link     LinkType
	vlan     uint16
}

// Add appends a copy of a frame.
func (m *Memory) Add(f *Frame) {
	off := len(m.data)
	m.data = append(m.data, f.Data...)
	m.frames = append(m.frames, memFrame{f.Time, off, len(m.data), f.Length, f.Interface, f.Link, f.VLAN})
}

// ReadAll takes every frame of a source.
func (m *Memory) ReadAll(src Source) error {
	var f Frame
	for {
		if err := src.Next(&f); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		m.Add(&f)
	}
}

// Len is the number of frames, Rewind starts over.
func (m *Memory) Len() int { return len(m.frames) }
func (m *Memory) Rewind()  { m.next = 0 }

// Next implements Source.
func (m *Memory) Next(f *Frame) error {
	if m.next == len(m.frames) {
		return io.EOF
	}
	r := &m.frames[m.next]
	m.next++
	*f = Frame{Data: m.data[r.off:r.end:r.end], Time: r.time, Length: r.length, Link: r.link, Interface: r.iface, VLAN: r.vlan}
	return nil
}

// Close implements Source; there is nothing to close.
func (m *Memory) Close() error { return nil }
