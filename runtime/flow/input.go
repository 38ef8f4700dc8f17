package flow

import (
	"io"

	"nepcoc/runtime/capture"
)

// Input is the whole way from frames to flows for one table.
type Input struct {
	*Table
	front Front
}

// NewInput makes a table and what stands before it.
func NewInput(opt Options) (*Input, error) {
	t, err := New(opt)
	if err != nil {
		return nil, err
	}
	c := opt.Encoder.Contract()
	in := &Input{Table: t}
	in.front = Front{
		Deal: t.Add, Count: t.Count, Unread: &t.count,
		Tunnels: opt.Tunnels, Hosts: t.hosts, Limit: c.PacketBytes(),
	}
	return in, nil
}

// Frame takes one frame, and counts it whatever it is.
func (in *Input) Frame(f *capture.Frame) {
	in.front.Frame(f)
	in.count.Held = in.front.Held()
}

// Advance is Table.Advance for the fragments before the table, too.
func (in *Input) Advance(now int64, budget int) (more bool) {
	in.front.Advance(now)
	in.count.Held = in.front.Held()
	return in.Table.Advance(now, budget)
}

// Flush is Table.Flush; fragments that still wait are given up before.
func (in *Input) Flush() {
	in.front.Flush()
	in.count.Held = 0
	in.Table.Flush()
}

// Run takes every frame of a source, then flushes the table. After an error of
// the source the flows seen so far have had their verdicts, too.
func (in *Input) Run(src capture.Source) error {
	src = capture.Confirm(src)
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
