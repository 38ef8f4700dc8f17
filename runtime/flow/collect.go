package flow

import (
	"slices"

	"nepcoc/runtime/capture"
	"nepcoc/runtime/traffic"
)

// Sample is a flow that was read to its verdict: what calibration, verification
// and tests work on.
type Sample struct {
	Key            Key // direction of the first packet
	First, Last    int64
	Packets, Bytes [2]uint64
	Reason         Reason
	Marks          Marks
	Payload        int
	Tokens         []int32
	Valid          int
}

// Collect reads all flows of a source, in the order of their first packets.
// Where the source ends with an error, the flows up to there come with it.
func Collect(src capture.Source, c traffic.Contract) ([]Sample, *Counters, error) {
	enc, err := traffic.NewEncoder(c)
	if err != nil {
		return nil, nil, err
	}
	return CollectAll(src, Options{Encoder: enc})
}

// CollectAll is Collect for a table of any options; Ready is its own.
func CollectAll(src capture.Source, opt Options) ([]Sample, *Counters, error) {
	type numbered struct {
		seq uint64
		Sample
	}
	var flows []numbered
	opt.Ready = func(f *Flow) {
		flows = append(flows, numbered{f.Seq, Sample{
			Key: f.Key, First: f.First, Last: f.Last, Packets: f.Packets, Bytes: f.Bytes,
			Reason: f.Reason, Marks: f.Marks, Payload: f.Payload, Tokens: slices.Clone(f.Tokens), Valid: f.Valid,
		}})
	}
	in, err := NewInput(opt)
	if err != nil {
		return nil, nil, err
	}
	err = in.Run(src)
	slices.SortFunc(flows, func(a, b numbered) int { return int(int64(a.seq - b.seq)) })
	out := make([]Sample, len(flows))
	for i := range flows {
		out[i] = flows[i].Sample
	}
	return out, in.Counters(), err
}
