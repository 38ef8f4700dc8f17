package flow

import (
	"io"

	"nepcoc/runtime/capture"
)

// Input is the whole way from frames to flows for one table: decode, fragments,
// table.
type Input struct {
	*Table
	frags Fragments
	pkt   capture.Packet
}

// NewInput makes a table and what stands before it.
func NewInput(opt Options) (*Input, error) {
	t, err := New(opt)
	if err != nil {
		return nil, err
	}
	return &Input{Table: t}, nil
}

// Frame takes one frame, and counts it whatever it is.
func (in *Input) Frame(f *capture.Frame) capture.Kind {
	kind := capture.Decode(f, &in.pkt)
	if kind == capture.KindOK && in.pkt.Fragment {
		kind = in.frags.Resolve(&in.pkt)
	}
	if kind != capture.KindOK {
		in.Count(kind)
		return kind
	}
	in.Add(&in.pkt)
	return kind
}

// Run takes every frame of a source, then flushes the table. After an error of
// the source the flows seen so far have had their verdicts, too.
func (in *Input) Run(src capture.Source) error {
	var f capture.Frame
	for {
		if err := src.Next(&f); err != nil {
			in.Flush()
			if err == io.EOF {
				return nil
			}
			return err
		}
		in.Frame(&f)
	}
}
