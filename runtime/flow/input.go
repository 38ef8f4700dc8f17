package flow

import (
	"io"

	"nepcoc/runtime/capture"
)

// Input is the whole way from frames to flows for one table: decode, fragments,
// table.
type Input struct {
	*Table
	decode  func(*capture.Frame, *capture.Packet) capture.Kind
	tunnels bool
	frags   Fragments
	pkt     capture.Packet
	limit   int // bytes kept of a held fragment
}

// NewInput makes a table and what stands before it.
func NewInput(opt Options) (*Input, error) {
	t, err := New(opt)
	if err != nil {
		return nil, err
	}
	return &Input{Table: t, decode: capture.Decoder(opt.Tunnels), tunnels: opt.Tunnels, limit: opt.Encoder.Contract().BytesPerPacket}, nil
}

// Frame takes one frame, and counts it whatever it is.
func (in *Input) Frame(f *capture.Frame) {
	if in.frags.Held() > 0 {
		in.frags.Advance(f.Time)
		in.join()
	}
	kind := in.decode(f, &in.pkt)
	in.count.Unread(f, &in.pkt, kind, in.tunnels)
	switch {
	case kind != capture.KindOK:
		in.Count(kind)
	case in.pkt.Fragment:
		in.frags.Put(&in.pkt, in.limit)
		in.join()
	default:
		in.Add(&in.pkt)
	}
}

// join takes what the fragments before the table give back.
func (in *Input) join() {
	for {
		kind, ok := in.frags.Next(&in.pkt)
		switch {
		case !ok:
			in.count.Held = uint64(in.frags.Held())
			return
		case kind != capture.KindOK:
			in.Count(kind)
		default:
			in.Add(&in.pkt)
		}
	}
}

// Advance is Table.Advance for the fragments before the table, too.
func (in *Input) Advance(now int64, budget int) (more bool) {
	in.frags.Advance(now)
	in.join()
	return in.Table.Advance(now, budget)
}

// Flush is Table.Flush; fragments that still wait are given up before.
func (in *Input) Flush() {
	in.frags.Flush()
	in.join()
	in.Table.Flush()
}

// Run takes every frame of a source, then flushes the table. After an error of
// the source the flows seen so far have had their verdicts, too.
func (in *Input) Run(src capture.Source) error {
	var f capture.Frame
	for {
		if err := src.Next(&f); err != nil {
			// What was due by the last packet's time was not ended by the capture's end.
			for in.Advance(f.Time, len(in.entries)) {
			}
			in.Flush()
			if err == io.EOF {
				return nil
			}
			return err
		}
		in.Frame(&f)
	}
}
